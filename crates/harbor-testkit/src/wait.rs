//! Waits with a bound: a test says which state it waits for, and fails by name when that state does not come.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a test waits for a state that should come at once. Long enough for a loaded machine.
pub const BOUND: Duration = Duration::from_secs(20);

/// Awaits `future` for at most [`BOUND`].
///
/// # Panics
/// When it takes longer; the message names `what`.
pub async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, future).await {
        Ok(value) => value,
        Err(_) => missed(what),
    }
}

/// Lets other tasks run until `state` holds, for at most [`BOUND`].
///
/// # Panics
/// When it does not hold in time; the message names `what`.
pub async fn until(what: &str, mut state: impl FnMut() -> bool) {
    let end = clock() + BOUND;
    while !state() {
        if clock() > end {
            missed(what);
        }
        tokio::task::yield_now().await;
    }
}

#[expect(clippy::panic, reason = "a rig reports by failing the test")]
fn missed(what: &str) -> ! {
    panic!("waited {BOUND:?} in vain for: {what}")
}

#[expect(clippy::disallowed_methods, reason = "the bound holds in real time, also in a test whose clock is paused")]
fn clock() -> Instant {
    Instant::now()
}
