//! The budget on a paused clock; no sockets here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use http::HeaderMap;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Budget, BudgetState, RateLimit, Refused, ResetFormat, SaveBudget};
use crate::units::Timespan;

const START_MS: i64 = 1_772_366_400_000;
const HOUR: Duration = Duration::from_secs(3600);

type Saved = Arc<Mutex<Vec<BudgetState>>>;

/// A wall clock that runs with tokio's.
fn wall() -> Arc<dyn Fn() -> i64 + Send + Sync> {
    let start = Instant::now();
    Arc::new(move || START_MS + i64::try_from(start.elapsed().as_millis()).unwrap())
}

fn store() -> (SaveBudget, Saved) {
    let saved = Saved::default();
    let kept = Arc::clone(&saved);
    let save: SaveBudget = Arc::new(move |_, state| {
        kept.lock().unwrap().push(state);
        async { Ok(()) }.boxed()
    });
    (save, saved)
}

fn rate(requests: u32, burst: u32) -> RateLimit {
    RateLimit { requests: Some(requests), burst, ..RateLimit::default() }
}

fn budget(limit: &RateLimit, saved: Option<BudgetState>) -> (Arc<Budget>, Saved) {
    let (save, kept) = store();
    (Budget::with_wall("b", Some(limit), saved, save, wall()), kept)
}

