//! An application's own ports, from its environment. Decides which variable counts and which of the services in it are
//! Harbor's; what others put there (databases, caches) passes unseen.

use std::collections::BTreeMap;
use std::fmt;

use harbor_types::{Credentials, Port, ServiceKind, ServiceName};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::Prefix;
use crate::render::{LABEL, VCAP_SERVICES, kind_of};

/// Key that only Harbor's credentials have; services of other kinds share `hostname`, `host`, `port`, `name` and `node_id`.
const MARK: &str = "int_port";

/// One Harbor service that is bound to this app.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppService {
    /// Its name.
    pub name: ServiceName,
    /// What the app is told about it.
    pub credentials: Credentials,
}

impl AppService {
    /// The port to listen on, on all addresses of the container.
    #[must_use]
    pub fn int_port(&self) -> Port {
        self.credentials.int_port
    }

    /// Protocols and HTTPS: by name, unless the credentials say otherwise.
    #[must_use]
    pub fn kind(&self) -> ServiceKind {
        kind_of(&self.name, &self.credentials)
    }
}

/// The Harbor services that are bound to this app, in the order of their variable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppServices {
    variable: String,
    services: Vec<AppService>,
}

/// Why the environment does not tell an app its ports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// None of the variables is set.
    #[error("none of STACKATO_SERVICES, HELION_SERVICES and VCAP_SERVICES is set: is a service bound to this app?")]
    NoVariable,
    /// The variable's value is no JSON of the right shape.
    #[error("{variable} is not a JSON object of services")]
    Json {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A Harbor service in the variable has credentials that are incomplete or of the wrong types, or a name that is none.
    #[error("{variable}: the Harbor service {name:?} cannot be read")]
    Service {
        /// The variable.
        variable: String,
        /// The service, as written.
        name: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// One name stands in the variable twice.
    #[error("{variable}: the Harbor service {name} is given twice")]
    Repeated {
        /// The variable.
        variable: String,
        /// The service.
        name: ServiceName,
    },
}

/// A service that was asked for and is not there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No Harbor service has the name.
    #[error("no Harbor service {name:?} is bound to this app ({variable} has {})", Listed(.bound))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The variable that was read.
        variable: String,
        /// The services that are bound.
        bound: Vec<ServiceName>,
    },
    /// The only service was asked for, and there are none or several.
    #[error("this app has not exactly one Harbor service ({variable} has {})", Listed(.bound))]
    NotOne {
        /// The variable that was read.
        variable: String,
        /// The services that are bound.
        bound: Vec<ServiceName>,
    },
}

/// Names in an error message.
struct Listed<'a>(&'a [ServiceName]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else { return f.write_str("none") };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|name| write!(f, ", {name}"))
    }
}

impl AppServices {
    /// The variable they were read from.
    #[must_use]
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[AppService] {
        &self.services
    }

    /// All of them, one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, AppService> {
        self.services.iter()
    }

    /// The service with this name.
    ///
    /// # Errors
    /// [`LookupError::Unknown`], which lists the names that are there.
    pub fn service(&self, name: &str) -> Result<&AppService, LookupError> {
        self.services.iter().find(|service| service.name.as_str() == name).ok_or_else(|| LookupError::Unknown {
            name: name.chars().take(80).collect(),
            variable: self.variable.clone(),
            bound: self.names(),
        })
    }

    /// The port to listen on for the service with this name.
    ///
    /// # Errors
    /// [`LookupError::Unknown`], which lists the names that are there.
    pub fn port_of(&self, name: &str) -> Result<Port, LookupError> {
        self.service(name).map(AppService::int_port)
    }

    /// The only service there is.
    ///
    /// # Errors
    /// [`LookupError::NotOne`] when there is none or more than one.
    pub fn only(&self) -> Result<&AppService, LookupError> {
        match self.services.as_slice() {
            [only] => Ok(only),
            _ => Err(LookupError::NotOne { variable: self.variable.clone(), bound: self.names() }),
        }
    }

    fn names(&self) -> Vec<ServiceName> {
        self.services.iter().map(|service| service.name.clone()).collect()
    }
}

impl<'a> IntoIterator for &'a AppServices {
    type Item = &'a AppService;
    type IntoIter = std::slice::Iter<'a, AppService>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The app's Harbor services, from its variables: the first of `STACKATO_SERVICES`, `HELION_SERVICES` and `VCAP_SERVICES`
/// that is set and not empty. (With any other prefix, the `STACKATO_` variables are there as well.)
///
/// A service is Harbor's when it is an object with `int_port` in it, in `VCAP_SERVICES` under `harbor`. All others are
/// passed over, and so are keys that the credentials do not have.
///
/// # Errors
/// [`ParseError`], naming the variable and the service.
///
/// # Source
/// The user's document, "Requesting a Port": the application finds its host and port in `$STACKATO_SERVICES`.
pub fn parse(vars: &BTreeMap<String, String>) -> Result<AppServices, ParseError> {
    let set =
        |variable: String| vars.get(&variable).filter(|text| !text.trim().is_empty()).map(|text| (variable, text));
    if let Some((variable, text)) = set(Prefix::stackato().services()).or_else(|| set(Prefix::helion().services())) {
        let entries: Entries = read(&variable, text)?;
        return collect(variable, entries.0);
    }
    let (variable, text) = set(VCAP_SERVICES.into()).ok_or(ParseError::NoVariable)?;
    let mut offerings: BTreeMap<String, Value> = read(&variable, text)?;
    let harbor = match offerings.remove(LABEL) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    collect(variable, harbor.into_iter().filter_map(named_credentials).collect())
}

fn read<'a, T: Deserialize<'a>>(variable: &str, text: &'a str) -> Result<T, ParseError> {
    serde_json::from_str(text).map_err(|source| ParseError::Json { variable: variable.into(), source })
}

/// Name and credentials of an entry in the Cloud Foundry shape.
fn named_credentials(mut entry: Value) -> Option<(String, Value)> {
    let credentials = entry.get_mut("credentials").map(Value::take)?;
    let name = entry.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some((name, credentials))
}

fn collect(variable: String, entries: Vec<(String, Value)>) -> Result<AppServices, ParseError> {
    let mut services: Vec<AppService> = Vec::new();
    for (name, value) in entries {
        if value.get(MARK).is_none() {
            continue;
        }
        let service = service(&name, value);
        let service = service.map_err(|source| ParseError::Service { variable: variable.clone(), name, source })?;
        if services.iter().any(|earlier| earlier.name == service.name) {
            return Err(ParseError::Repeated { variable, name: service.name });
        }
        services.push(service);
    }
    Ok(AppServices { variable, services })
}

fn service(name: &str, credentials: Value) -> Result<AppService, serde_json::Error> {
    let name = ServiceName::parse(name).map_err(serde::de::Error::custom)?;
    Ok(AppService { name, credentials: serde_json::from_value(credentials)? })
}

/// The members of a JSON object, in order; a map type would sort them and hide repeated ones.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of services by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
