//! One instance of the app under `harbor-node dev`: started with an environment of its own, registered once it listens,
//! kept alive by heartbeats, deregistered and ended when the run ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use harbor_registry::{Command, Refusal};
use harbor_types::{InstanceId, Lifetime, Port, Protocols, ServiceId, ServiceName, Span};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command as Program};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::listening;
use crate::Handle;

/// How often the socket tables are looked at while an instance starts.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// An instance that does not listen by then gets a hint printed.
const SLOW_START: Duration = Duration::from_secs(10);
/// Heartbeat of a registered instance.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Time to live of its registration: three heartbeats.
const TTL: Span = Span::secs(30);
/// How long an instance may take to end after SIGTERM.
const END_GRACE: Duration = Duration::from_secs(5);

/// A service as one instance sees it.
#[derive(Clone, Debug)]
pub(super) struct Listen {
    pub(super) service: ServiceId,
    pub(super) name: ServiceName,
    pub(super) protocols: Protocols,
    /// The number this instance listens on.
    pub(super) port: Port,
}

/// What one instance is started with.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) index: u16,
    pub(super) listens: Vec<Listen>,
    /// Variables on top of (and instead of) the inherited ones.
    pub(super) vars: BTreeMap<String, String>,
    /// Inherited variables that must not reach it.
    pub(super) unset: Vec<String>,
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
}

/// How long an instance that listens waits for the one before it to register.
const TURN: Duration = Duration::from_secs(2);

/// An instance's place in the order of registration.
#[derive(Debug)]
pub(super) struct Turn {
    /// Told, or dropped, when the instance before it has registered or will not.
    pub(super) after: Option<oneshot::Receiver<()>>,
    /// To tell the next one.
    pub(super) registered: Option<oneshot::Sender<()>>,
}

/// News of an instance.
#[derive(Debug)]
pub(super) enum Report {
    /// It listens on every port and is registered.
    Ready { index: u16 },
    /// It runs, but does not listen on these ports yet.
    Waiting { index: u16, missing: String },
    /// It ended by itself.
    Ended { index: u16, status: ExitStatus },
    /// It could not be started, or not be registered.
    Failed { index: u16, error: anyhow::Error },
}

impl Plan {
    pub(super) fn id(&self) -> Option<InstanceId> {
        instance_id(self.index)
    }
}

/// Id under which the instance with this index registers.
pub(super) fn instance_id(index: u16) -> Option<InstanceId> {
    InstanceId::parse(&format!("instance-{index}")).ok()
}

/// Runs one instance until it ends or `stop` is cancelled; afterwards it is deregistered and its process group is gone.
pub(super) async fn run(
    plan: Plan,
    turn: Turn,
    handle: Handle,
    reports: mpsc::Sender<Report>,
    stop: CancellationToken,
) {
    let index = plan.index;
    let report = match supervise(&plan, turn, &handle, &reports, &stop).await {
        Ok(Some(status)) => Report::Ended { index, status },
        Ok(None) => return,
        Err(error) => Report::Failed { index, error },
    };
    let _ = reports.send(report).await;
}

