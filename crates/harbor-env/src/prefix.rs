//! The word that an application's variables start with. Given by `--env-prefix`; never read from the environment here.

use std::fmt;
use std::str::FromStr;

/// Longest prefix, in bytes.
const MAX_LEN: usize = 63;

/// Start of variable names: `[A-Z][A-Z0-9_]{0,62}`, as in `STACKATO` or `HELION`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix(String);

/// Why a text is no [`Prefix`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not a prefix for variables: give up to 63 of A-Z, 0-9 and '_', a letter first, like HELION")]
pub struct PrefixError {
    text: String,
}

impl Prefix {
    /// `STACKATO`: the prefix that every environment has.
    ///
    /// # Source
    /// The user's document, "Harbor Environment Variables".
    #[must_use]
    pub fn stackato() -> Self {
        Self("STACKATO".into())
    }

    /// `HELION`: the prefix that a later branch of the historic service renamed its variables to.
    #[must_use]
    pub fn helion() -> Self {
        Self("HELION".into())
    }

    /// The prefix as text, without an underscore at its end unless it was given one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the variable with the services JSON.
    pub(crate) fn services(&self) -> String {
        format!("{self}_SERVICES")
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let wellformed = text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if wellformed && text.len() <= MAX_LEN {
            Ok(Self(text.into()))
        } else {
            Err(PrefixError { text: text.chars().take(80).collect() })
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_of_prefixes() {
        let longest = "A".repeat(63);
        for (text, valid) in [
            ("STACKATO", true),
            ("A1_", true),
            (longest.as_str(), true),
            ("", false),
            ("_A", false),
            ("1A", false),
            ("helion", false),
            ("A-B", false),
            ("A B", false),
            ("A=B", false),
            ("Ä", false),
            ("A\n", false),
        ] {
            assert_eq!(text.parse::<Prefix>().is_ok(), valid, "{text:?}");
        }
        assert!("A".repeat(64).parse::<Prefix>().is_err());
    }
}
