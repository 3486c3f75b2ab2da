//! Tests run on tokio's paused time, which moves only when everything waits; the clock follows it,
//! and so does the bell.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
};

use tokio::time::{Instant, sleep};

use super::*;

const SECOND: i64 = 1_000_000;
/// 2024-09-18T22:59:30Z.
const START: i64 = 1_726_700_370 * SECOND;

/// A clock that starts at `START` with tokio's time, and that a test may set.
#[derive(Clone)]
struct TestClock {
    started: Instant,
    set_by_micros: Arc<AtomicI64>,
}

impl TestClock {
    fn new() -> Self {
        Self { started: Instant::now(), set_by_micros: Arc::default() }
    }

    fn set_by(&self, seconds: i64) {
        self.set_by_micros.fetch_add(seconds * SECOND, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_micros()).unwrap();
        let set_by = self.set_by_micros.load(Ordering::Relaxed);
        Timestamp::from_micros(START + elapsed + set_by).unwrap()
    }
}

/// Runs a schedule as `Schedule::run` does, with a bell on the test's time.
async fn run<E, F: Future<Output = Result<(), E>>>(
    schedule: &Schedule,
    clock: &TestClock,
    shutdown: &Shutdown,
    work: impl FnMut(Tick) -> F,
) -> Result<(), E> {
    let Schedule::Cron(expression) = schedule else {
        return schedule.run(clock, shutdown, work).await;
    };
    let bell = Notify::new();
    let run = Run { clock, shutdown, work, number: 0 };
    tokio::select! {
        result = run.cron(expression, &bell) => result,
        () = ring(expression, clock, &bell) => unreachable!("rings for ever"),
    }
}

/// Rings as the scheduler does: it knows at each ring when the next is due, and learns of no clock
/// that is set meanwhile.
async fn ring(expression: &CronExpression, clock: &TestClock, bell: &Notify) {
    loop {
        let now = clock.now();
        sleep(between(now, expression.due(now, now).unwrap())).await;
        bell.notify_one();
    }
}

/// Runs a schedule until `ticks` ticks came; each tick's work is `work`. Gives for each tick when it
/// was due and when its work started, in milliseconds after the start.
async fn ticks<F: Future<Output = ()>>(
    schedule: &Schedule,
    clock: &TestClock,
    ticks: usize,
    work: impl Fn(u64) -> F,
) -> Vec<(i64, i64)> {
    let shutdown = Shutdown::new();
    let (seen, running) = (RefCell::new(Vec::new()), Cell::new(0));
    let millis = |moment: Timestamp| (moment.micros() - START) / 1_000;
    let run = run(schedule, clock, &shutdown, |tick| {
        seen.borrow_mut().push((millis(tick.due), millis(clock.now())));
        assert_eq!(tick.number as usize, seen.borrow().len() - 1);
        assert_eq!(running.replace(1), 0, "ticks overlap");
        let (work, done) = (work(tick.number), seen.borrow().len() == ticks);
        let (shutdown, running) = (&shutdown, &running);
        async move {
            work.await;
            running.set(0);
            if done {
                shutdown.request();
            }
            Ok::<_, Infallible>(())
        }
    });
    run.await.unwrap();
    seen.into_inner()
}

async fn nothing(_: u64) {}

fn cron(expression: &str) -> Schedule {
    Schedule::parse(expression).unwrap()
}

#[tokio::test(start_paused = true)]
async fn cron_ticks_come_at_the_moments_of_the_expression_in_utc() {
    for (expression, expected) in [
        ("* * * * * *", [1_000, 2_000, 3_000]),
        ("0 * * * * *", [30_000, 90_000, 150_000]),
        ("0 0 * * * *", [30_000, 3_630_000, 7_230_000]),
        ("@hourly", [30_000, 3_630_000, 7_230_000]),
        ("0 30 2 * * *", [12_630_000, 99_030_000, 185_430_000]),
    ] {
        let seen = ticks(&cron(expression), &TestClock::new(), 3, nothing).await;
        assert_eq!(seen, expected.map(|due| (due, due)), "{expression}");
    }
}

#[tokio::test(start_paused = true)]
async fn ticks_come_a_second_late_while_the_bell_is_silent_and_none_comes_without_a_moment() {
    let (clock, shutdown, bell) = (TestClock::new(), Shutdown::new(), Notify::new());
    bell.notify_one();
    let started = RefCell::new(Vec::new());
    let Schedule::Cron(expression) = cron("7 * * * * *") else { unreachable!() };
    let work = |tick: Tick| {
        started.borrow_mut().push((clock.now().micros() - START) / 1_000);
        if tick.number == 1 {
            shutdown.request();
        }
        async { Ok::<_, Infallible>(()) }
    };
    let run = Run { clock: &clock, shutdown: &shutdown, work, number: 0 };
    run.cron(&expression, &bell).await.unwrap();
    assert_eq!(started.into_inner(), [38_000, 98_000]);
}

#[tokio::test(start_paused = true)]
async fn ticks_due_during_long_work_become_one_right_after_it() {
    let work = |number| sleep(Duration::from_secs(if number == 0 { 150 } else { 0 }));
    let seen = ticks(&cron("0 * * * * *"), &TestClock::new(), 3, work).await;
    // Work from second 30 to 180; 90 and 150 fell due meanwhile.
    assert_eq!(seen, [(30_000, 30_000), (150_000, 180_000), (210_000, 210_000)]);
}

