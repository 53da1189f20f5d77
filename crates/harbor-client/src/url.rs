//! Where a node's API is: the checked form of `http://HOST[:PORT]`. Called with what people type; resolves nothing.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use harbor_types::{Host, HostName, Port};

/// Port of a URL that names none, as everywhere in HTTP.
const HTTP_PORT: u16 = 80;

/// Address of a node's API: `http://HOST` or `http://HOST:PORT`, a slash at the end allowed, no path, no user.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct NodeUrl {
    host: Host,
    port: u16,
}

/// Why a text is no [`NodeUrl`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// TLS is not spoken yet.
    #[error(
        "{text:?}: https is not supported yet; give http://HOST:PORT, through a tunnel or a private network if the node \
         is on another machine"
    )]
    Https {
        /// The text, cut after 80 characters.
        text: String,
    },
    /// Anything else.
    #[error("{text:?} is not the address of a node ({reason}); write it like http://127.0.0.1:8700")]
    Syntax {
        /// The text, cut after 80 characters; empty when it might contain a password.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
}

impl NodeUrl {
    /// The host as a resolver takes it: an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// The port, 80 when none was given.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT`, as the `Host` header has it.
    pub(crate) fn authority(&self) -> String {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

impl FromStr for NodeUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let shown = || text.chars().take(80).collect::<String>();
        let wrong = |reason| UrlError::Syntax { text: shown(), reason };
        if text.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) && !text.contains('@') {
            return Err(UrlError::Https { text: shown() });
        }
        // What stands before an '@' is a password more often than not: it is not repeated.
        if text.contains('@') {
            return Err(UrlError::Syntax { text: String::new(), reason: "user and password do not belong into it" });
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Err(wrong("it does not start with http://")) };
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(wrong("it does not start with http://"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("it has a path or a query"));
        }
        let (host, port) = split_port(rest).ok_or_else(|| wrong("its brackets do not match"))?;
        let port = match port {
            None => HTTP_PORT,
            Some(port) => port.parse::<Port>().map_err(|_| wrong("its port is not a number from 1 to 65535"))?.get(),
        };
        let host = read_host(host).ok_or_else(|| wrong("its host is neither a name nor an IP address"))?;
        Ok(Self { host, port })
    }
}

/// Splits `HOST[:PORT]`; `None` when a bracket is not closed or something else than a port follows it.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if !text.starts_with('[') {
        return Some(text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))));
    }
    let (host, rest) = text.split_at(text.find(']')? + 1);
    if rest.is_empty() { Some((host, None)) } else { rest.strip_prefix(':').map(|port| (host, Some(port))) }
}

fn read_host(text: &str) -> Option<Host> {
    if let Some(inner) = text.strip_prefix('[') {
        return inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(ip.into()));
    }
    text.parse().map(Host::Ip).or_else(|_| text.parse::<HostName>().map(Host::Name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_checked() {
        for (text, want) in [
            ("http://127.0.0.1:8700", Ok("http://127.0.0.1:8700")),
            ("http://127.0.0.1:8700/", Ok("http://127.0.0.1:8700")),
            ("HTTP://node.example.com", Ok("http://node.example.com:80")),
            ("http://[::1]:8700", Ok("http://[::1]:8700")),
            ("http://[fd12::1]", Ok("http://[fd12::1]:80")),
            ("https://127.0.0.1:8700", Err("https is not supported yet")),
            ("127.0.0.1:8700", Err("does not start with http://")),
            ("ftp://node", Err("does not start with http://")),
            ("http://node:8700/v1", Err("path or a query")),
            ("http://node:8700?x", Err("path or a query")),
            ("http://", Err("neither a name nor an IP address")),
            ("http://:8700", Err("neither a name nor an IP address")),
            ("http://a b:8700", Err("neither a name nor an IP address")),
            ("http://node\n:8700", Err("neither a name nor an IP address")),
            ("http://::1:8700", Err("its port is not a number")),
            ("http://[::1:8700", Err("brackets do not match")),
            ("http://[::1]8700", Err("brackets do not match")),
            ("http://[::1%eth0]:8700", Err("neither a name nor an IP address")),
            ("http://node:0", Err("its port is not a number")),
            ("http://node:70000", Err("its port is not a number")),
            ("http://node:", Err("its port is not a number")),
        ] {
            match (text.parse::<NodeUrl>(), want) {
                (Ok(url), Ok(want)) => assert_eq!(url.to_string(), want, "{text}"),
                (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{text}: {error}"),
                (got, want) => panic!("{text}: got {got:?}, want {want:?}"),
            }
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        for text in ["http://me:hunter2@node:8700", "https://me:hunter2@node", "hunter2@node"] {
            let error = text.parse::<NodeUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
