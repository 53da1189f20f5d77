//! A certificate chain and its key, checked: they belong together, the leaf comes first, each is followed by its issuer.
//!
//! Built from [`PairBytes`] at start and at every change. Reads no file and no clock: whether it has expired is asked with
//! the time as an argument, and an expired pair is served all the same.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use harbor_types::WallTime;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, SignatureAlgorithm};
use sha2::{Digest, Sha256};

use crate::lookup::{Files, Origin, PairBytes, PairSource};
use crate::pem;
use crate::problem::{PairError, Problem};
use crate::x509::{self, Fields};

/// A SHA-256; printed in lower-case hex.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these parts, each with its length.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Of a certificate's encoding, as `openssl x509 -fingerprint -sha256` prints it (there in upper case with colons).
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is known about a pair without its secret: for logs, metrics and `check`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PairFacts {
    /// Which of the possible pairs it is.
    pub origin: Origin,
    /// The certificate file.
    pub certificate: PathBuf,
    /// The key file.
    pub key: PathBuf,
    /// Certificates in the chain, the leaf included.
    pub chain: usize,
    /// Kind of the key: `rsa`, `ecdsa` or `ed25519`.
    pub key_kind: &'static str,
    /// SHA-256 of the leaf certificate.
    pub fingerprint: Fingerprint,
    /// The leaf is valid from here on; dates before 1970 are 1970.
    pub not_before: WallTime,
    /// The leaf is valid until here, inclusive. In whole seconds, for export: [`expires_at`](Self::expires_at).
    pub not_after: WallTime,
}

/// Why clients may refuse a pair that is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// Its last moment has passed.
    Expired {
        /// That moment.
        since: WallTime,
    },
    /// Its first moment has not come; or the machine's clock is behind.
    NotYetValid {
        /// That moment.
        until: WallTime,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { since } => write!(f, "the certificate expired at {}", since.to_rfc3339()),
            Self::NotYetValid { until } => write!(f, "the certificate is not valid before {}", until.to_rfc3339()),
        }
    }
}

impl PairFacts {
    /// Last second of validity, in seconds since 1970-01-01 00:00 UTC.
    #[must_use]
    pub const fn expires_at(&self) -> u64 {
        self.not_after.as_millis() / 1_000
    }

    /// What is to be said about its dates at `now`. It is served whatever this says.
    #[must_use]
    pub fn warning(&self, now: WallTime) -> Option<Warning> {
        if now.as_millis() / 1_000 > self.expires_at() {
            return Some(Warning::Expired { since: self.not_after });
        }
        (now < self.not_before).then_some(Warning::NotYetValid { until: self.not_before })
    }
}

/// A pair that can be served.
#[derive(Debug)]
pub struct Pair {
    facts: PairFacts,
    bytes: Fingerprint,
    certified: Arc<CertifiedKey>,
}

impl Pair {
    /// Finds the pair of `source`, reads and checks it. Blocks as `files` does.
    ///
    /// # Errors
    /// [`PairError`]: every path that was looked at, and what is wrong with each.
    pub fn load(source: &PairSource, files: &impl Files) -> Result<Self, PairError> {
        Self::check(&source.look(files)?)
    }

