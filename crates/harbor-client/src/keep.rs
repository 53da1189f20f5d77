//! Keeps one instance registered until told to stop: registers, heartbeats, registers anew when the node forgot, and
//! deregisters at the end. Used by `harbor register --keep` and by the container proxy.

use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;

use harbor_types::wire::{BackendView, RegisterBackend};
use harbor_types::{InstanceId, Span};
use tokio::time::sleep;

use crate::{Client, ClientError, Limits, ServiceRef};

/// Heartbeats in one time to live: two may be lost before the registration ends.
const BEATS: u32 = 3;
/// Between tries while the registration is lost and the node away.
const RETRY: Duration = Duration::from_secs(1);

/// What happened to a registration that is [kept](keep_registered).
#[derive(Debug)]
pub enum Kept<'a> {
    /// It was made; again, when the node had lost it.
    Registered(&'a BackendView),
    /// A heartbeat failed in a way that may pass, and is tried again.
    Late(&'a ClientError),
}

/// Registers `instance`, and keeps the registration alive with three heartbeats a time to live until `shutdown`
/// completes; then deregisters. `report` hears of what happens on the way.
///
/// # Errors
/// [`ClientError`] when the first registration fails; later, when the node refuses for good (the service is gone, the
/// token is no longer valid) or deregistering fails.
///
/// # Cancel safety
/// Dropping the future ends the heartbeats; the registration then runs out on its own.
pub async fn keep_registered(
    client: &Client,
    service: &ServiceRef,
    instance: &InstanceId,
    order: &RegisterBackend,
    mut report: impl FnMut(Kept<'_>),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        biased;
        () = &mut shutdown => {}
        ended = keep(client, service, instance, order, &mut report) => return ended,
    }
    match client.deregister(service, instance).await {
        Err(ClientError::Refused { status: 404, .. }) => Ok(()), // it had run out, or its service is gone
        other => other.map(drop),
    }
}

/// Ends only with an error.
async fn keep(
    client: &Client,
    service: &ServiceRef,
    instance: &InstanceId,
    order: &RegisterBackend,
    report: &mut impl FnMut(Kept<'_>),
) -> Result<(), ClientError> {
    let view = client.register(service, instance, order).await?.value;
    report(Kept::Registered(&view));
    let mut wait = pause(view.ttl);
    loop {
        match wait {
            Some(wait) => sleep(wait).await,
            None => pending().await, // permanent: nothing to do
        }
        // A heartbeat that takes longer than the time between two is as good as lost.
        let call = wait.map_or(client.limits().call, |wait| client.limits().call.min(wait.into()));
        let hasty = client.clone().with_limits(Limits { call, ..client.limits() });
        match hasty.heartbeat(service, instance).await {
            Ok(answer) => wait = pause(answer.value.ttl),
            Err(ClientError::Refused { status: 404, .. }) => match client.register(service, instance, order).await {
                Ok(answer) => {
                    report(Kept::Registered(&answer.value));
                    wait = pause(answer.value.ttl);
                }
                Err(error) if error.is_passing() => {
                    report(Kept::Late(&error));
                    wait = wait.map(|wait| wait.min(RETRY));
                }
                Err(error) => return Err(error),
            },
            Err(error) if error.is_passing() => report(Kept::Late(&error)),
            Err(error) => return Err(error),
        }
    }
}

/// Time between heartbeats; `None` when none are needed.
fn pause(ttl: Option<Span>) -> Option<Duration> {
    ttl.map(|ttl| (ttl.as_duration() / BEATS).max(Duration::from_millis(10)))
}
