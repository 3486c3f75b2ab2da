//! Laws of the billing store.

use domain::{
    BillingStore,
    billing::{
        Appended::{Added, Taken},
        CatalogueVersion, ENTRY_BYTES_MAX,
    },
    store::StoreError,
};

use super::{Subject, samples::at, together};

fn draft(version: &str, text: &str) -> CatalogueVersion {
    CatalogueVersion {
        version: version.to_owned(),
        sequence: 999,
        text: text.to_owned(),
        published_at: at(1_700_000_000),
        active: false,
    }
}

/// See the name.
pub async fn sequences_rise_from_one_and_the_newest_is_first<S: Subject<Port: BillingStore>>(
    subject: &S,
) {
    let store = subject.fresh().await;
    assert_eq!(store.catalogues().await.unwrap(), []);
    for (sequence, version) in (1..).zip(["2024-09", "2024-10", "2024-01"]) {
        let stands = store.publish_catalogue(&draft(version, "prices: []\n")).await.unwrap();
        assert_eq!(stands, CatalogueVersion { sequence, ..draft(version, "prices: []\n") });
    }
    let listed = store.catalogues().await.unwrap();
    let listed: Vec<_> = listed.iter().map(|v| (v.sequence, v.version.as_str())).collect();
    assert_eq!(listed, [(3, "2024-01"), (2, "2024-10"), (1, "2024-09")]);
}

/// See the name.
pub async fn a_published_version_never_changes<S: Subject<Port: BillingStore>>(subject: &S) {
    let store = subject.fresh().await;
    let first = store.publish_catalogue(&draft("v1", "one")).await.unwrap();
    store.activate_catalogue("v1").await.unwrap();
    let again = store.publish_catalogue(&draft("v1", "two")).await.unwrap();
    assert_eq!(again, CatalogueVersion { active: true, ..first });
    assert_eq!(store.catalogue("v1").await.unwrap(), Some(again));
    let next = store.publish_catalogue(&draft("v2", "two")).await.unwrap();
    assert_eq!(next.sequence, 2, "a refused publication draws no number");
}

/// See the name.
pub async fn of_two_publishers_of_one_name_one_wins<S: Subject<Port: BillingStore>>(subject: &S) {
    let store = subject.fresh().await;
    let drafts: Vec<_> = (0..8).map(|i| draft("same", &format!("text {i}"))).collect();
    let stands = together(drafts.iter().map(|draft| store.publish_catalogue(draft))).await;
    let stands: Vec<_> = stands.into_iter().map(Result::unwrap).collect();
    assert!(stands.iter().all(|version| *version == stands[0]), "{stands:?}");
    assert_eq!(store.catalogues().await.unwrap(), [stands[0].head()]);
}

/// See the name.
pub async fn only_what_is_there_can_be_activated<S: Subject<Port: BillingStore>>(subject: &S) {
    let store = subject.fresh().await;
    assert!(matches!(store.activate_catalogue("v1").await, Err(StoreError::Conflict(_))));
    assert_eq!(store.catalogue("v1").await.unwrap(), None);
    store.publish_catalogue(&draft("v1", "")).await.unwrap();
    store.publish_catalogue(&draft("v2", "")).await.unwrap();
    for _ in 0..2 {
        store.activate_catalogue("v1").await.unwrap();
    }
    let active: Vec<_> = store.catalogues().await.unwrap().iter().map(|v| v.active).collect();
    assert_eq!(active, [false, true]);
}

/// See the name.
pub async fn catalogues_are_there_after_a_restart<S: Subject<Port: BillingStore>>(subject: &S) {
    let store = subject.fresh().await;
    store.publish_catalogue(&draft("v1", "prices:\n  - \u{e9}\n")).await.unwrap();
    store.activate_catalogue("v1").await.unwrap();
    let before = store.catalogues().await.unwrap();
    let store = subject.reopen(store).await;
    assert_eq!(store.catalogues().await.unwrap(), before);
}

/// Reads on, trying again where the store is busy.
async fn read(store: &impl BillingStore, journal: &str, from: u64, limit: usize) -> Vec<Vec<u8>> {
    for _ in 0..TRIES_MAX {
        match store.entries(journal, from, limit).await {
            Err(StoreError::Unavailable(_)) => {}
            found => return found.unwrap(),
        }
    }
    panic!("{journal:?} was never there to be read");
}

