//! Evidence: what the log itself says about a document, for as long as it keeps the pulses.
//!
//! A verification takes its usage from the log instead of the stored totals; an explanation goes on
//! from an hour of a line to the pulses that it is made of, which have to add up to it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use domain::{
    Aggregate, BlockStore, Offset, RowKey, SegmentId, Tenant, Timestamp, UsageRow, Window,
    refold::{CountedPulse, Identity, Question, Refold, Refolded, RowPulses},
    store::PartitionKey,
};
use pricing::{
    Amount,
    document::{self, PulseRef},
    invoice::Usage,
    rate::{Hour, SegmentPart},
};

use crate::{
    BillingError,
    usage::{Below, UsageReader},
};

/// How much of the log a verification was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FromLog {
    /// Segments that were folded again.
    pub(crate) segments: u64,
    /// Segments that the log no longer has, or not where this process reads; their usage was taken
    /// from the stored totals.
    pub(crate) missing: u64,
}

/// Which pulses an explanation lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PulsesWanted {
    /// Of the hour that starts then; `None` for all hours.
    pub(crate) hour: Option<Timestamp>,
    /// At most so many.
    pub(crate) max: usize,
}

/// What the log says about the lines of an explanation.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    hour: Option<Timestamp>,
    rows: HashMap<RowKey, UsageRow>,
    /// The pulses behind them.
    refolded: Refolded,
    missing: HashSet<SegmentId>,
}

/// Asks the log.
pub(crate) struct LogReader<U> {
    refold: Arc<dyn Refold>,
    usage: UsageReader<U>,
}

impl<U: BlockStore> LogReader<U> {
    /// Takes what folds the log again, and what reads the totals that the log no longer has.
    pub(crate) fn new(refold: Arc<dyn Refold>, usage: UsageReader<U>) -> Self {
        Self { refold, usage }
    }

    /// A tenant's rows of a period below a cut, as the log says.
    pub(crate) async fn usage(
        &self,
        below: &Below,
        tenant: &Tenant,
        window: Window,
    ) -> Result<(Vec<UsageRow>, FromLog), BillingError> {
        let question = Question {
            tenant: tenant.clone(),
            window,
            stretches: below.stretches().to_vec(),
            pulses_of: Vec::new(),
            pulses_max: 0,
        };
        let Refolded { mut rows, segments, missing, .. } = self.refold.refold(question).await?;
        let from_log = FromLog { segments, missing: missing.len() as u64 };
        while !missing.is_empty() {
            let before = self.usage.blocks_version().await?;
            let lost = self.usage.lost(missing.clone()).await?;
            let stored = self.usage.of_tenant(below, tenant, window).await?;
            if self.usage.blocks_version().await? == before {
                rows.retain(|row| !lost.holds(&row.key.segment));
                rows.extend(stored.into_iter().filter(|row| lost.holds(&row.key.segment)));
                break;
            }
        }
        Ok((rows, from_log))
    }

    /// What the log says to a question about pulses.
    pub(crate) async fn evidence(
        &self,
        question: Question,
        wanted: PulsesWanted,
    ) -> Result<Evidence, BillingError> {
        let mut refolded = self.refold.refold(question).await?;
        let rows = std::mem::take(&mut refolded.rows);
        let rows = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        let missing = refolded.missing.iter().copied().collect();
        Ok(Evidence { hour: wanted.hour, rows, refolded, missing })
    }
}

/// The question for the pulses behind some lines of usage.
pub(crate) fn question(
    tenant: &Tenant,
    window: Window,
    lines: &[&Usage],
    wanted: PulsesWanted,
) -> Question {
    let mut pulses_of = Vec::new();
    for usage in lines {
        let hours = usage.hours.iter().filter(|hour| is_wanted(wanted.hour, hour));
        pulses_of.extend(hours.flat_map(|hour| {
            hour.segments.iter().flat_map(|part| rows_of(tenant, usage, hour, part))
        }));
    }
    // A level may hold on from an hour before the period.
    let earliest = pulses_of.iter().map(|key| key.window_start).min();
    let window = Window { start: earliest.unwrap_or(window.start).min(window.start), ..window };
    let segments: BTreeSet<SegmentId> = pulses_of.iter().map(|key| key.segment).collect();
    let one = |segment: SegmentId| {
        let SegmentId { log_id, partition, epoch, start } = segment;
        (PartitionKey { log_id, partition, epoch }, start..Offset(start.0 + 1))
    };
    Question {
        tenant: tenant.clone(),
        window,
        stretches: segments.into_iter().map(one).collect(),
        pulses_of,
        pulses_max: wanted.max,
    }
}

fn is_wanted(hour: Option<Timestamp>, of: &Hour) -> bool {
    hour.is_none_or(|hour| of.window_start == hour)
}

