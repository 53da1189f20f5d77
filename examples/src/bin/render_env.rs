//! A platform reads an app's manifest and renders the app's environment for the services it orders. The credentials, which
//! a node would answer, are made up here.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;
use harbor_env::{Format, Prefix, manifest};
use harbor_types::{Credentials, Host, Port, ServiceId};

const MANIFEST: &str = "\
name: my-app
mem: 256
services:
  udp-${name}: harbor
  tcp-${name}: harbor
  customers: mysql
";

fn main() -> anyhow::Result<()> {
    let manifest = manifest::parse(MANIFEST, "stackato.yml")?;
    for notice in &manifest.notices {
        println!("# stackato.yml:{notice}");
    }
    let app = manifest.apps.first().and_then(|app| app.name.clone()).context("the manifest names an app")?;
    let mut services = Vec::new();
    for (order, nth) in manifest.orders.iter().zip(0..) {
        services.push((order.service.name.clone(), provisioned(nth)?));
    }

    let vars = harbor_env::render(&app, &services, &[Prefix::helion()])?;
    println!("{}", Format::Shell.render(&vars)?);

    anyhow::ensure!(vars.get("STACKATO_HARBOR_UDP_MY_APP").map(String::as_str) == Some("4100"));
    anyhow::ensure!(vars.get("HELION_HARBOR_TCP_MY_APP").map(String::as_str) == Some("4101"));
    anyhow::ensure!(!vars.contains_key("STACKATO_HARBOR"), "only an app with a single service has that one");
    anyhow::ensure!(harbor_env::parse(&vars)?.port_of("tcp-my-app")?.get() == 4101, "the app reads what was rendered");
    Ok(())
}

/// What a node answers for its service number `nth`.
fn provisioned(nth: u16) -> anyhow::Result<Credentials> {
    let host = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    Ok(Credentials {
        hostname: Host::Ip(host),
        host,
        port: Port::new(20_000 + nth)?,
        name: ServiceId::from_u128(u128::from(nth) + 1),
        node_id: "harbor_node_1".parse()?,
        int_port: Port::new(4100 + nth)?,
        ext_hostname: None,
        ext_host: None,
        protocol: None,
        https: None,
    })
}
