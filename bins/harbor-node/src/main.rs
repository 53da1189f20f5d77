//! The program `harbor-node`: arguments, configuration, runtime, exit code.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Error};
use clap::Parser;
use harbor_node::cli::{Cli, Command, Settings};
use harbor_node::config::Loaded;
use harbor_node::{ConfigError, EXIT_RUNTIME, NodeConfig, NodeError};

fn main() -> ExitCode {
    let ended = run(Cli::parse().command);
    harbor_node::logging::flush();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            let code = error.chain().find_map(|cause| cause.downcast_ref::<NodeError>()).map(NodeError::exit_code);
            ExitCode::from(code.unwrap_or(EXIT_RUNTIME))
        }
    }
}

fn run(command: Command) -> Result<u8, Error> {
    let vars = environment();
    match command {
        Command::Check(settings) => {
            let Loaded { config, warnings } = load(&settings, &vars)?;
            let mut text = String::new();
            let checked = harbor_node::check(&config, &warnings, &mut text);
            // A reader that went away early, such as `head`, has seen what it wanted.
            let _ = std::io::stdout().write_all(text.as_bytes());
            checked?;
        }
        Command::Serve(settings) => {
            let Loaded { config, warnings } = load(&settings, &vars)?;
            let log = harbor_node::logging::start(&config.log).map_err(Error::msg).context("start logging")?;
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            runtime()?.block_on(harbor_node::serve(config, &settings, &vars, Some(log)))?;
        }
        Command::Dev(args) => return runtime()?.block_on(harbor_node::dev::run(args, &vars)),
        Command::DevStart(args) => return Ok(harbor_node::dev::start(&args)),
        Command::DevGreeter => runtime()?.block_on(harbor_node::dev::greet(&vars))?,
    }
    Ok(0)
}

fn load(settings: &Settings, vars: &BTreeMap<String, String>) -> Result<Loaded, NodeError> {
    let loaded: Result<_, ConfigError> = NodeConfig::load(settings.config.as_deref(), vars, &settings.overrides());
    Ok(loaded?)
}

/// The control plane's runtime: one thread is enough, relays have threads of their own.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

/// The variables that are text; others are no settings.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
