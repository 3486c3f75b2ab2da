//! Writes whose client, store or handler goes away.

use futures_util::{FutureExt as _, poll};
use storage::memory::MemoryBillingStore;
use tokio::sync::Notify;

use super::*;
use crate::access::{
    principal::{Parts, Roles},
    rules::TenantRule,
    samples::{NOW, SetClock, fickle},
    trail::{AuditEntry, Trail, TrailQuery},
};

const RULE: Rule = Rule::write("POST /v1/catalog", Roles::ALL, TenantRule::AllTenants);

struct Fixture {
    store: MemoryBillingStore,
    trail: Arc<Trail<MemoryBillingStore>>,
    clock: SetClock,
    writes: Writes,
}

impl Fixture {
    fn new() -> Self {
        let (store, clock) = (fickle(), SetClock::new());
        let trail = Arc::new(Trail::new(Arc::new(store.clone()), clock.shared()));
        let writes = Writes::new(Arc::clone(&trail) as _);
        Self { store, trail, clock, writes }
    }

    async fn entries(&self) -> Vec<AuditEntry> {
        let moment = |seconds| domain::Timestamp::from_parts(seconds, 0).unwrap();
        let (from, to) = (moment(NOW - 1), moment(NOW + 86_400));
        let query = TrailQuery { from, to, who: None, method: None, after: None, limit: 1_000 };
        self.trail.page(&query).await.unwrap().entries
    }
}

fn call() -> Call {
    let request_id = CorrelationId::parse("7f3c").unwrap();
    Call { principal: Principal::local(), rule: RULE, request_id }
}

fn never_refused<R>(_: &R) -> Option<&'static str> {
    None
}

#[tokio::test]
async fn what_a_handler_says_of_its_change_is_in_the_last_entry() {
    let fixture = Fixture::new();
    let handler = |change: Change| async move {
        change.about("2026-01");
        change.before("old");
        change.after("new");
        7
    };
    assert_eq!(fixture.writes.run(&call(), handler, never_refused).await, Ok(7));
    let check = |change: Change| async move {
        change.about("2026-02");
        change.only_checked();
    };
    fixture.writes.run(&call(), check, never_refused).await.unwrap();
    let refuse = |_| async { Err::<(), _>(reasons::CATALOGUE_EXISTS) };
    let refused = |answer: &Result<(), &'static str>| answer.err();
    fixture.writes.run(&call(), refuse, refused).await.unwrap().unwrap_err();
    let ends: Vec<_> =
        fixture.entries().await.into_iter().map(|entry| entry.ended.unwrap()).collect();
    let ended = |target: Option<&str>, outcome| Ended {
        target: target.map(str::to_owned),
        ..Ended::new(fixture.clock.shared().now(), outcome)
    };
    let evidence = |text| Some(crate::access::trail::Evidence::of(text));
    let reason = reasons::CATALOGUE_EXISTS.to_owned();
    assert_eq!(
        ends,
        [
            Ended {
                before: evidence("old"),
                after: evidence("new"),
                ..ended(Some("2026-01"), Outcome::Done)
            },
            ended(Some("2026-02"), Outcome::Checked),
            ended(None, Outcome::Refused { reason }),
        ]
    );
}

