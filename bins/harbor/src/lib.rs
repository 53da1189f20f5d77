//! The command-line client `harbor`: orders, shows, binds and deletes services on a node, registers backends, and writes
//! down an app's environment. A library so that tests and other programs can run it with an environment and streams of
//! their own; `main.rs` hands over the process's.
//!
//! It decides wording and exit codes. What the node allows is the node's to say, and nothing is ever tried twice.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;

mod apply;
pub mod cli;
mod commands;
mod connection;
mod failure;
mod output;
mod plan;
mod register;
mod show;

use cli::Cli;
use failure::{Failure, SUCCESS, USAGE};
use output::{Output, clean};

/// What surrounds a run of the client, in place of the process's own.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Environment variables; those that start with `HARBOR_` matter.
    pub vars: BTreeMap<String, String>,
    /// The current folder: where manifests and the `.harbor` folder are looked for.
    pub folder: PathBuf,
}

/// Runs one command line (program name first). Results go to `out`; errors, remedies and notes to `err`. `stop` ends
/// `register --keep`, no other command looks at it.
///
/// Returns the exit code: 0 done, 1 refused or failed, 2 usage, 69 node unreachable, 78 no token or bad settings. A reader
/// of `out` that has gone away is no failure.
pub async fn run(
    args: impl IntoIterator<Item = OsString>,
    around: &Surroundings,
    out: &mut impl Write,
    err: &mut impl Write,
    stop: impl Future<Output = ()>,
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render().to_string();
            let _ = if error.use_stderr() { err.write_all(text.as_bytes()) } else { out.write_all(text.as_bytes()) };
            return if error.use_stderr() { USAGE } else { SUCCESS };
        }
    };
    let mut output = Output::new(cli.output, out, err);
    match commands::run(cli, around, &mut output, stop).await {
        Ok(()) | Err(Failure::NobodyReads) => SUCCESS,
        Err(failure) => {
            for what in failure.what() {
                let _ = writeln!(err, "error: {}", clean(&what));
            }
            if let Some(remedy) = failure.remedy() {
                let _ = writeln!(err, "try: {}", clean(&remedy));
            }
            failure.exit_code()
        }
    }
}
