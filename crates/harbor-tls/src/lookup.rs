//! Where a service's certificate is: `certs/SERVICE.crt` and `.key`, else `certs/harbor.*`, under the app's root.
//!
//! Asked at start and again at every look for changes. Reads through [`Files`], so that the choice itself touches no disk.

use std::fmt;
use std::path::{Path, PathBuf};

use harbor_types::ServiceName;

use crate::pair::Fingerprint;
use crate::problem::{Finding, PairError, Problem};

/// Most bytes of a certificate or key file that are read: 1 MiB. A chain of ten has about 20 KiB.
pub const MAX_FILE: u64 = 1 << 20;

/// The folder under the app's root, and the name of the pair that serves every service without one of its own.
///
/// Source: the user's document, "HTTPS Container Proxy" and "Multiple SSL Certificates".
const FOLDER: &str = "certs";
const FALLBACK: &str = "harbor";

/// Where to look for a pair.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PairSource {
    /// By service name in the folder `certs` of an app. An incomplete pair of the service is an error; only when neither
    /// of its files exists is `harbor.crt`/`harbor.key` taken. Symbolic links work as long as they stay inside `certs`,
    /// which in turn must be inside `root`.
    App {
        /// The app's root folder.
        root: PathBuf,
        /// Whose certificate.
        service: ServiceName,
    },
    /// Two files, wherever they are.
    Paths {
        /// The certificate, followed by those that issued it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Which of the possible pairs it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The service's own.
    Service,
    /// `harbor.crt` and `harbor.key`.
    Fallback,
    /// Named by path.
    Paths,
}

/// What a file must not leave, symbolic links resolved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fence {
    /// The app's root; `folder` must be inside.
    pub root: PathBuf,
    /// The folder of the file; the file must be inside, at any depth.
    pub folder: PathBuf,
}

impl Fence {
    /// Whether `file` stays inside, given where each of the three really is.
    ///
    /// # Errors
    /// [`Problem::Outside`] naming which of them leaves what.
    pub fn check(root: &Path, folder: &Path, file: &Path) -> Result<(), Problem> {
        for (inner, outer) in [(folder, root), (file, folder)] {
            if !inner.starts_with(outer) {
                return Err(Problem::Outside { target: inner.to_path_buf(), fence: outer.to_path_buf() });
            }
        }
        Ok(())
    }
}

/// Reads files: a seam, so that the choice of a pair can be tested without a disk and with faults.
pub trait Files {
    /// The bytes of the regular file at `path`, at most [`MAX_FILE`] of them; inside `fence` if there is one.
    ///
    /// # Errors
    /// [`Problem::Missing`] only when nothing has that name; every other problem with reaching or reading it.
    fn read(&self, path: &Path, fence: Option<&Fence>) -> Result<Vec<u8>, Problem>;
}

/// The bytes of both files, not yet checked.
#[derive(Clone, Eq, PartialEq)]
pub struct PairBytes {
    /// Whose, for messages.
    pub service: Option<ServiceName>,
    /// Which of the possible pairs.
    pub origin: Origin,
    /// The certificate file.
    pub certificate: PathBuf,
    /// The key file.
    pub key: PathBuf,
    /// Files that would have come first and are not there.
    pub passed_over: Vec<PathBuf>,
    /// What the certificate file holds.
    pub certificate_bytes: Vec<u8>,
    /// What the key file holds: secret.
    pub key_bytes: Vec<u8>,
}

impl fmt::Debug for PairBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairBytes")
            .field("origin", &self.origin)
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl PairBytes {
    /// Changes whenever a byte of either file does, or another pair applies.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let [certificate, key] = [&self.certificate, &self.key].map(|path| path.as_os_str().as_encoded_bytes());
        Fingerprint::of(&[certificate, key, &self.certificate_bytes, &self.key_bytes])
    }

    /// The error for this pair: these problems, and every path that was passed over.
    pub(crate) fn error(&self, certificate: Option<Problem>, key: Option<Problem>) -> PairError {
        let mut findings = missing(&self.passed_over);
        findings.push(Finding { path: self.certificate.clone(), problem: certificate });
        findings.push(Finding { path: self.key.clone(), problem: key });
        PairError { service: self.service.clone(), findings }
    }
}

impl PairSource {
    /// Finds the pair that applies and reads both files. Blocks as `files` does.
    ///
    /// # Errors
    /// [`PairError`] with every path that was looked at, when a file of the pair that applies is missing or unreadable.
    ///
    /// # Source
    /// The user's document, "Multiple SSL Certificates": the service's own files before `harbor.crt` and `harbor.key`.
    pub fn look(&self, files: &impl Files) -> Result<PairBytes, PairError> {
        let (service, fence, candidates) = match self {
            Self::Paths { certificate, key } => (None, None, vec![(Origin::Paths, certificate.clone(), key.clone())]),
            Self::App { root, service } => {
                let fence = Fence { root: root.clone(), folder: root.join(FOLDER) };
                // A service name has no separator and no "..", but dots: the suffix is appended, not exchanged.
                let file = |name: &str, suffix: &str| fence.folder.join(format!("{name}.{suffix}"));
                let pair = |origin, name: &str| (origin, file(name, "crt"), file(name, "key"));
                let mut candidates = vec![pair(Origin::Service, service.as_str())];
                if service.as_str() != FALLBACK {
                    candidates.push(pair(Origin::Fallback, FALLBACK));
                }
                (Some(service), Some(fence), candidates)
            }
        };
        let mut passed_over = Vec::new();
        for (origin, certificate, key) in candidates {
            let read = (files.read(&certificate, fence.as_ref()), files.read(&key, fence.as_ref()));
            let findings = match read {
                (Ok(certificate_bytes), Ok(key_bytes)) => {
                    let service = service.cloned();
                    return Ok(PairBytes {
                        service,
                        origin,
                        certificate,
                        key,
                        passed_over,
                        certificate_bytes,
                        key_bytes,
                    });
                }
                (Err(Problem::Missing), Err(Problem::Missing)) => {
                    passed_over.extend([certificate, key]);
                    continue;
                }
                (of_certificate, of_key) => [(certificate, of_certificate.err()), (key, of_key.err())],
            };
            let mut all = missing(&passed_over);
            all.extend(findings.into_iter().map(|(path, problem)| Finding { path, problem }));
            return Err(PairError { service: service.cloned(), findings: all });
        }
        Err(PairError { service: service.cloned(), findings: missing(&passed_over) })
    }
}

fn missing(paths: &[PathBuf]) -> Vec<Finding> {
    paths.iter().map(|path| Finding { path: path.clone(), problem: Some(Problem::Missing) }).collect()
}