    /// Checks what was read: both files hold what they should, the key is one that the crypto library takes and belongs to
    /// the first certificate, and every further certificate issued one before it (by name).
    ///
    /// # Errors
    /// [`PairError`] naming both files and what is wrong with each.
    pub fn check(bytes: &PairBytes) -> Result<Self, PairError> {
        let (chain, key) = match (certificates(&bytes.certificate_bytes), signing_key(&bytes.key_bytes)) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err(bytes.error(chain.err(), key.err())),
        };
        let (fields, certified) = together(chain, key, bytes).map_err(|problem| bytes.error(Some(problem), None))?;
        let facts = PairFacts {
            origin: bytes.origin,
            certificate: bytes.certificate.clone(),
            key: bytes.key.clone(),
            chain: certified.cert.len(),
            key_kind: match certified.key.algorithm() {
                SignatureAlgorithm::RSA => "rsa",
                SignatureAlgorithm::ECDSA => "ecdsa",
                SignatureAlgorithm::ED25519 => "ed25519",
                _ => "other",
            },
            fingerprint: fields.fingerprint,
            not_before: fields.not_before,
            not_after: fields.not_after,
        };
        Ok(Self { facts, bytes: bytes.fingerprint(), certified: Arc::new(certified) })
    }

    /// What is known about it.
    #[must_use]
    pub const fn facts(&self) -> &PairFacts {
        &self.facts
    }

    /// [`PairBytes::fingerprint`] of what it was built from.
    #[must_use]
    pub const fn bytes(&self) -> Fingerprint {
        self.bytes
    }

    /// For rustls.
    #[must_use]
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found = pem::blocks(bytes)?;
    if found.certificates.is_empty() {
        let key = found.encrypted || !found.keys.is_empty();
        return Err(if key { Problem::KeyInsteadOfCertificate } else { Problem::NoCertificate });
    }
    Ok(found.certificates)
}

fn signing_key(bytes: &[u8]) -> Result<Arc<dyn SigningKey>, Problem> {
    let mut found = pem::blocks(bytes)?;
    if found.encrypted {
        return Err(Problem::Encrypted);
    }
    let count = found.keys.len();
    match (found.keys.pop(), count) {
        (Some(key), 1) => supported(&key),
        (Some(_), count) => Err(Problem::SeveralKeys { count }),
        (None, _) if found.certificates.is_empty() => Err(Problem::NoKey),
        (None, _) => Err(Problem::CertificateInsteadOfKey),
    }
}

fn supported(key: &PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Problem> {
    // The library's own words tell its developers which parser failed, not the key's owner what to do.
    any_supported_type(key).map_err(|_| Problem::KeyUnsupported)
}

/// What is kept of the leaf.
struct Leaf {
    fingerprint: Fingerprint,
    not_before: WallTime,
    not_after: WallTime,
}

/// Joins the chain and the key, if they belong together.
fn together(
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
    bytes: &PairBytes,
) -> Result<(Leaf, CertifiedKey), Problem> {
    let fields = chain
        .iter()
        .zip(1..)
        .map(|(der, place)| x509::fields(der).map_err(|error| Problem::NotX509 { place, detail: error.to_string() }))
        .collect::<Result<Vec<_>, _>>()?;
    let public = key.public_key();
    let belongs = |fields: &Fields<'_>| public.as_ref().is_some_and(|public| public.as_ref() == fields.public_key);
    match fields.iter().position(belongs) {
        Some(0) => {}
        Some(index) => return Err(Problem::LeafNotFirst { place: index + 1 }),
        None => return Err(Problem::KeyMismatch { key: bytes.key.clone() }),
    }
    if let Some(place) = first_stranger(&fields) {
        return Err(Problem::ChainBroken { place });
    }
    let (Some(first), Some(der)) = (fields.first(), chain.first()) else { return Err(Problem::NoCertificate) };
    let leaf = Leaf {
        fingerprint: Fingerprint::of_certificate(der),
        not_before: first.not_before,
        not_after: first.not_after,
    };
    let certified = CertifiedKey::new(chain, key);
    // The library's own reading of the leaf; it refuses what its clients would, such as a certificate of version 1.
    match certified.keys_match() {
        Ok(()) => Ok((leaf, certified)),
        Err(Error::InconsistentKeys(_)) => Err(Problem::KeyMismatch { key: bytes.key.clone() }),
        Err(error) => Err(Problem::CertificateUnsupported { detail: error.to_string() }),
    }
}

/// Place of the first certificate, counted from 1, that issued none of those before it. Two issuers of one certificate are
/// fine: bundles carry cross-signed ones.
fn first_stranger(fields: &[Fields<'_>]) -> Option<usize> {
    let issued_one = |index: usize, issuer: &Fields<'_>| {
        fields.iter().take(index).any(|before| before.issuer == issuer.subject && before != issuer)
    };
    fields.iter().enumerate().skip(1).find(|(index, issuer)| !issued_one(*index, issuer)).map(|(index, _)| index + 1)
}
