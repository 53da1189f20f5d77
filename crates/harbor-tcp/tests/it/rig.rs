//! A pool served on a loopback port, and a log of what its observer heard.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use harbor_tcp::{AcceptError, ConnectionRecord, Limits, Listener, Observer, Pool, ServeReport, serve};
use harbor_testkit::wait::{bounded, until};
use harbor_types::{
    Backend, BackendSnapshot, Claim, Generation, InstanceId, Observed, Revision, ServiceId, Span, Verdict,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const SERVICE: ServiceId = ServiceId::from_u128(7);

/// Remembers what it hears.
#[derive(Debug, Default)]
pub(crate) struct Log {
    opened: Mutex<Vec<SocketAddr>>,
    observed: Mutex<Vec<Observed>>,
    closed: Mutex<Vec<ConnectionRecord>>,
}

impl Observer for Log {
    fn opened(&self, service: ServiceId, client: SocketAddr) {
        assert_eq!(service, SERVICE);
        self.opened.lock().unwrap().push(client);
    }

    fn observed(&self, observed: Observed) {
        self.observed.lock().unwrap().push(observed);
    }

    fn closed(&self, record: &ConnectionRecord) {
        self.closed.lock().unwrap().push(record.clone());
    }
}

impl Log {
    pub(crate) fn opened(&self) -> Vec<SocketAddr> {
        self.opened.lock().unwrap().clone()
    }

    pub(crate) fn closed(&self) -> Vec<ConnectionRecord> {
        self.closed.lock().unwrap().clone()
    }

    /// Instance and verdict of each observation, in order.
    pub(crate) fn observed(&self) -> Vec<(String, Verdict)> {
        let observed = self.observed.lock().unwrap();
        observed.iter().map(|seen| (seen.instance.as_str().to_owned(), seen.verdict)).collect()
    }

    /// Waits for the closing record of the only connection.
    pub(crate) async fn only_record(&self) -> ConnectionRecord {
        until("the closing record", || !self.closed().is_empty()).await;
        let closed = self.closed();
        assert_eq!(closed.len(), 1, "one connection, one record");
        closed.into_iter().next().unwrap()
    }
}

/// Instances `i0`, `i1`… at these addresses, as snapshot number `generation`.
pub(crate) fn snapshot(generation: u64, addrs: impl IntoIterator<Item = SocketAddr>) -> BackendSnapshot {
    let tcp = addrs.into_iter().zip(0_u64..).map(|(addr, number)| Backend {
        instance: InstanceId::parse(&format!("i{number}")).unwrap(),
        addr,
        joined: Revision(number + 1),
        on_trial: false,
    });
    BackendSnapshot { tcp: tcp.collect(), ..BackendSnapshot::empty(Generation(generation)) }
}

/// A loopback address no other test uses: on it, a port that was given back is not taken by somebody else meanwhile.
pub(crate) fn own_address() -> SocketAddr {
    static LAST: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, high, low, LAST.fetch_add(1, Ordering::Relaxed) + 1), 0).into()
}

/// A listener at an address of its own.
pub(crate) fn listener() -> Listener {
    Listener::bind(own_address(), Claim::Fresh).unwrap()
}

/// A served pool.
pub(crate) struct Rig {
    pub(crate) addr: SocketAddr,
    pub(crate) pool: Arc<Pool>,
    pub(crate) log: Arc<Log>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<ServeReport, AcceptError>>,
}

impl Rig {
    /// Serves backends at these addresses, with the default limits.
    pub(crate) fn new(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self::with(addrs, Limits::default(), Span::secs(20))
    }

    pub(crate) fn with(addrs: impl IntoIterator<Item = SocketAddr>, limits: Limits, drain: Span) -> Self {
        let log = Arc::new(Log::default());
        let pool = Arc::new(Pool::new(SERVICE, limits, log.clone()));
        pool.publish(snapshot(1, addrs));
        let listener = listener();
        let addr = listener.local_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Arc::clone(&pool), drain, async {
            let _ = stopped.await;
        }));
        Self { addr, pool, log, stop, task }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        bounded("a connection to the relay", TcpStream::connect(self.addr)).await.unwrap()
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(self) -> ServeReport {
        self.stop.send(()).unwrap();
        bounded("the end of serve", self.task).await.unwrap().unwrap()
    }

    /// Tells it to stop and does not wait.
    pub(crate) fn begin_stop(self) -> (Arc<Log>, JoinHandle<Result<ServeReport, AcceptError>>) {
        self.stop.send(()).unwrap();
        (self.log, self.task)
    }
}

/// Reads up to the next line feed.
pub(crate) async fn line(stream: &mut TcpStream) -> String {
    let read = async {
        let mut line = Vec::new();
        loop {
            match stream.read_u8().await.unwrap() {
                b'\n' => return String::from_utf8(line).unwrap(),
                byte => line.push(byte),
            }
        }
    };
    bounded("a line", read).await
}

/// Whether the peer resets `stream`; fails when it ends cleanly.
pub(crate) async fn assert_reset(stream: &mut TcpStream) {
    let end = bounded("a reset", stream.read_to_end(&mut Vec::new())).await;
    let error = end.expect_err("a reset must not look like a clean end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
