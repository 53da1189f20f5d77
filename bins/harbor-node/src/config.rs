//! What a node is told: every setting checked and decided, with its default and the reason for it.
//!
//! Two stages: `raw` is the strict shape of the file, [`NodeConfig`] the checked value. Called by the program and by
//! those who embed a node. Reads the one file it is given, and nothing else: variables and flags are arguments.

mod overrides;
mod raw;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use harbor_types::{BackendNetworks, HostName, NodeId, Port, PortRange, PortRanges, Span};

use crate::token::{Token, TokenSource};
pub use overrides::{Override, SETTINGS, Setting};

/// Name of the node in credentials; the user's own example.
const NODE_ID: &str = "harbor_node_1";
/// Ports for services: outside Linux's ephemeral range (32768–60999) and Kubernetes' NodePorts (30000–32767).
const PORT_RANGE: (u16, u16) = (20_000, 29_999);
/// Lowest port a range may contain; those below need privileges and have names of their own.
pub(crate) const LOWEST_PORT: u16 = 1_024;
/// Where the state file lives.
const STATE_DIR: &str = "/var/lib/harbor";
/// File of the state within the state directory.
pub const STATE_FILE: &str = "harbor.redb";
/// The API: this machine only, because it has no TLS of its own.
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8700);
/// How long a released port rests. Clients that remember the old owner should have given up by then.
const QUARANTINE: Span = Span::secs(600);
/// How long a backend stays without a heartbeat: three missed ones at the agents' usual 10 s.
const TTL: Span = Span::secs(30);
/// How long `/readyz` says 503 before the node stops accepting, so that load balancers look elsewhere first.
const DRAIN_GRACE: Span = Span::secs(5);
/// How long running connections may go on after that.
const DRAIN_LIMIT: Span = Span::secs(20);
/// Most relay threads that can be asked for.
const MAX_THREADS: usize = 256;
/// Largest configuration file that is read.
const MAX_FILE: u64 = 1 << 20;

/// A node's configuration, checked, with every setting decided.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name of the node in credentials.
    pub node_id: NodeId,
    /// Internal IP address: what internal services listen on, and `host` in credentials.
    pub host: IpAddr,
    /// Internal host name; credentials show the IP where there is none.
    pub hostname: Option<HostName>,
    /// Public access; `None`: no service can be public.
    pub public: Option<Public>,
    /// Ports for services.
    pub port_range: PortRanges,
    /// Directory of the state file, made (0700) if it is missing.
    pub state_dir: PathBuf,
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where the admin's bearer token comes from.
    pub token: TokenSource,
    /// How long a released port rests.
    pub quarantine: Span,
    /// How long a backend stays without a heartbeat.
    pub ttl: Span,
    /// Networks backends may live in.
    pub backend_networks: BackendNetworks,
    /// Relay threads.
    pub threads: NonZeroUsize,
    /// Limits of TCP connections.
    pub tcp: harbor_tcp::Limits,
    /// Limits of UDP sessions.
    pub udp: harbor_udp::Limits,
    /// UDP sessions of all services at once; `None`: 70 % of the files the process may open, since each has a socket.
    pub udp_sessions: Option<NonZeroUsize>,
    /// How the node stops.
    pub drain: Drain,
    /// How it logs; used by the program, not by [`Node`](crate::Node).
    pub log: LogConfig,
}

/// How a node is reached from outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Public {
    /// Public IP address, as told to apps.
    pub ext_host: IpAddr,
    /// Public host name; credentials repeat the IP where there is none.
    pub ext_hostname: Option<HostName>,
    /// Addresses public services listen on.
    pub listen: Vec<IpAddr>,
}

/// How a node stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Drain {
    /// How long it says that it is not ready while it still accepts.
    pub grace: Span,
    /// How long running connections may go on afterwards. Also the limit when a single service is deleted.
    pub limit: Span,
}

/// How a node logs, always on stderr.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogConfig {
    /// Text or JSON.
    pub format: LogFormat,
    /// Filter: a level, or `target=level` pairs separated by commas.
    pub level: String,
}

/// Shape of the log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// A configuration that was read, and what is odd about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: NodeConfig,
    /// Things that do not stop the node, in words.
    pub warnings: Vec<String>,
}

