//! Close: what leaves the fold, and where a segment ends.
//!
//! A flush gives the rows that changed; a close gives all that a segment leaves, with its proof. A
//! segment with many rows leaves in several flushes, each made when the one before was taken, so that
//! its rows never are in memory twice.

use domain::{
    Conservation, Manifest, Offset, SegmentId, Timestamp,
    segment::Progress,
    store::{Flush, PartitionKey, SegmentClose, Touched},
};

use super::{Fold, OpenSegment, Publishing, digest};

/// Bytes that an id of the open segment is counted as.
const ID_BYTES: u64 = 16;

impl Fold {
    /// Bytes that the open segment's rows, dead letters and ids are counted as: a function of its records
    /// and of the state at its start.
    pub(super) fn open_bytes(&self) -> u64 {
        self.rows.bytes() + self.open.letters.bytes() + self.state.ids.in_segment() * ID_BYTES
    }

    /// Completes the open segment and starts the next at `end`.
    pub(super) fn close(&mut self, end: Offset, closed: &mut impl Extend<Flush>) {
        let close = self.prove(end);
        let progress = Some(self.progress(end, self.state.counts));
        if self.publishing == Publishing::On {
            for block in 0..self.rows.blocks() {
                let stored_before = self.rows.unchanged(self.segment(), block);
                closed.extend([Flush { stored_before, ..self.empty_flush() }]);
            }
        }
        while self.rows.changed() > self.flush_rows_max {
            let rows = self.rows.take_changed(self.segment(), self.flush_rows_max);
            closed.extend([Flush { rows, ..self.empty_flush() }]);
        }
        let rows = self.rows.take_changed(self.segment(), usize::MAX);
        let dead_letters = self.open.letters.take_changed(self.segment());
        let (close, last) = (Some(close), self.empty_flush());
        closed.extend([Flush { rows, dead_letters, close, progress, ..last }]);
        self.rows.clear();
        self.open.letters.clear();
        let letters = std::mem::take(&mut self.open.letters);
        self.open = OpenSegment::starting(end, letters);
    }

    fn prove(&mut self, end: Offset) -> SegmentClose {
        let (segment, seed) = (self.segment(), self.generation.hash_seed);
        let first = self.open.first.expect("only a segment with a record closes");
        let (rows, mut rows_digest, touched) = self.prove_rows(first);
        for Touched { tenant, window_day } in &touched {
            let parts = [&b"touched"[..], tenant.as_str().as_bytes(), &window_day.to_le_bytes()];
            rows_digest ^= domain::hash::parts(seed, parts);
        }
        let (mut dead_letters, mut dead_letters_digest) = (0, 0);
        for group in self.open.letters.all(segment) {
            dead_letters += 1;
            dead_letters_digest ^= group.digest(seed);
        }
        let (run, (state, state_digest)) = (self.state.ids.take_run(), self.state.store());
        self.state.counts = self.state.counts.plus(&self.open.counts);
        let manifest = Manifest {
            segment,
            end,
            eff_ts: self.state.eff_ts,
            counts: self.open.counts,
            counts_to_end: self.state.counts,
            rows,
            rows_digest,
            dead_letters,
            dead_letters_digest,
            anchor: self.open.anchor.expect("only a segment with a record closes"),
            state_digest,
            run_digest: digest(&run),
        };
        assert_eq!(manifest.check(), Ok(()), "a fold that breaks a law must not be stored");
        SegmentClose { manifest, run, state, touched }
    }

    /// Number and digest of the rows, and the days that they add to late: those of windows that had ended
    /// when the segment began.
    fn prove_rows(&self, first: Timestamp) -> (u64, u128, Vec<Touched>) {
        let (mut rows, mut rows_digest, mut touched) = (0, 0, std::collections::BTreeSet::new());
        for row in self.rows.all(self.segment()) {
            rows += 1;
            rows_digest ^= row.digest(self.generation.hash_seed);
            if self.generation.window.window_of(row.key.window_start).end <= first {
                let window_day = row.key.window_day();
                touched.insert(Touched { tenant: row.key.resource.tenant, window_day });
            }
        }
        (rows, rows_digest, touched.into_iter().collect())
    }

    /// Rows of the open segment that changed since the last flush.
    #[must_use]
    pub fn changed_rows(&self) -> usize {
        self.rows.changed()
    }

    /// What became of everything since the start of the partition.
    #[must_use]
    pub fn counts(&self) -> Conservation {
        self.state.counts.plus(&self.open.counts)
    }

    /// Gives what changed in the open segment since the last flush, with where the fold stands. Where that
    /// may be many rows, [`Fold::flush_part`] is asked first.
    pub fn flush(&mut self) -> Flush {
        let counts = self.counts();
        Flush {
            rows: self.rows.take_changed(self.segment(), usize::MAX),
            dead_letters: self.open.letters.take_changed(self.segment()),
            progress: Some(self.progress(self.folded_to(), counts)),
            ..self.empty_flush()
        }
    }

    /// Gives as many changed rows as one flush may have, while there are more. Progress stays where the
    /// segment starts.
    pub fn flush_part(&mut self) -> Option<Flush> {
        if self.rows.changed() <= self.flush_rows_max {
            return None;
        }
        let start = Progress { anchor: None, ..self.progress(self.open.start, self.state.counts) };
        Some(Flush {
            rows: self.rows.take_changed(self.segment(), self.flush_rows_max),
            progress: Some(start),
            ..self.empty_flush()
        })
    }

    const fn empty_flush(&self) -> Flush {
        Flush {
            segment: self.segment(),
            rows: Vec::new(),
            stored_before: Vec::new(),
            dead_letters: Vec::new(),
            close: None,
            progress: None,
        }
    }

    const fn progress(&self, folded_to: Offset, counts: Conservation) -> Progress {
        let PartitionKey { log_id, partition, epoch } = self.partition;
        Progress {
            log_id,
            partition,
            epoch,
            folded_to,
            eff_ts: self.state.eff_ts,
            counts,
            anchor: self.open.anchor,
            caught_up_at: None,
        }
    }

    /// The open segment.
    #[must_use]
    pub const fn segment(&self) -> SegmentId {
        let PartitionKey { log_id, partition, epoch } = self.partition;
        SegmentId { log_id, partition, epoch, start: self.open.start }
    }
}
