//! rustls settings of a server: versions, tickets, application protocols. Called once a listener; changes of the
//! certificate go through [`Current`] and leave it as it is.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::ServerConfig;
use rustls::version::{TLS12, TLS13};

use crate::current::Current;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An application protocol that cannot be sent.
    #[error("application protocol {index} has {len} bytes; it needs 1 to 255")]
    Protocol {
        /// Its place in the list, from 0.
        index: usize,
        /// Its length.
        len: usize,
    },
    /// The system gave no randomness for the ticket keys.
    #[error("make the keys of session tickets")]
    Tickets {
        /// What the TLS library says.
        #[source]
        source: rustls::Error,
    },
    /// The crypto library supports none of the versions: a build without what it needs.
    #[error("choose the TLS versions")]
    Versions {
        /// What the TLS library says.
        #[source]
        source: rustls::Error,
    },
}

/// Settings that serve the pair in `current`: TLS 1.2 and 1.3 with the cipher suites that rustls considers safe (forward
/// secret and authenticated), no early data, no client certificates.
///
/// `protocols`: what to offer by ALPN, preferred first, for example `[b"h2", b"http/1.1"]`; empty: ALPN is not used.
/// A client that asks only for others is turned away; one that does not use ALPN is served.
///
/// Sessions resume by tickets, whose keys are made here, kept in memory and changed every six hours; a ticket works for
/// up to twelve. They belong to these settings and not to the certificate: a client that resumes after a reload does so
/// without seeing the new certificate, until its ticket ends. To end all sessions at once, make new settings.
///
/// # Errors
/// [`ConfigError`] when a protocol name has no valid length, or the system has no randomness.
pub fn server_config(current: Arc<Current>, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, ConfigError> {
    if let Some((index, name)) = protocols.iter().enumerate().find(|(_, name)| !(1..=255).contains(&name.len())) {
        return Err(ConfigError::Protocol { index, len: name.len() });
    }
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|source| ConfigError::Versions { source })?
        .with_no_client_auth()
        .with_cert_resolver(current);
    config.ticketer = Ticketer::new().map_err(|source| ConfigError::Tickets { source })?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}
