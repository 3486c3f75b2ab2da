//! Pages give back what went in, and refuse what nobody wrote.

use proptest::prelude::*;

use super::{
    super::{Series, entry::BUCKET},
    *,
};
use crate::{Dimensions, ResourceKey, Sku, Tenant, Unit};

fn resource(name: &str) -> ResourceKey {
    ResourceKey {
        tenant: Tenant::new(name).unwrap(),
        product_sku: Sku::new("vm").unwrap(),
        use_unity: Unit::new("GiB").unwrap(),
        dimensions: Dimensions::from_pairs([("zone", "\u{1}z\"")]),
    }
}

fn quantity() -> impl Strategy<Value = Quantity> {
    let raw = prop_oneof![
        Just(i128::MIN),
        Just(i128::MAX),
        any::<i128>(),
        (-1_000i128..1_000).prop_map(|whole| whole * Quantity::ONE.raw()),
        (-1_000i128..1_000).prop_map(|whole| whole * Quantity::ONE.raw() / 100),
    ];
    raw.prop_map(Quantity::from_raw)
}

fn total(start: i64) -> impl Strategy<Value = Total> {
    let micros =
        prop_oneof![0..3_600_000_000i64, (0..3_600i64).prop_map(|second| second * 1_000_000)];
    let one = (quantity(), micros, 1..=4u64);
    prop::collection::vec(one, 1..4).prop_map(move |parts| {
        let parts = parts.into_iter().map(|(amount, past, times)| {
            let mut one =
                crate::Aggregate::of(amount, Timestamp::from_micros(start + past).unwrap());
            one.count = if times == 4 { u64::MAX } else { times };
            Total::from(&one)
        });
        parts.reduce(|mut all, part| (all.merge(&part), all).1).unwrap()
    })
}

type Place = ((i64, u32), Vec<(u16, u32)>);

fn entry() -> impl Strategy<Value = Entry> {
    let series = prop::sample::select(Series::ALL.to_vec());
    let sources = prop::collection::vec((0u16..5, 0u32..400), 0..4);
    let places = prop::collection::vec(((0i64..768, 0u32..3), sources), 1..20);
    (series, "[a-c]{1,3}", -3i64..700, places).prop_flat_map(|(series, name, bucket, places)| {
        let (from, unit) = (bucket * BUCKET, series.unit(WindowLength::HOUR));
        let key = EntryKey::new(series, &resource(&name), Timestamp::from_micros(from).unwrap());
        let inside =
            |((windows, part), sources): Place| ((windows % (BUCKET / unit), part), sources);
        let places: std::collections::BTreeMap<_, _> = places.into_iter().map(inside).collect();
        let cell = |((windows, part), sources): Place| {
            let start = from + windows * unit;
            total(start).prop_map(move |total| {
                let mut all = Sources::default();
                sources.iter().for_each(|(p, n)| all.merge(&Sources::of(Partition(*p), *n)));
                let window_start = Timestamp::from_micros(start).unwrap();
                BlockCell { window_start, part, total, sources: all }
            })
        };
        let cells: Vec<_> = places.into_iter().map(cell).collect();
        cells.prop_map(move |cells| Entry { key: key.clone(), cells })
    })
}

fn pages_of(entries: &[Entry]) -> Vec<Page> {
    let mut writer = PageWriter::new(WindowLength::HOUR);
    let mut pages: Vec<Page> = entries.iter().filter_map(|entry| writer.push(entry)).collect();
    pages.extend(writer.finish());
    pages
}

fn entries_of(pages: &[Page]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for page in pages {
        read(&page.bytes, |_| true, |entry| entries.push(entry)).unwrap();
    }
    entries
}

