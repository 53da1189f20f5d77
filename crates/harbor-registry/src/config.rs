//! What a registry must know about its node: checked values, every default a documented constant.

use std::net::{IpAddr, SocketAddr};

use harbor_types::{BackendNetworks, HostName, NodeId, Port, PortRanges, Span};

/// Rest of a released port. Ten minutes outlive the caches and reconnecting clients of the holder before.
pub const QUARANTINE: Span = Span::secs(600);
/// Time for which a port that another process held is not tried again.
pub const SET_ASIDE: Span = Span::secs(60);
/// Time to live of a registration: three heartbeats of the default interval (10 s).
pub const TTL: Span = Span::secs(30);
/// Calls that may wait for one service; 64 parallel orders for one id fit with room to spare.
pub const MAX_WAITING: usize = 256;
/// Shortest time to live a registration may ask for.
pub const SHORTEST_TTL: Span = Span::secs(1);
/// Longest time to live a registration may ask for.
pub const LONGEST_TTL: Span = Span::secs(86_400);

/// Container ports are given out from here.
///
/// # Source
/// The user's document: the example's `int_port`.
#[must_use]
pub fn first_int_port() -> Port {
    Port::new(4100).unwrap_or_else(|_| unreachable!("4100 is not 0"))
}

/// How the outside reaches public services.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicAddress {
    /// Public IP.
    pub ext_host: IpAddr,
    /// Public name, if there is one.
    pub ext_hostname: Option<HostName>,
}

/// What a registry must know about its node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The node.
    pub node_id: NodeId,
    /// Internal IP.
    pub host: IpAddr,
    /// Internal name, if there is one.
    pub hostname: Option<HostName>,
    /// Public address; `None`: services can not be public.
    pub public: Option<PublicAddress>,
    /// Ports that may be leased.
    pub ranges: PortRanges,
    /// Lowest container port that is given out ([`first_int_port`]).
    pub first_int_port: Port,
    /// Rest of a released port ([`QUARANTINE`]); zero: it is free as soon as its sockets are closed.
    pub quarantine: Span,
    /// Time for which a port that others held is not tried again ([`SET_ASIDE`]).
    pub set_aside: Span,
    /// Time to live of registrations that name none ([`TTL`]).
    pub ttl: Span,
    /// Where backends may live.
    pub networks: BackendNetworks,
    /// Listeners of the node itself that are no services (its API): never a backend's address.
    pub own_addrs: Vec<SocketAddr>,
    /// Every address of this machine, as far as it is known: what a listener on all addresses is reached by.
    pub own_ips: Vec<IpAddr>,
    /// Calls that may wait for one service ([`MAX_WAITING`]).
    pub max_waiting: usize,
}

impl Config {
    /// A node with these names and ports, and the default of everything else: no public access, private networks.
    #[must_use]
    pub fn new(node_id: NodeId, host: IpAddr, ranges: PortRanges) -> Self {
        Self {
            node_id,
            host,
            hostname: None,
            public: None,
            ranges,
            first_int_port: first_int_port(),
            quarantine: QUARANTINE,
            set_aside: SET_ASIDE,
            ttl: TTL,
            networks: BackendNetworks::private(),
            own_addrs: Vec::new(),
            own_ips: Vec::new(),
            max_waiting: MAX_WAITING,
        }
    }
}
