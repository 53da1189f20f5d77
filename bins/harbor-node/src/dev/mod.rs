//! `harbor-node dev`, the front door: a node in this terminal, its services ordered, instances of an app behind them.
//!
//! Called by `main`; composes [`Node`] with child processes and decides nothing that the node decides.

mod args;
mod folder;
mod greeter;
mod instance;
mod listening;
mod plan;
mod screen;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use harbor_registry::{Answer, Command, Provision, Refusal};
use harbor_types::{
    BindingId, NameHint, OrgName, Port, ServiceId, ServiceKind, ServiceName, SpaceName, Span, wire::ServiceState,
    wire::ServiceView,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use args::DevArgs;
use folder::Folder;
use instance::Report;
pub use start::{StartArgs, start};

use crate::config::LogConfig;
use crate::{Drain, Handle, Node, NodeConfig, Phase, clock, logging, system};

/// How long connections may finish when a dev run stops.
const DRAIN_LIMIT: Span = Span::secs(2);

/// Subcommand under which the program starts itself as the built-in app.
pub const GREETER: &str = "dev-greeter";
/// Subcommand under which the program starts itself to become an instance of the app.
pub const START: &str = "dev-start";

/// The built-in app: names its instance to whoever calls.
///
/// # Errors
/// When its environment names no port, or a port cannot be had.
pub async fn greet(vars: &BTreeMap<String, String>) -> anyhow::Result<()> {
    greeter::run(vars).await
}

/// After that long, a stop says what it waits for.
const SLOW_STOP: Duration = Duration::from_secs(1);

/// Runs until SIGINT, SIGTERM or the end of the terminal, or until every instance has ended. Returns the exit code: 0
/// after a signal, else the first instance's code that was not 0.
///
/// # Errors
/// Whatever kept the node or its services from coming up, or ended the node.
pub async fn run(args: DevArgs, vars: &BTreeMap<String, String>) -> anyhow::Result<u8> {
    let stop = CancellationToken::new();
    let hurry = CancellationToken::new();
    listen_to_signals(stop.clone(), hurry.clone()).context("listen to signals")?;
    let folder = Folder::open(&args.state_dir)?;
    let config = config(&args, &folder, vars)?;
    logging::start(&config.log).map_err(anyhow::Error::msg).context("start logging")?;
    let node = Node::bind(config).await?;
    let handle = node.handle();
    let api = format!("http://{}", node.api_addr());
    folder.write_api(&api)?;

    let (end_node, node_ends) = oneshot::channel::<()>();
    let mut serving = tokio::spawn(node.serve(async move {
        let _ = node_ends.await;
    }));
    let mut early = None;
    let run = tokio::select! {
        run = run_app(&args, vars, &handle, &api, &folder, &stop) => run,
        ended = &mut serving => { early = Some(ended); Ok(0) }
        // The instances end with their groups when their tasks are dropped.
        () = hurry.cancelled() => {
            handle.hurry();
            screen::line("\nharbor-node dev: stopped at once; the services keep their ports for the next run");
            Ok(0)
        }
    };
    folder.remove_api();
    let _ = end_node.send(());
    let ended = match early {
        Some(ended) => ended,
        None => serving.await,
    };
    ended.context("the node's task")??;
    run
}

/// The first SIGINT or SIGTERM cancels `stop`, the next one `hurry`. A closed terminal (SIGHUP) cancels `stop`, however
/// often it is told: without that, whatever an instance started would stay behind. The task ends with the runtime.
fn listen_to_signals(stop: CancellationToken, hurry: CancellationToken) -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Under nohup it is ignored, and stays so.
    let mut hangup =
        if system::ignores(rustix::process::Signal::HUP) { None } else { Some(signal(SignalKind::hangup())?) };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = hung_up(hangup.as_mut()) => { stop.cancel(); continue; }
            }
            if stop.is_cancelled() {
                return hurry.cancel();
            }
            stop.cancel();
        }
    });
    Ok(())
}