proptest! {
    #[test]
    fn entries_survive_their_pages(entries in prop::collection::vec(entry(), 1..12)) {
        let sorted: std::collections::BTreeMap<_, _> =
            entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let entries: Vec<Entry> = sorted.into_values().collect();
        let pages = pages_of(&entries);
        prop_assert_eq!(&entries_of(&pages), &entries);
        prop_assert_eq!(&pages[0].first, &entries[0].key);
        prop_assert_eq!(first_key(&pages[0].bytes), Ok(pages[0].first.clone()));
        let page = &pages[0].bytes;
        for at in 0..page.len() {
            let mut damaged = page.clone();
            damaged[at] ^= 1;
            prop_assert_eq!(read(&damaged, |_| true, |_| {}), Err(CodecError::Checksum));
        }
    }

    /// Whatever stands in a page with a right checksum, reading it ends, in bounded memory.
    #[test]
    fn foreign_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let hour = WindowLength::HOUR.micros().to_le_bytes();
        let sealed = Writer::new(VERSION, 64).put(hour).put_slice(&bytes).seal();
        let _ = read(&sealed, |_| true, |_| {});
    }
}

#[test]
fn the_shortest_cells_are_read_back() {
    let at = |hour: i64| Timestamp::from_parts(hour * 3_600, 0).unwrap();
    let cell = |hour: i64| {
        let total = Total::from(&crate::Aggregate::of(Quantity::ONE, at(hour)));
        BlockCell { window_start: at(hour), part: 0, total, sources: Sources::default() }
    };
    let key = EntryKey::new(Series::Skus, &resource("acme"), at(0));
    let entries = [Entry { key, cells: (0..700).map(cell).collect() }];
    assert_eq!(entries_of(&pages_of(&entries)), entries);
}

#[test]
fn a_resource_hour_of_a_pulse_a_minute_takes_about_twenty_bytes() {
    let start = |hour: i64| Timestamp::from_parts(hour * 3_600, 0).unwrap();
    let cell = |hour: i64| {
        let amount =
            |minute: i64| Quantity::from_decimal(250 + (hour * 7 + minute) % 50, 3).unwrap();
        let at =
            |minute: i64| start(hour).plus(std::time::Duration::from_secs(minute as u64 * 60 + 7));
        let one = |minute| crate::Aggregate::of(amount(minute), at(minute));
        let all = (1..60).fold(one(0), |mut all, minute| (all.merge(&one(minute)).unwrap(), all).1);
        let mut sources = Sources::default();
        (0..6).for_each(|place| sources.merge(&Sources::of(Partition(1), hour as u32 * 6 + place)));
        BlockCell { window_start: start(hour), part: 0, total: Total::from(&all), sources }
    };
    let key = EntryKey::new(Series::Resources, &resource("acme"), start(0));
    let entry = Entry { key, cells: (0..720).map(cell).collect() };
    let bytes =
        pages_of(std::slice::from_ref(&entry)).iter().map(|page| page.bytes.len()).sum::<usize>();
    assert!(bytes <= 22 * 720, "{} bytes an hour", bytes / 720);
}

#[test]
fn a_full_page_ends_and_the_next_begins_with_its_whole_key() {
    let at = Timestamp::EPOCH;
    let entries: Vec<Entry> = (0..2_000)
        .map(|number| {
            let total = Total::from(&crate::Aggregate::of(Quantity::ONE, at));
            let sources = Sources::of(Partition(0), 0);
            let key = EntryKey::new(Series::Resources, &resource(&format!("t{number:05}")), at);
            Entry { key, cells: vec![BlockCell { window_start: at, part: 0, total, sources }] }
        })
        .collect();
    let pages = pages_of(&entries);
    assert!(pages.len() > 1);
    assert!(pages.iter().enumerate().all(|(number, page)| page.number as usize == number));
    assert_eq!(entries_of(&pages), entries);
    let second = pages[1].first.clone();
    let mut found = Vec::new();
    read(&pages[1].bytes, |key| *key == second, |entry| found.push(entry)).unwrap();
    assert_eq!(found.len(), 1);
}
