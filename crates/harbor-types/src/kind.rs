//! What kind of service a name asks for: the prefix and suffix rules, and the explicit words that win over them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Protocols, ServiceName};

/// Prefixes that ask for something else than TCP, and what they ask for.
const PREFIXES: [(&str, Protocols); 3] =
    [("udp", Protocols::Udp), ("both", Protocols::Both), ("multi-", Protocols::Both)];
/// Suffix that asks for HTTPS.
const HTTPS: &str = "https";

/// Protocols of a service's external port, and whether the container proxy terminates TLS on the TCP side.
///
/// # Source
/// The user's document, "Setting the Port Protocols" and "HTTPS Container Proxy". Both tests are plain and
/// case-sensitive; no hyphen is required. `multi-` is the historic service's other spelling of `both`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceKind {
    /// External sockets.
    pub protocols: Protocols,
    /// TLS is terminated in the application's container.
    pub https: bool,
}

/// A kind that cannot be provided.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// HTTPS was asked for on a UDP-only service.
    #[error(
        "a UDP service cannot terminate HTTPS, which runs over TCP: take a name that starts with 'both', \
         or give protocol (tcp or both) or https: false explicitly"
    )]
    UdpHttps,
}

impl ServiceKind {
    /// TCP only.
    pub const TCP: Self = Self { protocols: Protocols::Tcp, https: false };
    /// UDP only.
    pub const UDP: Self = Self { protocols: Protocols::Udp, https: false };
    /// TCP and UDP on one number.
    pub const BOTH: Self = Self { protocols: Protocols::Both, https: false };
    /// TCP with TLS terminated in the container.
    pub const TCP_HTTPS: Self = Self { protocols: Protocols::Tcp, https: true };
    /// TCP with TLS terminated in the container, and UDP straight to the app.
    pub const BOTH_HTTPS: Self = Self { protocols: Protocols::Both, https: true };

    /// What the name alone says. `udp…https` comes back as said; [`decide`](Self::decide) refuses it.
    #[must_use]
    pub fn of(name: &ServiceName) -> Self {
        let name = name.as_str();
        let protocols =
            PREFIXES.into_iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, protocols)| protocols);
        Self { protocols: protocols.unwrap_or(Protocols::Tcp), https: name.ends_with(HTTPS) }
    }

    /// The kind by name, with explicit parameters winning over it.
    ///
    /// # Errors
    /// [`KindError::UdpHttps`] when the result would be HTTPS over UDP alone.
    pub fn decide(name: &ServiceName, protocols: Option<Protocols>, https: Option<bool>) -> Result<Self, KindError> {
        let said = Self::of(name);
        let kind = Self { protocols: protocols.unwrap_or(said.protocols), https: https.unwrap_or(said.https) };
        if kind.protocols == Protocols::Udp && kind.https {
            return Err(KindError::UdpHttps);
        }
        Ok(kind)
    }
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", self.protocols, if self.https { "+https" } else { "" }))
    }
}

/// A name whose reading may surprise its owner; printed when a service is created and by `check`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NameHint {
    /// A prefix matched inside a longer word, as in `udpate-port`.
    PrefixInsideWord {
        /// The prefix that matched.
        prefix: &'static str,
        /// What it asked for.
        protocols: Protocols,
    },
    /// `https` stands in the name, but not at its end, as in `harbor-https-custom-1`.
    HttpsNotAtEnd,
}

impl NameHint {
    /// The hints for `name`; none for most names.
    #[must_use]
    pub fn of(name: &ServiceName) -> Vec<Self> {
        let name = name.as_str();
        let mut hints = Vec::new();
        for (prefix, protocols) in PREFIXES {
            let rest = name.strip_prefix(prefix).unwrap_or_default();
            if !prefix.ends_with('-')
                && rest.starts_with(|c: char| c.is_ascii_alphabetic())
                && !rest.eq_ignore_ascii_case(HTTPS)
            {
                hints.push(Self::PrefixInsideWord { prefix, protocols });
            }
        }
        if name.contains(HTTPS) && !name.ends_with(HTTPS) {
            hints.push(Self::HttpsNotAtEnd);
        }
        hints
    }
}

impl fmt::Display for NameHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrefixInsideWord { prefix, protocols } => write!(
                f,
                "the name starts with '{prefix}', so the service is {protocols}; if that is only the start of a longer \
                 word, give the protocol explicitly"
            ),
            Self::HttpsNotAtEnd => f.write_str(
                "the name contains 'https' but does not end in it, so TLS is not terminated for the app; \
                 give https: true if it should be",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_the_kind() {
        for (name, want) in [
            ("debug-port", ServiceKind::TCP),
            ("udp-debug-port", ServiceKind::UDP),
            ("udpate-port", ServiceKind::UDP),
            ("both-dns", ServiceKind::BOTH),
            ("multi-dns", ServiceKind::BOTH),
            ("multidns", ServiceKind::TCP),
            ("UDP-port", ServiceKind::TCP),
            ("custom-cert-https", ServiceKind::TCP_HTTPS),
            ("both-web-https", ServiceKind::BOTH_HTTPS),
            ("bothhttps", ServiceKind::BOTH_HTTPS),
            ("harbor-https-custom-1", ServiceKind::TCP),
            ("web-HTTPS", ServiceKind::TCP),
        ] {
            assert_eq!(ServiceKind::decide(&name.parse().unwrap(), None, None), Ok(want), "{name}");
        }
    }

    #[test]
    fn explicit_parameters_win_over_the_name() {
        let name = "udp-web-https".parse().unwrap();
        for (protocols, https, want) in [
            (None, None, Err(KindError::UdpHttps)),
            (Some(Protocols::Tcp), None, Ok(ServiceKind::TCP_HTTPS)),
            (Some(Protocols::Both), None, Ok(ServiceKind::BOTH_HTTPS)),
            (None, Some(false), Ok(ServiceKind::UDP)),
            (Some(Protocols::Udp), Some(true), Err(KindError::UdpHttps)),
        ] {
            assert_eq!(ServiceKind::decide(&name, protocols, https), want, "{protocols:?} {https:?}");
        }
    }

    #[test]
    fn surprising_names_get_a_hint() {
        for (name, hints) in [
            ("udpate-port", 1),
            ("bothersome", 1),
            ("harbor-https-custom-1", 1),
            ("udpx-https-1", 2),
            ("udp-port", 0),
            ("udp1", 0),
            ("both.dns", 0),
            ("multi-dns", 0),
            ("web-https", 0),
            ("bothhttps", 0),
        ] {
            assert_eq!(NameHint::of(&name.parse().unwrap()).len(), hints, "{name}");
        }
    }
}
