//! What can be wrong with a certificate or key file, in words for the one who put it there. Decides nothing.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::lookup::MAX_FILE;

/// Why a file cannot be used. Each reads as the rest of a sentence that begins with the file's path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Neither a file nor a link of that name.
    #[error("is not there")]
    Missing,
    /// A symbolic link whose target is not there.
    #[error("is a link to something that is not there")]
    Dangling,
    /// The operating system would not open or read it.
    #[error("cannot be read")]
    NotReadable {
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// A symbolic link leads out of the folder that the file must stay in.
    #[error("leads to {}, outside {}", target.display(), fence.display())]
    Outside {
        /// Where it leads.
        target: PathBuf,
        /// What it must not leave.
        fence: PathBuf,
    },
    /// It was replaced while it was read, several times in a row.
    #[error("keeps changing while it is read")]
    Changing,
    /// Larger than [`MAX_FILE`].
    #[error("has {bytes} bytes or more; at most {MAX_FILE} are read")]
    TooLarge {
        /// Bytes found before reading stopped.
        bytes: u64,
    },
    /// No bytes at all.
    #[error("is empty")]
    Empty,
    /// Binary where PEM text is expected.
    #[error("is binary (DER or PKCS#12?); PEM text is expected, which begins with -----BEGIN")]
    Binary,
    /// Text without any PEM block.
    #[error("holds no PEM block; expected is one that begins with -----BEGIN")]
    NotPem,
    /// A PEM block that is cut short or damaged.
    #[error("is malformed or cut short: {detail}")]
    Malformed {
        /// What the parser met.
        detail: String,
    },
    /// The certificate file holds a key and no certificate.
    #[error("holds a private key and no certificate; are the .crt and .key files swapped?")]
    KeyInsteadOfCertificate,
    /// The key file holds a certificate and no key.
    #[error("holds a certificate and no private key; are the .crt and .key files swapped?")]
    CertificateInsteadOfKey,
    /// PEM blocks of other kinds only.
    #[error("holds no certificate")]
    NoCertificate,
    /// PEM blocks of other kinds only.
    #[error("holds no private key")]
    NoKey,
    /// The key needs a passphrase, and there is nobody to ask.
    #[error("holds an encrypted private key; store it without a passphrase (openssl pkey -in OLD -out NEW)")]
    Encrypted,
    /// More than one private key.
    #[error("holds {count} private keys; which one is meant is not clear")]
    SeveralKeys {
        /// How many.
        count: usize,
    },
    /// A key that the crypto library does not take.
    #[error(
        "holds a private key that is damaged or not supported (RSA of 2048 to 8192 bits, P-256, P-384, P-521, Ed25519)"
    )]
    KeyUnsupported,
    /// A certificate that is no X.509 structure.
    #[error("is malformed: certificate {place} is no X.509 certificate: {detail}")]
    NotX509 {
        /// Which, counted from 1.
        place: usize,
        /// What the parser met.
        detail: String,
    },
    /// A certificate that is well-formed, but not one that TLS clients accept.
    #[error("holds a certificate that is not supported: {detail}")]
    CertificateUnsupported {
        /// What the TLS library says.
        detail: String,
    },
    /// The key of the pair is another one.
    #[error("does not match the private key in {}", key.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate that belongs to the key is not the first.
    #[error("is in the wrong order: certificate {place} belongs to the key; put it first, then the one that issued it")]
    LeafNotFirst {
        /// Where it stands, counted from 1.
        place: usize,
    },
    /// A certificate that issued none before it.
    #[error(
        "is in the wrong order: certificate {place} issued none before it; \
         each must be followed by its issuer, and no other may be there"
    )]
    ChainBroken {
        /// Which, counted from 1.
        place: usize,
    },
}

/// One file that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// Its path, as it was looked for.
    pub path: PathBuf,
    /// What is wrong with it; `None`: it is there, and nothing was found against it.
    pub problem: Option<Problem>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match &self.problem {
            None => f.write_str(" is there"),
            // With the cause: several findings stand in one message, where no chain of causes could follow each.
            Some(Problem::NotReadable { source }) => write!(f, " cannot be read: {source}"),
            Some(problem) => write!(f, " {problem}"),
        }
    }
}

/// No usable pair: every file that was looked at, and what was wrong with each.
#[derive(Debug)]
pub struct PairError {
    /// For whom; `None`: the files were named one by one.
    pub service: Option<harbor_types::ServiceName>,
    /// In the order they were looked at. At least one has a problem.
    pub findings: Vec<Finding>,
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no usable certificate")?;
        if let Some(service) = &self.service {
            write!(f, " for service {service}")?;
        }
        for (index, finding) in self.findings.iter().enumerate() {
            write!(f, "{} {finding}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for PairError {}
