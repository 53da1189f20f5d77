//! PEM text to DER blocks. The one file that names rustls-pemfile.
//!
//! Called by `pair` with bytes that were read under the cap [`MAX_FILE`]. Judges no certificate and no key.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::{Error, Item};

use crate::lookup::MAX_FILE;
use crate::problem::Problem;

/// The blocks of a file that matter here; others, such as `EC PARAMETERS`, are passed over.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) keys: Vec<PrivateKeyDer<'static>>,
    /// There is a private key that needs a passphrase.
    pub(crate) encrypted: bool,
}

/// Splits `bytes` into blocks.
///
/// # Errors
/// A [`Problem`] when it is no PEM text, or a block of it is damaged.
pub(crate) fn blocks(bytes: &[u8]) -> Result<Blocks, Problem> {
    // The reader stops there too; this holds whoever brings the bytes.
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > MAX_FILE {
        return Err(Problem::TooLarge { bytes: size });
    }
    if bytes.is_empty() {
        return Err(Problem::Empty);
    }
    // Some editors begin a file with a byte order mark.
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if !lines(rest).any(|line| line.starts_with(b"-----BEGIN ")) {
        let binary = rest.contains(&0) || rest.first() == Some(&0x30) && str::from_utf8(rest).is_err();
        return Err(if binary { Problem::Binary } else { Problem::NotPem });
    }
    let mut found = Blocks { encrypted: lines(rest).any(needs_passphrase), ..Blocks::default() };
    loop {
        match rustls_pemfile::read_one_from_slice(rest) {
            Ok(Some((item, after))) => {
                rest = after;
                match item {
                    Item::X509Certificate(der) => found.certificates.push(der),
                    Item::Pkcs1Key(der) => found.keys.push(der.into()),
                    Item::Pkcs8Key(der) => found.keys.push(der.into()),
                    Item::Sec1Key(der) => found.keys.push(der.into()),
                    _ => {}
                }
            }
            Ok(None) => return Ok(found),
            // An old-style encrypted key has headers where base64 is expected: it is reported as encrypted.
            Err(Error::Base64Decode(_)) if found.encrypted => return Ok(found),
            Err(error) => return Err(Problem::Malformed { detail: detail(&error) }),
        }
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\n' | b'\r'))
}

/// PKCS#8's label, and the header of the formats before it.
fn needs_passphrase(line: &[u8]) -> bool {
    line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED")
}

fn detail(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { end_marker } => format!("a block has no {} line", marker(end_marker)),
        Error::IllegalSectionStart { .. } => "a -----BEGIN line does not end in -----".to_owned(),
        Error::Base64Decode(_) => "a block is not base64".to_owned(),
    }
}

/// The label of a block, fit for a message whatever the file holds.
fn marker(label: &[u8]) -> String {
    let label: String = String::from_utf8_lossy(label).chars().filter(|c| !c.is_control()).take(40).collect();
    format!("-----END {label}-----")
}
