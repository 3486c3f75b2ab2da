//! Floods of identities: each producer, backfill or id is new, and has to be remembered.

use futures_util::FutureExt;
use proto::v1::Pulse;
use pulso::client::Identity;

use super::{
    Counted, Flood,
    flood::{Answered, batch, numbered, pulse, send},
};
use crate::{
    attacks::Scale,
    harness::{Server, Settings},
};

pub(crate) const FLOODS: &[Flood] = &[
    Flood {
        name: "600,000 producers of one batch each",
        bound: "`limits.state_bytes` at 32 MiB",
        growth_mib_max: 160,
        settings: with_a_small_state,
        send: |server, scale| producers(server, scale).boxed(),
        check: |counted, _| state_was_full(counted),
    },
    Flood {
        name: "450,000 names of backfills",
        bound: "`limits.state_bytes` at 32 MiB",
        growth_mib_max: 160,
        settings: with_a_small_state,
        send: |server, scale| backfills(server, scale).boxed(),
        check: |counted, _| state_was_full(counted),
    },
    Flood {
        name: "two million ids, with 256 file descriptors",
        bound: "`consumer.ids_memory` at 16 MiB, then scratch files",
        growth_mib_max: 160,
        settings: |settings, scale| {
            settings
                .with("PULSO_CONSUMER__IDS_MEMORY", scale.pick("1 MiB", "16 MiB"))
                .with("PULSO_LOG__SEGMENT_RECORDS_MAX", scale.pick("4", "20"))
                .open_files_max(256)
        },
        send: |server, scale| ids(server, scale).boxed(),
        check: |counted, scale| {
            let sent = IDS_PER_BATCH * scale.pick(100, 2_000);
            let held = counted.ids_held;
            assert!(held >= sent, "{held} of {sent} ids are known");
            assert_eq!(counted.pulses.duplicate, sent / 2, "each second batch came again");
            format!("{held} ids held, {} duplicates", counted.pulses.duplicate)
        },
    },
];

const IDS_PER_BATCH: u64 = 1_000;

fn with_a_small_state(settings: Settings, scale: Scale) -> Settings {
    settings.with("PULSO_LIMITS__STATE_BYTES", scale.pick("1 MiB", "32 MiB"))
}

fn state_was_full(counted: &Counted) -> String {
    let refused = counted.dead("too_many_identities");
    assert!(refused > 0, "the state is never full: {counted:?}");
    format!("{refused} too_many_identities")
}

async fn producers(server: &Server, scale: Scale) -> Answered {
    let one = pulse();
    let count = scale.pick(16_000, 600_000);
    send(server, count, move |number| batch(numbered(b'p', number, 0), [one.clone()])).await
}

async fn backfills(server: &Server, scale: Scale) -> Answered {
    let one = pulse();
    let count = scale.pick(16_000, 450_000);
    let named = move |number: u64| Identity::Backfill {
        name: format!("name-{number:07}"),
        content_digest: vec![7; 16].into(),
        first_row: 0,
    };
    send(server, count, move |number| batch(named(number), [one.clone()])).await
}

/// Each second batch is sent again once all were.
async fn ids(server: &Server, scale: Scale) -> Answered {
    let count = scale.pick(100, 2_000);
    let one = pulse();
    let with_ids = move |number: u64| {
        let pulses = (0..IDS_PER_BATCH).map(|place| Pulse {
            tenant: format!("mallory-{}", number % 8),
            source: "flood".to_owned(),
            id: format!("{number}-{place}"),
            ..one.clone()
        });
        batch(Identity::ById, pulses)
    };
    let again = with_ids.clone();
    let first = send(server, count, with_ids).await;
    let second = send(server, count / 2, move |number| again(number * 2)).await;
    Answered { accepted: first.accepted + second.accepted, refused: first.refused + second.refused }
}