/// Times that a test asks a store that is busy, which a store of several processes may be when many
/// write at one place.
const TRIES_MAX: usize = 1_000;

async fn all(store: &impl BillingStore, journal: &str) -> Vec<Vec<u8>> {
    read(store, journal, 0, usize::MAX).await
}

async fn in_pages(store: &impl BillingStore, journal: &str, limit: usize) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    loop {
        let page = read(store, journal, entries.len() as u64, limit).await;
        assert!(page.len() <= limit);
        let is_last = page.len() < limit;
        entries.extend(page);
        if is_last {
            return entries;
        }
    }
}

/// Adds an entry that no other is equal to, as a writer does that reads on whenever it was not the
/// one; gives its place.
async fn add(store: &impl BillingStore, journal: &str, entry: &[u8]) -> u64 {
    let (mut place, mut may_be_there) = (0, false);
    for _ in 0..TRIES_MAX {
        let answer = store.append_entry(journal, place, entry).await;
        let found = match &answer {
            Ok(Added) => return place,
            Ok(Taken) | Err(StoreError::Unavailable(_)) => {
                read(store, journal, place, usize::MAX).await
            }
            Err(error) => panic!("{error}"),
        };
        may_be_there |= answer.is_err();
        assert!(answer.is_err() || !found.is_empty(), "nothing took {journal:?} {place}");
        if let Some(at) = (place..).zip(&found).find(|(_, found)| *found == entry) {
            assert!(may_be_there, "{at:?} was added and not said so");
            return at.0;
        }
        place += found.len() as u64;
    }
    panic!("{journal:?} was never there to be added to");
}

/// Tells whether a place is taken, which it is afterwards.
async fn is_taken(store: &impl BillingStore, journal: &str, place: u64) -> bool {
    for _ in 0..TRIES_MAX {
        match store.append_entry(journal, place, b"other").await {
            Err(StoreError::Unavailable(_)) => {}
            answer => return answer.unwrap() == Taken,
        }
    }
    panic!("{journal:?} was never there to be added to");
}

/// See the name.
pub async fn places_count_from_zero_without_gaps<S: Subject<Port: BillingStore>>(subject: &S) {
    let store = subject.fresh().await;
    let nothing: [&[u8]; 0] = [];
    for entries in 0..3u64 {
        for beyond in [1, 2, u64::MAX / 2 - entries, u64::MAX / 2 + 1, u64::MAX - entries] {
            let beyond = store.append_entry("run", entries + beyond, b"beyond").await;
            assert!(matches!(beyond, Err(StoreError::Conflict(_))), "{beyond:?}");
        }
        assert_eq!(all(&store, "run").await.len() as u64, entries);
        let entry = entries.to_string();
        assert_eq!(store.append_entry("run", entries, entry.as_bytes()).await, Ok(Added));
        for taken in 0..=entries {
            assert_eq!(store.append_entry("run", taken, b"other").await, Ok(Taken));
        }
    }
    assert_eq!(all(&store, "run").await, [b"0", b"1", b"2"]);
    for from in [3, 4, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX] {
        assert_eq!(store.entries("run", from, 9).await.unwrap(), nothing, "{from}");
    }
    assert_eq!(store.entries("another", 0, 9).await.unwrap(), nothing);
}

/// See the name.
pub async fn of_many_writers_at_one_place_one_adds<S: Subject<Port: BillingStore>>(subject: &S) {
    const WRITERS: usize = 8;
    let store = subject.fresh().await;
    let (same, own) = ([7; WRITERS], std::array::from_fn(|writer| writer as u8));
    for (place, bytes) in [(0, same), (1, own), (2, same), (3, own)] {
        let entries = bytes.map(|byte| [byte]);
        let writes = entries.iter().map(|entry| store.append_entry("run", place, &entry[..]));
        let answers = together(writes).await;
        let known = answers.iter().filter_map(|answer| answer.as_ref().ok());
        let added = known.clone().filter(|answer| **answer == Added).count();
        let all_known = known.count() == answers.len();
        assert!(added == 1 || added == 0 && !all_known, "{answers:?}");
        for unknown in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert!(matches!(unknown, StoreError::Unavailable(_)), "{unknown}");
        }
        assert!(is_taken(&store, "run", place).await || added == 0, "what was added is gone");
        let stands = read(&store, "run", place, 9).await;
        assert_eq!(stands.len(), 1, "{answers:?}");
        let answers = entries.iter().zip(&answers);
        for (entry, _) in answers.filter(|(_, answer)| **answer == Ok(Added)) {
            assert_eq!(stands[0], entry);
        }
    }
}

