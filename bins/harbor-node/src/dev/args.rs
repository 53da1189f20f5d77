//! Arguments of `harbor-node dev`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use harbor_env::Prefix;
use harbor_types::{AppName, Port, PortRanges, ServiceName};

use crate::config::LOWEST_PORT;

/// Instances of one run, at most.
pub(super) const MAX_INSTANCES: u16 = 64;

/// Run a node here, order services, and start instances of an app behind them.
///
/// Everything it keeps is in ./.harbor: run it again, and the services are there again, on the same ports.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    harbor-node dev --service my-port --instances 2\n  \
    harbor-node dev --service my-redis -- sh -c 'redis-server --port $STACKATO_HARBOR'\n  \
    harbor-node dev --service udp-game both-dns -- ./server")]
pub struct DevArgs {
    /// Services to order; a name that starts with udp or both decides the protocols
    #[arg(long = "service", value_name = "NAME", num_args = 1.., required = true)]
    pub services: Vec<ServiceName>,
    /// How many instances of the app to start
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_INSTANCES)))]
    pub instances: u16,
    /// Name of the app that the services are bound to
    #[arg(long, default_value = "dev")]
    pub app: AppName,
    /// Give the app its variables under this prefix too, for example HELION
    #[arg(long, value_name = "PREFIX")]
    pub env_prefix: Vec<Prefix>,
    /// Where the node's API listens, on this machine only; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8700", value_parser = loopback)]
    pub api: SocketAddr,
    /// External ports to choose from
    #[arg(long, value_name = "FIRST-LAST", default_value = "20000-29999", value_parser = unprivileged)]
    pub port_range: PortRanges,
    /// Lowest port that instances listen on; each service and instance gets the next one that is free on this machine
    #[arg(long, value_name = "PORT", default_value = "4100")]
    pub int_port_base: Port,
    /// Folder for the state, the token and the API's address
    #[arg(long, value_name = "DIR", default_value = ".harbor")]
    pub state_dir: PathBuf,
    /// The app, started once an instance with its own environment; without it, a built-in greeter
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(addr) if addr.ip().is_loopback() => Ok(addr),
        Ok(_) => Err("a dev run's API has no TLS and stays on this machine: give an address like 127.0.0.1:8701, or \
                      run harbor-node serve"
            .into()),
        Err(_) => Err("not an IP address and a port; write it like 127.0.0.1:8701".into()),
    }
}

fn unprivileged(text: &str) -> Result<PortRanges, String> {
    let ranges = text.parse::<PortRanges>().map_err(|error| error.to_string())?;
    match ranges.ranges().iter().find(|range| range.first().get() < LOWEST_PORT) {
        Some(low) => Err(format!("{low} begins below {LOWEST_PORT}; take ports from {LOWEST_PORT} to 65535")),
        None => Ok(ranges),
    }
}
