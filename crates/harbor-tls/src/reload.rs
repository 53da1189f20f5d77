//! Looks at the files again and again, and serves a new pair once it is complete, fits together and has settled.
//!
//! A loop without policy: [`PairSource::look`] finds, [`Rotation`] says when a change counts, [`Pair::check`] judges. It
//! looks instead of being notified: that works for renames, exchanged links and folders, mounted and network volumes
//! alike, and a look is two small reads.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::current::Current;
use crate::disk::Disk;
use crate::lookup::{Files, PairBytes, PairSource};
use crate::pair::{Fingerprint, Pair};
use crate::problem::PairError;
use crate::rotation::{Rotation, Step, Timing};

/// What the reloader has come to. Changes once for each change on disk.
#[derive(Clone, Debug)]
pub struct ReloadStatus {
    /// The pair that is served.
    pub serving: Arc<Pair>,
    /// What is wrong with the files as they are now; `None`: they are what is served.
    pub trouble: Option<Arc<PairError>>,
    /// New pairs that were taken into service, since the start.
    pub reloads: u64,
    /// Changes that could not be served, since the start.
    pub rejects: u64,
}

/// Keeps [`Current`] up to date with the files of a [`PairSource`].
#[derive(Debug)]
pub struct Reloader<F = Disk> {
    source: PairSource,
    files: Arc<F>,
    timing: Timing,
    current: Arc<Current>,
    status: watch::Sender<ReloadStatus>,
}

impl<F: Files + Send + Sync + 'static> Reloader<F> {
    /// Keeps `current`, which was loaded from `source`, up to date. A change that came between the two is found.
    #[must_use]
    pub fn new(source: PairSource, files: F, timing: Timing, current: Arc<Current>) -> Self {
        let status = ReloadStatus { serving: current.load(), trouble: None, reloads: 0, rejects: 0 };
        Self { source, files: Arc::new(files), timing, current, status: watch::Sender::new(status) }
    }

    /// What it has come to, and each time that changes. To be logged and exported by whoever embeds it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ReloadStatus> {
        self.status.subscribe()
    }

    /// Looks for changes until `shutdown` resolves. With the default [`Timing`], a complete and matching pair is served
    /// within a second after the last byte was written; anything else is reported once, and the old pair stays. Files are
    /// read on the runtime's blocking threads.
    ///
    /// # Cancel safety
    /// Dropping it ends the watch; what is served stays.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        let mut rotation = Rotation::new(self.timing, self.current.load().bytes());
        let mut pause = self.timing.look;
        loop {
            let look = async {
                sleep(pause.as_duration()).await;
                self.look().await
            };
            let found = tokio::select! {
                biased;
                () = &mut shutdown => return,
                found = look => found,
            };
            let Some((fingerprint, found)) = found else { return };
            pause = match rotation.on_look(Instant::now().into_std(), fingerprint) {
                Step::Wait(pause) => pause,
                Step::Decide => {
                    self.decide(found);
                    self.timing.look
                }
            };
        }
    }

    /// One look; `None` when the runtime is shutting down.
    async fn look(&self) -> Option<(Fingerprint, Result<PairBytes, PairError>)> {
        let (source, files) = (self.source.clone(), Arc::clone(&self.files));
        let look = spawn_blocking(move || {
            let found = source.look(&*files);
            let fingerprint = match &found {
                Ok(bytes) => bytes.fingerprint(),
                // The same trouble in the same words is no change.
                Err(error) => Fingerprint::of(&[error.to_string().as_bytes()]),
            };
            (fingerprint, found)
        });
        match look.await {
            Ok(found) => Some(found),
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    fn decide(&self, found: Result<PairBytes, PairError>) {
        match found.and_then(|bytes| Pair::check(&bytes)) {
            Ok(pair) => {
                let pair = Arc::new(pair);
                self.current.replace(Arc::clone(&pair));
                self.status.send_modify(|status| {
                    // Trouble may also end by going back to what is served.
                    status.reloads += u64::from(pair.bytes() != status.serving.bytes());
                    (status.serving, status.trouble) = (pair, None);
                });
            }
            Err(error) => self.status.send_modify(|status| {
                status.rejects += 1;
                status.trouble = Some(Arc::new(error));
            }),
        }
    }
}
