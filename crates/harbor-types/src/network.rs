//! Which addresses a backend may have: literals inside the node's allowed networks, and never the forbidden ones.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Networks backends may live in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct BackendNetworks(Vec<IpNet>);

/// Why an address cannot be a backend's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Never allowed, whatever the configuration says.
    #[error("{addr} cannot be a backend: it is {what}")]
    Forbidden {
        /// The address.
        addr: SocketAddr,
        /// What kind of address it is.
        what: &'static str,
    },
    /// Outside the configured networks.
    #[error(
        "{addr} is outside the networks backends may live in ({allowed}); the operator can allow it with backend_networks"
    )]
    Outside {
        /// The address.
        addr: SocketAddr,
        /// The configured networks.
        allowed: String,
    },
}

/// The private ranges of RFC 1918, the shared range of RFC 6598 and the unique local range of RFC 4193.
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Metadata services of clouds outside the link-local range.
const METADATA: [[u8; 4]; 3] = [[100, 100, 100, 200], [192, 0, 0, 192], [168, 63, 129, 16]];

impl BackendNetworks {
    /// These networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The private ranges: the default of a node.
    #[must_use]
    pub fn private() -> Self {
        Self(PRIVATE.iter().filter_map(|net| net.parse().ok()).collect())
    }

    /// The private ranges and loopback: what `harbor-node dev` uses.
    #[must_use]
    pub fn private_and_loopback() -> Self {
        Self(PRIVATE.iter().chain(&LOOPBACK).filter_map(|net| net.parse().ok()).collect())
    }

    /// Checks a backend's address.
    ///
    /// # Errors
    /// [`AddressError`]: link-local (with it the clouds' metadata addresses), multicast, broadcast, unspecified,
    /// IPv4-mapped IPv6 and port 0 are refused always, others when outside the networks.
    pub fn check(&self, addr: SocketAddr) -> Result<(), AddressError> {
        if let Some(what) = forbidden(addr) {
            return Err(AddressError::Forbidden { addr, what });
        }
        if self.0.iter().any(|net| net.contains(&addr.ip())) {
            return Ok(());
        }
        let allowed = self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(AddressError::Outside { addr, allowed })
    }
}

fn forbidden(addr: SocketAddr) -> Option<&'static str> {
    if addr.port() == 0 {
        return Some("without a port");
    }
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() || ip.octets()[0] == 0 => Some("unspecified"),
        IpAddr::V4(ip) if ip.is_link_local() => Some("link-local (cloud metadata lives there)"),
        IpAddr::V4(ip) if ip.is_multicast() => Some("multicast"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("broadcast"),
        // Alibaba's lies in the shared range, Oracle's in a protocol block, Azure's is a public one.
        IpAddr::V4(ip) if METADATA.contains(&ip.octets()) => Some("a cloud metadata address"),
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) if ip.is_unspecified() => Some("unspecified"),
        IpAddr::V6(ip) if ip.is_multicast() => Some("multicast"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6 clothes; give it as IPv4"),
        // AWS's and Google's: unique local, but never an application.
        IpAddr::V6(ip)
            if matches!(
                ip.segments(),
                [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
            ) =>
        {
            Some("a cloud metadata address")
        }
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_addresses() {
        let private = BackendNetworks::private();
        for (addr, allowed) in [
            ("10.0.0.5:4100", true),
            ("172.31.255.255:1", true),
            ("192.168.68.111:4100", true),
            ("[fd12::1]:4100", true),
            ("172.32.0.1:1", false),
            ("127.0.0.1:4100", false),
            ("8.8.8.8:53", false),
            ("10.0.0.5:0", false),
            ("169.254.169.254:80", false),
            ("[fe80::1]:80", false),
            ("[fd00:ec2::254]:80", false),
            ("[fd20:ce::254]:80", false),
            ("100.100.100.200:80", false),
            ("100.100.100.201:80", true),
            ("[::ffff:10.0.0.5]:80", false),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("224.0.0.1:80", false),
            ("255.255.255.255:80", false),
        ] {
            assert_eq!(private.check(addr.parse().unwrap()).is_ok(), allowed, "{addr}");
        }
        assert!(BackendNetworks::private_and_loopback().check("127.0.0.1:4100".parse().unwrap()).is_ok());
        let all = BackendNetworks::new(vec!["0.0.0.0/0".parse().unwrap()]);
        assert!(all.check("169.254.169.254:80".parse().unwrap()).is_err(), "the forbidden stay forbidden");
    }
}
