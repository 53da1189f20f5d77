//! The last step before the app itself, in its own process: tie its life to that of the run, then become the app. So an
//! instance does not outlive a run that is killed, and its port is free for the next one.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Code of a shell whose command is not there, or cannot be run.
const NOT_RUN: u8 = 127;

/// Arguments of the hidden subcommand.
#[derive(Clone, Debug, clap::Args)]
pub struct StartArgs {
    /// Process id of the run.
    run: i32,
    /// The app.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the app; returns only when it cannot be run.
#[must_use]
pub fn start(args: &StartArgs) -> u8 {
    let Some((program, arguments)) = args.command.split_first() else { return NOT_RUN };
    let error = match tie_to_run(args.run) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    };
    eprintln!("error: cannot run {}: {error}", program.to_string_lossy());
    NOT_RUN
}

fn tie_to_run(run: i32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The run may have ended before the kernel was told to watch it.
    if getppid() != Pid::from_raw(run) {
        return Err(io::Error::other("the run that started it has ended"));
    }
    Ok(())
}