/// See the name.
pub async fn writers_that_read_on_lose_no_entry<S: Subject<Port: BillingStore>>(subject: &S) {
    let store = subject.fresh().await;
    let writer = async |name: u8| {
        let mut places = Vec::new();
        for number in 0..8 {
            places.push((add(&store, "run", &[name, number]).await, vec![name, number]));
        }
        assert!(places.is_sorted(), "{places:?}");
        places
    };
    let mut added = together((0..4).map(writer)).await.concat();
    added.sort();
    let stands = all(&store, "run").await;
    assert_eq!(added, (0..).zip(stands).collect::<Vec<_>>());
}

/// See the name.
pub async fn entries_are_there_after_a_restart_in_pages_of_any_size<
    S: Subject<Port: BillingStore>,
>(
    subject: &S,
) {
    let store = subject.fresh().await;
    let entries: Vec<Vec<u8>> = (0..50u8).map(|i| vec![i; usize::from(i) * 40]).collect();
    for (place, entry) in (0..).zip(&entries) {
        assert_eq!(store.append_entry("run", place, entry).await, Ok(Added));
        if place == 24 {
            assert_eq!(all(&store, "run").await, entries[..25]);
        }
    }
    let store = subject.reopen(store).await;
    for limit in [1, 2, 7, 16, 25, 49, 50, 51, 1_000, usize::MAX] {
        assert_eq!(in_pages(&store, "run", limit).await, entries, "{limit}");
    }
    assert_eq!(store.entries("run", 20, 17).await.unwrap(), entries[20..37]);
    assert_eq!(store.append_entry("run", 49, b"x").await, Ok(Taken));
    assert_eq!(store.append_entry("run", 50, b"x").await, Ok(Added));
}

/// See the name.
pub async fn journals_are_apart<S: Subject<Port: BillingStore>>(subject: &S) {
    let store = subject.fresh().await;
    let long = "\u{10ffff}".repeat(256);
    let names = [
        "run",
        "Run",
        "run/2024-09",
        "run/2024-09/a",
        "run/",
        "/",
        " ",
        "r\u{fa}n",
        "%",
        long.as_str(),
    ];
    for round in 0..2 {
        for (index, name) in names.iter().enumerate() {
            let entry = format!("{index} {round}");
            assert_eq!(store.append_entry(name, round, entry.as_bytes()).await, Ok(Added));
        }
    }
    let store = subject.reopen(store).await;
    for (index, name) in names.iter().enumerate() {
        let expected = [format!("{index} 0"), format!("{index} 1")].map(String::into_bytes);
        assert_eq!(all(&store, name).await, expected, "{name:?}");
        let beyond = store.append_entry(name, 3, b"").await;
        assert!(matches!(beyond, Err(StoreError::Conflict(_))), "{name:?}: {beyond:?}");
    }
    assert!(all(&store, "ru").await.is_empty());
}

/// See the name.
pub async fn an_entry_may_be_empty_and_as_large_as_the_bound<S: Subject<Port: BillingStore>>(
    subject: &S,
) {
    let store = subject.fresh().await;
    let mut large = vec![0xa5; ENTRY_BYTES_MAX];
    large.iter_mut().step_by(65_536).zip(0u8..).for_each(|(byte, mark)| *byte = mark);
    let entries = [Vec::new(), large.clone(), Vec::new(), b"behind".to_vec()];
    let mut too_large = large;
    too_large.push(0);
    for (place, entry) in (0..).zip(&entries) {
        let refused = store.append_entry("run", place, &too_large).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        assert_eq!(store.append_entry("run", place, entry).await, Ok(Added));
    }
    let store = subject.reopen(store).await;
    assert!(all(&store, "run").await == entries);
}
