//! The strict shape of the configuration file, and how it becomes a checked [`NodeConfig`].
//!
//! Unknown keys and wrong values are errors with line and column. Opens no file.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use harbor_types::{BackendNetworks, HostName, NodeId, Port, PortRange, PortRanges, Span};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table};

use super::{
    API, ConfigError, DRAIN_GRACE, DRAIN_LIMIT, Drain, LOWEST_PORT, LogConfig, LogFormat, MAX_THREADS, NodeConfig,
    Public, QUARANTINE, STATE_DIR, TTL, default_node_id, default_ranges, default_threads,
};
use crate::token::{Token, TokenSource};

/// The file. Every key may be absent; what must be given is decided later, when variables and flags are known too.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNode {
    node_id: Option<NodeId>,
    host: Option<Ip>,
    hostname: Option<HostName>,
    public: Option<RawPublic>,
    port_range: Option<Ranges>,
    state_dir: Option<PathBuf>,
    api: Option<Addr>,
    api_insecure: bool,
    token_file: Option<PathBuf>,
    quarantine: Option<Span>,
    ttl: Option<Span>,
    backend_networks: Option<Vec<IpNet>>,
    threads: Option<NonZeroUsize>,
    tcp: RawTcp,
    udp: RawUdp,
    drain: RawDrain,
    log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPublic {
    ext_host: Option<Ip>,
    ext_hostname: Option<HostName>,
    listen: Option<Vec<Ip>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTcp {
    connect: Option<Span>,
    tries: Option<NonZeroU32>,
    idle: Option<Limit>,
    half_closed: Option<Span>,
    keepalive: Option<Limit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawUdp {
    idle: Option<Span>,
    max_sessions: Option<NonZeroUsize>,
    max_sessions_per_source: Option<NonZeroUsize>,
    max_sessions_node: Option<NonZeroUsize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDrain {
    grace: Option<Span>,
    limit: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLog {
    format: Option<LogFormat>,
    level: Option<String>,
}

/// A length of time, or `off`.
#[derive(Debug)]
struct Limit(Option<Span>);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "off" => Ok(Self(None)),
            text => text
                .parse()
                .map(|span| Self(Some(span)))
                .map_err(|error| de::Error::custom(format!("{error}, or \"off\""))),
        }
    }
}

/// An IP address, IPv6 also in brackets.
#[derive(Debug)]
struct Ip(IpAddr);

impl<'de> Deserialize<'de> for Ip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
        bare.parse().map(Self).map_err(|_| {
            de::Error::custom(format!("{text:?} is not an IP address; write it like 10.0.0.5, 0.0.0.0 or [::]"))
        })
    }
}

/// An IP address and a port.
#[derive(Debug)]
struct Addr(SocketAddr);

impl<'de> Deserialize<'de> for Addr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            de::Error::custom(format!("{text:?} is not an IP address and a port; write it like {API} or [::1]:8700"))
        })
    }
}

/// Ranges of ports: one text, or a list of texts.
#[derive(Debug)]
struct Ranges(PortRanges);

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrList;
        impl<'de> Visitor<'de> for TextOrList {
            type Value = Ranges;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a range like \"20000-29999\" or a list of such ranges")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Ranges, E> {
                text.parse().map(Ranges).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ranges, A::Error> {
                let mut ranges = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    ranges.push(text.parse::<PortRange>().map_err(de::Error::custom)?);
                }
                PortRanges::new(ranges).map(Ranges).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(TextOrList)
    }
}

/// Reads `text` strictly and gives it back as a table, for variables and flags to be laid over it.
pub(super) fn table(text: &str, path: &Path) -> Result<Table, ConfigError> {
    let read = toml::from_str::<RawNode>(text).and_then(|_| toml::from_str::<Table>(text));
    read.map_err(|error| {
        let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
        ConfigError::Syntax { path: path.into(), line, column, message: error.message().trim().to_owned() }
    })
}

/// Where the value of `key` stands in `text`, as line and column; `None` when it does not.
pub(super) fn place(text: &str, key: &str) -> Option<(usize, usize)> {
    let table = DeTable::parse(text).ok()?;
    let (block, name) = key.split_once('.').map_or((None, key), |(block, name)| (Some(block), name));
    let block = match block {
        Some(block) => value_of(table.get_ref(), block)?.get_ref().as_table()?,
        None => table.get_ref(),
    };
    Some(line_and_column(text, value_of(block, name)?.span().start))
}

fn value_of<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
}

/// Both from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

impl RawNode {
    /// Reads a table that has no file.
    pub(super) fn of_table(table: Table) -> Result<Self, String> {
        Self::deserialize(table).map_err(|error: toml::de::Error| error.message().trim().to_owned())
    }

    /// Reads a table whose parts were all read before.
    pub(super) fn from_table(table: Table, path: &Path) -> Result<Self, ConfigError> {
        Self::of_table(table).map_err(|message| ConfigError::Syntax { path: path.into(), line: 1, column: 1, message })
    }

