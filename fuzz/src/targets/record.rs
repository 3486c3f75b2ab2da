//! The envelope of a record of the log, and control records.

use domain::{LogId, generation::Generation};
use prost::Message;
use proto::{
    record::{self, RecordError, RecordView},
    v1,
};

/// The log of every target that needs one.
pub(crate) fn generation() -> Generation {
    Generation::new(LogId(*b"log of the fuzz!"), 1, 42)
}

/// What opens is whole, and written again it opens as the same.
pub(super) fn check(bytes: &[u8]) {
    match record::open(generation().log_id, bytes) {
        Ok(view) => opened(bytes, &view),
        Err(RecordError::Newer(version)) => assert!(version > record::ENVELOPE_VERSION),
        Err(RecordError::Undecodable(words)) => assert!(!words.is_empty()),
    }
}

fn opened(bytes: &[u8], view: &RecordView<'_>) {
    let envelope = &view.envelope;
    let pulses: Vec<_> = view.pulses().collect();
    let named = envelope.sources.iter().map(|source| record::accepted(source).unwrap());
    assert_eq!(named.sum::<u32>(), envelope.pulses);
    assert_eq!(pulses.len(), envelope.pulses as usize);
    // Only where no pulse is broken: the walk hands each on as it is.
    if let Ok(plain) = v1::LogRecord::decode(bytes) {
        assert_eq!(plain.pulses.len(), pulses.len());
    }
    match &envelope.control {
        Some(control) => {
            assert!(pulses.is_empty(), "a control record hides {} pulses", pulses.len());
            let again = record::encode_control(&generation(), control);
            let again = record::open(generation().log_id, &again).unwrap();
            assert_eq!(again.envelope.control.as_ref(), Some(control));
        }
        None => {
            let fields = pulses.iter().map(|pulse| pulse.field);
            let sources = envelope.sources.clone();
            let again = record::encode(&generation(), sources, envelope.pulses, fields);
            let again = record::open(generation().log_id, &again).unwrap();
            assert_eq!(again.envelope.sources, envelope.sources);
            assert!(again.pulses().map(|it| it.body).eq(pulses.iter().map(|it| it.body)));
        }
    }
}
