//! The pair that is served now: read by every handshake, replaced as a whole, so that no handshake sees half of each.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::pair::Pair;

/// Holds one [`Pair`]; hand it to [`server_config`](crate::server_config) and keep a clone to replace the pair.
#[derive(Debug)]
pub struct Current {
    pair: ArcSwap<Pair>,
}

impl Current {
    /// Serves `pair` until it is replaced.
    #[must_use]
    pub fn new(pair: Pair) -> Self {
        Self { pair: ArcSwap::from_pointee(pair) }
    }

    /// The pair that handshakes get now.
    #[must_use]
    pub fn load(&self) -> Arc<Pair> {
        self.pair.load_full()
    }

    /// Serves `pair` from now on. Connections that exist, and handshakes that have seen the old pair, go on with that.
    pub fn replace(&self, pair: Arc<Pair>) {
        self.pair.store(pair);
    }
}

impl ResolvesServerCert for Current {
    // One service, one certificate: the name that the client asks for changes nothing.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair.load().certified())
    }
}
