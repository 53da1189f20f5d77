//! A node that is killed again and again under load: whatever it acknowledged is there after each start, on the same port,
//! and no port is promised twice. A model keeps the history of what was asked and answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harbor_client::{Client, ClientError, DeleteMode, Readiness, ServiceFilter, Token};
use harbor_testkit::ports::{PortBlock, own_loopback};
use harbor_types::wire::{CreateService, RegisterBackend};
use harbor_types::{InstanceId, Port, ServiceId, ServiceName};

/// Kills in a row; a round takes a sixth of a second.
const ROUNDS: usize = 200;
/// Workers that create, delete and register at once.
const WORKERS: u64 = 4;
/// How long a node may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// What is known of one service.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Its port, once any answer named it: the only one it may ever have.
    port: Option<Port>,
    /// Whether it must be there (`Some(true)`), must not (`Some(false)`), or nobody knows, as a call went unanswered.
    present: Option<bool>,
    /// Instances whose registration was acknowledged.
    registered: BTreeSet<InstanceId>,
}

type History = Arc<Mutex<BTreeMap<ServiceId, Known>>>;

struct Rig {
    folder: tempfile::TempDir,
    _block: PortBlock,
    client: Client,
}

impl Rig {
    fn new() -> Self {
        let (folder, block, host) = (tempfile::tempdir().unwrap(), PortBlock::reserve(), own_loopback());
        let api = format!("127.0.0.1:{}", block.first());
        let token = "0123456789abcdef0123456789abcdef";
        std::fs::write(folder.path().join("token"), token).unwrap();
        std::fs::write(folder.path().join("harbor.toml"), config(host, &api, folder.path())).unwrap();
        let client = Client::new(format!("http://{api}").parse().unwrap(), Token::parse(token).unwrap());
        Self { folder, _block: block, client }
    }

    fn start(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_harbor-node"))
            .arg("serve")
            .arg("--config")
            .arg(self.folder.path().join("harbor.toml"))
            .env_remove("HARBOR_REQUIRE_TOOLS")
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }
}

fn config(host: IpAddr, api: &str, folder: &std::path::Path) -> String {
    let folder = folder.display();
    // The long rest makes every port of the history belong to one service for good.
    format!(
        "host = \"{host}\"\napi = \"{api}\"\nstate_dir = \"{folder}/state\"\ntoken_file = \"{folder}/token\"\n\
         port_range = \"1100-19999\"\nquarantine = \"1d\"\nbackend_networks = [\"10.0.0.0/8\"]\n\
         [log]\nlevel = \"error\"\n"
    )
}

/// Polls until the node answers that it is ready.
async fn ready(client: &Client, child: &mut Child) {
    let poll = async {
        let mut every = tokio::time::interval(Duration::from_millis(5));
        while !matches!(client.ready().await, Ok(Readiness::Ready)) {
            assert!(matches!(child.try_wait(), Ok(None)), "the node ended instead of becoming ready");
            every.tick().await;
        }
    };
    tokio::time::timeout(READY, poll).await.expect("ready in time");
}

/// A small generator (xorshift), so that a failing history can be driven again by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn refused(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { .. })
}

