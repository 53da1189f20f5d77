//! `serve` as a program runs it: signals, reloads, and what the service manager is told.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::TokenSlot;
use crate::cli::Settings;
use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::handle::Handle;
use crate::logging::LogLevel;
use crate::node::Node;
use crate::system;

/// Runs a node until SIGTERM or SIGINT.
///
/// SIGHUP reads `settings` and `vars` again: the token and the log level change at once, other changes are named and wait
/// for a restart; an error keeps everything as it is.
///
/// # Errors
/// [`NodeError`].
pub async fn serve(
    config: NodeConfig,
    settings: &Settings,
    vars: &BTreeMap<String, String>,
    log: Option<LogLevel>,
) -> Result<(), NodeError> {
    let no_signals = |source| NodeError::System { what: "signal handling", source };
    let mut signals = Signals::new().map_err(no_signals)?;
    for warning in [config.token.warning(), system::ephemeral_warning(&config.port_range)].into_iter().flatten() {
        tracing::warn!("{warning}");
    }
    let node = Node::bind(config.clone()).await?;
    let (handle, token) = (node.handle(), node.token());
    tracing::info!(
        api = %node.api_addr(), host = %config.host, ports = %config.port_range, state = %config.state_file().display(),
        "serving"
    );
    let mut reload = Reload { config, settings, vars, log, token };
    if handle.is_ready() {
        tracing::info!("ready");
    }
    let stop = async move {
        tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
        while signals.next().await == Asked::Reload {
            reload.run();
        }
        tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
        hurry_on_second(signals, handle);
    };
    node.serve(stop).await
}

/// What a signal asks for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Asked {
    Stop,
    Reload,
}

/// The signals a node listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// While the node drains, the next signal to stop ends its waits. The task ends with the runtime, like the signals.
fn hurry_on_second(mut signals: Signals, handle: Handle) {
    tokio::spawn(async move {
        while signals.next().await == Asked::Reload {}
        tracing::info!("stopping at once");
        handle.hurry();
    });
}

/// What a reload needs.
struct Reload<'a> {
    config: NodeConfig,
    settings: &'a Settings,
    vars: &'a BTreeMap<String, String>,
    log: Option<LogLevel>,
    token: Arc<TokenSlot>,
}

impl Reload<'_> {
    fn run(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager could not be told"),
        }
        match self.apply() {
            Ok(waiting) if waiting.is_empty() => tracing::info!("reloaded"),
            Ok(waiting) => {
                tracing::warn!(
                    settings = waiting.join(", "),
                    "reloaded; these settings changed and wait for a restart"
                );
            }
            Err(error) => tracing::error!(error, "not reloaded; everything stays as it was"),
        }
        tell(&[NotifyState::Ready]);
    }

    /// The settings that changed and wait for a restart.
    fn apply(&mut self) -> Result<Vec<&'static str>, String> {
        let text = |error: &dyn std::error::Error| chain(error);
        let loaded = NodeConfig::load(self.settings.config.as_deref(), self.vars, &self.settings.overrides())
            .map_err(|error| text(&error))?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let new = loaded.config;
        let token = new.token.load().map_err(|error| text(&error))?;
        if let Some(log) = &self.log {
            log.change(&new.log.level)?;
        }
        self.token.replace(token);
        Ok(self.config.differences(&new))
    }
}

/// Tells the service manager, if there is one.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// An error and its causes on one line.
#[must_use]
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