    /// Decides every setting.
    pub(super) fn decide(self, origin: &str, token: Option<Token>) -> Result<NodeConfig, ConfigError> {
        let wrong = |key: &'static str, message: String| ConfigError::Setting { origin: origin.into(), key, message };
        let Some(Ip(host)) = self.host else {
            return Err(wrong(
                "host",
                "not given; set the internal IP address of this node, like host = \"10.0.0.5\"".into(),
            ));
        };
        if host.is_unspecified() || host.is_multicast() {
            return Err(wrong(
                "host",
                format!("{host} is not an address of this node; give the one other machines reach it by"),
            ));
        }
        let port_range = self.port_range.map_or_else(default_ranges, |ranges| ranges.0);
        if let Some(low) = port_range.ranges().iter().find(|range| range.first().get() < LOWEST_PORT) {
            return Err(wrong(
                "port_range",
                format!("{low} begins below {LOWEST_PORT}; take ports from {LOWEST_PORT} to 65535"),
            ));
        }
        let api = self.api.map_or(API, |api| api.0);
        if !api.ip().is_loopback() && !self.api_insecure {
            return Err(wrong(
                "api",
                format!(
                    "{api} is not a loopback address, and the API has no TLS of its own: tokens would cross the network \
                     in the clear; put a TLS proxy in front of a loopback address, or set api_insecure = true"
                ),
            ));
        }
        if Port::new(api.port()).is_ok_and(|port| port_range.contains(port)) {
            return Err(wrong("api", format!("port {} lies in port_range {port_range}; move one of them", api.port())));
        }
        let ttl = self.ttl.unwrap_or(TTL);
        if !(Span::secs(1)..=Span::secs(86_400)).contains(&ttl) {
            return Err(wrong("ttl", format!("{ttl} is not possible; give 1s to 24h")));
        }
        let threads = self.threads.unwrap_or_else(default_threads);
        if threads.get() > MAX_THREADS {
            return Err(wrong("threads", format!("{threads} is above {MAX_THREADS}; leave it out to have one a core")));
        }
        let token = match (token, self.token_file) {
            (Some(token), _) => TokenSource::Given(token),
            (None, Some(file)) => TokenSource::File(file),
            (None, None) => {
                return Err(wrong(
                    "token_file",
                    "not given; name a file (mode 0600) that holds the admin's token of 16 or more characters, for \
                     example from `openssl rand -hex 32`, or set HARBOR_TOKEN"
                        .into(),
                ));
            }
        };
        let public =
            self.public.map(|public| public.decide()).transpose().map_err(|(key, message)| wrong(key, message))?;
        let level = self.log.level.unwrap_or_else(|| "info".into());
        crate::logging::targets(&level).map_err(|message| wrong("log.level", message))?;
        Ok(NodeConfig {
            node_id: self.node_id.unwrap_or_else(default_node_id),
            host,
            hostname: self.hostname,
            public,
            port_range,
            state_dir: self.state_dir.unwrap_or_else(|| STATE_DIR.into()),
            api,
            token,
            quarantine: self.quarantine.unwrap_or(QUARANTINE),
            ttl,
            backend_networks: self.backend_networks.map_or_else(BackendNetworks::private, BackendNetworks::new),
            threads,
            tcp: self.tcp.decide(),
            udp_sessions: self.udp.max_sessions_node,
            udp: self.udp.decide(),
            drain: Drain {
                grace: self.drain.grace.unwrap_or(DRAIN_GRACE),
                limit: self.drain.limit.unwrap_or(DRAIN_LIMIT),
            },
            log: LogConfig { format: self.log.format.unwrap_or_default(), level },
        })
    }
}

impl RawTcp {
    fn decide(self) -> harbor_tcp::Limits {
        let usual = harbor_tcp::Limits::default();
        harbor_tcp::Limits {
            connect: self.connect.unwrap_or(usual.connect),
            tries: self.tries.map_or(usual.tries, NonZeroU32::get),
            idle: self.idle.map_or(usual.idle, |limit| limit.0),
            half_closed: self.half_closed.unwrap_or(usual.half_closed),
            keepalive: self.keepalive.map_or(usual.keepalive, |limit| limit.0),
        }
    }
}

impl RawUdp {
    fn decide(self) -> harbor_udp::Limits {
        let usual = harbor_udp::Limits::default();
        harbor_udp::Limits {
            idle: self.idle.unwrap_or(usual.idle),
            sessions: self.max_sessions.map_or(usual.sessions, NonZeroUsize::get),
            per_source: self.max_sessions_per_source.map_or(usual.per_source, NonZeroUsize::get),
            ..usual
        }
    }
}

impl RawPublic {
    fn decide(self) -> Result<Public, (&'static str, String)> {
        let Some(Ip(ext_host)) = self.ext_host else {
            return Err(("public.ext_host", "not given; public access needs the node's public IP address".into()));
        };
        if ext_host.is_unspecified() || ext_host.is_multicast() {
            return Err(("public.ext_host", format!("{ext_host} is not an address clients can reach")));
        }
        let mut listen: Vec<IpAddr> = match self.listen {
            Some(ips) => ips.into_iter().map(|ip| ip.0).collect(),
            None => vec![IpAddr::from([0, 0, 0, 0])],
        };
        if listen.is_empty() {
            return Err(("public.listen", "empty; name addresses, or leave it out for 0.0.0.0".into()));
        }
        let count = listen.len();
        listen.sort();
        listen.dedup();
        if listen.len() < count {
            return Err(("public.listen", "an address is named twice".into()));
        }
        for wild in listen.iter().filter(|ip| ip.is_unspecified()) {
            if let Some(also) = listen.iter().find(|ip| *ip != wild && ip.is_ipv4() == wild.is_ipv4()) {
                return Err(("public.listen", format!("{wild} contains {also} already; name one of them")));
            }
        }
        Ok(Public { ext_host, ext_hostname: self.ext_hostname, listen })
    }
}
