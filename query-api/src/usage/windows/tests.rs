//! Windows of days and months in any zone, over hours of UTC.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn cut(range: (&str, &str), kind: WindowKind, name: &str) -> Result<Windows, WindowsError> {
    let range = Window { start: at(range.0), end: at(range.1) };
    Windows::cut(range, kind, &zone(name), WindowLength::HOUR)
}

/// Start of each window and its hours.
fn listed(windows: &Windows) -> Vec<(String, i64)> {
    let mut cursor = Cursor::default();
    let (mut moment, end) = (windows.range().start, windows.range().end);
    let mut listed = Vec::new();
    while moment < end {
        let window = windows.holding(moment, &mut cursor);
        assert_eq!(window.start, moment, "windows leave no gap");
        listed.push((
            window.start.to_string(),
            window.end.interval(HOUR) - window.start.interval(HOUR),
        ));
        moment = window.end;
    }
    assert_eq!(moment, end, "windows end with the range");
    listed
}

#[test]
fn days_have_the_hours_that_their_zone_gives_them() {
    for (name, from, to, expected) in [
        (
            "UTC",
            "2024-03-30T00Z",
            "2024-04-01T00Z",
            vec![("2024-03-30T00", 24), ("2024-03-31T00", 24)],
        ),
        (
            "Europe/Berlin",
            "2024-03-29T23Z",
            "2024-04-01T22Z",
            vec![("2024-03-29T23", 24), ("2024-03-30T23", 23), ("2024-03-31T22", 24)],
        ),
        (
            "Europe/Berlin",
            "2024-10-25T22Z",
            "2024-10-28T23Z",
            vec![("2024-10-25T22", 24), ("2024-10-26T22", 25), ("2024-10-27T23", 24)],
        ),
        (
            "America/New_York",
            "2024-03-09T05Z",
            "2024-03-12T04Z",
            vec![("2024-03-09T05", 24), ("2024-03-10T05", 23), ("2024-03-11T04", 24)],
        ),
        (
            "America/New_York",
            "2024-11-02T04Z",
            "2024-11-05T05Z",
            vec![("2024-11-02T04", 24), ("2024-11-03T04", 25), ("2024-11-04T05", 24)],
        ),
        // Clocks skipped midnight: the day starts at one o'clock.
        (
            "America/Sao_Paulo",
            "2018-11-03T03Z",
            "2018-11-06T02Z",
            vec![("2018-11-03T03", 24), ("2018-11-04T03", 23), ("2018-11-05T02", 24)],
        ),
        // The 30th of December 2011 did not exist there.
        (
            "Pacific/Apia",
            "2011-12-28T10Z",
            "2012-01-01T10Z",
            vec![
                ("2011-12-28T10", 24),
                ("2011-12-29T10", 24),
                ("2011-12-30T10", 24),
                ("2011-12-31T10", 24),
            ],
        ),
    ] {
        let full = |text: &str| text.replace("Z", ":00:00Z");
        let windows = cut((&full(from), &full(to)), WindowKind::Day, name).unwrap();
        let expected: Vec<_> =
            expected.into_iter().map(|(start, hours)| (format!("{start}:00:00Z"), hours)).collect();
        assert_eq!(listed(&windows), expected, "{name} {from}");
    }
}

#[test]
fn months_follow_a_zone_through_its_history() {
    // Brazil had summer time until February 2019 and none since.
    let range = ("2018-10-01T03:00:00Z", "2020-01-01T03:00:00Z");
    let windows = cut(range, WindowKind::Month, "America/Sao_Paulo").unwrap();
    let listed = listed(&windows);
    let expected = [
        ("2018-10-01T03:00:00Z", 744),
        ("2018-11-01T03:00:00Z", 719),
        ("2018-12-01T02:00:00Z", 744),
        ("2019-01-01T02:00:00Z", 744),
        ("2019-02-01T02:00:00Z", 673),
        ("2019-03-01T03:00:00Z", 744),
    ];
    assert_eq!(listed.len(), 15);
    assert!(
        listed
            .iter()
            .zip(expected)
            .all(|((start, hours), wanted)| (start.as_str(), *hours) == wanted),
        "{listed:?}"
    );
    assert_eq!(listed[13], ("2019-11-01T03:00:00Z".to_owned(), 720));
}

