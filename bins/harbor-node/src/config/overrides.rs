//! Settings given by variable or flag: which there are, what they are called, and how they are laid over the file.
//!
//! One table serves both and the documentation. Reads no environment: the variables are an argument.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::ConfigError;
use super::raw::RawNode;

/// Shape of a setting's value when it is given as text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    Text,
    List,
    Number,
    Switch,
}

/// A setting: its key in the file; the variable is `HARBOR_` and the key in capitals, with `_` for `.`.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Key in the file, with a dot between a block and a key in it.
    pub key: &'static str,
    shape: Shape,
}

const fn setting(key: &'static str, shape: Shape) -> Setting {
    Setting { key, shape }
}

/// Every setting there is.
pub const SETTINGS: &[Setting] = &[
    setting("node_id", Shape::Text),
    setting("host", Shape::Text),
    setting("hostname", Shape::Text),
    setting("public.ext_host", Shape::Text),
    setting("public.ext_hostname", Shape::Text),
    setting("public.listen", Shape::List),
    setting("port_range", Shape::Text),
    setting("state_dir", Shape::Text),
    setting("api", Shape::Text),
    setting("api_insecure", Shape::Switch),
    setting("token_file", Shape::Text),
    setting("quarantine", Shape::Text),
    setting("ttl", Shape::Text),
    setting("backend_networks", Shape::List),
    setting("threads", Shape::Number),
    setting("tcp.connect", Shape::Text),
    setting("tcp.tries", Shape::Number),
    setting("tcp.idle", Shape::Text),
    setting("tcp.half_closed", Shape::Text),
    setting("tcp.keepalive", Shape::Text),
    setting("udp.idle", Shape::Text),
    setting("udp.max_sessions", Shape::Number),
    setting("udp.max_sessions_per_source", Shape::Number),
    setting("udp.max_sessions_node", Shape::Number),
    setting("drain.grace", Shape::Text),
    setting("drain.limit", Shape::Text),
    setting("log.format", Shape::Text),
    setting("log.level", Shape::Text),
];

/// Variables that begin with `HARBOR_` and are no settings of the node: read elsewhere, so not worth a warning.
const OTHERS: [&str; 4] = ["HARBOR_TOKEN", "HARBOR_CONFIG", "HARBOR_URL", "HARBOR_INSTANCE_INDEX"];

impl Setting {
    /// The variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("HARBOR_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }
}

/// One setting given by variable or flag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// How the user calls it: the variable, or the flag.
    pub name: String,
    /// Key of the setting.
    pub key: String,
    /// Its value, as text. Lists are separated by commas.
    pub value: String,
}

/// The settings among the variables, and warnings about those that look like settings and are none.
pub(super) fn from_vars(vars: &BTreeMap<String, String>) -> (Vec<Override>, Vec<String>) {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for (name, value) in vars.iter().filter(|(name, _)| name.starts_with("HARBOR_")) {
        match SETTINGS.iter().find(|setting| setting.variable() == *name) {
            Some(setting) => {
                found.push(Override { name: name.clone(), key: setting.key.into(), value: value.clone() });
            }
            None if OTHERS.contains(&name.as_str()) => {}
            // Not an error: container platforms add variables of their own beside a service called harbor.
            None => warnings.push(format!("the variable {name} is not a setting of the node and is ignored")),
        }
    }
    (found, warnings)
}

/// Lays one setting over `table`.
pub(super) fn lay(table: &mut Table, over: &Override) -> Result<(), ConfigError> {
    let wrong = |message: String| ConfigError::Override { name: over.name.clone(), message };
    let Some(setting) = SETTINGS.iter().find(|setting| setting.key == over.key) else {
        let known = SETTINGS.iter().map(|setting| setting.key).collect::<Vec<_>>().join(", ");
        return Err(wrong(format!("there is no setting {:?}; there are {known}", over.key)));
    };
    let value = read(setting.shape, &over.value).map_err(|message| wrong(format!("{:?} {message}", over.value)))?;
    // Checked alone first, so that an error names the variable and not some line of the file.
    let mut alone = Table::new();
    insert(&mut alone, setting.key, value.clone());
    RawNode::of_table(alone).map_err(wrong)?;
    insert(table, setting.key, value);
    Ok(())
}

fn read(shape: Shape, text: &str) -> Result<Value, &'static str> {
    let text = text.trim();
    match shape {
        Shape::Text => Ok(Value::String(text.into())),
        Shape::List => Ok(Value::Array(text.split(',').map(|item| Value::String(item.trim().into())).collect())),
        Shape::Number => text.parse().map(Value::Integer).map_err(|_| "is not a whole number"),
        Shape::Switch => text.parse().map(Value::Boolean).map_err(|_| "is neither true nor false"),
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.into(), value);
        }
        Some((block, key)) => {
            let block = table.entry(block).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(block) = block {
                block.insert(key.into(), value);
            }
        }
    }
}
