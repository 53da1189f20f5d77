//! The secret that a call carries. Checked when it is read; printed by nothing here.

use std::fmt;

/// Longest token, in bytes; longer ones are refused by common header limits.
const MAX_LEN: usize = 4096;

/// A bearer token: 1 to 4,096 visible ASCII characters. Its `Debug` form is `<redacted>`, it has no `Display`.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

/// Why a text is no [`Token`]. The text is not repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct TokenError {
    reason: &'static str,
}

impl Token {
    /// Checks a token; blanks and line ends around it are not part of it, since files end in one.
    ///
    /// # Errors
    /// [`TokenError`] naming the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            Err(TokenError { reason: "it is empty" })
        } else if text.len() > MAX_LEN {
            Err(TokenError { reason: "it is longer than 4096 characters" })
        } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
            Err(TokenError { reason: "it has other characters than visible ASCII, or more than one line" })
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The secret itself, for the one header that carries it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked_and_never_shown() {
        let long = "a".repeat(4097);
        for (text, valid) in [
            ("s3cret", true),
            (" s3cret\n", true),
            ("a+/=._~-", true),
            ("", false),
            (" \n", false),
            ("two words", false),
            ("two\nlines", false),
            ("schlüssel", false),
            ("nul\0", false),
            (long.as_str(), false),
        ] {
            assert_eq!(Token::parse(text).is_ok(), valid, "{text:?}");
        }
        assert_eq!(format!("{:?}", Token::parse("s3cret").unwrap()), "<redacted>");
        assert!(!format!("{:?}", Token::parse("s3cret bad").unwrap_err()).contains("s3cret"));
    }
}
