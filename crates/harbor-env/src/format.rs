//! How an environment is written down: for a shell, for a program, for an env file. Decides quoting, and refuses what a
//! form cannot carry; never changes a value.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A written form of an environment.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// `export NAME='value'` lines for `eval "$(harbor env app)"` in sh, bash, dash, ksh and zsh.
    #[default]
    Shell,
    /// One JSON object, name → value, all values strings.
    Json,
    /// `NAME=value` lines for `docker run --env-file`, which takes each value as it stands. So values are not quoted, and
    /// one that docker and the usual dotenv libraries would read differently is refused.
    Dotenv,
}

/// Why an environment cannot be written in a form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The name is none that a shell could export.
    #[error("{name:?} is not a variable name: give letters, digits and '_', no digit first")]
    Name {
        /// The name, as given.
        name: String,
    },
    /// The value contains a NUL character, which no environment can hold.
    #[error("the value of {name} contains a NUL character, which no environment can hold")]
    Nul {
        /// The variable.
        name: String,
    },
    /// The value would be read differently by different readers of env files.
    #[error(
        "the value of {name} cannot be written to an env file so that all readers agree: {reason}; use shell or json"
    )]
    NotPortable {
        /// The variable.
        name: String,
        /// What stands in the way.
        reason: &'static str,
    },
    /// JSON could not be written.
    #[error("write the variables as JSON")]
    Json(#[from] serde_json::Error),
}

impl Format {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Shell, Self::Json, Self::Dotenv];

    /// `vars` in this form, one line a variable, in order of their names; the JSON is indented.
    ///
    /// # Errors
    /// [`FormatError::Name`] and [`FormatError::Nul`]; [`FormatError::NotPortable`] in the dotenv form.
    pub fn render(self, vars: &BTreeMap<String, String>) -> Result<String, FormatError> {
        for (name, value) in vars {
            if !is_identifier(name) {
                return Err(FormatError::Name { name: name.clone() });
            }
            if value.contains('\0') {
                return Err(FormatError::Nul { name: name.clone() });
            }
        }
        match self {
            Self::Shell => Ok(vars
                .iter()
                .map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")))
                .collect()),
            Self::Json => Ok(serde_json::to_string_pretty(vars)? + "\n"),
            Self::Dotenv => {
                let mut lines = String::new();
                for (name, value) in vars {
                    if let Some(reason) = not_portable(value) {
                        return Err(FormatError::NotPortable { name: name.clone(), reason });
                    }
                    lines.extend([name, "=", value, "\n"]);
                }
                Ok(lines)
            }
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Json => "json",
            Self::Dotenv => "dotenv",
        }
    }
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn not_portable(value: &str) -> Option<&'static str> {
    if value.contains(['\n', '\r']) {
        Some("it has more than one line")
    } else if value.trim() != value {
        Some("it starts or ends with a blank")
    } else if value.starts_with(['"', '\'', '`']) {
        Some("it starts with a quotation mark")
    } else if value.contains(['#', '$', '\\']) {
        Some("it contains '#', '$' or '\\'")
    } else {
        None
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a format; give shell, json or dotenv"))
    }
}