async fn supervise(
    plan: &Plan,
    turn: Turn,
    handle: &Handle,
    reports: &mpsc::Sender<Report>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<ExitStatus>> {
    let mut child = start(plan)?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let mut output = JoinSet::new();
    if let Some(stdout) = child.stdout.take() {
        output.spawn(pass_on(stdout, plan.index));
    }
    if let Some(stderr) = child.stderr.take() {
        output.spawn(pass_on(stderr, plan.index));
    }
    let mut registered = Vec::new();
    let ended = tokio::select! {
        status = child.wait() => Some(status.context("wait for the instance")),
        result = announce(plan, turn, handle, reports, &mut registered) => Some(Err(result.err().unwrap_or_else(|| anyhow::anyhow!("registration ended")))),
        () = stop.cancelled() => None,
    };
    // Out of rotation first, so that nobody new comes while it ends.
    for listen in &registered {
        if let Some(instance) = plan.id() {
            let _ = handle.command(Command::Deregister { service: *listen, instance }).await;
        }
    }
    group.end(&mut child).await;
    // A grandchild that left the group may keep the pipe open; its output is not worth waiting for.
    let _ = timeout(Duration::from_millis(200), async { while output.join_next().await.is_some() {} }).await;
    ended.transpose()
}

fn start(plan: &Plan) -> anyhow::Result<Child> {
    let mut program = Program::new(&plan.program);
    for name in &plan.unset {
        program.env_remove(name);
    }
    program
        .args(&plan.arguments)
        .envs(&plan.vars)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group: Ctrl-C reaches us alone, and we end the whole group in order.
        .process_group(0)
        .kill_on_drop(true);
    program.spawn().with_context(|| format!("start {}", plan.program.to_string_lossy()))
}

/// Registers each service once somebody listens on its port, then sends heartbeats for ever.
async fn announce(
    plan: &Plan,
    mut turn: Turn,
    handle: &Handle,
    reports: &mpsc::Sender<Report>,
    registered: &mut Vec<ServiceId>,
) -> anyhow::Result<()> {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing: Vec<Listen> = plan.listens.clone();
    let slow = Instant::now() + SLOW_START;
    let mut hinted = false;
    while !missing.is_empty() {
        looks.tick().await;
        let mut still = Vec::new();
        for listen in missing {
            if listening::listens(listen.port, listen.protocols).context("look who listens")? {
                if let Some(after) = turn.after.take() {
                    let _ = timeout(TURN, after).await;
                }
                register(plan, handle, &listen).await?;
                registered.push(listen.service);
            } else {
                still.push(listen);
            }
        }
        missing = still;
        if !hinted && !missing.is_empty() && Instant::now() >= slow {
            hinted = true;
            let missing =
                missing.iter().map(|l| format!("{} ({}, for {})", l.port, l.protocols, l.name)).collect::<Vec<_>>();
            let _ = reports.send(Report::Waiting { index: plan.index, missing: missing.join(", ") }).await;
        }
    }
    if let Some(next) = turn.registered.take() {
        let _ = next.send(());
    }
    let _ = reports.send(Report::Ready { index: plan.index }).await;
    let mut beats = interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        for listen in &plan.listens {
            let Some(instance) = plan.id() else { continue };
            match handle.command(Command::Heartbeat { service: listen.service, instance }).await {
                // The machine slept longer than the time to live.
                Err(Refusal::UnknownInstance { .. }) => register(plan, handle, listen).await?,
                Err(Refusal::UnknownService { .. }) => anyhow::bail!("service {} was deleted", listen.name),
                _ => {}
            }
        }
    }
}

async fn register(plan: &Plan, handle: &Handle, listen: &Listen) -> anyhow::Result<()> {
    let instance = plan.id().context("name the instance")?;
    let addr = (std::net::Ipv4Addr::LOCALHOST, listen.port.get()).into();
    let lifetime = Some(Lifetime::Leased(TTL));
    handle
        .command(Command::Register { service: listen.service, instance, addr, lifetime })
        .await
        .map(drop)
        .with_context(|| format!("register instance {} with {}", plan.index, listen.name))
}

/// Prints the instance's lines with its number in front.
async fn pass_on(stream: impl AsyncRead + Unpin, index: u16) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        super::screen::line(&format!("[{index}] {}", String::from_utf8_lossy(&line)));
    }
}

/// The process group of an instance: whatever it started, too. Killed when dropped.
struct Group(Option<Pid>);

impl Group {
    /// SIGTERM, and SIGKILL to what is left after the grace or after the instance itself has ended.
    async fn end(&mut self, child: &mut Child) {
        let Some(group) = self.0 else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let _ = timeout(END_GRACE, child.wait()).await;
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The exit code a shell would give for `status`.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128))).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
