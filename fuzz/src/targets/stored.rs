//! What a store keeps: manifests, progress, cells, entries of the journal.

use domain::{
    Cell, Manifest, SegmentId, Timestamp,
    codec::CodecError,
    epochs::{Journal, LogEvent, View},
    segment::Progress,
};

use super::{fold::partition, record::generation};

/// Bytes that decode are written again as they were, sealed or not. An engine cannot guess a checksum,
/// so the bytes are also read with the right one behind them.
pub(super) fn check(bytes: &[u8]) {
    all(bytes);
    let mut sealed = bytes.to_vec();
    sealed.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    all(&sealed);
}

fn all(bytes: &[u8]) {
    let key = partition(&generation());
    let segment = SegmentId {
        log_id: key.log_id,
        partition: key.partition,
        epoch: key.epoch,
        start: domain::Offset(3),
    };
    same(bytes, Manifest::decode(segment, bytes), |manifest| {
        // Whatever the numbers are: a law is broken or not.
        let _ = manifest.check().map_err(|error| error.to_string());
        manifest.encode()
    });
    let progress =
        Progress::decode((key.log_id, key.partition, key.epoch), bytes, Some(Timestamp::EPOCH));
    same(bytes, progress, Progress::encode);
    same(bytes, Cell::decode(bytes), Cell::encode);
    same(bytes, LogEvent::decode(bytes), |event| {
        let journal = Journal::of([event.clone(), event.clone()]);
        assert_eq!(journal.entries, 2);
        let log_id = event.log_id();
        let view = View::active(journal.clone());
        let epoch = view.epoch_at(log_id, key.partition, segment.start);
        assert!(epoch <= journal.log(log_id).active());
        event.encode()
    });
}

fn same<T>(bytes: &[u8], decoded: Result<T, CodecError>, encode: impl Fn(&T) -> Vec<u8>) {
    match decoded {
        Ok(value) => assert_eq!(encode(&value), bytes),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
