//! The driver: the one task that owns registry, store and listeners. Carries out effects and returns their outcomes.
//!
//! A loop without policy: what to do is the registry's decision, how to do it the data plane's and the store thread's.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use harbor_registry::{Answer, CallId, Command, Effect, Outcome, Refusal, Registry};
use harbor_types::{CommitOutcome, Loaded};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::dataplane::DataPlane;
use crate::event_log::EventLog;
use crate::handle::{MAX_REQUESTS, Phase, Request, Status};
use crate::observations::Observations;
use crate::store_thread::StoreThread;

/// Calls in flight, beyond which calls wait in line until that is full too and callers hear that we are busy.
const MAX_IN_FLIGHT: usize = MAX_REQUESTS;
/// How long calls in flight may take to finish once the node stops.
const LAST_CALLS: Duration = Duration::from_secs(5);

type Caller = oneshot::Sender<Result<Answer, Refusal>>;

pub(crate) struct Driver {
    registry: Registry,
    store: StoreThread,
    dataplane: DataPlane,
    requests: mpsc::Receiver<Request>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    observations: Arc<Observations>,
    status: watch::Sender<Status>,
    events: EventLog,
    callers: HashMap<CallId, Caller>,
    /// In line for a place among the calls in flight, at most [`MAX_REQUESTS`].
    line: VecDeque<(Command, Caller)>,
    latest_call: u64,
}

/// What connects a driver with the rest of the node.
pub(crate) struct Wiring {
    pub(crate) requests: mpsc::Receiver<Request>,
    /// One for each effect in flight; the registry bounds those, so the channel needs no bound of its own.
    pub(crate) outcomes: mpsc::UnboundedReceiver<Outcome>,
    pub(crate) observations: Arc<Observations>,
    pub(crate) status: watch::Sender<Status>,
}

impl Driver {
    /// A driver whose registry holds what the store had: every restored listener was tried once when this returns.
    pub(crate) fn start(
        mut registry: Registry,
        loaded: Loaded,
        store: StoreThread,
        dataplane: DataPlane,
        wiring: Wiring,
    ) -> Self {
        registry.load(clock::now(), loaded);
        let Wiring { requests, outcomes, observations, status } = wiring;
        let (events, callers, latest_call) = (EventLog::default(), HashMap::new(), 0);
        let line = VecDeque::new();
        let mut driver = Self {
            registry,
            store,
            dataplane,
            requests,
            outcomes,
            observations,
            status,
            events,
            callers,
            line,
            latest_call,
        };
        driver.settle(true);
        driver
    }

    /// Runs until `stop`, and then until the calls in flight are answered or [`LAST_CALLS`] is over.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.step(&stop).await;
        }
        let last = CancellationToken::new();
        let _ = tokio::time::timeout(LAST_CALLS, async {
            while !self.registry.is_idle() {
                self.step(&last).await;
            }
        })
        .await;
        self.status.send_modify(|status| status.phase = Phase::Stopped);
        let Self { store, dataplane, .. } = self;
        let ended = tokio::task::spawn_blocking(move || {
            store.finish();
            dataplane.finish();
        });
        if ended.await.is_err() {
            tracing::error!("the node's threads did not end cleanly");
        }
    }

    async fn step(&mut self, stop: &CancellationToken) {
        let deadline = self.registry.next_deadline();
        let mut changed = false;
        tokio::select! {
            Some(outcome) = self.outcomes.recv() => {
                changed = true;
                self.registry.outcome(clock::now(), outcome);
                while let Ok(outcome) = self.outcomes.try_recv() {
                    self.registry.outcome(clock::now(), outcome);
                }
            }
            Some(request) = self.requests.recv() => self.request(request),
            observed = self.observations.next() => {
                self.registry.outcome(clock::now(), Outcome::Observed(observed));
            }
            () = async { tokio::time::sleep_until(deadline.unwrap_or_else(|| clock::now().mono).into()).await },
                if deadline.is_some() => self.registry.on_deadline(clock::now()),
            () = stop.cancelled() => {}
        }
        self.settle(changed);
    }

    fn request(&mut self, request: Request) {
        match request {
            // Answered at once, whatever the store does: instances must not expire because the disk is slow.
            Request::Command(command @ Command::Heartbeat { .. }, caller) => self.begin(command, caller),
            Request::Command(command, caller) if self.callers.len() < MAX_IN_FLIGHT => self.begin(command, caller),
            Request::Command(command, caller) if self.line.len() < MAX_REQUESTS => {
                self.line.push_back((command, caller));
            }
            Request::Command(_, caller) => _ = caller.send(Err(Refusal::Busy)),
            Request::Read(look) => look(&self.registry, clock::now()),
            Request::BeginDrain => self.registry.begin_drain(clock::now()),
            Request::CloseListeners(done) => self.dataplane.close_all(done),
        }
    }

    fn begin(&mut self, command: Command, caller: Caller) {
        self.latest_call += 1;
        let call = CallId(self.latest_call);
        self.callers.insert(call, caller);
        self.registry.command(clock::now(), call, command);
    }

    /// Carries out every effect, also those that the outcomes of the first ones lead to, and publishes the levels.
    ///
    /// Counting is linear in the services, so a step that changed nothing, such as a heartbeat, does without.
    fn settle(&mut self, mut changed: bool) {
        loop {
            if let Some(effect) = self.registry.next_effect() {
                changed |= !matches!(effect, Effect::Reply { .. });
                self.dispatch(effect);
            } else if self.callers.len() < MAX_IN_FLIGHT
                && let Some((command, caller)) = self.line.pop_front()
            {
                self.begin(command, caller);
            } else {
                break;
            }
        }
        self.events.tell(&self.registry);
        let phase = match (self.registry.is_draining(), self.registry.is_ready()) {
            (true, _) => Phase::Draining,
            (false, true) => Phase::Ready,
            (false, false) => Phase::Starting,
        };
        let old = *self.status.borrow();
        let counts = if changed { self.registry.counts() } else { old.counts };
        let new = Status { phase, counts };
        if new != old {
            self.status.send_replace(new);
        }
    }

    fn dispatch(&mut self, effect: Effect) {
        match effect {
            Effect::Bind(order) => {
                let (service, port) = (order.service, order.port);
                let result = self.dataplane.bind(order);
                self.registry.outcome(clock::now(), Outcome::Bound { service, port, result });
            }
            Effect::Release { service } => self.dataplane.release(service),
            Effect::Publish { service, snapshot } => self.dataplane.publish(service, snapshot),
            Effect::Dismiss { service, instance, joined } => self.dataplane.dismiss(service, instance, joined),
            Effect::Retire { service } => self.dataplane.retire(service),
            Effect::Commit(commit) => {
                let token = commit.token;
                if !self.store.commit(commit) {
                    let outcome = CommitOutcome::Unknown("the store thread is gone".into());
                    self.registry.outcome(clock::now(), Outcome::Committed { token, outcome });
                }
            }
            Effect::ReadChanges { since } => {
                if !self.store.read(since) {
                    let result = Err("the store thread is gone".into());
                    self.registry.outcome(clock::now(), Outcome::Changes { result });
                }
            }
            Effect::Reply { call, answer } => {
                if let Some(caller) = self.callers.remove(&call) {
                    // A caller that went away reads the outcome later, or never.
                    let _ = caller.send(answer);
                }
            }
        }
    }
}
