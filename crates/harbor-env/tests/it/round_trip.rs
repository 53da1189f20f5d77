//! What is rendered is what is parsed, under each prefix and in both shapes; and what cannot be rendered is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use harbor_env::{Prefix, RenderError, parse, render};
use harbor_types::{Credentials, Host, HostName, Port, Protocols, ServiceId, ServiceName, env_suffix};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::rig::service;

fn any_port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(|number| Port::new(number).unwrap())
}

fn any_host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<IpAddr>().prop_map(Host::Ip),
        "[a-z][a-z0-9_]{0,8}(\\.[a-z0-9]{1,8}){0,2}"
            .prop_filter_map("an address", |text| text.parse::<HostName>().ok().map(Host::Name)),
    ]
}

fn any_credentials() -> impl Strategy<Value = Credentials> {
    let protocols = prop::sample::select(vec![Protocols::Tcp, Protocols::Udp, Protocols::Both]);
    let ext = option::of((any_host(), any::<IpAddr>()));
    let fixed = (any_host(), any::<IpAddr>(), any_port(), any::<u128>(), any_port());
    (fixed, ext, option::of(protocols), option::of(any::<bool>())).prop_map(
        |((hostname, host, port, id, int_port), ext, protocol, https)| {
            let (ext_hostname, ext_host) = ext.unzip();
            let (name, node_id) = (ServiceId::from_u128(id), "harbor_node_1".parse().unwrap());
            Credentials { hostname, host, port, name, node_id, int_port, ext_hostname, ext_host, protocol, https }
        },
    )
}

fn any_name() -> impl Strategy<Value = ServiceName> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,20}".prop_filter_map("two dots", |text| ServiceName::parse(&text).ok())
}

/// Services with different variables.
fn any_services() -> impl Strategy<Value = Vec<(ServiceName, Credentials)>> {
    vec((any_name(), any_credentials()), 0..8).prop_map(|mut services| {
        let mut seen = BTreeSet::new();
        services.retain(|(name, _)| seen.insert(env_suffix(name.as_str())));
        services
    })
}

fn parsed(vars: &BTreeMap<String, String>) -> Vec<(ServiceName, Credentials)> {
    let services = parse(vars).unwrap();
    services.iter().map(|service| (service.name.clone(), service.credentials.clone())).collect()
}

proptest! {
    #[test]
    fn parse_finds_what_render_wrote(services in any_services()) {
        let vars = render(&"app".parse().unwrap(), &services, &[Prefix::helion()]).unwrap();
        for kept in ["STACKATO_SERVICES", "HELION_SERVICES", "VCAP_SERVICES"] {
            let mut only = vars.clone();
            only.retain(|name, _| name == kept);
            prop_assert_eq!(parsed(&only), services.clone(), "{}", kept);
        }
        for (name, credentials) in &services {
            let variable = format!("STACKATO_HARBOR_{}", env_suffix(name.as_str()));
            prop_assert_eq!(&vars[&variable], &credentials.int_port.to_string());
        }
        prop_assert_eq!(vars.contains_key("STACKATO_HARBOR"), services.len() == 1);
        prop_assert_eq!(vars.len(), 1 + 2 * (2 + services.len() + usize::from(services.len() == 1)));
    }

    #[test]
    fn render_refuses_or_keeps_every_service(names in vec("[ab]([._-]?[abAB]){0,2}", 0..5)) {
        let services: Vec<_> = names.iter().zip(4100..).map(|(name, port)| service(name, port)).collect();
        let different: BTreeSet<String> = names.iter().map(|name| env_suffix(name)).collect();
        let rendered = render(&"app".parse().unwrap(), &services, &[]);
        prop_assert_eq!(rendered.is_ok(), different.len() == names.len(), "{:?}", rendered);
    }

    #[test]
    fn parse_never_panics(text in ".{0,200}", json in "[\\[\\]{}\":,a-z0-9 ]{0,60}") {
        for value in [text, json.clone(), format!("{{\"a\":{{\"int_port\":{json}}}}}")] {
            for name in ["STACKATO_SERVICES", "VCAP_SERVICES"] {
                let _ = parse(&BTreeMap::from([(name.to_owned(), value.clone())]));
            }
        }
    }
}

#[test]
fn twins_have_the_same_values() {
    let services = [service("my-port", 4100)];
    let prefixes = ["HELION", "X_1", "HELION", "STACKATO"].map(|prefix| prefix.parse().unwrap());
    let vars = render(&"a.b".parse().unwrap(), &services, &prefixes).unwrap();
    for tail in ["SERVICES", "HARBOR", "HARBOR_MY_PORT", "APP_NAME_UPCASE"] {
        for prefix in ["HELION", "X_1"] {
            assert_eq!(vars[&format!("{prefix}_{tail}")], vars[&format!("STACKATO_{tail}")]);
        }
    }
    assert_eq!(vars.len(), 13, "4 for each of three prefixes, and VCAP_SERVICES: {vars:?}");
}

#[test]
fn shared_variables_are_refused_by_name() {
    let app = "app".parse().unwrap();
    let error = render(&app, &[service("a-b", 4100), service("c", 4101), service("A_b", 4102)], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the services a-b and A_b would share the variable STACKATO_HARBOR_A_B; bind only one of them to the app"
    );
    let error = render(&app, &[service("a", 4100), service("a", 4101)], &[]).unwrap_err();
    assert!(matches!(error, RenderError::Repeated { .. }), "{error}");
}

#[test]
fn prefixes_that_run_into_other_variables_are_refused() {
    let app = "app".parse().unwrap();
    for (service_name, prefix, variable) in
        [("a", "VCAP", "VCAP_SERVICES"), ("services", "STACKATO_HARBOR", "STACKATO_HARBOR_SERVICES")]
    {
        let error = render(&app, &[service(service_name, 4100)], &[prefix.parse().unwrap()]).unwrap_err();
        assert!(matches!(&error, RenderError::Prefix { variable: at, .. } if at == variable), "{prefix}: {error}");
    }
}
