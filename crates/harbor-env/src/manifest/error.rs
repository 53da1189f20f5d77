//! What can be wrong with a manifest, and where. Decides wording only.

use std::fmt;

use harbor_types::{KindError, NameError, ServiceName};

/// A place in a manifest: line and column, both counted in characters from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

impl Position {
    /// From the parser's numbers: lines from 1, columns from 0.
    pub(super) fn of_marker(line: usize, column: usize) -> Self {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Self { line: number(line), column: number(column).saturating_add(1) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A manifest that cannot be used; printed as `FILE:LINE:COLUMN: what is wrong`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ManifestError {
    /// The file, as it was named to [`parse`](super::parse).
    pub file: String,
    /// Where the mistake is; absent when it is the file as a whole.
    pub at: Option<Position>,
    /// What it is.
    pub fault: Box<Fault>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{}:{at}: {}", self.file, self.fault),
            None => write!(f, "{}: {}", self.file, self.fault),
        }
    }
}

impl std::error::Error for ManifestError {}

/// What is wrong with a manifest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file is longer than the limit.
    #[error("the manifest has {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No YAML.
    #[error("{message}")]
    Yaml {
        /// What the YAML parser says.
        message: String,
    },
    /// Another document follows the first.
    #[error("a manifest is one YAML document; another one starts here")]
    SeveralDocuments,
    /// Maps and lists are nested too deep, aliases followed.
    #[error("maps and lists are nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Aliases, or a top-level block that counts for each app, repeat too much.
    #[error("with everything that is repeated, this unfolds to more than {limit} nodes")]
    Unfolds {
        /// The limit.
        limit: usize,
    },
    /// An alias stands inside the node it repeats.
    #[error("this alias stands inside its own anchor")]
    AliasInItself,
    /// `<<` has no map to merge.
    #[error("<<: takes a map or a list of maps, but this is {found}")]
    Merge {
        /// What it is instead.
        found: &'static str,
    },
    /// The document is no map.
    #[error("a manifest is a map with keys like name: and services:, but this is {found}")]
    NotAMap {
        /// What it is instead.
        found: &'static str,
    },
    /// A key that matters here stands in one map twice.
    #[error("{key:?} is given twice, first at {first}")]
    RepeatedKey {
        /// The key.
        key: String,
        /// Where it stands first.
        first: Position,
    },
    /// `services:` is neither a map nor a list.
    #[error(
        "services: must be a map of names and types, like my-port: harbor, or a list of names of existing services, \
         but this is {found}"
    )]
    ServicesShape {
        /// What it is instead.
        found: &'static str,
    },
    /// A key in the `services:` map is no text.
    #[error("the name of a service must be a text, but this is {found}")]
    NameShape {
        /// What it is instead.
        found: &'static str,
    },
    /// A value in the `services:` map is neither a type nor a map.
    #[error("service {service:?} needs a type, like my-port: harbor, or a map with type: harbor, but this is {found}")]
    TypeShape {
        /// The service, as written.
        service: String,
        /// What it is instead.
        found: &'static str,
    },
    /// A key beside `type` and `parameters`, or an unknown parameter.
    #[error("service {service:?}: {key:?} is not known here; {hint}")]
    UnknownKey {
        /// The service, as written.
        service: String,
        /// The key, as written.
        key: String,
        /// What may stand there instead.
        hint: &'static str,
    },
    /// A parameter has a value of the wrong type.
    #[error("service {service:?}: {parameter} must be {want}, but this is {found}")]
    Parameter {
        /// The service, as written.
        service: String,
        /// The parameter.
        parameter: String,
        /// What it takes.
        want: &'static str,
        /// What is there.
        found: String,
    },
    /// An item of a `services:` list is no name.
    #[error("an item of a services: list must be the name of a service, but this is {found}")]
    ItemShape {
        /// What it is instead.
        found: &'static str,
    },
    /// A service name has `${name}` in it, and the app has none.
    #[error("{service:?} needs the app's name, which is not given; add name: to the app")]
    NeedsAppName {
        /// The service, as written.
        service: String,
    },
    /// A service name has another placeholder than `${name}` in it.
    #[error("{service:?}: only ${{name}} is replaced in names of services")]
    Placeholder {
        /// The service, as written.
        service: String,
    },
    /// The name of a service or an app breaks the grammar.
    #[error(transparent)]
    Name(NameError),
    /// `name:` of an app with services is no text.
    #[error("the name of an app must be a text, but this is {found}")]
    AppNameShape {
        /// What it is instead.
        found: &'static str,
    },
    /// The name and parameters ask for something that cannot be.
    #[error("service {service}: {cause}")]
    Kind {
        /// The service.
        service: ServiceName,
        /// Why not.
        cause: KindError,
    },
    /// One service stands in one `services:` block twice.
    #[error("service {service:?} is given twice, first at {first}")]
    RepeatedService {
        /// The service.
        service: String,
        /// Where it stands first.
        first: Position,
    },
    /// One service is ordered in two places with different parameters.
    #[error("service {service} is ordered differently at {first}")]
    OrderedDifferently {
        /// The service.
        service: ServiceName,
        /// Where it is ordered first.
        first: Position,
    },
    /// Two services of one app would share an environment variable.
    #[error("services {other} (at {first}) and {service} of one app would share the variable STACKATO_HARBOR_{suffix}")]
    SharedVariable {
        /// The service here.
        service: ServiceName,
        /// The other service.
        other: ServiceName,
        /// Where the other one stands.
        first: Position,
        /// The end of the variable's name.
        suffix: String,
    },
}

/// A fault and its place, before the file's name is known.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) at: Option<Position>,
    pub(super) fault: Fault,
}

impl Problem {
    pub(super) const fn at(at: Position, fault: Fault) -> Self {
        Self { at: Some(at), fault }
    }
}

/// A text from the file as messages show it: cut after 80 characters. They escape the rest by `{:?}`.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
