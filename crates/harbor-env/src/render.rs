//! The environment of an application, from the services that are bound to it. Decides names and values of variables;
//! never how they are written down ([`Format`](crate::Format)) or where they go.

use std::collections::BTreeMap;

use harbor_types::{AppName, Credentials, ServiceKind, ServiceName, env_suffix};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::Prefix;

/// Label of Harbor's services: the key of their list in `VCAP_SERVICES`, and their type in manifests.
pub const LABEL: &str = "harbor";
/// Plan that `VCAP_SERVICES` names.
pub const PLAN: &str = "free";
/// Variable with the services in the Cloud Foundry shape; has no prefix of its own.
pub(crate) const VCAP_SERVICES: &str = "VCAP_SERVICES";

/// Why an environment cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// Two names are the same once upper-cased and with `-` and `.` as `_`, so one would hide the other.
    #[error("the services {one} and {other} would share the variable {variable}; bind only one of them to the app")]
    SharedVariable {
        /// The variable.
        variable: String,
        /// The service that came first.
        one: ServiceName,
        /// The service that came later.
        other: ServiceName,
    },
    /// One service is given twice.
    #[error("the service {name} is given twice")]
    Repeated {
        /// The service.
        name: ServiceName,
    },
    /// A prefix makes one variable of two different ones.
    #[error("the prefix {prefix} gives two meanings to the variable {variable}; take another prefix")]
    Prefix {
        /// The prefix whose variable came later.
        prefix: Prefix,
        /// The variable.
        variable: String,
    },
    /// A value cannot be written as JSON.
    #[error("write the services as JSON")]
    Json(#[from] serde_json::Error),
}

/// The variables that `app` sees when these `services` are bound to it, by name.
///
/// For the prefix `STACKATO` and each of `prefixes` (`HELION` gives the twins; repeated ones count once):
///
/// | variable | value |
/// |---|---|
/// | `<PREFIX>_SERVICES` | JSON object, service name → credentials; services in the order given, keys in the documented order |
/// | `<PREFIX>_HARBOR` | `int_port`, only when exactly one service is given |
/// | `<PREFIX>_HARBOR_<NAME>` | `int_port`, one a service; name by [`env_suffix`] |
/// | `<PREFIX>_APP_NAME_UPCASE` | the app's name by [`env_suffix`] |
///
/// and once `VCAP_SERVICES`: `{"harbor": [{name, label, plan, tags, credentials}, …]}` in the order given, `{}` without
/// services.
///
/// # Errors
/// [`RenderError::SharedVariable`] naming both services, [`RenderError::Repeated`], and [`RenderError::Prefix`] when a
/// prefix runs into another variable (`VCAP`, or `STACKATO_HARBOR` with a service called `services`).
///
/// # Source
/// The user's document, "Requesting a Port" and "Harbor Environment Variables".
pub fn render(
    app: &AppName,
    services: &[(ServiceName, Credentials)],
    prefixes: &[Prefix],
) -> Result<BTreeMap<String, String>, RenderError> {
    refuse_shared_variables(services)?;
    let mut vars = BTreeMap::from([(VCAP_SERVICES.to_owned(), vcap_services(services)?)]);
    let services_json = serde_json::to_string(&ByName(services))?;
    let stackato = Prefix::stackato();
    let mut done: Vec<&Prefix> = Vec::new();
    for prefix in std::iter::once(&stackato).chain(prefixes) {
        if done.contains(&prefix) {
            continue;
        }
        done.push(prefix);
        let mut set = |variable: String, value: String| {
            if vars.contains_key(&variable) {
                return Err(RenderError::Prefix { prefix: prefix.clone(), variable });
            }
            vars.insert(variable, value);
            Ok(())
        };
        set(prefix.services(), services_json.clone())?;
        set(format!("{prefix}_APP_NAME_UPCASE"), env_suffix(app.as_str()))?;
        if let [(_, only)] = services {
            set(format!("{prefix}_HARBOR"), only.int_port.to_string())?;
        }
        for (name, credentials) in services {
            set(harbor_variable(prefix, name), credentials.int_port.to_string())?;
        }
    }
    Ok(vars)
}

fn harbor_variable(prefix: &Prefix, name: &ServiceName) -> String {
    format!("{prefix}_HARBOR_{}", env_suffix(name.as_str()))
}

fn refuse_shared_variables(services: &[(ServiceName, Credentials)]) -> Result<(), RenderError> {
    let mut seen: BTreeMap<String, &ServiceName> = BTreeMap::new();
    for (name, _) in services {
        match seen.insert(env_suffix(name.as_str()), name) {
            None => {}
            Some(one) if one == name => return Err(RenderError::Repeated { name: name.clone() }),
            Some(one) => {
                let variable = harbor_variable(&Prefix::stackato(), name);
                return Err(RenderError::SharedVariable { variable, one: one.clone(), other: name.clone() });
            }
        }
    }
    Ok(())
}

/// Services as one JSON object, in order; a map type would sort them.
struct ByName<'a>(&'a [(ServiceName, Credentials)]);

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, credentials) in self.0 {
            map.serialize_entry(name, credentials)?;
        }
        map.end()
    }
}

/// One entry of `VCAP_SERVICES.harbor`.
#[derive(Serialize)]
struct VcapService<'a> {
    name: &'a ServiceName,
    label: &'static str,
    plan: &'static str,
    tags: Vec<String>,
    credentials: &'a Credentials,
}

fn vcap_services(services: &[(ServiceName, Credentials)]) -> Result<String, serde_json::Error> {
    let entry = |(name, credentials): &'_ (ServiceName, Credentials)| {
        let kind = kind_of(name, credentials);
        let tls = kind.https.then(|| "https".to_owned());
        kind.protocols.iter().map(|protocol| protocol.to_string()).chain(tls).collect()
    };
    let entries: Vec<VcapService<'_>> = services
        .iter()
        .map(|service| VcapService {
            name: &service.0,
            label: LABEL,
            plan: PLAN,
            tags: entry(service),
            credentials: &service.1,
        })
        .collect();
    if entries.is_empty() {
        return Ok("{}".into());
    }
    serde_json::to_string(&BTreeMap::from([(LABEL, entries)]))
}

/// The kind of a service as its app knows it: by name, unless its credentials say otherwise.
pub(crate) fn kind_of(name: &ServiceName, credentials: &Credentials) -> ServiceKind {
    let said = ServiceKind::of(name);
    ServiceKind {
        protocols: credentials.protocol.unwrap_or(said.protocols),
        https: credentials.https.unwrap_or(said.https),
    }
}
