//! Floods of what does not count: too late, refused at the edge, out of range, or without a name.

use futures_util::FutureExt;
use proto::v1::{Decimal, Pulse};
use pulso::client::Identity;

use super::{
    Flood,
    flood::{Answered, batch, late_pulse, numbered, pulse, send},
};
use crate::{attacks::Scale, harness::Server};

pub(crate) const FLOODS: &[Flood] = &[
    Flood {
        name: "five million pulses that are too late: plain, numbered, and beside good ones",
        bound: "one dead letter for each segment, reason and tenant",
        growth_mib_max: 200,
        settings: |settings, _| settings,
        send: |server, scale| late(server, scale).boxed(),
        check: |counted, scale| {
            let (late, good) = late_and_good(scale);
            assert_eq!(counted.pulses.late, late, "{counted:?}");
            assert_eq!(counted.pulses.dead_lettered, 0, "{counted:?}");
            format!("{late} too_late, {good} good ones beside them counted")
        },
    },
    Flood {
        name: "200 producers, 256 batches each, of 499 refused pulses and a good one",
        bound: "a landed batch keeps 8 ranges of refused places, or a hash",
        growth_mib_max: 200,
        settings: |settings, _| settings,
        send: |server, scale| mostly_refused(server, scale).boxed(),
        check: |counted, scale| {
            let landed = scale.pick(20 * 16, 200 * 256);
            assert_eq!(counted.flooded.accepted, landed);
            format!("{} refused at the edge, {landed} counted", counted.flooded.refused)
        },
    },
    Flood {
        name: "wide sums, and names with invisible characters",
        bound: "`overflow` dead letters, `NAME_INVALID`",
        growth_mib_max: 100,
        settings: |settings, _| settings,
        send: |server, _| wide_and_invisible(server).boxed(),
        check: |counted, _| {
            let overflow = counted.dead("overflow");
            assert!(overflow > 0 && counted.flooded.refused == INVISIBLE.len() as u64);
            format!("{overflow} overflow, {} names refused", counted.flooded.refused)
        },
    },
];

const LATE_PULSES: u64 = 10_000;

/// Batches without identity, numbered, and with a good pulse for nine late ones.
fn late_batches(scale: Scale) -> [u64; 3] {
    scale.pick([2, 2, 2], [200, 200, 111])
}

fn late_and_good(scale: Scale) -> (u64, u64) {
    let [plain, numbered, mixed] = late_batches(scale);
    let good = mixed * LATE_PULSES / 10;
    ((plain + numbered + mixed) * LATE_PULSES - good, good)
}

async fn late(server: &Server, scale: Scale) -> Answered {
    let [plain, numbers, mixed] = late_batches(scale);
    let all = batch(Identity::None, vec![late_pulse(); 10_000]);
    let some = (0..LATE_PULSES).map(|place| if place % 10 == 0 { pulse() } else { late_pulse() });
    let some = batch(Identity::None, some);
    let count = plain + numbers + mixed;
    let sent = move |number: u64| match number {
        number if number < plain => all.clone(),
        number if number < plain + numbers => {
            all.with_identity(numbered(b'l', number % 7, number * LATE_PULSES))
        }
        number => some.with_identity(numbered(b'l', number % 7, number * LATE_PULSES)),
    };
    send(server, count, sent).await
}

async fn mostly_refused(server: &Server, scale: Scale) -> Answered {
    let (producers, batches) = scale.pick((20, 16), (200, 256));
    let refused = |place: u64| if place == 7 { pulse() } else { Pulse::default() };
    let in_a_stretch = batch(Identity::None, (0..500).map(refused));
    send(server, producers * batches, move |number| {
        in_a_stretch.with_identity(numbered(b'r', number % producers, number / producers * 500))
    })
    .await
}

const INVISIBLE: [&str; 5] =
    ["mal\u{200b}lory", "\u{feff}mallory", "mal\u{202e}lory", "mallory\u{ad}", "mallory\u{fe0f}"];

/// A pulse holds at most 2^63 - 1 units, and a total eighteen of these.
const WIDE: i64 = 9_200_000_000_000_000_000;

async fn wide_and_invisible(server: &Server) -> Answered {
    let amount = Some(Decimal { unscaled: WIDE, scale: 0 });
    let wide = vec![Pulse { product_sku: "wide".to_owned(), used_amount: amount, ..pulse() }; 18];
    let invisible = INVISIBLE.map(|tenant| Pulse { tenant: tenant.to_owned(), ..pulse() });
    send(server, 13, move |number| match number {
        12 => batch(numbered(b'i', 0, 0), invisible.clone()),
        // One producer, so one row, which has room for eighteen.
        number => batch(numbered(b'w', 0, number * 18), wide.clone()),
    })
    .await
}