async fn hung_up(hangup: Option<&mut Signal>) {
    let Some(hangup) = hangup else { return std::future::pending().await };
    if hangup.recv().await.is_none() {
        std::future::pending().await
    }
}

/// Resolves when a stop takes so long that whoever asked for it may wonder.
async fn slow(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(SLOW_STOP).await;
}

/// The node of a dev run: loopback only, state and token in the folder, and no grace when it stops.
fn config(args: &DevArgs, folder: &Folder, vars: &BTreeMap<String, String>) -> anyhow::Result<NodeConfig> {
    let level = vars.get("RUST_LOG").cloned().unwrap_or_else(|| "warn".into());
    let plain = NodeConfig::loopback(folder.path().into(), args.port_range.clone(), folder.token()?);
    let drain = Drain { grace: Span::ZERO, limit: DRAIN_LIMIT };
    Ok(NodeConfig { api: args.api, drain, log: LogConfig { level, ..plain.log }, ..plain })
}

async fn run_app(
    args: &DevArgs,
    vars: &BTreeMap<String, String>,
    handle: &Handle,
    api: &str,
    folder: &Folder,
    stop: &CancellationToken,
) -> anyhow::Result<u8> {
    let prepared = tokio::select! {
        prepared = prepare(args, vars, handle) => prepared?,
        () = stop.cancelled() => return Ok(0),
    };
    let greeter = args.command.is_empty();
    let what = if greeter {
        "the built-in greeter".into()
    } else {
        args.command.join(&OsString::from(" ")).to_string_lossy().into_owned()
    };
    screen::line(&format!("harbor-node dev: starting {} × {what}", args.instances));

    let (reports, mut news) = mpsc::channel(16);
    let mut instances = JoinSet::new();
    let mut previous = None;
    for plan in prepared.plans {
        // Instances register in the order of their numbers, so that the first connection goes to the first of them.
        let (registered, next) = oneshot::channel();
        let turn = instance::Turn { after: previous.replace(next), registered: Some(registered) };
        instances.spawn(instance::run(plan, turn, handle.clone(), reports.clone(), stop.child_token()));
    }
    drop(reports);

    let mut ready = BTreeSet::new();
    let mut code = 0;
    let mut error = None;
    let mut wondering = pin!(slow(stop));
    let mut told = false;
    // Ends when every instance has ended, by itself or because of `stop`.
    loop {
        let report = tokio::select! {
            report = news.recv() => report,
            () = &mut wondering, if !told => {
                told = true;
                screen::line("\nharbor-node dev: waiting for the app to end; Ctrl-C again ends it at once");
                continue;
            }
        };
        let Some(report) = report else { break };
        match report {
            Report::Ready { index } => {
                ready.insert(index);
                if ready.len() == usize::from(args.instances) {
                    screen::line(&screen::welcome(&prepared.shown, api, &folder.path().display().to_string(), greeter));
                }
            }
            Report::Waiting { index, missing } => screen::line(&format!(
                "harbor-node dev: instance {index} runs, but nothing listens yet on {missing}; it gets traffic once it \
                 listens there on 0.0.0.0 (the number is in STACKATO_HARBOR… of its environment)"
            )),
            Report::Ended { index, status } => {
                let exit = instance::exit_code(status);
                code = if code == 0 { exit } else { code };
                screen::line(&format!("harbor-node dev: instance {index} ended ({status}) and is out of rotation"));
            }
            Report::Failed { index, error: failure } => {
                screen::line(&format!("harbor-node dev: instance {index} failed: {failure:#}"));
                error = error.or(Some(failure));
            }
        }
    }
    while instances.join_next().await.is_some() {}
    if stop.is_cancelled() {
        screen::line("\nharbor-node dev: stopped; the services keep their ports for the next run");
        return Ok(0);
    }
    screen::line("harbor-node dev: every instance has ended");
    error.map_or(Ok(code), Err)
}