async fn sends(budget: &Arc<Budget>, count: usize, workers: usize) -> Vec<Duration> {
    let start = Instant::now();
    let (sent, left) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(count)));
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (budget, sent, left) = (Arc::clone(budget), Arc::clone(&sent), Arc::clone(&left));
        tasks.spawn(async move {
            while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                let _permit = budget.acquire(HOUR, |_, _| ()).await.unwrap();
                sent.lock().unwrap().push(start.elapsed());
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let mut sent = std::mem::take(&mut *sent.lock().unwrap());
    sent.sort();
    sent
}

#[tokio::test(start_paused = true)]
async fn w05_a_thousand_requests_use_the_rate_and_never_exceed_it() {
    let (budget, saved) = budget(&rate(100, 1), None);
    let sent = sends(&budget, 1000, 16).await;
    assert!(sent.windows(101).all(|window| window[100] - window[0] >= Duration::from_secs(1)));
    let last = *sent.last().unwrap();
    assert!(last <= Duration::from_millis(10_200), "{last:?}");
    assert!(saved.lock().unwrap().len() <= 12);
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_in_flight_than_the_concurrency() {
    let limit = RateLimit { concurrency: Some(3), ..RateLimit::default() };
    let (budget, _) = budget(&limit, None);
    let permits: Vec<_> =
        futures::future::join_all((0..3).map(|_| budget.acquire(HOUR, |_, _| ()))).await.into_iter().collect();
    assert!(budget.acquire(HOUR, |_, _| ()).now_or_never().is_none());
    drop(permits);
    assert!(budget.acquire(HOUR, |_, _| ()).now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn waiters_leave_in_the_order_they_came() {
    let (budget, _) = budget(&rate(10, 1), None);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
        tasks.spawn(async move {
            let _permit = budget.acquire(HOUR, |_, _| ()).await.unwrap();
            order.lock().unwrap().push(n);
        });
        tokio::task::yield_now().await;
    }
    while tasks.join_next().await.is_some() {}
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_neither_blocks_the_line_nor_lets_more_through() {
    let (budget, _) = budget(&rate(1, 1), None);
    drop(budget.acquire(HOUR, |_, _| ()).await);
    let start = Instant::now();
    {
        let mut waiter = std::pin::pin!(budget.acquire(HOUR, |_, _| ()));
        assert!(tokio::time::timeout(Duration::from_millis(500), &mut waiter).await.is_err());
    }
    drop(budget.acquire(HOUR, |_, _| ()).await.unwrap());
    assert_eq!(start.elapsed().as_millis(), 1010);
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_fires_late_costs_the_next_request_less_than_its_lateness() {
    let (budget, _) = budget(&rate(100, 1), None);
    drop(budget.acquire(HOUR, |_, _| ()).await.unwrap());
    let start = Instant::now();
    let mut waiter = std::pin::pin!(budget.acquire(HOUR, |_, _| ()));
    assert!(futures::poll!(waiter.as_mut()).is_pending());
    tokio::time::advance(Duration::from_millis(30)).await;
    drop(waiter.await);
    drop(budget.acquire(HOUR, |_, _| ()).await);
    assert_eq!(start.elapsed().as_millis(), 31);
}

#[tokio::test(start_paused = true)]
async fn a_restart_at_any_moment_allows_nothing_extra() {
    for requests_before in 1..30 {
        let (first, saved) = budget(&rate(10, 1), None);
        let mut sent = sends(&first, requests_before, 4).await;
        let killed_at = Instant::now();
        let state = saved.lock().unwrap().last().copied().map(|mut state| {
            // The wall clock of the next process starts at START_MS again.
            state.tat_ms -= i64::try_from((killed_at - first.epoch).as_millis()).unwrap();
            state
        });
        let shift = killed_at - first.epoch;
        let (second, _) = budget(&rate(10, 1), state);
        sent.extend(sends(&second, 15, 4).await.into_iter().map(|at| at + shift));
        assert!(sent.windows(11).all(|window| window[10] - window[0] >= Duration::from_secs(1)), "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_stores_the_exact_state_so_that_a_clean_restart_costs_nothing() {
    let (first, saved) = budget(&rate(10, 1), None);
    drop(first.acquire(HOUR, |_, _| ()).await.unwrap());
    assert!(saved.lock().unwrap().last().unwrap().tat_ms >= START_MS + 1000);
    first.close().await.unwrap();
    let state = *saved.lock().unwrap().last().unwrap();
    assert!((START_MS + 101..START_MS + 105).contains(&state.tat_ms), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn h01_a_pause_holds_everyone_and_is_stored_at_once() {
    let (budget, saved) = budget(&rate(100, 1), None);
    drop(budget.acquire(HOUR, |_, _| ()).await.unwrap());
    budget.pause(Instant::now() + Duration::from_secs(30), "429 from h").await.unwrap();
    let stored = saved.lock().unwrap().last().copied().unwrap();
    assert!((START_MS + 30_000..START_MS + 30_010).contains(&stored.not_before_ms), "{stored:?}");
    let reasons = Mutex::new(Vec::new());
    let start = Instant::now();
    let _permit = budget.acquire(HOUR, |_, reason| reasons.lock().unwrap().push(reason.to_owned())).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(30));
    assert_eq!(reasons.lock().unwrap().first().map(String::as_str), Some("429 from h"));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_comes_while_others_wait_is_seen_by_them() {
    let (budget, _) = budget(&RateLimit { per: Timespan(HOUR), ..rate(1, 1) }, None);
    drop(budget.acquire(HOUR, |_, _| ()).await.unwrap());
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let budget = Arc::clone(&budget);
        tasks.spawn(async move { budget.acquire(Duration::from_secs(60), |_, _| ()).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    budget.pause(Instant::now() + Duration::from_secs(100), "429 from h").await.unwrap();
    let start = Instant::now();
    while let Some(result) = tasks.join_next().await {
        assert!(matches!(result.unwrap(), Err(Refused::PausedUntil(_))));
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn h05_a_stored_pause_outlives_the_process() {
    let saved = BudgetState { tat_ms: 0, not_before_ms: START_MS + 6 * 3_600_000 };
    let (budget, _) = budget(&RateLimit::default(), Some(saved));
    let refused = budget.acquire(HOUR, |_, _| ()).await.err().unwrap();
    let Refused::PausedUntil(until) = refused else { panic!("{refused:?}") };
    assert!((until.as_millisecond() - saved.not_before_ms).abs() < 10);
    tokio::time::sleep(5 * HOUR + HOUR / 2).await;
    let start = Instant::now();
    budget.acquire(HOUR, |_, _| ()).await.unwrap();
    assert!((Duration::from_secs(1800)..Duration::from_secs(1801)).contains(&start.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_stored_pause_from_a_wrong_clock_is_ignored() {
    let saved = BudgetState { tat_ms: i64::MAX, not_before_ms: i64::MAX };
    let (budget, _) = budget(&rate(10, 1), Some(saved));
    let start = Instant::now();
    budget.acquire(HOUR, |_, _| ()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_that_the_store_does_not_know_of() {
    let save: SaveBudget = Arc::new(|_, _| async { Err("disk full".to_owned()) }.boxed());
    let broken = Budget::new("b", Some(&rate(10, 1)), None, save);
    assert_eq!(broken.acquire(HOUR, |_, _| ()).await.err(), Some(Refused::Store("disk full".into())));
    let save: SaveBudget = Arc::new(|_, _| std::future::pending().boxed());
    let silent = Budget::new("b", Some(&rate(10, 1)), None, save);
    assert!(matches!(silent.acquire(HOUR, |_, _| ()).await, Err(Refused::Store(_))));
}

#[tokio::test(start_paused = true)]
async fn h06_few_requests_left_pause_until_the_reset() {
    let limit = RateLimit {
        remaining_header: Some("x-left".into()),
        reset_header: Some("x-reset".into()),
        reset_format: ResetFormat::Delta,
        reserve: 5,
        per: Timespan::secs(1),
        ..RateLimit::default()
    };
    let (budget, _) = budget(&limit, None);
    let pause = |left: &str, reset: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-left", left.parse().unwrap());
        headers.insert("x-reset", reset.parse().unwrap());
        budget.observe(&headers)
    };
    for (left, reset, secs) in [
        ("6", "60", None),
        ("5", "60", Some(60)),
        ("0", "0", Some(1)),
        ("0", "86400", Some(3600)),
        ("-1", "60", None),
        ("0", "soon", None),
        ("many", "60", None),
    ] {
        assert_eq!(pause(left, reset), secs.map(Duration::from_secs), "{left} {reset}");
    }
    assert_eq!(budget.observe(&HeaderMap::new()), None);
}
