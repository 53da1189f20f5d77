//! The process around the command-line client: its arguments, environment, streams, signals and exit code.

use std::process::ExitCode;

use harbor_cli::{Surroundings, run};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let around = Surroundings { vars: harbor_vars(), folder: std::env::current_dir().unwrap_or_default() };
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = std::io::Write::write_fmt(&mut err, format_args!("error: the runtime cannot start: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    ExitCode::from(runtime.block_on(run(std::env::args_os(), &around, &mut out, &mut err, stop_signal())))
}

/// The only place of this program that reads the environment.
fn harbor_vars() -> std::collections::BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with("HARBOR_"))
        .collect()
}

/// Ctrl-C or SIGTERM. The handlers are set when this is first polled, so that commands which do not wait for it end at
/// once, as any other program does.
async fn stop_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
