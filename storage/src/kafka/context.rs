//! What librdkafka says by itself, in our log; and what it has to be told.
//!
//! Whoever asked gets the failure as an error and reports it; so a line here is a warning at most,
//! and only a client that has failed for good is worth more.

use std::ffi::{CStr, CString};

use rdkafka::{
    ClientContext,
    bindings::{
        RD_KAFKA_EVENT_ERROR, rd_kafka_brokers_add, rd_kafka_event_destroy, rd_kafka_event_error,
        rd_kafka_event_error_string, rd_kafka_event_type, rd_kafka_mem_free, rd_kafka_memberid,
        rd_kafka_queue_destroy, rd_kafka_queue_get_main, rd_kafka_queue_poll,
    },
    client::Client,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::KafkaError,
    types::RDKafkaRespErr,
};
use tracing::{debug, warn};

/// The context of clients that do nothing by themselves: of a drain, of questions to the brokers.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "Kafka client");
    }
}

impl ConsumerContext for Quiet {}

/// Writes a line of the client into our log.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => warn!(facility, message, "Kafka client"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            debug!(facility, message, "Kafka client");
        }
    }
}

/// Gives a client that has lost every broker the configured ones again.
///
/// A broker that was away for so long that its cluster fenced it says, once it is back, that the
/// cluster has no brokers. A client that is told so forgets all that it knew, those of its
/// configuration too, and never connects again (librdkafka since 2.10, its issue 5301).
pub(super) fn bootstrap_again<C: ClientContext>(client: &Client<C>, brokers: &str) {
    let Ok(list) = CString::new(brokers) else { return };
    // SAFETY: the client lives for the call, and this function may be called from any thread; it
    // copies the list.
    let added = unsafe { rd_kafka_brokers_add(client.native_ptr(), list.as_ptr()) };
    debug!(added, brokers, "a Kafka client without brokers was given those of its configuration");
}

/// As what its group's coordinator knows a consumer now; empty where it does not.
pub(super) fn member_id<C: ClientContext>(client: &Client<C>) -> String {
    // SAFETY: the client lives for the call, and this function may be called from any thread but its
    // own. What it gives is a string of the client's allocator or null, copied before it is freed once.
    unsafe {
        let id = rd_kafka_memberid(client.native_ptr());
        if id.is_null() {
            return String::new();
        }
        let copied = CStr::from_ptr(id).to_string_lossy().into_owned();
        rd_kafka_mem_free(client.native_ptr(), id.cast());
        copied
    }
}

/// What a client has said of its brokers and nobody has taken yet: the first refusal of a certificate
/// or a user, or else the first reason. The error of a question says no more than that nobody answered.
pub(super) fn trouble<C: ClientContext>(client: &Client<C>) -> Option<String> {
    let (mut first, mut refusal) = (None, None);
    // SAFETY: the client lives for the call. The queue and each event are destroyed once and not used
    // behind that; an event's text is copied before, and ends with a zero.
    unsafe {
        let queue = rd_kafka_queue_get_main(client.native_ptr());
        loop {
            let event = rd_kafka_queue_poll(queue, 0);
            if event.is_null() {
                break;
            }
            if rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR {
                let text = CStr::from_ptr(rd_kafka_event_error_string(event));
                let refuses = matches!(
                    rd_kafka_event_error(event),
                    RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTHENTICATION
                        | RDKafkaRespErr::RD_KAFKA_RESP_ERR__SSL
                );
                let kept = if refuses { &mut refusal } else { &mut first };
                kept.get_or_insert_with(|| text.to_string_lossy().trim().to_owned());
            }
            rd_kafka_event_destroy(event);
        }
        rd_kafka_queue_destroy(queue);
    }
    refusal.or(first)
}
