//! The parameters of one service in a manifest. Decides which keys and types are right; whether the node can grant what
//! they ask for is the node's to say.

use harbor_types::wire::CreateService;
use harbor_types::{Port, Protocols};

use super::error::{Fault, Problem, shown};
use super::tree::NodeRef;

/// Keys that a service's map may have.
const ENTRY_HINT: &str = "only type: and parameters: are";
/// The same, when the key is a parameter that stands one level too high.
const NESTING_HINT: &str = "put it under parameters:";
/// Keys that `parameters:` may have.
const PARAMETERS_HINT: &str = "protocol, https, port, int_port and public are";
const PARAMETERS: [&str; 5] = ["protocol", "https", "port", "int_port", "public"];

/// Reads the map of one service into its `order`; `service` is its name as written. A service that is only a type has no
/// parameters.
pub(super) fn read(mut order: CreateService, service: &str, entry: NodeRef<'_>) -> Result<CreateService, Problem> {
    let Some(pairs) = entry.pairs()? else { return Ok(order) };
    if let Some((key, _)) = pairs.iter().find(|(key, _)| !matches!(key.word(), Some("type" | "parameters"))) {
        let nested = key.word().is_some_and(|word| PARAMETERS.contains(&word));
        return Err(unknown(service, *key, if nested { NESTING_HINT } else { ENTRY_HINT }));
    }
    let Some(parameters) = entry.field("parameters")? else { return Ok(order) };
    if parameters.is_null() {
        return Ok(order);
    }
    let Some(pairs) = parameters.pairs()? else { return Err(wrong(service, "parameters", "a map", parameters)) };
    if let Some((key, _)) = pairs.iter().find(|(key, _)| !key.word().is_some_and(|word| PARAMETERS.contains(&word))) {
        return Err(unknown(service, *key, PARAMETERS_HINT));
    }
    if let Some(node) = parameters.field("protocol")? {
        let protocol = node.word().and_then(|word| word.parse::<Protocols>().ok());
        order.protocol = Some(protocol.ok_or_else(|| wrong(service, "protocol", "tcp, udp or both", node))?);
    }
    order.https = flag(parameters, "https", service)?;
    order.public = flag(parameters, "public", service)?;
    order.port = port(parameters, "port", service)?;
    order.int_port = port(parameters, "int_port", service)?;
    Ok(order)
}

fn flag(parameters: NodeRef<'_>, key: &'static str, service: &str) -> Result<Option<bool>, Problem> {
    let Some(node) = parameters.field(key)? else { return Ok(None) };
    node.flag().map(Some).ok_or_else(|| wrong(service, key, "true or false", node))
}

fn port(parameters: NodeRef<'_>, key: &'static str, service: &str) -> Result<Option<Port>, Problem> {
    let Some(node) = parameters.field(key)? else { return Ok(None) };
    let number = node.plain().and_then(|text| text.parse::<Port>().ok());
    number.map(Some).ok_or_else(|| wrong(service, key, "a number from 1 to 65535", node))
}

fn wrong(service: &str, parameter: &str, want: &'static str, node: NodeRef<'_>) -> Problem {
    let found = match node.word() {
        Some(word) => format!("{} ({:?})", node.what(), shown(word)),
        None => node.what().to_owned(),
    };
    Problem::at(node.at, Fault::Parameter { service: shown(service), parameter: parameter.into(), want, found })
}

fn unknown(service: &str, key: NodeRef<'_>, hint: &'static str) -> Problem {
    let word = key.word().unwrap_or_else(|| key.what());
    Problem::at(key.at, Fault::UnknownKey { service: shown(service), key: shown(word), hint })
}