/// Why a configuration cannot be used. The program exits with 78.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}; give an existing, readable file with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML, has an unknown key, or a value of the wrong shape.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A variable or flag has a wrong value or an unknown key.
    #[error("{name}: {message}")]
    Override {
        /// The variable or flag.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A setting is missing, or does not go together with another one.
    #[error("{origin}: {key}: {message}")]
    Setting {
        /// The variable or flag that gave the value, the place in the file, or the file where the setting is missing;
        /// `configuration` where there is no file.
        origin: String,
        /// The setting.
        key: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

impl NodeConfig {
    /// Reads the file (if any), lays the `HARBOR_*` variables over it and the flags over both.
    ///
    /// # Errors
    /// [`ConfigError`], naming the place and what to do.
    pub fn load(
        file: Option<&Path>,
        vars: &BTreeMap<String, String>,
        flags: &[Override],
    ) -> Result<Loaded, ConfigError> {
        let text = match file {
            Some(path) => read(path)?,
            None => String::new(),
        };
        let path = file.unwrap_or(Path::new("configuration"));
        let mut table = raw::table(&text, path)?;
        let (from_vars, mut warnings) = overrides::from_vars(vars);
        for value in from_vars.iter().chain(flags) {
            overrides::lay(&mut table, value)?;
        }
        let token = vars.get("HARBOR_TOKEN").map(|text| Token::parse(text)).transpose();
        let token =
            token.map_err(|error| ConfigError::Override { name: "HARBOR_TOKEN".into(), message: error.to_string() })?;
        let overrides: Vec<&Override> = from_vars.iter().chain(flags).collect();
        let config = raw::RawNode::from_table(table, path)?
            .decide(&path.display().to_string(), token)
            .map_err(|error| located(error, &text, path, &overrides))?;
        if config
            .public
            .as_ref()
            .is_some_and(|public| public.listen.iter().any(|ip| !ip.is_unspecified() && ip.is_loopback()))
        {
            warnings.push(
                "public.listen has a loopback address: public services would be reachable from this machine only"
                    .into(),
            );
        }
        Ok(Loaded { config, warnings })
    }

    /// A node on 127.0.0.1 with backends on loopback allowed and an API port of the system's choice: for `dev` and tests.
    #[must_use]
    pub fn loopback(state_dir: PathBuf, port_range: PortRanges, token: Token) -> Self {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            node_id: default_node_id(),
            host,
            hostname: None,
            public: None,
            port_range,
            state_dir,
            api: SocketAddr::new(host, 0),
            token: TokenSource::Given(token),
            quarantine: QUARANTINE,
            ttl: TTL,
            backend_networks: BackendNetworks::private_and_loopback(),
            threads: default_threads(),
            tcp: harbor_tcp::Limits::default(),
            udp: harbor_udp::Limits::default(),
            udp_sessions: None,
            drain: Drain { grace: DRAIN_GRACE, limit: DRAIN_LIMIT },
            log: LogConfig { format: LogFormat::Auto, level: "info".into() },
        }
    }

    /// Settings that differ in `new` and that only a restart can change.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<&'static str> {
        [
            ("node_id", self.node_id != new.node_id),
            ("host", self.host != new.host),
            ("hostname", self.hostname != new.hostname),
            ("public", self.public != new.public),
            ("port_range", self.port_range != new.port_range),
            ("state_dir", self.state_dir != new.state_dir),
            ("api", self.api != new.api),
            ("quarantine", self.quarantine != new.quarantine),
            ("ttl", self.ttl != new.ttl),
            ("backend_networks", self.backend_networks != new.backend_networks),
            ("threads", self.threads != new.threads),
            ("tcp", self.tcp != new.tcp),
            ("udp", (&self.udp, self.udp_sessions) != (&new.udp, new.udp_sessions)),
            ("drain", self.drain != new.drain),
            ("log.format", self.log.format != new.log.format),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }

    /// The state file.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.state_dir.join(STATE_FILE)
    }
}

/// The error with the place its value came from.
fn located(error: ConfigError, text: &str, path: &Path, overrides: &[&Override]) -> ConfigError {
    let ConfigError::Setting { origin, key, message } = error else { return error };
    let over = overrides.iter().rfind(|over| over.key == key);
    let origin = match (over, raw::place(text, key)) {
        (Some(over), _) => over.name.clone(),
        (None, Some((line, column))) => format!("{}:{line}:{column}", path.display()),
        (None, None) => origin,
    };
    ConfigError::Setting { origin, key, message }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let wrong = |source| ConfigError::Read { path: path.into(), source };
    let length = std::fs::metadata(path).map_err(wrong)?.len();
    if length > MAX_FILE {
        return Err(wrong(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB")));
    }
    std::fs::read_to_string(path).map_err(wrong)
}

fn default_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The constant [`NODE_ID`], parsed.
fn default_node_id() -> NodeId {
    let Ok(id) = NodeId::parse(NODE_ID) else { unreachable!("a constant name, parsed by a test") };
    id
}

/// The constant [`PORT_RANGE`], parsed.
fn default_ranges() -> PortRanges {
    let (first, last) = PORT_RANGE;
    let range = Port::new(first).and_then(|first| Ok((first, Port::new(last)?))).map(|(a, b)| PortRange::new(a, b));
    let Ok(Ok(range)) = range else { unreachable!("a constant range, parsed by a test") };
    range.into()
}