#[test]
fn windows_at_the_ends_are_cut_to_the_range() {
    let range = ("2024-02-28T12:00:00Z", "2024-03-01T06:00:00Z");
    let days =
        [("2024-02-28T12:00:00Z", 12), ("2024-02-29T00:00:00Z", 24), ("2024-03-01T00:00:00Z", 6)];
    let months = [("2024-02-28T12:00:00Z", 36), ("2024-03-01T00:00:00Z", 6)];
    for (kind, expected) in [
        (WindowKind::Day, &days[..]),
        (WindowKind::Month, &months[..]),
        (WindowKind::Total, &[("2024-02-28T12:00:00Z", 42)][..]),
    ] {
        let listed = listed(&cut(range, kind, "UTC").unwrap());
        let listed: Vec<_> = listed.iter().map(|(start, hours)| (start.as_str(), *hours)).collect();
        assert_eq!(listed, expected, "{kind:?}");
    }
    assert_eq!(listed(&cut(range, WindowKind::Hour, "UTC").unwrap()).len(), 42);
}

#[test]
fn zones_off_by_part_of_a_window_have_hours_but_no_days() {
    let range = ("2024-07-01T00:00:00Z", "2024-08-01T00:00:00Z");
    for name in ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"] {
        for kind in [WindowKind::Hour, WindowKind::Total] {
            assert!(cut(range, kind, name).is_ok(), "{name} {kind:?}");
        }
        let error = cut(range, WindowKind::Day, name).unwrap_err();
        assert!(matches!(error, WindowsError::NotAligned { unit: "day", .. }), "{name}: {error}");
        assert!(error.to_string().contains("ask for PT1H or total"), "{error}");
    }
    // In summer Lord Howe is eleven whole hours off.
    let summer = ("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z");
    assert!(cut(summer, WindowKind::Day, "Australia/Lord_Howe").is_ok());
    // A store with windows of half an hour has the days of Kolkata.
    let half = WindowLength::new(Duration::from_secs(1_800)).unwrap();
    let range = Window { start: at(range.0), end: at(range.1) };
    let windows = Windows::cut(range, WindowKind::Day, &zone("Asia/Kolkata"), half).unwrap();
    assert_eq!(
        windows.holding(at("2024-07-01T18:30:00Z"), &mut Cursor::default()).start,
        at("2024-07-01T18:30:00Z")
    );
}

#[test]
fn hours_at_the_ends_are_cut_to_the_range() {
    let half = WindowLength::new(Duration::from_secs(1_800)).unwrap();
    let (start, end) = (at("2024-07-01T00:30:00Z"), at("2024-07-01T02:30:00Z"));
    let range = Window { start, end };
    let windows = Windows::cut(range, WindowKind::Hour, &TimeZone::UTC, half).unwrap();
    let (one, two) = (at("2024-07-01T01:00:00Z"), at("2024-07-01T02:00:00Z"));
    for (moment, start, end) in [(start, start, one), (one, one, two), (two, two, end)] {
        let window = windows.holding(moment, &mut Cursor::default());
        assert_eq!(window, Window { start, end });
    }
}

#[test]
fn ranges_that_no_calendar_reaches_are_refused() {
    let ages = ("0001-01-01T00:00:00Z", "2024-01-01T00:00:00Z");
    assert_eq!(cut(ages, WindowKind::Day, "UTC"), Err(WindowsError::TooMany));
    assert!(cut(ages, WindowKind::Month, "UTC").is_ok());
    let end = Timestamp::from_parts(253_402_300_800 - 3_600, 0).unwrap();
    let range = Window { start: at("9999-12-01T00:00:00Z"), end };
    let cut = Windows::cut(range, WindowKind::Month, &TimeZone::UTC, WindowLength::HOUR);
    assert_eq!(cut, Err(WindowsError::OutOfCalendar));
    let day = WindowLength::new(Duration::from_secs(86_400)).unwrap();
    let range = Window { start: at("2024-01-01T00:00:00Z"), end: at("2024-01-02T00:00:00Z") };
    let cut = Windows::cut(range, WindowKind::Hour, &TimeZone::UTC, day);
    assert_eq!(cut, Err(WindowsError::NoHours(day.duration())));
}

proptest! {
    #[test]
    fn every_moment_has_one_window_whatever_the_order_of_asking(
        start in 0i64..700_000,
        hours in 1i64..3_000,
        kind in prop::sample::select(WindowKind::WORDS.to_vec()),
        name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia"]),
        asked in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let moment = |hour: i64| Timestamp::from_parts(hour * 3_600, 0).unwrap();
        let range = Window { start: moment(start), end: moment(start + hours) };
        let windows = match Windows::cut(range, kind.1, &zone(name), WindowLength::HOUR) {
            Ok(windows) => windows,
            // Apia was half an hour off in part of its history.
            Err(WindowsError::NotAligned { .. }) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        listed(&windows);
        let mut cursor = Cursor::default();
        for index in asked {
            let moment = moment(start + i64::try_from(index.index(usize::try_from(hours).unwrap())).unwrap());
            let window = windows.holding(moment, &mut cursor);
            prop_assert!(window.start <= moment && moment < window.end);
            prop_assert_eq!(window, windows.holding(moment, &mut Cursor::default()));
        }
    }
}
