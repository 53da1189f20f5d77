//! The command line of `harbor-node`: words and help texts. Reads arguments; carries nothing out.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Override, SETTINGS};
use crate::dev::{DevArgs, GREETER, START, StartArgs};

/// Harbor's gateway node: holds ports for services and relays what arrives there to application instances.
#[derive(Debug, Parser)]
#[command(name = "harbor-node", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 stopped as asked · 1 runtime error · 2 wrong command line · \
65 state file corrupt or from a newer version · 69 state file or API address in use · 78 wrong configuration";

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node until SIGTERM or SIGINT; a second signal stops it at once. SIGHUP reloads.
    Serve(Settings),
    /// Say what `serve` would do, and what is wrong. Binds no port; leaves the state of a running node alone.
    Check(Settings),
    #[allow(missing_docs, reason = "the help text stands at the arguments")]
    Dev(DevArgs),
    /// The built-in app of `dev`.
    #[command(name = GREETER, hide = true)]
    DevGreeter,
    /// The last step before an instance of `dev` starts.
    #[command(name = START, hide = true)]
    DevStart(StartArgs),
}

/// Where settings come from: a file, over it the `HARBOR_*` variables, over both these flags.
#[derive(Args, Debug)]
pub struct Settings {
    /// Configuration file (TOML).
    #[arg(long, short, env = "HARBOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the node in credentials [default: harbor_node_1].
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,
    /// Internal IP address of this node: what internal services listen on. Required, here or elsewhere.
    #[arg(long, value_name = "IP")]
    host: Option<String>,
    /// Ports for services [default: 20000-29999].
    #[arg(long, value_name = "RANGES")]
    port_range: Option<String>,
    /// Directory of the state file [default: /var/lib/harbor].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Address of the API [default: 127.0.0.1:8700].
    #[arg(long, value_name = "IP:PORT")]
    api: Option<String>,
    /// File with the admin's token; HARBOR_TOKEN holds the token itself instead.
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Any other setting, like `--set tcp.idle=30m`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

impl Settings {
    /// The flags as settings, in the order in which the later wins.
    #[must_use]
    pub fn overrides(&self) -> Vec<Override> {
        let own = [
            ("node_id", &self.node_id),
            ("host", &self.host),
            ("port_range", &self.port_range),
            ("state_dir", &self.state_dir),
            ("api", &self.api),
            ("token_file", &self.token_file),
        ];
        let flag = |(key, value): (&str, &Option<String>)| {
            let name = format!("--{}", key.replace('_', "-"));
            value.clone().map(|value| Override { name, key: key.into(), value })
        };
        let set = self.set.iter().map(|(key, value)| Override {
            name: format!("--set {key}"),
            key: key.clone(),
            value: value.clone(),
        });
        own.into_iter().filter_map(flag).chain(set).collect()
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it like KEY=VALUE")?;
    if SETTINGS.iter().any(|setting| setting.key == key) {
        return Ok((key.into(), value.into()));
    }
    Err(format!("there is no setting {key:?}; docs/configuration.md lists them"))
}
