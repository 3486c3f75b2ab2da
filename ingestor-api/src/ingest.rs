//! Ingest: takes batches as bytes, by whatever door they came, and answers once their fate is
//! known.

use std::sync::Arc;

use bytes::Bytes;
use domain::{Clock, PulseLog, generation::Generation};
use edge::{
    CorrelationId, Problem,
    listen::{
        Budget, Held, Pace, Peer,
        frames::{Counting, Framed, Handover, Quiet, Room, WhenFull},
    },
};
use proto::{
    convert::wire_time,
    v1::{self, IngestAck},
};
use runtime::{Shutdown, health::Trouble};
use tracing::debug;

use crate::{
    answer::{Fate, Taken, message_too_large},
    batch::{self, Context},
    check::NegativePolicy,
    config::{Limits, LimitsError},
    metrics::Metrics,
    outcome::Outcome,
    packer::{self, Packers, Queues},
    scope::Scope,
};

/// The ingest stage. Clones share one.
pub struct Ingest<L: PulseLog> {
    shared: Arc<Shared<L>>,
}

impl<L: PulseLog> Clone for Ingest<L> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<L> {
    log: Arc<L>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    negative: Arc<dyn NegativePolicy>,
    shutdown: Shutdown,
    queues: Queues,
    bytes_in_flight: Budget,
    streams: Budget,
    metrics: Metrics,
    trouble: Trouble,
}

/// What ingest needs from outside.
pub struct Ports<L> {
    /// Where pulses go.
    pub log: Arc<L>,
    /// Stamps batches with the moment they arrived.
    pub clock: Arc<dyn Clock>,
    /// Which SKUs take no negative amounts.
    pub negative: Arc<dyn NegativePolicy>,
    /// Once requested, new batches are refused; those in flight are still answered.
    pub shutdown: Shutdown,
}

/// Who sent a batch.
#[derive(Clone, Debug)]
pub struct Origin {
    /// What the credential covers.
    pub scope: Scope,
    /// Follows the request from here to the invoice line.
    pub correlation_id: CorrelationId,
    /// Whose share of the bounds it takes.
    pub peer: Peer,
}