/// Creates, deletes and registers until the node goes away or `end` is set.
async fn load(client: Client, history: History, seed: u64, acknowledged: Arc<AtomicUsize>, end: Arc<AtomicBool>) {
    let mut dice = Dice(seed.wrapping_mul(2) | 1);
    while !end.load(Ordering::Relaxed) {
        let existing: Vec<_> = {
            let history = history.lock().unwrap();
            // Each worker keeps to its own services: two calls on one service would race, and the model could not tell.
            let own = |id: &ServiceId| u64::try_from(id.as_u128() % u128::from(WORKERS)).unwrap() == seed % WORKERS;
            history.iter().filter(|(id, known)| own(id) && known.present == Some(true)).map(|(id, _)| *id).collect()
        };
        let answered = match dice.roll(4) {
            0 if existing.len() > 5 => {
                let id = existing[usize::try_from(dice.roll(existing.len() as u64)).unwrap()];
                delete(&client, &history, id).await
            }
            1 if !existing.is_empty() => {
                let id = existing[usize::try_from(dice.roll(existing.len() as u64)).unwrap()];
                register(&client, &history, id, &mut dice).await
            }
            _ => {
                let number = u128::from(dice.roll(u64::MAX)) << 32;
                create(
                    &client,
                    &history,
                    ServiceId::from_u128(number - number % u128::from(WORKERS) + u128::from(seed % WORKERS)),
                )
                .await
            }
        };
        if !answered {
            return;
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Notes that the call may or may not take effect, makes it, and notes what was answered. `false`: no answer came.
async fn create(client: &Client, history: &History, id: ServiceId) -> bool {
    history.lock().unwrap().entry(id).or_default().present = None;
    let name = ServiceName::parse(&format!("s-{id}")).unwrap();
    match client.put_service(id, &CreateService::named(name)).await {
        Ok(answer) => {
            let view = answer.value;
            let mut history = history.lock().unwrap();
            let known = history.entry(id).or_default();
            assert!(
                known.port.is_none_or(|port| port == view.port),
                "{id} was promised {:?}, now {}",
                known.port,
                view.port
            );
            (known.port, known.present) = (Some(view.port), Some(true));
            true
        }
        Err(error) => {
            assert!(!refused(&error), "create {id}: {error}");
            false
        }
    }
}

async fn delete(client: &Client, history: &History, id: ServiceId) -> bool {
    history.lock().unwrap().entry(id).or_default().present = None;
    match client.delete_service(&id.into(), DeleteMode::OnlyUnbound).await {
        Ok(_) => {
            history.lock().unwrap().entry(id).or_default().present = Some(false);
            true
        }
        Err(error) => {
            assert!(!refused(&error), "delete {id}: {error}");
            false
        }
    }
}

async fn register(client: &Client, history: &History, id: ServiceId, dice: &mut Dice) -> bool {
    let instance = InstanceId::parse(&format!("i-{}", dice.roll(3))).unwrap();
    let backend = RegisterBackend { addr: "10.0.0.5:4100".parse().unwrap(), ttl: None, permanent: true };
    match client.register(&id.into(), &instance, &backend).await {
        Ok(_) => {
            history.lock().unwrap().entry(id).or_default().registered.insert(instance);
            true
        }
        Err(error) => {
            assert!(!refused(&error), "register with {id}: {error}");
            false
        }
    }
}

/// Holds what the node lists against the history, and settles what was in doubt.
async fn compare(client: &Client, history: &History, owners: &mut BTreeMap<Port, ServiceId>) {
    let listed = client.services(&ServiceFilter::default()).await.unwrap().value.services;
    let mut history = history.lock().unwrap();
    let mut ports = BTreeSet::new();
    for view in &listed {
        let known = history.get_mut(&view.id).unwrap_or_else(|| panic!("{} was never asked for", view.id));
        assert_ne!(known.present, Some(false), "{} was deleted, and is there again", view.id);
        assert!(known.port.is_none_or(|port| port == view.port), "{} had {:?}, now {}", view.id, known.port, view.port);
        assert!(ports.insert(view.port), "port {} is promised twice", view.port);
        let owner = *owners.entry(view.port).or_insert(view.id);
        assert_eq!(owner, view.id, "port {} should rest", view.port);
        assert_eq!(view.state, harbor_types::wire::ServiceState::Bound, "{view:?}");
        let there: BTreeSet<_> = view.backends.iter().map(|backend| backend.instance.clone()).collect();
        assert!(known.registered.is_subset(&there), "{}: {:?} registered, {there:?} there", view.id, known.registered);
        (known.port, known.present) = (Some(view.port), Some(true));
    }
    let there: BTreeSet<_> = listed.iter().map(|view| view.id).collect();
    for (id, known) in history.iter_mut().filter(|(id, _)| !there.contains(id)) {
        assert_ne!(known.present, Some(true), "{id} was acknowledged on port {:?}, and is lost", known.port);
        known.present = Some(false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_node_is_killed_again_and_again() {
    let (rig, history) = (Rig::new(), History::default());
    let mut owners = BTreeMap::new();
    let mut dice = Dice(0x5eed);
    let mut total = 0;
    for round in 0..ROUNDS {
        let mut child = rig.start();
        ready(&rig.client, &mut child).await;
        compare(&rig.client, &history, &mut owners).await;

        let (acknowledged, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..WORKERS {
            let seed = (dice.roll(u64::MAX) / WORKERS) * WORKERS + worker;
            workers.spawn(load(rig.client.clone(), history.clone(), seed, acknowledged.clone(), end.clone()));
        }
        // Killed after so many answers, with calls of every worker under way.
        let enough = 5 + usize::try_from(dice.roll(25)).unwrap();
        let reached = async {
            while acknowledged.load(Ordering::Relaxed) < enough {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(READY, reached)
            .await
            .unwrap_or_else(|_| panic!("round {round}: the node answers no more"));
        child.kill().unwrap();
        child.wait().unwrap();
        end.store(true, Ordering::Relaxed);
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        total += acknowledged.load(Ordering::Relaxed);
    }
    let mut child = rig.start();
    ready(&rig.client, &mut child).await;
    compare(&rig.client, &history, &mut owners).await;
    child.kill().unwrap();
    child.wait().unwrap();
    println!("{ROUNDS} kills, {total} acknowledged changes, {} services in the history", history.lock().unwrap().len());
}
