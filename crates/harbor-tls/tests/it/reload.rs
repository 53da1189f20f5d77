//! The watch on the files, on paused time: what counts as a change, what is reported, and how long it takes.

use std::sync::Arc;
use std::time::Duration;

use harbor_tls::{Current, Fingerprint, Pair, ReloadStatus, Reloader, Timing};
use harbor_types::Span;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::rig::{Authority, Issued, Memory, app};

const CRT: &str = "/app/certs/harbor.crt";
const KEY: &str = "/app/certs/harbor.key";
/// The promise.
const PROMISED: Duration = Duration::from_secs(2);

/// A reloader with the default timing over files in memory.
struct Rig {
    authority: Authority,
    files: Memory,
    current: Arc<Current>,
    status: watch::Receiver<ReloadStatus>,
    task: JoinHandle<()>,
    _stop: oneshot::Sender<()>,
}

impl Rig {
    fn new() -> (Self, Issued) {
        let (authority, files) = (Authority::new(), Memory::default());
        let first = authority.issue();
        put(&files, CRT, KEY, &first);
        let source = app("/app", "web-https");
        let current = Arc::new(Current::new(Pair::load(&source, &files).unwrap()));
        let reloader = Reloader::new(source, files.clone(), Timing::default(), Arc::clone(&current));
        let status = reloader.status();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(reloader.run(async {
            let _ = stopped.await;
        }));
        (Self { authority, files, current, status, task, _stop: stop }, first)
    }

    /// The next change of status, within the promised time.
    async fn next(&mut self) -> ReloadStatus {
        timeout(PROMISED, self.status.changed()).await.expect("within 2 s").unwrap();
        let status = self.status.borrow_and_update().clone();
        assert!(Arc::ptr_eq(&status.serving, &self.current.load()));
        status
    }

    /// Nothing is said for a minute.
    async fn quiet(&mut self) {
        let minute = timeout(Duration::from_secs(60), self.status.changed()).await;
        assert!(minute.is_err(), "{:?}", self.status.borrow());
    }

    fn serves(&self, issued: &Issued) -> bool {
        self.current.load().facts().fingerprint == Fingerprint::of_certificate(&issued.leaf)
    }
}

fn put(files: &Memory, certificate: &str, key: &str, issued: &Issued) {
    files.put(certificate, &issued.chain);
    files.put(key, &issued.key);
}

