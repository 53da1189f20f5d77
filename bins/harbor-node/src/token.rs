//! The admin's bearer token: where it comes from, and whether a presented one is it.
//!
//! Only its SHA-256 digest is kept; comparison takes the same time whatever is presented.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Shortest token, in bytes; shorter ones can be guessed.
const MIN_LEN: usize = 16;
/// Longest token, in bytes.
const MAX_LEN: usize = 512;

/// A token, as its digest. Cannot be printed.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// Where the token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// It was given with the configuration.
    Given(Token),
    /// It is read from this file, again with each reload.
    File(PathBuf),
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text cannot be a token.
    #[error(
        "the token {0}; give {MIN_LEN} to {MAX_LEN} printable ASCII characters, for example from `openssl rand -hex 32`"
    )]
    Text(&'static str),
    /// The file cannot be read.
    #[error("cannot read the token file {}; make it readable for the node's user, mode 0600", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file's content cannot be a token.
    #[error("token file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with the content.
        #[source]
        source: Box<TokenError>,
    },
}

impl Token {
    /// The token written as `text`; white space around it does not count.
    ///
    /// # Errors
    /// [`TokenError::Text`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() < MIN_LEN {
            return Err(TokenError::Text(if text.is_empty() { "is empty" } else { "is too short to be safe" }));
        }
        if text.len() > MAX_LEN {
            return Err(TokenError::Text("is too long"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError::Text("contains white space, control characters or non-ASCII characters"));
        }
        Ok(Self(digest(text)))
    }

    /// Whether `presented` is this token, in time that does not depend on how much of it is right.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.0.ct_eq(&digest(presented)).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl TokenSource {
    /// The token, read from its file if it has one.
    ///
    /// # Errors
    /// [`TokenError`], naming the file.
    pub fn load(&self) -> Result<Token, TokenError> {
        match self {
            Self::Given(token) => Ok(token.clone()),
            Self::File(path) => read(path),
        }
    }

    /// A warning when others than its owner can read the token's file.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        use std::os::unix::fs::PermissionsExt;
        let Self::File(path) = self else { return None };
        let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
        let open = mode & 0o077 != 0;
        open.then(|| {
            let path = path.display();
            format!("the token file {path} has mode {mode:04o}, so others can read it; cure: chmod 600 {path}")
        })
    }
}

fn read(path: &Path) -> Result<Token, TokenError> {
    use std::io::Read;
    let wrong = |source| TokenError::Read { path: path.into(), source };
    let mut text = String::new();
    std::fs::File::open(path).map_err(wrong)?.take(4096).read_to_string(&mut text).map_err(wrong)?;
    Token::parse(&text).map_err(|source| TokenError::File { path: path.into(), source: Box::new(source) })
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_itself_only() {
        let token = Token::parse(" 0123456789abcdef\n").unwrap();
        for (presented, want) in [
            ("0123456789abcdef", true),
            ("0123456789abcdeF", false),
            ("0123456789abcde", false),
            ("0123456789abcdef ", false),
            ("", false),
        ] {
            assert_eq!(token.matches(presented), want, "{presented:?}");
        }
        assert_eq!(format!("{token:?}"), "<redacted>");
    }

    #[test]
    fn weak_or_unusable_tokens_are_refused_without_being_repeated() {
        for text in ["", "h3rb0r", "0123456789 abcdef", "0123456789abcdéf", &"a".repeat(513)] {
            let error = Token::parse(text).unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