impl<L: PulseLog> Ingest<L> {
    /// Starts the stage: one packer task for each partition. Metrics go to the recorder that is
    /// installed now. The caller ends it by requesting the shutdown, letting its servers end, and
    /// awaiting [`Packers::finish`].
    ///
    /// # Errors
    /// A limit that cannot work; nothing was started.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(limits: Limits, ports: Ports<L>) -> Result<(Self, Packers), LimitsError> {
        limits.check()?;
        let metrics = Metrics::new();
        let Ports { log, clock, negative, shutdown } = ports;
        let trouble = Trouble::default();
        let (queues, packers) = packer::start(&log, &limits, &metrics, &trouble);
        let bytes_in_flight = Budget::new(
            limits.bytes_in_flight_max,
            limits.bytes_in_flight_per_peer_max,
            metrics.bytes_in_flight().clone(),
        );
        let streams =
            Budget::new(limits.streams_max, limits.streams_per_peer_max, metrics.streams().clone());
        let shared = Shared {
            log,
            limits,
            clock,
            negative,
            shutdown,
            queues,
            bytes_in_flight,
            streams,
            metrics,
            trouble,
        };
        Ok((Self { shared: Arc::new(shared) }, packers))
    }

    /// Takes one encoded `PulseBatch` and answers once its pulses are durable. Refused pulses are
    /// listed in the ack. Dropping the future leaves what is queued on its way to the log.
    ///
    /// # Errors
    /// The batch was refused whole (`INVALID_ARGUMENT`), there is no room for it
    /// (`RESOURCE_EXHAUSTED`), or the log did not take it or did not say so (`UNAVAILABLE`).
    pub async fn submit(&self, message: Bytes, origin: &Origin) -> Result<IngestAck, Problem> {
        let bytes_max = self.limits().message_bytes_max;
        if message.len() > bytes_max {
            self.metrics().refused(0);
            return Err(message_too_large(bytes_max));
        }
        let bytes = u32::try_from(message.len()).expect("the limits are checked to fit");
        let Ok(room) = self.shared.bytes_in_flight.share(origin.peer).try_take(bytes) else {
            self.metrics().answered(Outcome::Overloaded, 0, 0);
            return Err(Problem::overloaded(self.limits().retry_after));
        };
        self.submit_counted(message, origin, room).await
    }

    /// The same of a message whose room is taken already.
    pub(crate) async fn submit_counted(
        &self,
        message: Bytes,
        origin: &Origin,
        room: Held,
    ) -> Result<IngestAck, Problem> {
        // Kept until the answer, as on a stream.
        let room = Arc::new(room);
        let taken = self.take(&message, origin, &room);
        taken.answer(self.metrics(), self.limits().retry_after).await.map_err(|not| not.problem)
    }

    /// Takes a message apart and queues its parts.
    pub(crate) fn take(&self, message: &Bytes, origin: &Origin, room: &Arc<Held>) -> Taken {
        let shared = &*self.shared;
        let context = Context {
            generation: shared.log.generation(),
            limits: &shared.limits,
            negative: &*shared.negative,
            scope: &origin.scope,
            received_at: shared.clock.now(),
            correlation_id: origin.correlation_id.as_str(),
        };
        let mut plan = match batch::plan(message, &context) {
            Ok(plan) => plan,
            Err(refusal) => {
                debug!(request_id = %origin.correlation_id, batch = refusal.batch, reason = refusal.problem.reason, "batch refused");
                return Taken::Refused(refusal);
            }
        };
        debug!(request_id = %origin.correlation_id, batch = plan.batch, accepted = plan.accepted, rejected = plan.rejected, "batch taken");
        let parts = std::mem::take(&mut plan.parts);
        let fate = if shared.shutdown.is_requested() {
            Fate::Known(Outcome::ShuttingDown)
        } else if parts.is_empty() {
            // Every pulse was refused, which is final without the log.
            Fate::Known(Outcome::Durable)
        } else {
            match shared.queues.offer(parts, room) {
                Ok(receipt) => Fate::Pending(receipt),
                Err(outcome) => Fate::Known(outcome),
            }
        };
        Taken::planned(plan, fate)
    }

    /// Which event times count, by the rules of the log and the clock of this process.
    pub(crate) fn time_bounds(&self) -> v1::TimeBounds {
        let Generation { lateness, future_tolerance, .. } = *self.shared.log.generation();
        v1::TimeBounds {
            lateness: lateness.try_into().ok(),
            future_tolerance: future_tolerance.try_into().ok(),
            server_time: Some(wire_time(self.shared.clock.now())),
        }
    }

    /// What the log refuses or fails at now, for the process's readiness.
    #[must_use]
    pub fn trouble(&self) -> &Trouble {
        &self.shared.trouble
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shared.shutdown
    }

    /// Counts the messages of a call from their heads on.
    pub(crate) fn count<B>(
        &self,
        body: B,
        (peer, pace): (Peer, Option<Pace>),
        quiet: Quiet,
    ) -> (Framed<B>, Room) {
        let limits = self.limits();
        let when_full = match quiet {
            Quiet::Honest => WhenFull::Wait,
            Quiet::Counted => WhenFull::Refuse(Problem::overloaded(limits.retry_after)),
        };
        let counting = Counting {
            share: self.shared.bytes_in_flight.share(peer),
            message_bytes_max: limits.message_bytes_max,
            message_timeout: limits.message_timeout,
            when_full,
            handover: Handover::Split,
            quiet,
            pace,
        };
        Framed::new(body, counting)
    }

    pub(crate) fn streams(&self) -> &Budget {
        &self.shared.streams
    }
}