#[tokio::test(start_paused = true)]
async fn a_new_pair_is_served_within_the_promised_time_and_said_once() {
    let (mut rig, first) = Rig::new();
    rig.quiet().await;
    assert!(rig.serves(&first));
    for reloads in 1..=5 {
        // At different places between two looks.
        let _ = timeout(Duration::from_millis(117 * reloads), std::future::pending::<()>()).await;
        let issued = rig.authority.issue();
        let began = Instant::now();
        put(&rig.files, CRT, KEY, &issued);
        let status = rig.next().await;
        assert!(began.elapsed() <= Duration::from_millis(900), "{:?}", began.elapsed());
        assert!(rig.serves(&issued) && status.trouble.is_none());
        assert_eq!((status.reloads, status.rejects), (reloads, 0));
        rig.quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_between_the_first_load_and_the_first_look_is_found() {
    let (mut rig, _) = Rig::new(); // its task has not run yet
    let second = rig.authority.issue();
    put(&rig.files, CRT, KEY, &second);
    assert_eq!(rig.next().await.reloads, 1);
    assert!(rig.serves(&second));
}

#[tokio::test(start_paused = true)]
async fn a_broken_pair_is_reported_once_for_each_change_and_the_old_one_stays() {
    let (mut rig, first) = Rig::new();
    let second = rig.authority.issue();
    rig.files.put(KEY, &second.key);
    let mismatch = "harbor.crt does not match the private key in /app/certs/harbor.key";
    rig.trouble(1, mismatch).await;
    rig.files.put(CRT, &second.chain[..second.chain.len() - 40]);
    rig.trouble(2, "harbor.crt is malformed or cut short").await;
    rig.files.remove(KEY);
    rig.trouble(3, "harbor.key is not there").await;
    rig.files.remove(CRT);
    rig.trouble(4, "harbor.crt is not there; /app/certs/harbor.key is not there").await;
    assert!(rig.serves(&first), "through all of it");
    put(&rig.files, CRT, KEY, &second);
    let status = rig.next().await;
    assert!(rig.serves(&second) && status.trouble.is_none());
    assert_eq!((status.reloads, status.rejects), (1, 4));
}

impl Rig {
    async fn trouble(&mut self, rejects: u64, why: &str) {
        let status = self.next().await;
        let trouble = status.trouble.expect("trouble").to_string();
        assert!(trouble.contains(why), "{trouble}");
        assert_eq!((status.reloads, status.rejects), (0, rejects));
        self.quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_ends_when_the_files_are_again_what_is_served() {
    let (mut rig, first) = Rig::new();
    rig.files.put(CRT, "");
    rig.trouble(1, "harbor.crt is empty").await;
    rig.files.put(CRT, &first.chain);
    let status = rig.next().await;
    assert!(status.trouble.is_none() && rig.serves(&first));
    assert_eq!((status.reloads, status.rejects), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_is_still_being_written_is_not_served() {
    let (mut rig, first) = Rig::new();
    let second = rig.authority.issue();
    rig.files.put(KEY, &second.key);
    // The leaf alone belongs to the key: a valid pair, which no client could trust. Its issuer follows 250 ms later.
    for written in [&second.alone[..], &second.chain] {
        rig.files.put(CRT, written);
        assert!(timeout(Duration::from_millis(250), rig.status.changed()).await.is_err(), "not settled");
        assert!(rig.serves(&first));
    }
    let status = rig.next().await;
    assert_eq!((status.serving.facts().chain, status.reloads, status.rejects), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_services_own_pair_takes_over_once_it_is_complete() {
    let (mut rig, first) = Rig::new();
    let own = rig.authority.issue();
    rig.files.put("/app/certs/web-https.key", &own.key);
    rig.trouble(1, "/app/certs/web-https.crt is not there; /app/certs/web-https.key is there").await;
    assert!(rig.serves(&first));
    rig.files.put("/app/certs/web-https.crt", &own.chain);
    let status = rig.next().await;
    assert!(rig.serves(&own));
    assert_eq!(status.serving.facts().origin, harbor_tls::Origin::Service);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_with_the_same_key_is_a_change() {
    let (mut rig, _) = Rig::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut serials = Vec::new();
    for (serial, reloads) in [(1_u64, 1), (2, 2)] {
        let mut params = crate::rig::named("leaf");
        params.serial_number = Some(serial.into());
        rig.files.put(CRT, params.self_signed(&key).unwrap().pem());
        rig.files.put(KEY, key.serialize_pem());
        let status = rig.next().await;
        assert_eq!((status.reloads, status.rejects), (reloads, 0));
        serials.push(status.serving.facts().fingerprint);
    }
    assert_ne!(serials[0], serials[1]);
}

#[tokio::test(start_paused = true)]
async fn files_that_never_settle_are_neither_served_nor_reported() {
    let (mut rig, first) = Rig::new();
    for _ in 0..50 {
        rig.files.put(CRT, rig.authority.issue().chain);
        assert!(timeout(Duration::from_millis(100), rig.status.changed()).await.is_err());
    }
    assert!(rig.serves(&first));
    rig.trouble(1, "harbor.crt does not match the private key").await;
}

#[tokio::test(start_paused = true)]
async fn it_ends_at_once_when_told_to_and_serves_on() {
    let (rig, first) = Rig::new();
    let Rig { task, _stop: stop, current, status, .. } = rig;
    drop(stop);
    let began = Instant::now();
    task.await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(100));
    assert!(status.has_changed().is_err(), "whoever waits for its status learns that it ended");
    assert_eq!(current.load().facts().fingerprint, Fingerprint::of_certificate(&first.leaf));
    assert_eq!(Timing::default(), Timing { look: Span::millis(500), settle: Span::millis(300) });
}
