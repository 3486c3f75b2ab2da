//! Laws of the billing store.

use domain::{BillingStore, billing::CatalogueVersion, store::StoreError};

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
    assert_eq!(store.catalogues().await.unwrap(), stands[..1]);
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
