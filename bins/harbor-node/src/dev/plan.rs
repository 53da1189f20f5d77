//! Which numbers each instance gets: the instances share one machine, and real apps listen on 0.0.0.0, so every instance
//! has ports and a `PORT` of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use anyhow::Context as _;
use harbor_types::{Credentials, Port, Protocols, wire::ServiceView};
use tokio::time::{interval, timeout};

use super::instance::{Listen, Plan};
use super::screen::Shown;
use super::{DevArgs, GREETER, Prepared, START, listening};

/// A service that is there.
pub(super) struct Ordered {
    pub(super) view: ServiceView,
    pub(super) new: bool,
}

/// The lowest number from `first` on that is not in `taken` and that nobody on this machine has.
pub(super) fn next_free(first: Port, protocols: Protocols, taken: &BTreeSet<Port>) -> anyhow::Result<Port> {
    (first.get()..=u16::MAX)
        .filter_map(|number| Port::new(number).ok())
        .find(|port| !taken.contains(port) && listening::is_free(*port, protocols))
        .with_context(|| format!("no free port from {first} on is left on this machine for an instance to listen on"))
}

/// Numbers, environment and command line of each instance.
pub(super) async fn plan(
    args: &DevArgs,
    vars: &BTreeMap<String, String>,
    ordered: &[Ordered],
) -> anyhow::Result<Prepared> {
    let mut taken: BTreeSet<Port> = ordered.iter().map(|service| service.view.int_port).collect();
    let (program, arguments) = command(args)?;
    let mut plans = Vec::new();
    let mut shown: Vec<Shown> = ordered.iter().map(shown).collect();
    let mut lists = Vec::new();
    for index in 0..args.instances {
        let mut listens = Vec::new();
        for (Ordered { view, .. }, shown) in ordered.iter().zip(&mut shown) {
            let port =
                if index == 0 { own_port(view).await? } else { next_free(args.int_port_base, view.protocol, &taken)? };
            taken.insert(port);
            shown.instances.push(port.get());
            listens.push(Listen { service: view.id, name: view.name.clone(), protocols: view.protocol, port });
        }
        lists.push(listens);
    }
    for (index, listens) in (0..).zip(lists) {
        let own = |(Ordered { view, .. }, listen): (&Ordered, &Listen)| {
            (view.name.clone(), Credentials { int_port: listen.port, ..view.credentials.clone() })
        };
        let services: Vec<_> = ordered.iter().zip(&listens).map(own).collect();
        let web = next_free(args.int_port_base, Protocols::Tcp, &taken)?;
        taken.insert(web);
        let mut own = harbor_env::render(&args.app, &services, &args.env_prefix)?;
        own.insert("HARBOR_INSTANCE_INDEX".into(), index.to_string());
        own.insert("PORT".into(), web.to_string());
        own.insert("VCAP_APP_PORT".into(), web.to_string());
        let unset =
            vars.keys().filter(|name| is_services_variable(name) && !own.contains_key(*name)).cloned().collect();
        let (program, arguments) = (program.clone(), arguments.clone());
        plans.push(Plan { index, listens, vars: own, unset, program, arguments });
    }
    Ok(Prepared { plans, shown })
}

/// How long the first instance's port may take to become free: an instance of a run that was killed may still be ending.
const FREE_AFTER: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The first instance listens on the service's own number, as it would in a container.
async fn own_port(view: &ServiceView) -> anyhow::Result<Port> {
    let mut looks = interval(LOOK_EVERY);
    let becomes_free = async {
        while !listening::is_free(view.int_port, view.protocol) {
            looks.tick().await;
        }
    };
    anyhow::ensure!(
        timeout(FREE_AFTER, becomes_free).await.is_ok(),
        "port {} of this machine is taken, and instance 0 of {} has to listen there: end whoever has it \
         (ss -lntup 'sport = :{}' names it), or name another service, which gets a number that is free",
        view.int_port,
        view.name,
        view.int_port
    );
    Ok(view.int_port)
}

/// Variables that would tell an instance of services it does not have.
fn is_services_variable(name: &str) -> bool {
    name == "VCAP_SERVICES"
        || ["STACKATO", "HELION"].iter().any(|prefix| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest == "_SERVICES" || rest == "_HARBOR" || rest.starts_with("_HARBOR_"))
        })
}

/// The command line of every instance: this program, which then becomes the app.
fn command(args: &DevArgs) -> anyhow::Result<(OsString, Vec<OsString>)> {
    let own = std::env::current_exe().context("find the program itself, to start instances")?.into_os_string();
    let mut arguments: Vec<OsString> = vec![START.into(), std::process::id().to_string().into(), "--".into()];
    if args.command.is_empty() {
        arguments.extend([own.clone(), GREETER.into()]);
    } else {
        arguments.extend(args.command.iter().cloned());
    }
    Ok((own, arguments))
}

fn shown(ordered: &Ordered) -> Shown {
    let Ordered { view, new } = ordered;
    Shown {
        name: view.name.clone(),
        protocols: view.protocol,
        https: view.https,
        external: (view.credentials.host, view.port.get()).into(),
        instances: Vec::new(),
        new: *new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_taken_or_held_are_passed_over() {
        let held = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let first = Port::new(held.local_addr().unwrap().port()).unwrap();
        let port = next_free(first, Protocols::Tcp, &BTreeSet::new()).unwrap();
        assert!(port > first, "{port} is held");
        let taken = BTreeSet::from([port]);
        assert!(next_free(first, Protocols::Tcp, &taken).unwrap() > port);
    }

    #[test]
    fn variables_of_other_services_are_taken_away() {
        for (name, ours) in [
            ("STACKATO_HARBOR", true),
            ("STACKATO_HARBOR_MY_PORT", true),
            ("HELION_SERVICES", true),
            ("VCAP_SERVICES", true),
            ("STACKATO_APP_ROOT", false),
            ("PATH", false),
            ("STACKATO_HARBORMASTER", false),
        ] {
            assert_eq!(is_services_variable(name), ours, "{name}");
        }
    }
}