/// What is decided before the first instance starts.
struct Prepared {
    plans: Vec<instance::Plan>,
    shown: Vec<screen::Shown>,
}

async fn prepare(args: &DevArgs, vars: &BTreeMap<String, String>, handle: &Handle) -> anyhow::Result<Prepared> {
    let mut status = handle.status();
    status.wait_for(|status| status.phase >= Phase::Ready).await.context("wait until the node has its ports back")?;
    let mut ordered = Vec::new();
    for name in args.services.iter().collect::<BTreeSet<_>>() {
        for hint in NameHint::of(name) {
            screen::line(&format!("harbor-node dev: {name}: {hint}"));
        }
        let (view, new) = order(handle, name, args.int_port_base).await?;
        anyhow::ensure!(
            view.state != ServiceState::Conflicted,
            "the port of service {name} cannot be had: {}; end whoever has it, or delete the service for another port",
            view.conflict.as_deref().unwrap_or("another process has it")
        );
        bind_to_app(handle, view.id, args).await?;
        leave_nobody_behind(handle, &view).await?;
        ordered.push(plan::Ordered { view, new });
    }
    plan::plan(args, vars, &ordered).await
}

/// Finds the service, or orders it with a container port that is free on this machine.
async fn order(handle: &Handle, name: &ServiceName, base: Port) -> anyhow::Result<(ServiceView, bool)> {
    let (org, space) = (OrgName::fallback(), SpaceName::fallback());
    let lookup = (org.clone(), space.clone(), name.clone());
    let found = handle
        .read(move |registry, now| {
            registry.find(&lookup.0, &lookup.1, &lookup.2).and_then(|id| registry.service(now, id))
        })
        .await?;
    if let Some(view) = found {
        return Ok((view, false));
    }
    let kind = ServiceKind::decide(name, None, None)?;
    let taken: BTreeSet<Port> =
        handle.read(|registry, now| registry.services(now).iter().map(|service| service.int_port).collect()).await?;
    let int_port = plan::next_free(base, kind.protocols, &taken)?;
    let provision = Provision {
        id: ServiceId::from_random_bytes(clock::random()?),
        org,
        space,
        name: name.clone(),
        protocol: None,
        https: None,
        port: None,
        int_port: Some(int_port),
        access: None,
    };
    let id = provision.id;
    handle.command(Command::Provision(provision)).await.with_context(|| format!("order service {name}"))?;
    let view = handle.read(move |registry, now| registry.service(now, id)).await?;
    Ok((view.with_context(|| format!("service {name} vanished"))?, true))
}

async fn bind_to_app(handle: &Handle, service: ServiceId, args: &DevArgs) -> anyhow::Result<()> {
    let id = BindingId::from_random_bytes(clock::random()?);
    match handle.command(Command::Bind { id, service, app: args.app.clone() }).await {
        Ok(Answer::Bound { .. }) => Ok(()),
        Ok(other) => anyhow::bail!("bind the service to app {}: {other:?}", args.app),
        Err(refusal) => Err(refusal).with_context(|| format!("bind the service to app {}", args.app)),
    }
}

/// Instances of an earlier run that was killed are gone; their numbers may be somebody else's now.
async fn leave_nobody_behind(handle: &Handle, view: &ServiceView) -> anyhow::Result<()> {
    let ours: BTreeSet<_> = (0..args::MAX_INSTANCES).filter_map(instance::instance_id).collect();
    for backend in view.backends.iter().filter(|backend| ours.contains(&backend.instance)) {
        let leave = Command::Deregister { service: view.id, instance: backend.instance.clone() };
        match handle.command(leave).await {
            Ok(_) | Err(Refusal::UnknownInstance { .. }) => {}
            Err(refusal) => return Err(refusal).context("deregister an instance of an earlier run"),
        }
    }
    Ok(())
}
