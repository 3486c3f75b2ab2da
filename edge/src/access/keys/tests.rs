//! Keys over every store: made, found by other processes, revoked, expired, and their uses.

use domain::Tenant;

use super::*;
use crate::access::{
    principal::{CredentialKind, IdentityScope, Role},
    samples::{NOW, SetClock, fickle, on_every_store},
};

async fn open<S: BillingStore>(store: &Arc<S>, clock: &SetClock) -> Keys<S> {
    let store = Arc::clone(store);
    Keys::open(store, None, KeyOptions::default(), clock.shared()).await.unwrap()
}

fn new_key(name: &str) -> NewKey {
    NewKey {
        name: Name::new(name).unwrap(),
        roles: Roles::of(&[Role::Writer]),
        tenants: Tenants::one(Tenant::new("acme").unwrap()),
        expires_at: None,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_parts(seconds, 0).unwrap()
}

on_every_store! {
    a_key_counts_in_every_process_until_any_of_them_revokes_it
    a_key_expires_when_it_was_to
    keys_are_listed_with_all_but_their_secret
    the_last_use_of_a_key_is_written_now_and_then
    what_is_kept_of_a_key_does_not_hold_its_secret
}

async fn a_key_counts_in_every_process_until_any_of_them_revokes_it(store: impl BillingStore) {
    let (store, clock) = (Arc::new(store), SetClock::new());
    let (here, there) = (open(&store, &clock).await, open(&store, &clock).await);
    let (key, info) = here.create(new_key("meter"), "ada").await.unwrap();
    for keys in [&here, &there, &open(&store, &clock).await] {
        let known = keys.verify(&key).await.unwrap();
        let principal = known.principal;
        assert_eq!((&*principal.id, &*principal.name), (&*info.id, "meter"));
        assert_eq!(principal.kind, CredentialKind::ApiKey);
        assert_eq!((principal.roles, &principal.tenants), (info.roles, &info.tenants));
        assert_eq!(principal.scope, IdentityScope::of(CredentialKind::ApiKey, "", "meter"));
        assert_eq!(known.until, None);
    }
    let before = there.generation();
    let revoked = here.revoke(&info.id, "grace").await.unwrap();
    assert_eq!(revoked.revoked, Some(Revoked { at: at(NOW), by: "grace".to_owned() }));
    assert_eq!(here.verify(&key).await.unwrap_err(), Refusal::Revoked);
    assert!(there.verify(&key).await.is_ok(), "not read yet");
    there.refresh().await.unwrap();
    assert_eq!(there.verify(&key).await.unwrap_err(), Refusal::Revoked);
    assert!(there.generation() > before);
    // Again, and by another process, the first one stays.
    assert_eq!(there.revoke(&info.id, "eve").await.unwrap(), revoked);
    let unknown = here.revoke("0123456789abcdef", "eve").await.unwrap_err();
    assert!(unknown.to_string().contains("0123456789abcdef"), "{unknown}");
    // What is no id may be a whole key, and is in no message.
    for id in ["", "../../etc/passwd", "' OR 1=1", &key.reveal()] {
        let error = here.revoke(id, "eve").await.unwrap_err();
        assert!(matches!(error, KeysError::NotAnId), "{id}");
        assert!(id.is_empty() || !error.to_string().contains(id), "{error}");
    }
}

async fn a_key_expires_when_it_was_to(store: impl BillingStore) {
    let (store, clock) = (Arc::new(store), SetClock::new());
    let keys = open(&store, &clock).await;
    let expiring = |seconds| NewKey { expires_at: Some(at(seconds)), ..new_key("meter") };
    for past in [NOW - 1, NOW] {
        let made = keys.create(expiring(past), "ada").await;
        assert!(matches!(made, Err(KeysError::Expired(_))), "{past}");
    }
    let none = NewKey { roles: Roles::NONE, ..new_key("meter") };
    assert!(matches!(keys.create(none, "ada").await, Err(KeysError::NoRole)));
    assert_eq!(keys.list().await.unwrap(), []);
    let (key, _) = keys.create(expiring(NOW + 60), "ada").await.unwrap();
    assert_eq!(keys.verify(&key).await.unwrap().until, Some(at(NOW + 60)));
    clock.pass(59);
    assert!(keys.verify(&key).await.is_ok());
    clock.pass(1);
    assert_eq!(keys.verify(&key).await.unwrap_err(), Refusal::Expired);
}

async fn keys_are_listed_with_all_but_their_secret(store: impl BillingStore) {
    let (store, clock) = (Arc::new(store), SetClock::new());
    let keys = open(&store, &clock).await;
    let (key, first) = keys.create(new_key("meter"), "ada").await.unwrap();
    clock.pass(1);
    let all = NewKey { tenants: Tenants::ALL, ..new_key("all") };
    let (_, second) = keys.create(all, "ada").await.unwrap();
    let listed = open(&store, &clock).await.list().await.unwrap();
    assert_eq!(listed, [first.clone(), second]);
    assert_eq!((first.created_at, &*first.created_by), (at(NOW), "ada"));
    let text = key.reveal();
    assert!(!format!("{listed:?} {keys:?}").contains(&text[23..40]));
}

async fn the_last_use_of_a_key_is_written_now_and_then(store: impl BillingStore) {
    let (store, clock) = (Arc::new(store), SetClock::new());
    let keys = open(&store, &clock).await;
    let (key, info) = keys.create(new_key("meter"), "ada").await.unwrap();
    let usage = keys.verify(&key).await.unwrap().usage;
    let last_used = async || {
        keys.write_uses().await.unwrap();
        keys.last_used(&info.id).await.unwrap()
    };
    assert_eq!(last_used().await, None, "checked by this test, not used");
    for (passes, expected) in [(0, 0), (1, 0), (898, 0), (1, 900), (899, 900), (901, 2_700)] {
        clock.pass(passes);
        usage.note(clock.now());
        assert_eq!(last_used().await, Some(at(NOW + expected)), "{passes}");
    }
    // Nobody used it since.
    clock.pass(9_000);
    assert_eq!(last_used().await, Some(at(NOW + 2_700)));
    // A clock that was set back does not keep uses unwritten.
    clock.set(NOW);
    usage.note(clock.now());
    assert_eq!(last_used().await, Some(at(NOW)));
    assert_eq!(store.entries(&uses(&info.id), 0, 99).await.unwrap().len(), 4);
}

async fn what_is_kept_of_a_key_does_not_hold_its_secret(store: impl BillingStore) {
    let (store, clock) = (Arc::new(store), SetClock::new());
    let keys = open(&store, &clock).await;
    let text = keys.create(new_key("meter"), "ada").await.unwrap().0.reveal();
    let kept = store.entries(KEYS, 0, 1).await.unwrap().concat();
    let kept = String::from_utf8(kept).unwrap();
    let secret = &text[23..];
    for start in 0..secret.len() - 8 {
        assert!(!kept.contains(&secret[start..start + 8]), "{kept}");
    }
}

#[tokio::test]
async fn a_journal_of_several_pages_is_read_whole() {
    let (store, clock) = (Arc::new(fickle()), SetClock::new());
    let keys = open(&store, &clock).await;
    let (key, _) = keys.create(new_key("meter"), "ada").await.unwrap();
    let entry = store.entries(KEYS, 0, 1).await.unwrap().remove(0);
    let entry = String::from_utf8(entry).unwrap();
    let id = key.id().to_string();
    // Two full pages and one entry more.
    for place in 1..=2 * journal::PAGE as u64 {
        let other = entry.replace(&id, &format!("{place:016x}"));
        store.append_entry(KEYS, place, other.as_bytes()).await.unwrap();
    }
    let again = open(&store, &clock).await;
    assert_eq!(again.list().await.unwrap().len(), 2 * journal::PAGE + 1);
    assert!(again.verify(&key).await.is_ok());
}

#[tokio::test]
async fn no_more_keys_are_made_than_the_bound() {
    let (store, clock) = (Arc::new(fickle()), SetClock::new());
    let keys = open(&store, &clock).await;
    keys.create(new_key("meter"), "ada").await.unwrap();
    let entry = String::from_utf8(store.entries(KEYS, 0, 1).await.unwrap().remove(0)).unwrap();
    let id = keys.list().await.unwrap()[0].id.clone();
    for place in 1..KEYS_MAX as u64 - 1 {
        let other = entry.replace(&id, &format!("{place:016x}"));
        store.append_entry(KEYS, place, other.as_bytes()).await.unwrap();
    }
    assert!(keys.create(new_key("last"), "ada").await.is_ok());
    let more = keys.create(new_key("more"), "ada").await;
    assert!(matches!(more, Err(KeysError::TooMany)), "{more:?}");
}

#[tokio::test]
async fn revoked_keys_make_room_and_a_name_has_one_set_of_tenants() {
    let (store, clock) = (Arc::new(fickle()), SetClock::new());
    let keys = open(&store, &clock).await;
    let (_, first) = keys.create(new_key("meter"), "ada").await.unwrap();
    let other = NewKey { tenants: Tenants::of_words(&["globex"]).unwrap(), ..new_key("meter") };
    assert_ne!(other.tenants, first.tenants);
    let refused = keys.create(other, "ada").await;
    assert!(matches!(refused, Err(KeysError::OtherTenants { .. })), "{refused:?}");
    keys.revoke(&first.id, "ada").await.unwrap();
    assert!(keys.create(new_key("meter"), "ada").await.is_ok(), "a key may be renewed");
    // What no reader of the journal could read must not get into it.
    for (expires_at, is_made) in [
        (Timestamp::USAGE_END, false),
        (Timestamp::MAX, false),
        (Timestamp::USAGE_END.minus(Duration::from_micros(1)), true),
    ] {
        let new = NewKey { expires_at: Some(expires_at), ..new_key("far") };
        assert_eq!(keys.create(new, "ada").await.is_ok(), is_made, "{expires_at}");
    }
    assert_eq!(keys.list().await.unwrap().len(), 3);
    open(&store, &clock).await;
}

#[tokio::test]
async fn while_the_store_is_away_known_keys_count_for_an_hour() {
    let (store, clock) = (Arc::new(fickle()), SetClock::new());
    let keys = open(&store, &clock).await;
    let (key, _) = keys.create(new_key("meter"), "ada").await.unwrap();
    store.go_away();
    clock.pass(3_600);
    assert!(keys.verify(&key).await.is_ok());
    assert!(matches!(keys.verify(&ApiKey::mint()).await, Err(Refusal::Invalid(UNKNOWN))));
    assert!(keys.list().await.is_err());
    clock.pass(1);
    assert!(matches!(keys.verify(&key).await, Err(Refusal::Unavailable(_))));
    store.come_back();
    keys.refresh().await.unwrap();
    assert!(keys.verify(&key).await.is_ok());
}

#[tokio::test]
async fn a_wrong_secret_tells_nothing_of_the_key() {
    let (store, clock) = (Arc::new(fickle()), SetClock::new());
    let keys = open(&store, &clock).await;
    let (key, info) = keys.create(new_key("meter"), "ada").await.unwrap();
    keys.revoke(&info.id, "ada").await.unwrap();
    let guessed = format!("pulso_{}{}", info.id, &ApiKey::mint().reveal()[22..87]);
    let guessed = format!("{guessed}{:08x}", crc32c::crc32c(guessed.as_bytes()));
    let guessed = ApiKey::parse(&guessed).unwrap();
    assert_eq!(guessed.id(), key.id());
    assert_eq!(keys.verify(&guessed).await.unwrap_err(), Refusal::Invalid(UNKNOWN));
}

#[tokio::test]
async fn keys_of_another_server_secret_say_so() {
    let (store, clock) = (Arc::new(fickle()), SetClock::new());
    let (key, _) = open(&store, &clock).await.create(new_key("meter"), "ada").await.unwrap();
    let secret = Some(ServerSecret::new(&[7; 32]).unwrap());
    let options = KeyOptions::default();
    let keys = Keys::open(Arc::clone(&store), secret, options, clock.shared()).await.unwrap();
    let refusal = keys.verify(&key).await.unwrap_err();
    assert!(refusal.to_string().contains("another server secret"), "{refusal}");
}

#[tokio::test]
async fn unknown_keys_cost_one_read_a_second() {
    let (store, clock) = (Arc::new(fickle()), SetClock::new());
    let (here, there) = (open(&store, &clock).await, open(&store, &clock).await);
    assert!(here.verify(&ApiKey::mint()).await.is_err());
    let (key, _) = there.create(new_key("meter"), "ada").await.unwrap();
    assert!(here.verify(&key).await.is_err(), "it was read just now");
    clock.pass(1);
    assert!(here.verify(&key).await.is_ok());
}

#[tokio::test]
async fn keys_that_are_made_at_the_same_moment_are_each_held_against_the_others() {
    let (store, clock) = (Arc::new(fickle()), SetClock::new());
    let (here, there) = (open(&store, &clock).await, open(&store, &clock).await);
    let of = |name: &str, tenant: &str| NewKey {
        tenants: Tenants::one(Tenant::new(tenant).unwrap()),
        ..new_key(name)
    };
    let made = tokio::join!(
        here.create(of("meter", "acme"), "ada"),
        there.create(of("meter", "bolt"), "eve")
    );
    let (key, refused) = match made {
        (Ok((key, _)), Err(refused)) | (Err(refused), Ok((key, _))) => (key, refused),
        both => panic!("{both:?}"),
    };
    assert!(matches!(refused, KeysError::OtherTenants { .. }), "{refused}");
    assert!(here.verify(&key).await.is_ok() && there.verify(&key).await.is_ok());
    // Those that fit are all made.
    let names: Vec<_> = (0..20).map(|number| format!("meter-{number}")).collect();
    let both = [&here, &there];
    let creates = names.iter().zip(both.iter().cycle());
    let creates = creates.map(|(name, keys)| keys.create(new_key(name), "ada"));
    for made in futures_util::future::join_all(creates).await {
        made.unwrap();
    }
    assert_eq!(here.list().await.unwrap().len(), 21);
}

#[tokio::test]
async fn pages_have_every_key_once_in_the_order_of_the_list() {
    let (store, clock) = (Arc::new(fickle()), SetClock::new());
    let keys = open(&store, &clock).await;
    assert_eq!(keys.page("", 1).await.unwrap(), KeyPage { keys: Vec::new(), next: None });
    for number in 0..7 {
        keys.create(new_key(&format!("meter-{number}")), "ada").await.unwrap();
        // Some at the same moment.
        clock.pass(number % 2);
    }
    let all = keys.list().await.unwrap();
    for size in [1, 2, 6, 7, 8, usize::MAX] {
        let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = keys.page(&after, size).await.unwrap();
            assert!(page.keys.len() <= size);
            found.extend(page.keys);
            pages += 1;
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!((&found, pages), (&all, 7_usize.div_ceil(size)), "{size}");
    }
    for number in 7..=KEYS_PAGE_MAX {
        keys.create(new_key(&format!("meter-{number}")), "ada").await.unwrap();
    }
    let first = keys.page("", 1_000).await.unwrap();
    assert_eq!(first.keys.len(), KEYS_PAGE_MAX, "one key too many for a page");
    let rest = keys.page(&first.next.unwrap(), 1_000).await.unwrap();
    assert_eq!((rest.keys.len(), rest.next), (1, None));
    for unknown in ["0123456789abcdef", "x", "*"] {
        assert!(
            matches!(keys.page(unknown, 1).await, Err(KeysError::NotFound(_) | KeysError::NotAnId)),
            "{unknown}"
        );
    }
}
