//! An app asks its environment for its own ports. On Harbor it prints what is really there; anywhere else it takes a
//! sample, so that it can be tried by hand. Opens no port: where to listen is the answer, not the example.

use std::collections::BTreeMap;

use anyhow::Context;
use harbor_env::{AppServices, ParseError};

/// What Harbor puts into the environment of an app with two services (and a database that is not Harbor's).
const SAMPLE: &str = r#"{
  "my-port":  {"hostname": "192.168.68.111", "host": "192.168.68.111", "port": 30134, "node_id": "harbor_node_1",
               "name": "cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09", "int_port": 4100,
               "ext_hostname": "ports.example.com", "ext_host": "15.185.104.122"},
  "both-dns": {"hostname": "192.168.68.111", "host": "192.168.68.111", "port": 30135, "node_id": "harbor_node_1",
               "name": "0b6a4e0c-7f8e-4d62-9f5a-1d2f0a6f7a11", "int_port": 4101},
  "customers": {"hostname": "192.168.68.120", "host": "192.168.68.120", "port": 3306, "user": "app"}
}"#;

fn main() -> anyhow::Result<()> {
    let services = match harbor_env::parse(&environment()) {
        Err(ParseError::NoVariable) => {
            println!("no services in the environment; this is a sample");
            let sample = harbor_env::parse(&BTreeMap::from([("STACKATO_SERVICES".to_owned(), SAMPLE.to_owned())]))?;
            anyhow::ensure!(sample.port_of("my-port")?.get() == 4100, "by name");
            anyhow::ensure!(listening(&sample) == ["0.0.0.0:4100/tcp", "0.0.0.0:4101/tcp", "0.0.0.0:4101/udp"]);
            sample
        }
        found => found.context("find own ports")?,
    };
    for socket in listening(&services) {
        println!("listen on {socket}");
    }
    for service in &services {
        let seen = &service.credentials;
        let (host, port) = (seen.ext_hostname.as_ref().unwrap_or(&seen.hostname), seen.port);
        println!("clients reach {} ({}) at {host} port {port}", service.name, service.kind());
    }
    Ok(())
}

/// The sockets that this app should open.
fn listening(services: &AppServices) -> Vec<String> {
    let mut sockets = Vec::new();
    for service in services {
        let protocols = service.kind().protocols;
        sockets.extend(protocols.iter().map(|protocol| format!("0.0.0.0:{}/{protocol}", service.int_port())));
    }
    sockets
}

/// The process environment; names and values that are no UTF-8 are none of Harbor's.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
