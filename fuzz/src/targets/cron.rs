//! Cron expressions: the next moment of a schedule.

use domain::Timestamp;
use runtime::schedule::CronExpression;

/// Moments at which calendars turn.
const MOMENTS: [i64; 7] =
    [0, 951_782_399, 1_709_164_800, 1_735_689_599, 4_107_542_399, -62_135_596_800, 253_370_764_800];

/// An expression is due behind any moment, soonest first, and reads the same when it is shown.
pub(super) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let expression = match CronExpression::parse(text) {
        Ok(expression) => expression,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let again = CronExpression::parse(&expression.to_string()).expect("as it is shown it reads");
    for second in MOMENTS {
        let now = Timestamp::from_parts(second, 0).expect("a moment of the years 1 to 9999");
        let Some(due) = expression.due(now, now) else {
            assert!(second == 253_370_764_800, "nothing is due behind {now}");
            continue;
        };
        assert!(due > now, "{due} is not behind {now}");
        assert_eq!(again.due(now, now), Some(due));
        assert_eq!(due.parts().1, 0);
        // Asked from just before that moment, it is the same; asked at it, it is due then.
        let before = due.minus(std::time::Duration::from_secs(1));
        assert_eq!(expression.due(before, before), Some(due));
        assert_eq!(expression.due(due, now), Some(due));
    }
}
