//! A log that nobody reads, a disk that does not answer: what stands still must not stop what does not need it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};

use harbor_client::ServiceFilter;
use harbor_node::{Drain, Node, NodeConfig, Token};
use harbor_registry::{Answer, Command, Provision};
use harbor_store::{MemoryStore, Store, StoreError};
use harbor_testkit::ports::own_loopback;
use harbor_testkit::wait::bounded;
use harbor_types::wire::RegisterBackend;
use harbor_types::{Changes, Commit, CommitOutcome, Loaded, OrgName, Revision, ServiceId, SpaceName, Span};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::rig::{TOKEN, client, config_file, named, program, range};

/// More closing records than a pipe holds.
const CONNECTIONS: usize = 500;

#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_connection_and_loses_no_line_it_can_keep() {
    let (folder, host) = (tempfile::tempdir().unwrap(), own_loopback());
    let config = config_file(folder.path(), host, 4, "[drain]\ngrace = \"0s\"\n");
    let mut child = program(&["serve", "--config", &config]).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let serving: serde_json::Value = serde_json::from_str(&line).unwrap();
    let api: SocketAddr = serving["api"].as_str().unwrap().parse().unwrap();
    let service = client(api).create_service(&named("tcp-port")).await.unwrap().value;

    // From here on nobody reads. There is no instance, so that each connection ends at once.
    let relayed = bounded("connections while nobody reads the log", async {
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect((host, service.port.get())).await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        }
    });
    relayed.await;

    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(rest.lines().filter(|line| line.contains("connection closed")).count(), CONNECTIONS);
    assert!(rest.lines().last().is_some_and(|line| line.contains("stopped")), "the last line is written too");
}

/// More than a node carries out at once.
const ORDERS: u16 = 1_050;

/// A store whose disk may stop answering.
struct Stuck {
    inner: MemoryStore,
    stuck: Arc<(Mutex<bool>, Condvar)>,
}

impl Store for Stuck {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.inner.load()
    }

    fn commit(&mut self, commit: &Commit) -> CommitOutcome {
        let (stuck, freed) = &*self.stuck;
        drop(freed.wait_while(stuck.lock().unwrap(), |stuck| *stuck).unwrap());
        self.inner.commit(commit)
    }

    fn changes_since(&mut self, revision: Revision) -> Result<Changes, StoreError> {
        self.inner.changes_since(revision)
    }
}

fn order(number: u16) -> Command {
    Command::Provision(Provision {
        id: ServiceId::from_u128(number.into()),
        org: OrgName::fallback(),
        space: SpaceName::fallback(),
        name: format!("s{number}").parse().unwrap(),
        protocol: None,
        https: None,
        port: None,
        int_port: None,
        access: None,
    })
}

#[tokio::test]
async fn a_disk_that_does_not_answer_holds_up_neither_reads_nor_heartbeats_nor_the_drain() {
    let token = Token::parse(TOKEN).unwrap();
    let mut config = NodeConfig::loopback("unused".into(), range(ORDERS + 1).parse().unwrap(), token);
    config.host = own_loopback();
    config.drain = Drain { grace: Span::ZERO, limit: Span::secs(1) };
    let stuck = Arc::new((Mutex::new(false), Condvar::new()));
    let store = Stuck { inner: MemoryStore::new(), stuck: Arc::clone(&stuck) };
    let node = Node::bind_with(config, Box::new(store)).await.unwrap();
    let (handle, client) = (node.handle(), client(node.api_addr()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(node.serve(async { drop(stopped.await) }));
    let service = client.create_service(&named("tcp-port")).await.unwrap().value.id.into();
    let instance = "i0".parse().unwrap();
    let leased = RegisterBackend { addr: "127.0.0.1:9".parse().unwrap(), ttl: None, permanent: false };
    client.register(&service, &instance, &leased).await.unwrap();

    *stuck.0.lock().unwrap() = true;
    let mut orders = JoinSet::new();
    for batch in [1..=ORDERS / 2, ORDERS / 2 + 1..=ORDERS] {
        for number in batch {
            let handle = handle.clone();
            orders.spawn(async move { handle.command(order(number)).await });
        }
        // A look comes after them in the queue.
        bounded("a look past orders that wait for the disk", handle.read(|_, _| ())).await.unwrap();
    }
    bounded("a heartbeat", client.heartbeat(&service, &instance)).await.unwrap();
    let seen = bounded("the list", client.services(&ServiceFilter::default())).await.unwrap().value;
    assert_eq!(seen.services.len(), 1);
    assert!(orders.try_join_next().is_none(), "no order is answered before it is durable");

    stop.send(()).unwrap();
    let draining = bounded("the drain to begin", async {
        let mut status = handle.status();
        drop(status.wait_for(|status| status.phase >= harbor_node::Phase::Draining).await);
    });
    draining.await;
    *stuck.0.lock().unwrap() = false;
    stuck.1.notify_all();
    let answers = bounded("the orders", orders.join_all()).await;
    let created = answers.iter().filter(|answer| matches!(answer, Ok(Answer::Created(_)))).count();
    assert_eq!(created, 1_024, "those that were begun are finished, those in line are refused");
    bounded("the end", serving).await.unwrap().unwrap();
}
