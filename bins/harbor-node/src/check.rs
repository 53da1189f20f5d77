//! `check`: what `serve` would do with a configuration, in words. Binds no port; opens the state for a moment.

use std::fmt::Write;

use harbor_store::StoreError;
use harbor_types::{NameHint, Record};

use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::node::open_state;
use crate::system;

/// Writes what `serve` would do into `text`, a line each; warnings begin with `warning:`.
///
/// A state that a running node has is not read, and no error: checking a configuration before a reload is what this is for.
///
/// # Errors
/// What would keep the node from starting, as far as that shows without binding anything. `text` then has what was found
/// out before.
pub fn check(config: &NodeConfig, warnings: &[String], text: &mut String) -> Result<(), NodeError> {
    config.token.load()?;
    let ports: usize = config.port_range.iter().count();
    let mut line = |words: String| {
        // Writing into a String does not fail.
        let _ = writeln!(text, "{words}");
    };
    line(format!("node      {}", config.node_id));
    line(format!("ports     {} ({ports})", config.port_range));
    line(format!("internal  services listen on {}", config.host));
    match &config.public {
        Some(public) => {
            let listen: Vec<String> = public.listen.iter().map(ToString::to_string).collect();
            let name = public.ext_hostname.as_ref().map_or_else(|| public.ext_host.to_string(), ToString::to_string);
            line(format!(
                "public    services listen on {}, reached as {name} ({})",
                listen.join(", "),
                public.ext_host
            ));
        }
        None => line("public    no access: there is no [public] block".into()),
    }
    line(format!("api       http://{}", config.api));
    let found = [config.token.warning(), system::ephemeral_warning(&config.port_range)];
    for warning in warnings.iter().cloned().chain(found.into_iter().flatten()) {
        line(format!("warning:  {warning}"));
    }
    let file = config.state_file();
    let state = match open_state(config) {
        Err(NodeError::Store(StoreError::Locked { .. })) => {
            line(format!("state     {} is in use by a running node; not read", file.display()));
            return Ok(());
        }
        state => state?,
    };
    match state {
        None => line(format!("state     {} does not exist yet; serve starts empty", file.display())),
        Some(state) => {
            let services: Vec<_> = state
                .records
                .iter()
                .filter_map(|stored| match &stored.record {
                    Record::Service(service) => Some(service),
                    _ => None,
                })
                .collect();
            line(format!("state     {} at revision {}, {} services", file.display(), state.revision, services.len()));
            for service in services {
                line(format!(
                    "service   {} {} {} in {}/{}",
                    service.port, service.kind, service.name, service.org, service.space
                ));
                for hint in NameHint::of(&service.name) {
                    line(format!("hint      {}: {hint}", service.name));
                }
                if !config.port_range.contains(service.port) {
                    line(format!(
                        "hint      {}: its port {} is outside port_range; it stays there",
                        service.name, service.port
                    ));
                }
            }
        }
    }
    Ok(())
}
