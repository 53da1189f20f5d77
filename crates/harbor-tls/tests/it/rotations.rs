//! Two hundred exchanges of the pair on a real disk, in every order that tools use, under constant handshakes: none
//! fails, none sees half of each pair, and each new certificate is there in time.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use harbor_testkit::wait::bounded;
use harbor_tls::{
    Acceptor, Current, Disk, HandshakeLimits, Pair, PairSource, ReloadStatus, Reloader, Timing, server_config,
};
use harbor_types::Span;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::rig::{Authority, Issued, app, echo_server, exchange, shown};

const ROTATIONS: usize = 200;
/// The promise; with the quick timing below it is far away, and it is measured all the same.
const PROMISED: Duration = Duration::from_secs(2);
const QUICK: Timing = Timing { look: Span::millis(10), settle: Span::millis(15) };

/// The folder `certs` of an app.
struct Certs {
    root: TempDir,
}

impl Certs {
    fn new(first: &Issued) -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("certs")).unwrap();
        let certs = Self { root };
        fs::write(certs.at("harbor.crt"), &first.chain).unwrap();
        fs::write(certs.at("harbor.key"), &first.key).unwrap();
        certs
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join("certs").join(name)
    }

    fn source(&self) -> PairSource {
        app(self.root.path(), "web-https")
    }

    /// Writes beside, then renames over: as careful tools do.
    fn rename(&self, name: &str, text: &str) {
        fs::write(self.at("next"), text).unwrap();
        fs::rename(self.at("next"), self.at(name)).unwrap();
    }

    /// Points `name` at `target` in one step.
    fn relink(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.at("next")).unwrap();
        fs::rename(self.at("next"), self.at(name)).unwrap();
    }

    /// Exchanges the pair in the `turn`th of the ways. `rejects` waits until one more change was rejected.
    async fn exchange(&self, turn: usize, issued: &Issued, status: &mut watch::Receiver<ReloadStatus>) {
        let (crt, key) = (self.at("harbor.crt"), self.at("harbor.key"));
        match turn % 6 {
            0 => {
                self.rename("harbor.crt", &issued.chain);
                self.rename("harbor.key", &issued.key);
            }
            1 => {
                // In place, key first.
                fs::write(key, &issued.key).unwrap();
                fs::write(crt, &issued.chain).unwrap();
            }
            2 => {
                // Torn: half of the certificate lies there until it is noticed.
                let rejects = status.borrow().rejects;
                fs::write(&crt, &issued.chain[..issued.chain.len() / 2]).unwrap();
                bounded("the torn file to be reported", status.wait_for(|status| status.rejects > rejects))
                    .await
                    .unwrap();
                fs::write(key, &issued.key).unwrap();
                fs::write(crt, &issued.chain).unwrap();
            }
            3 => {
                // Key first, and the old certificate with it until that is noticed.
                let rejects = status.borrow().rejects;
                self.rename("harbor.key", &issued.key);
                bounded("the mismatch to be reported", status.wait_for(|status| status.rejects > rejects))
                    .await
                    .unwrap();
                self.rename("harbor.crt", &issued.chain);
            }
            4 => {
                // A folder for each version and a link that moves, as mounted secrets are exchanged.
                let version = format!("v{turn}");
                fs::create_dir(self.at(&version)).unwrap();
                fs::write(self.at(&version).join("harbor.crt"), &issued.chain).unwrap();
                fs::write(self.at(&version).join("harbor.key"), &issued.key).unwrap();
                self.relink(&version, "..data");
                for name in ["harbor.crt", "harbor.key"] {
                    if fs::read_link(self.at(name)).is_err() {
                        self.relink(format!("..data/{name}"), name);
                    }
                }
            }
            _ => {
                // Both gone, then both new.
                fs::remove_file(&crt).unwrap();
                fs::remove_file(&key).unwrap();
                fs::write(crt, &issued.chain).unwrap();
                fs::write(key, &issued.key).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_exchanges_fail_no_handshake_and_drop_no_connection() {
    let authority = Authority::new();
    let mut issued = authority.issue();
    let certs = Certs::new(&issued);
    let current = Arc::new(Current::new(Pair::load(&certs.source(), &Disk).unwrap()));
    let acceptor = Acceptor::new(server_config(Arc::clone(&current), &[]).unwrap(), HandshakeLimits::default());
    let reloader = Reloader::new(certs.source(), Disk, QUICK, current);
    let mut status = reloader.status();
    let watching = tokio::spawn(reloader.run(std::future::pending()));
    let addr = echo_server(acceptor.clone()).await;

    // Clients without a pause, which trust the root and nothing else: a mixed pair or half a chain fails them.
    let (done, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (client, done, made) = (authority.client(), Arc::clone(&done), Arc::clone(&made));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    bounded("a handshake", client.connect(addr)).await.expect("a handshake failed");
                    made.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    let mut held = authority.client().connect(addr).await.unwrap();
    let mut slowest = Duration::ZERO;
    for turn in 0..ROTATIONS {
        issued = authority.issue();
        certs.exchange(turn, &issued, &mut status).await;
        let began = Instant::now();
        bounded("the new certificate", async {
            // A client of its own each time: it resumes nothing, so it is shown what is served.
            while shown(&authority.client().connect(addr).await.expect("a handshake failed")) != issued.leaf {
                tokio::task::yield_now().await;
            }
        })
        .await;
        slowest = slowest.max(began.elapsed());
        exchange(&mut held).await;
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let (last, counts) = (status.borrow().clone(), acceptor.counts());
    watching.abort();
    println!("{} handshakes, slowest exchange {slowest:?}, {} rejects", made.load(Ordering::Relaxed), last.rejects);
    assert!(slowest < PROMISED, "{slowest:?}");
    assert!(last.trouble.is_none() && last.reloads >= ROTATIONS as u64, "{last:?}");
    assert_eq!(counts.all_refused(), 0, "{counts:?}");
    assert!(made.load(Ordering::Relaxed) >= ROTATIONS as u64, "the clients hardly ran");
}