/// The rows that a segment added to an hour of a line.
fn rows_of(
    tenant: &Tenant,
    usage: &Usage,
    hour: &Hour,
    part: &SegmentPart,
) -> impl Iterator<Item = RowKey> {
    let (window_start, segment) = (hour.window_start, part.segment);
    part.dimensions.iter().map(move |dimensions| RowKey {
        resource: domain::ResourceKey {
            tenant: tenant.clone(),
            product_sku: usage.product_sku.clone(),
            use_unity: usage.use_unity.clone(),
            dimensions: dimensions.clone(),
        },
        window_start,
        segment,
    })
}

impl Evidence {
    /// Checks that an hour is made of its pulses in the log, where all of them are in it.
    ///
    /// # Errors
    /// With what does not add up.
    pub(crate) fn check(&self, tenant: &Tenant, usage: &Usage, hour: &Hour) -> Result<(), String> {
        if !is_wanted(self.hour, hour) {
            return Ok(());
        }
        let (mut count, mut sum, mut is_whole) = (0, Amount::ZERO, true);
        for part in &hour.segments {
            if self.missing.contains(&part.segment) {
                is_whole = false;
                continue;
            }
            for key in rows_of(tenant, usage, hour, part) {
                let row = self.rows.get(&key).ok_or("the log has no pulse of it")?;
                let none = RowPulses::default();
                check(row, self.refolded.pulses.get(&key).unwrap_or(&none))?;
                count += u128::from(row.cell.aggregate.count);
                let added = sum.checked_add(Amount::of(row.cell.aggregate.sum));
                sum = added.expect("2^68 rows are within an amount");
            }
        }
        if is_whole && (count, sum) != (hour.count, hour.sum) {
            return Err(format!(
                "the log has {count} pulses that add up to {sum}, and {} that add up to {} were billed",
                hour.count, hour.sum
            ));
        }
        Ok(())
    }

    /// Adds the pulses of an hour to its rendering: to each stretch of the log its own.
    pub(crate) fn add_to(
        &self,
        tenant: &Tenant,
        usage: &Usage,
        hour: &Hour,
        rendered: &mut document::Hour,
    ) {
        if !is_wanted(self.hour, hour) {
            return;
        }
        for (part, rendered) in hour.segments.iter().zip(&mut rendered.segments) {
            if self.missing.contains(&part.segment) {
                rendered.in_log = Some(false);
                continue;
            }
            let (mut pulses, mut left_out) = (Vec::new(), 0);
            for key in rows_of(tenant, usage, hour, part) {
                let Some(seen) = self.refolded.pulses.get(&key) else { continue };
                left_out += seen.count - seen.listed.len() as u64;
                pulses.extend(&seen.listed);
            }
            pulses.sort_by_key(|pulse| (pulse.offset, pulse.index));
            // Of an hour in a block only the log knows it.
            let rows = rows_of(tenant, usage, hour, part).filter_map(|key| self.rows.get(&key));
            let last = rows.map(|row| row.cell.offset_last.0).max();
            rendered.offset_last = rendered.offset_last.or(last);
            rendered.pulses = Some(pulses.into_iter().map(pulse).collect());
            rendered.pulses_left_out = (left_out > 0).then_some(left_out);
        }
    }
}

/// A row is made of its pulses.
fn check(row: &UsageRow, seen: &RowPulses) -> Result<(), String> {
    let Aggregate { count, sum, .. } = row.cell.aggregate;
    let amounts = seen.listed.iter().map(|pulse| Amount::of(pulse.amount));
    let listed = amounts.fold(Amount::ZERO, |sum, amount| {
        sum.checked_add(amount).expect("2^68 pulses are within an amount")
    });
    let is_whole = seen.listed.len() as u64 == count;
    if seen.count != count || (is_whole && listed != Amount::of(sum)) {
        return Err(format!(
            "{} pulses that add up to {listed} were seen to make {count} that add up to {sum}",
            seen.count
        ));
    }
    Ok(())
}

fn pulse(pulse: &CountedPulse) -> PulseRef {
    let shown = PulseRef {
        offset: pulse.offset.0,
        index: pulse.index,
        time: pulse.time,
        amount: Amount::of(pulse.amount),
        request_id: pulse.request_id.clone(),
        source: None,
        id: None,
        producer_id: None,
        sequence: None,
        backfill: None,
        row: None,
    };
    match &pulse.identity {
        Identity::None => shown,
        Identity::Id { source, id } => {
            PulseRef { source: Some(source.clone()), id: Some(id.clone()), ..shown }
        }
        Identity::Numbered { producer_id, sequence } => PulseRef {
            producer_id: Some(format!("{producer_id:032x}")),
            sequence: Some(*sequence),
            ..shown
        },
        Identity::Backfill { name, row } => {
            PulseRef { backfill: Some(name.clone()), row: Some(*row), ..shown }
        }
    }
}
