//! Days and billing periods, in zones whose clocks do all that clocks do.

use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> Calendar {
    Calendar::named(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Starts of the periods that overlap a span of UTC dates, and the end of the last, as text.
fn edges(zone: &Calendar, anchor_day: u8, from: &str, to: &str) -> Vec<String> {
    let midnight = |date: &str| at(&format!("{date}T00:00:00Z"));
    let periods = zone.periods(anchor_day, midnight(from), midnight(to));
    let mut edges: Vec<_> = periods.iter().map(|period| period.start.to_string()).collect();
    edges.extend(periods.last().map(|period| period.end.to_string()));
    edges
}

#[test]
fn zones_are_those_of_iana_in_either_case() {
    assert_eq!(zone("america/sao_paulo").zone(), "America/Sao_Paulo");
    assert_eq!((zone("utc").zone(), Calendar::UTC.zone()), ("UTC", "UTC"));
    for unknown in ["", "Sao_Paulo", "BRT", "Etc/Unknown", "UTC+3", "-03:00", "BRT3", "../UTC"] {
        assert_eq!(Calendar::named(unknown), None, "{unknown:?}");
    }
    let zones = Calendar::zones();
    assert!(zones.iter().any(|name| name == "Asia/Kolkata") && zones.len() > 400);
    for name in &zones {
        assert_eq!(zone(name).zone(), name);
    }
}

/// Each row: a zone, a date, and the first moment of that day.
#[test]
fn a_day_begins_at_the_first_moment_that_shows_it() {
    for (name, date, first) in [
        ("UTC", "2026-01-01", "2026-01-01T00:00:00Z"),
        ("America/Sao_Paulo", "2026-01-01", "2026-01-01T03:00:00Z"),
        ("Asia/Kolkata", "2026-01-01", "2025-12-31T18:30:00Z"),
        // 00:00 to 01:00 is left out; the day begins at 01:00.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"),
        // 23:00 to 24:00 comes twice on the day before.
        ("America/Sao_Paulo", "2018-02-18", "2018-02-18T03:00:00Z"),
        // 00:00 to 01:00 comes twice: the first of the midnights.
        ("America/Havana", "2025-11-02", "2025-11-02T04:00:00Z"),
        // 00:01 becomes 23:01 of the day before: the first of the midnights again.
        ("America/St_Johns", "2010-11-07", "2010-11-07T02:30:00Z"),
        // 23:30 becomes 00:30.
        ("America/Toronto", "1919-03-31", "1919-03-31T04:30:00Z"),
        // A day that never was begins with the next.
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"),
        // A date that came twice begins the first time.
        ("Pacific/Kwajalein", "1969-09-30", "1969-09-29T13:00:00Z"),
    ] {
        let calendar = zone(name);
        assert_eq!(calendar.parse_date(date), Some(at(first)), "{name}, {date}");
        let part = |span: std::ops::Range<usize>| date[span].parse::<i16>().unwrap();
        let small = |span| i8::try_from(part(span)).unwrap();
        let midnight = calendar.midnight(part(0..4), small(5..7), small(8..10));
        assert_eq!(midnight, Some(at(first)), "{name}, {date}");
    }
}

#[test]
fn what_is_no_date_has_no_first_moment() {
    for wrong in [
        "",
        "2026",
        "2026-02-29",
        "2026-13-01",
        "2026-00-01",
        "2026-01-00",
        "2026-1-1",
        "20260101",
        "2026-01-01 ",
        "2026-01-01T00:00:00Z",
        "+2026-01-1",
        "-026-01-01",
        "2026/01/01",
        "20é6-01-1",
        "0000-12-31",
        "9999-12-31",
    ] {
        assert_eq!(zone("America/Sao_Paulo").parse_date(wrong), None, "{wrong:?}");
    }
    assert_eq!(Calendar::UTC.midnight(2026, 2, 29), None);
    assert_eq!(Calendar::UTC.midnight(-1, 1, 1), None);
    assert_eq!(Calendar::UTC.midnight(1, 1, 1), Some(Timestamp::MIN));
}

#[test]
fn a_moment_has_the_date_that_local_clocks_show() {
    for (name, moment, date) in [
        ("UTC", "2026-01-01T00:00:00Z", "2026-01-01"),
        ("America/Sao_Paulo", "2026-01-01T02:59:59.999999Z", "2025-12-31"),
        ("Asia/Kolkata", "2025-12-31T18:30:00Z", "2026-01-01"),
        ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31"),
        ("UTC", "0001-01-01T00:00:00Z", "0001-01-01"),
    ] {
        assert_eq!(zone(name).date_of(at(moment)), date, "{name}, {moment}");
    }
    assert_eq!(Calendar::UTC.date_of(Timestamp::MAX), "9999-12-30", "as far as jiff goes");
}

/// Each row: a zone, a span of local dates, the end not in it, and the days in it.
#[test]
fn days_are_counted_by_their_first_moments() {
    for (name, from, to, days) in [
        ("UTC", "2026-01-01", "2026-02-01", 31),
        ("UTC", "2024-02-01", "2024-03-01", 29),
        ("UTC", "1900-02-01", "1900-03-01", 28),
        ("UTC", "2026-01-01", "2026-01-01", 0),
        ("UTC", "2026-01-02", "2026-01-01", 0),
        ("UTC", "2000-01-01", "2400-01-01", 146_097),
        ("Europe/Berlin", "2026-03-01", "2026-04-01", 31),
        ("Europe/Berlin", "2026-10-01", "2026-11-01", 31),
        ("America/Sao_Paulo", "2018-11-01", "2018-12-01", 30),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-05", 1),
        ("America/Havana", "2025-11-01", "2025-12-01", 30),
        ("America/St_Johns", "2010-11-01", "2010-12-01", 30),
        ("Asia/Kolkata", "2026-01-01", "2027-01-01", 365),
        ("Pacific/Apia", "2011-12-01", "2012-01-01", 30),
        ("Pacific/Apia", "2011-12-30", "2011-12-31", 0),
        ("Pacific/Kwajalein", "1969-09-01", "1969-11-01", 61),
    ] {
        let zone = zone(name);
        let midnight = |date| zone.parse_date(date).unwrap();
        let window = Window { start: midnight(from), end: midnight(to) };
        assert_eq!(zone.days(window), days, "{name}, {from} to {to}");
    }
    let noon = Window { start: at("2026-01-01T12:00:00Z"), end: at("2026-01-02T12:00:00Z") };
    assert_eq!(Calendar::UTC.days(noon), 1, "the second of January begins in it");
    let morning = Window { start: at("2026-01-01T06:00:00Z"), end: at("2026-01-01T12:00:00Z") };
    assert_eq!(Calendar::UTC.days(morning), 0);
    let all = Window { start: Timestamp::MIN, end: Timestamp::MAX };
    assert_eq!(Calendar::UTC.days(all), 3_652_058, "all but the last day of 9999");
}

/// Each row: an anchor, a span, and the days on which periods of UTC begin.
#[test]
fn periods_are_counted_from_the_anchor_and_never_chained() {
    let utc = |anchor_day, from, to| -> Vec<String> {
        let edges = edges(&Calendar::UTC, anchor_day, from, to);
        edges.iter().map(|edge| edge.strip_suffix("T00:00:00Z").unwrap().to_owned()).collect()
    };
    for (anchor_day, from, to, starts) in [
        (1, "2026-01-01", "2026-02-01", &["2026-01-01", "2026-02-01"][..]),
        (1, "2026-01-15", "2026-02-02", &["2026-01-01", "2026-02-01", "2026-03-01"]),
        (5, "2026-01-01", "2026-01-06", &["2025-12-05", "2026-01-05", "2026-02-05"]),
        (5, "2025-12-05", "2026-01-05", &["2025-12-05", "2026-01-05"]),
        (29, "2026-02-01", "2026-03-30", &["2026-01-29", "2026-02-28", "2026-03-29", "2026-04-29"]),
        (29, "2024-02-01", "2024-03-01", &["2024-01-29", "2024-02-29", "2024-03-29"]),
        (30, "2026-02-01", "2026-03-01", &["2026-01-30", "2026-02-28", "2026-03-30"]),
        (30, "2024-02-29", "2024-03-01", &["2024-02-29", "2024-03-30"]),
        (
            31,
            "2026-01-31",
            "2026-05-01",
            &["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"],
        ),
        (31, "2023-12-31", "2024-03-31", &["2023-12-31", "2024-01-31", "2024-02-29", "2024-03-31"]),
        (31, "1900-02-28", "1900-03-31", &["1900-02-28", "1900-03-31"]),
        (0, "2026-01-01", "2026-02-01", &["2026-01-01", "2026-02-01"]),
        (255, "2026-01-31", "2026-02-28", &["2026-01-31", "2026-02-28"]),
        (1, "2026-01-01", "2026-01-01", &[]),
        (1, "2026-01-02", "2026-01-01", &[]),
    ] {
        assert_eq!(utc(anchor_day, from, to), starts, "anchor {anchor_day}, {from} to {to}");
    }
}

/// Each row: a zone, an anchor, a span of UTC dates, and the moments at which periods begin.
#[test]
fn periods_begin_at_local_midnight_whatever_the_clocks_do() {
    for (name, anchor_day, from, to, starts) in [
        (
            "Europe/Berlin",
            1,
            "2026-03-10",
            "2026-04-10",
            &["2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"][..],
        ),
        (
            "America/New_York",
            5,
            "2026-10-10",
            "2026-11-10",
            &["2026-10-05T04:00:00Z", "2026-11-05T05:00:00Z", "2026-12-05T05:00:00Z"],
        ),
        (
            "America/Sao_Paulo",
            4,
            "2018-10-05",
            "2018-11-05",
            &["2018-10-04T03:00:00Z", "2018-11-04T03:00:00Z", "2018-12-04T02:00:00Z"],
        ),
        (
            "Asia/Kolkata",
            1,
            "2026-01-01",
            "2026-01-02",
            &["2025-12-31T18:30:00Z", "2026-01-31T18:30:00Z"],
        ),
        (
            "Pacific/Apia",
            30,
            "2011-12-01",
            "2012-01-01",
            &["2011-11-30T10:00:00Z", "2011-12-30T10:00:00Z", "2012-01-29T10:00:00Z"],
        ),
        (
            "Pacific/Apia",
            31,
            "2011-12-01",
            "2012-01-01",
            &["2011-11-30T10:00:00Z", "2011-12-30T10:00:00Z", "2012-01-30T10:00:00Z"],
        ),
    ] {
        assert_eq!(edges(&zone(name), anchor_day, from, to), starts, "{name}");
    }
}

#[test]
fn periods_reach_to_the_ends_of_the_calendar() {
    for name in ["UTC", "America/Sao_Paulo", "Pacific/Apia"] {
        let zone = zone(name);
        let day = std::time::Duration::from_secs(86_400);
        let first = zone.periods(31, Timestamp::MIN, Timestamp::MIN.plus(day));
        assert_eq!(first.first().map(|period| period.start), Some(Timestamp::MIN), "{name}");
        let last = zone.periods(31, Timestamp::MAX.minus(day * 40), Timestamp::MAX);
        assert_eq!(last.last().map(|period| period.end), Some(Timestamp::MAX), "{name}");
        assert!(last.iter().all(|period| period.start < period.end), "{name}: {last:?}");
    }
}

/// Every day that begins in a span, its end included.
fn days_of(calendar: &Calendar, span: Window) -> impl Iterator<Item = Timestamp> {
    let next = |day: &Timestamp| calendar.day_from(day.plus(Duration::from_micros(1)));
    successors(calendar.day_from(span.start), next).take_while(move |day| *day <= span.end)
}

/// What a log with windows of 15 minutes can bill: every zone of today.
#[test]
fn windows_of_a_quarter_hour_tile_the_days_of_every_zone_since_2020() {
    let start = at("2020-01-01T00:00:00Z");
    // Day by day for two years; the property below holds for any span.
    let span = Window { start, end: at("2022-01-01T00:00:00Z") };
    let (mut quarters, mut halves) = (Vec::new(), Vec::new());
    for name in Calendar::zones() {
        let calendar = zone(&name);
        let days: Vec<_> = days_of(&calendar, span).collect();
        for length in WindowLength::OF_LOGS {
            let is_inside = days.iter().any(|day| length.start_of(*day) != *day);
            assert_eq!(calendar.day_inside(length, span).is_some(), is_inside, "{name} {length}");
        }
        let fits =
            |length| calendar.day_inside(length, Window { start, end: Timestamp::MAX }).is_none();
        assert!(fits(WindowLength::QUARTER_HOUR), "{name}");
        match (fits(WindowLength::HOUR), fits(WindowLength::HALF_HOUR)) {
            (true, half) => assert!(half, "{name}"),
            (false, true) => halves.push(name),
            (false, false) => quarters.push(name),
        }
    }
    for name in ["Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Asia/Tehran"] {
        assert!(halves.iter().any(|half| half == name), "{name}: {halves:?}");
    }
    for name in ["Asia/Kathmandu", "Pacific/Chatham", "Australia/Eucla"] {
        assert!(quarters.iter().any(|quarter| quarter == name), "{name}: {quarters:?}");
    }
}

/// Each row: a zone, from and to, a length in minutes, and the first day that begins inside a window.
#[test]
fn a_day_inside_a_window_is_found_wherever_the_zones_clocks_move() {
    for (name, from, to, minutes, day) in [
        ("Europe/Madrid", "2026-01-01", "9999-01-01", 60, None),
        ("Asia/Kolkata", "2026-01-01", "9999-01-01", 60, Some("2026-01-01")),
        ("Asia/Kolkata", "2026-01-01", "9999-01-01", 30, None),
        // Half an hour of summer time: hours fit in summer and not in winter.
        ("Australia/Lord_Howe", "2026-01-01", "2026-04-05", 60, None),
        ("Australia/Lord_Howe", "2026-01-01", "2026-04-06", 60, Some("2026-04-06")),
        ("Australia/Lord_Howe", "2026-01-01", "9999-01-01", 30, None),
        // 03:06:28 behind until 1914: no window of a log fits.
        ("America/Sao_Paulo", "1913-01-01", "1914-02-01", 15, Some("1913-01-01")),
        ("America/Sao_Paulo", "1914-01-02", "9999-01-01", 15, None),
        // Half an hour behind from 2007 to 2016.
        ("America/Caracas", "2005-01-01", "2007-12-01", 60, None),
        ("America/Caracas", "2005-01-01", "9999-01-01", 60, Some("2007-12-10")),
        ("America/Caracas", "2016-05-02", "9999-01-01", 60, None),
        // The clocks go from 23:30 to 00:30, so the day begins at half past.
        ("America/Toronto", "1919-03-30", "1919-04-02", 60, Some("1919-03-31")),
    ] {
        let calendar = zone(name);
        let [start, end] = [from, to].map(|date| calendar.parse_date(date).unwrap());
        let length = WindowLength::new(Duration::from_secs(minutes * 60)).unwrap();
        let found = calendar.day_inside(length, Window { start, end });
        assert_eq!(
            found.map(|day| calendar.date_of(day)).as_deref(),
            day,
            "{name} {from} {minutes}"
        );
    }
}

#[test]
fn windows_fit_from_the_day_on_behind_the_last_that_begins_inside_one() {
    for (name, minutes, day) in [
        ("UTC", 60, Some("1900-01-01")),
        ("America/Sao_Paulo", 15, Some("1914-01-02")),
        ("America/Caracas", 60, Some("2016-05-02")),
        ("Asia/Kolkata", 60, None),
        ("Australia/Lord_Howe", 60, None),
        ("Australia/Lord_Howe", 30, Some("1900-01-01")),
    ] {
        let (calendar, start) = (zone(name), at("1899-12-31T12:00:00Z"));
        let length = WindowLength::new(Duration::from_secs(minutes * 60)).unwrap();
        let span = Window { start, end: Timestamp::MAX };
        let found = calendar.day_from_which_fit(length, span);
        assert_eq!(found.map(|day| calendar.date_of(day)).as_deref(), day, "{name} {minutes}");
        if let Some(day) = found {
            assert_eq!(calendar.day_inside(length, Window { start: day, ..span }), None, "{name}");
        }
    }
}

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",
    "America/Toronto",
    "America/Sitka",
    "Asia/Kolkata",
    "Asia/Manila",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
];

/// A moment from 1840 to 2060, on an odd second as likely as on a whole hour.
fn moments() -> impl Strategy<Value = Timestamp> {
    let second = prop_oneof![
        -4_102_444_800i64..2_840_140_800,
        (-1_139_568i64..788_928).prop_map(|hour| hour * 3_600)
    ];
    second.prop_map(|second| Timestamp::from_parts(second, 0).unwrap())
}

proptest! {
    #[test]
    fn periods_tile(zone in prop::sample::select(ZONES), anchor_day in 1u8..=31, from in moments(), days in 0u64..1_500) {
        let calendar = Calendar::named(zone).unwrap();
        let to = from.plus(std::time::Duration::from_secs(days * 86_400 + 1));
        let periods = calendar.periods(anchor_day, from, to);
        let (first, last) = (periods[0], periods[periods.len() - 1]);
        prop_assert!(first.start <= from && from < first.end && last.start < to && to <= last.end);
        for pair in periods.windows(2) {
            prop_assert_eq!(pair[0].end, pair[1].start);
        }
        for period in &periods {
            let days = calendar.days(*period);
            prop_assert!((27..=31).contains(&days), "{:?} has {} days", period, days);
            // Any span inside finds the same period, so it does not matter where one began to ask.
            prop_assert_eq!(calendar.periods(anchor_day, period.start, period.end), vec![*period]);
        }
    }

    #[test]
    fn days_add_up_over_any_cut(zone in prop::sample::select(ZONES), start in moments(), first in 0u64..90_000_000, second in 0u64..90_000_000) {
        let calendar = Calendar::named(zone).unwrap();
        let cut = start.plus(std::time::Duration::from_secs(first));
        let end = cut.plus(std::time::Duration::from_secs(second));
        let days = |start, end| calendar.days(Window { start, end });
        prop_assert_eq!(days(start, cut) + days(cut, end), days(start, end));
    }

    #[test]
    fn a_day_inside_a_window_is_found_if_there_is_one(
        zone in prop::sample::select(ZONES),
        start in moments(),
        days in 0u64..1_500,
        minutes in prop::sample::select(&[60u64, 30, 20, 15, 1][..]),
    ) {
        let calendar = Calendar::named(zone).unwrap();
        let length = WindowLength::new(Duration::from_secs(minutes * 60)).unwrap();
        let span = Window { start, end: start.plus(Duration::from_secs(days * 86_400)) };
        let is_inside = |day: &Timestamp| length.start_of(*day) != *day;
        let found = calendar.day_inside(length, span);
        let mut inside = days_of(&calendar, span).filter(is_inside);
        match found {
            None => prop_assert_eq!(inside.next(), None),
            Some(day) => prop_assert!(inside.any(|known| known == day)),
        }
    }

    #[test]
    fn a_date_that_was_is_read_back(zone in prop::sample::select(ZONES), moment in moments()) {
        let calendar = Calendar::named(zone).unwrap();
        let date = calendar.date_of(moment);
        let first = calendar.parse_date(&date).unwrap();
        prop_assert!(first <= moment);
        prop_assert_eq!(calendar.date_of(first), date);
    }
}