#[tokio::test(start_paused = true)]
async fn follow_ticks_at_once_then_in_step_and_joins_what_it_missed() {
    let work = |number| sleep(Duration::from_millis(if number == 1 { 3_500 } else { 0 }));
    let schedule = Schedule::Follow(Duration::from_secs(1));
    let seen = ticks(&schedule, &TestClock::new(), 5, work).await;
    let started: Vec<_> = seen.into_iter().map(|(_, started)| started).collect();
    // Work from second 1 to 4.5; 2, 3 and 4 fell due meanwhile.
    assert_eq!(started, [0, 1_000, 4_500, 5_000, 6_000]);
}

#[tokio::test(start_paused = true)]
async fn once_ticks_once() {
    let (clock, shutdown, count) = (TestClock::new(), Shutdown::new(), Cell::new(0));
    let run = Schedule::Once.run(&clock, &shutdown, |_| {
        count.set(count.get() + 1);
        async { Ok::<_, Infallible>(()) }
    });
    run.await.unwrap();
    assert_eq!(count.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_forward_during_the_wait_gives_one_tick_within_half_a_minute() {
    let clock = TestClock::new();
    let schedule = cron("0 30 2 * * *");
    let set_later = async {
        sleep(Duration::from_secs(10)).await;
        clock.set_by(20_000);
    };
    let (seen, ()) = tokio::join!(ticks(&schedule, &clock, 1, nothing), set_later);
    assert_eq!(seen, [(12_630_000, 20_030_000)]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_forward_during_work_gives_one_tick_right_after_it() {
    let clock = TestClock::new();
    let set = clock.clone();
    let work = |number| {
        if number == 0 {
            set.set_by(5 * 3_600);
        }
        nothing(number)
    };
    let seen = ticks(&cron("0 0 * * * *"), &clock, 3, work).await;
    let expected = [30_000, 18_030_000, 21_630_000];
    assert_eq!(seen, expected.map(|due| (due, due)));
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_far_goes_on_by_its_new_time_and_a_correction_repeats_nothing() {
    for (set_by, expected) in [(-86_400, [30_000, -82_770_000]), (-10, [30_000, 3_630_000])] {
        let clock = TestClock::new();
        let set = clock.clone();
        let work = |number| {
            if number == 0 {
                set.set_by(set_by);
            }
            nothing(number)
        };
        let seen = ticks(&cron("0 0 * * * *"), &clock, 2, work).await;
        assert_eq!(seen.iter().map(|tick| tick.0).collect::<Vec<_>>(), expected, "{set_by}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_a_waiting_schedule_and_starts_no_tick_after_it() {
    for schedule in [cron("0 0 * * * *"), Schedule::Follow(Duration::from_secs(1)), Schedule::Once]
    {
        let shutdown = Shutdown::new();
        shutdown.request();
        let clock = TestClock::new();
        let run = run(&schedule, &clock, &shutdown, |_| async { Err("a tick after shutdown") });
        assert_eq!(run.await, Ok(()), "{schedule}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_during_work_awaits_the_work() {
    for schedule in [cron("* * * * * *"), Schedule::Follow(Duration::from_secs(1)), Schedule::Once]
    {
        let (shutdown, clock, finished) = (Shutdown::new(), TestClock::new(), Cell::new(0));
        let run = run(&schedule, &clock, &shutdown, |_| async {
            shutdown.request();
            sleep(Duration::from_secs(60)).await;
            finished.set(finished.get() + 1);
            Ok::<_, Infallible>(())
        });
        run.await.unwrap();
        assert_eq!(finished.get(), 1, "{schedule}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_error_of_the_work_ends_the_schedule() {
    let (clock, shutdown, schedule) = (TestClock::new(), Shutdown::new(), cron("* * * * * *"));
    let run = run(&schedule, &clock, &shutdown, |tick| async move {
        if tick.number == 2 { Err("the log is damaged") } else { Ok(()) }
    });
    assert_eq!(run.await, Err("the log is damaged"));
}

#[test]
fn what_is_due_is_always_a_whole_second() {
    let Schedule::Cron(expression) = cron("* * * * * *") else { unreachable!() };
    for (now, last, due) in [
        (SECOND / 2, SECOND / 2, SECOND),
        (SECOND, SECOND / 2, SECOND),
        (SECOND, SECOND, 2 * SECOND),
        (9 * SECOND + 1, SECOND, 9 * SECOND),
        (-SECOND / 2, -SECOND / 2, 0),
        // Corrected backwards by half a second after a tick.
        (SECOND / 2, SECOND, 2 * SECOND),
    ] {
        let moment = |micros| Timestamp::from_micros(micros).unwrap();
        assert_eq!(expression.due(moment(now), moment(last)), Some(moment(due)), "{now} {last}");
    }
}

#[test]
fn a_bad_expression_is_named_with_what_a_right_one_looks_like() {
    for (expression, parts) in [
        ("", ["`` cannot be read: it has 0 fields", "such as `0 0 * * * *`"]),
        (
            "0 * * * *",
            [
                "`0 * * * *` cannot be read: it has 5 fields",
                "six fields are needed: second, minute",
            ],
        ),
        ("0 0 0 * * * 2030", ["it has 7 fields", "such as `0 0 * * * *`"]),
        ("60 0 * * * *", ["`60 0 * * * *` cannot be read", "in UTC"]),
        ("every full hour of the day", ["of the day` cannot be read", "six fields"]),
        ("@lunchtime", ["`@lunchtime` cannot be read", "six fields"]),
        ("0 0 0 31 2 *", ["`0 0 0 31 2 *` is never due", "put `*` in the fields"]),
    ] {
        let message = Schedule::parse(expression).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{expression:?}: {message}");
    }
}

#[test]
fn a_schedule_prints_as_it_was_written() {
    assert_eq!(cron(" 0  0 * * * MON-FRI ").to_string(), "0 0 * * * MON-FRI");
    assert_eq!(Schedule::Follow(Duration::from_secs(1)).to_string(), "every 1s");
}