#[tokio::test]
async fn a_store_that_takes_no_entry_refuses_the_write_before_it_begins() {
    let fixture = Fixture::new();
    fixture.store.go_away();
    let handler = |_| async { panic!("nothing may be changed") };
    let answer = fixture.writes.run::<(), _>(&call(), handler, never_refused).await;
    assert_eq!(answer.unwrap_err().reason, reasons::STORE_UNAVAILABLE);
    fixture.store.come_back();
    assert_eq!(fixture.entries().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_meanwhile_gets_the_end_when_it_is_back() {
    let fixture = Fixture::new();
    let store = fixture.store.clone();
    let handler = |_| async move { store.go_away() };
    fixture.writes.run(&call(), handler, never_refused).await.unwrap();
    fixture.store.come_back();
    assert_eq!(fixture.entries().await[0].ended, None, "the client was answered all the same");
    fixture.store.go_away();
    tokio::time::sleep(END_WAITS[0] + END_WAITS[1]).await;
    fixture.store.come_back();
    fixture.writes.finish().await;
    assert_eq!(fixture.entries().await[0].ended.as_ref().unwrap().outcome, Outcome::Done);
}

/// Keeps what is logged, one text an event.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Logged {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = event.metadata().level().to_string();
        event.record(&mut |field: &tracing::field::Field, value: &dyn fmt::Debug| {
            text.push_str(&format!(" {field}={value:?}"));
        });
        self.0.lock().unwrap().push(text);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_cut_off_before_it_is_taken_is_in_the_log_once() {
    let (fixture, logged) = (Fixture::new(), Logged::default());
    let _subscribed = tracing::subscriber::set_default(logged.clone());
    let store = fixture.store.clone();
    fixture.writes.run(&call(), |_| async move { store.go_away() }, never_refused).await.unwrap();
    tokio::time::sleep(END_WAITS[0] + END_WAITS[1]).await;
    fixture.writes.cut_off();
    let logged = logged.0.lock().unwrap().clone();
    let of_trail = |text: &&String| text.contains("the audit trail");
    let [warning] = &logged.iter().filter(of_trail).collect::<Vec<_>>()[..] else {
        panic!("{logged:?}")
    };
    for part in ["WARN", "place=2026-01/0", "POST /v1/catalog", "7f3c", "outcome=Done"] {
        assert!(warning.contains(part), "{part} is not in {warning}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_never_taken_is_given_up_and_stays_unknown() {
    let fixture = Fixture::new();
    let store = fixture.store.clone();
    fixture.writes.run(&call(), |_| async move { store.go_away() }, never_refused).await.unwrap();
    fixture.writes.finish().await;
    fixture.store.come_back();
    assert_eq!(fixture.entries().await[0].ended, None);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_too_long_to_begin_refuses_all_writes_that_wait_at_once() {
    let (fixture, millisecond) = (Fixture::new(), Duration::from_millis(1));
    fixture.store.add_within(BEGIN_WAIT - millisecond);
    assert_eq!(fixture.writes.run(&call(), |_| async {}, never_refused).await, Ok(()));
    assert_eq!(fixture.entries().await.len(), 1);

    fixture.store.add_within(BEGIN_WAIT + millisecond);
    let start = tokio::time::Instant::now();
    let call = call();
    let waiting = (0..3).map(|_| {
        let handler = |_| async { panic!("nothing may be changed") };
        fixture.writes.run::<(), _>(&call, handler, never_refused)
    });
    for answer in futures_util::future::join_all(waiting).await {
        assert_eq!(answer.unwrap_err().reason, reasons::STORE_UNAVAILABLE);
    }
    let problem = Problem::new(tonic::Code::PermissionDenied, reasons::ROLE_MISSING, "no role");
    assert_eq!(start.elapsed(), BEGIN_WAIT, "none waits for those before it");
    fixture.writes.refused(&call, &problem).await;
    assert_eq!(start.elapsed(), 2 * BEGIN_WAIT, "a refusal is not held up for longer");
    assert_eq!(fixture.entries().await.len(), 1);

    fixture.store.add_within(Duration::ZERO);
    assert_eq!(fixture.writes.run(&call, |_| async {}, never_refused).await, Ok(()));
    assert_eq!(fixture.entries().await.len(), 2);
}

#[tokio::test]
async fn a_write_whose_client_is_gone_before_it_begins_changes_nothing() {
    let fixture = Fixture::new();
    let call = call();
    {
        let handler = |_| async { panic!("nobody waits for it") };
        let mut answer = Box::pin(fixture.writes.run::<(), _>(&call, handler, never_refused));
        assert!(poll!(answer.as_mut()).is_pending());
        // Here the client closes its connection.
    }
    fixture.writes.finish().await;
    let entries = fixture.entries().await;
    let reason = reasons::CLIENT_GONE.to_owned();
    assert_eq!(entries[0].ended.as_ref().unwrap().outcome, Outcome::Refused { reason });
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn a_write_whose_client_goes_away_comes_to_its_end() {
    let fixture = Fixture::new();
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, waits) = (Arc::clone(&begun), Arc::clone(&go_on));
    let handler = |change: Change| async move {
        begins.notify_one();
        waits.notified().await;
        change.about("2026-01");
    };
    let call = call();
    {
        let mut answer = Box::pin(fixture.writes.run(&call, handler, never_refused));
        assert!(poll!(answer.as_mut()).is_pending());
        begun.notified().await;
        // Here the client closes its connection.
    }
    go_on.notify_one();
    fixture.writes.finish().await;
    let entries = fixture.entries().await;
    assert_eq!(entries[0].ended.as_ref().unwrap().target.as_deref(), Some("2026-01"));
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn a_handler_that_panics_or_is_cut_off_leaves_a_call_without_an_end() {
    let fixture = Fixture::new();
    let handler = |_| async { panic!("as the test asked") };
    let answer = fixture.writes.run::<(), _>(&call(), handler, never_refused).await;
    assert_eq!(answer.unwrap_err().reason, reasons::OUTCOME_UNKNOWN);
    let call = call();
    let endless = |_| futures_util::future::pending::<()>();
    let mut answer = Box::pin(fixture.writes.run(&call, endless, never_refused));
    assert!(poll!(answer.as_mut()).is_pending());
    while fixture.entries().await.len() < 2 {
        tokio::task::yield_now().await;
    }
    fixture.writes.cut_off();
    assert_eq!(answer.await.unwrap_err().reason, reasons::OUTCOME_UNKNOWN);
    assert!(fixture.entries().await.iter().all(|entry| entry.ended.is_none()));
}

#[tokio::test]
async fn one_write_too_many_is_refused_and_room_comes_back() {
    let fixture = Fixture::new();
    let go_on = Arc::new(Notify::new());
    let call = call();
    let running: Vec<_> = (0..WRITES_AT_ONCE_MAX)
        .map(|_| {
            let go_on = Arc::clone(&go_on);
            let handler = |_| async move { go_on.notified().await };
            fixture.writes.run(&call, handler, never_refused)
        })
        .collect();
    let mut running = Box::pin(futures_util::future::join_all(running));
    assert!(poll!(running.as_mut()).is_pending());
    let refused = fixture.writes.run(&call, |_| async {}, never_refused).await.unwrap_err();
    assert_eq!(refused.reason, reasons::SERVER_BUSY);
    assert!(refused.retry_after.is_some());
    let woken = async {
        loop {
            go_on.notify_waiters();
            tokio::task::yield_now().await;
        }
    };
    let mut woken = Box::pin(woken.fuse());
    futures_util::select! {
        answers = running.as_mut().fuse() => assert!(answers.iter().all(Result::is_ok)),
        _ = woken => {}
    }
    fixture.writes.finish().await;
    assert_eq!(fixture.writes.run(&call, |_| async {}, never_refused).await, Ok(()));
}

#[tokio::test]
async fn refusals_of_a_known_client_are_recorded_at_a_bounded_rate() {
    let fixture = Fixture::new();
    let of = |name: &str| {
        let kind = crate::access::CredentialKind::ApiKey;
        let scope = crate::access::IdentityScope::of(kind, "", name);
        let local = Parts::clone(&Principal::local());
        let principal = Principal::new(Parts { name: name.to_owned(), kind, scope, ..local });
        Call { principal, ..call() }
    };
    let problem = Problem::new(tonic::Code::PermissionDenied, reasons::ROLE_MISSING, "no role");
    for name in ["meter", "other"] {
        for _ in 0..REFUSALS_AT_ONCE + 5 {
            fixture.writes.refused(&of(name), &problem).await;
        }
    }
    let at_once = usize::try_from(REFUSALS_AT_ONCE).unwrap();
    assert_eq!(fixture.entries().await.len(), 2 * at_once);
    fixture.clock.pass(1);
    for _ in 0..3 {
        fixture.writes.refused(&of("meter"), &problem).await;
    }
    let entries = fixture.entries().await;
    assert_eq!(entries.len(), 2 * at_once + 1);
    let reason = reasons::ROLE_MISSING.to_owned();
    let is_refused = |entry: &AuditEntry| {
        entry
            .ended
            .as_ref()
            .is_some_and(|ended| ended.outcome == Outcome::Refused { reason: reason.clone() })
    };
    assert!(entries.iter().all(is_refused));
}
