//! An app finds its own ports among whatever else its environment holds.

use std::collections::BTreeMap;
use std::error::Error;

use harbor_env::{LookupError, ParseError, parse};
use harbor_types::ServiceKind;

use crate::rig::{env, service};

const MINE: &str = r#"{"hostname":"10.0.0.1","host":"10.0.0.1","port":20001,"node_id":"harbor_node_1",
    "name":"cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09","int_port":4100,"later":{"key":[1,null]}}"#;

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The message with its causes.
fn told(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", told(cause)))
}

#[test]
fn other_services_and_unknown_keys_do_not_matter() {
    let text = format!(
        r#"{{"db":{{"name":"d1","hostname":"10.0.0.2","host":"10.0.0.2","port":3306,"node_id":"mysql_node_1","user":"u"}},
            "my-port":{MINE}, "odd":"text", "none":null, "list":[1], "weird name!":{{"port":1}}}}"#
    );
    let services = parse(&vars(&[("STACKATO_SERVICES", &text)])).unwrap();
    assert_eq!(services.only().unwrap().name.as_str(), "my-port");
    assert_eq!(services.only().unwrap().int_port().get(), 4100);
    assert_eq!(services.variable(), "STACKATO_SERVICES");
}

#[test]
fn the_first_variable_that_is_set_counts() {
    let stackato = format!(r#"{{"stackato":{MINE}}}"#);
    let helion = format!(r#"{{"helion":{MINE}}}"#);
    let vcap = format!(
        r#"{{"mysql":[{{"name":"db","credentials":{{}}}}],
            "harbor":[{{"name":"vcap","label":"harbor","credentials":{MINE},"syslog_drain_url":null}},
                      {{"name":"images","credentials":{{"url":"https://registry"}}}}, "odd", {{}}]}}"#
    );
    let all = [("STACKATO_SERVICES", stackato.as_str()), ("HELION_SERVICES", &helion), ("VCAP_SERVICES", &vcap)];
    for (skip, want) in [(0, "stackato"), (1, "helion"), (2, "vcap")] {
        let services = parse(&vars(&all[skip..])).unwrap();
        assert_eq!(services.only().unwrap().name.as_str(), want);
    }
    let empty_first = parse(&vars(&[("STACKATO_SERVICES", " "), all[1]])).unwrap();
    assert_eq!(empty_first.variable(), "HELION_SERVICES");
    let none = parse(&vars(&[("VCAP_SERVICES", r#"{"mysql":[]}"#)])).unwrap();
    assert!(none.as_slice().is_empty());
}

#[test]
fn errors_name_the_variable_and_the_service() {
    let incomplete = r#"{"a":{"int_port":4100}}"#;
    let zero = format!(r#"{{"a":{}}}"#, MINE.replace("4100", "0"));
    let text_port = format!(r#"{{"a":{}}}"#, MINE.replace("4100", "\"4100\""));
    let bad_name = format!(r#"{{"a b":{MINE}}}"#);
    let twice = format!(r#"{{"a":{MINE},"a":{MINE}}}"#);
    let harbor = format!(r#"{{"harbor":[{{"credentials":{MINE}}}]}}"#);
    for (variable, text, want) in [
        ("STACKATO_SERVICES", "", "none of STACKATO_SERVICES, HELION_SERVICES and VCAP_SERVICES is set"),
        ("STACKATO_SERVICES", "{", "STACKATO_SERVICES is not a JSON object of services: EOF"),
        ("HELION_SERVICES", "[]", "HELION_SERVICES is not a JSON object of services: invalid type: sequence"),
        ("VCAP_SERVICES", "7", "VCAP_SERVICES is not a JSON object of services: invalid type: integer"),
        (
            "STACKATO_SERVICES",
            incomplete,
            "STACKATO_SERVICES: the Harbor service \"a\" cannot be read: missing field `hostname`",
        ),
        ("STACKATO_SERVICES", &zero, "the Harbor service \"a\" cannot be read: 0 is not a port"),
        ("STACKATO_SERVICES", &text_port, "the Harbor service \"a\" cannot be read: invalid type: string \"4100\""),
        (
            "STACKATO_SERVICES",
            &bad_name,
            "the Harbor service \"a b\" cannot be read: service name \"a b\" is not valid",
        ),
        ("STACKATO_SERVICES", &twice, "STACKATO_SERVICES: the Harbor service a is given twice"),
        ("VCAP_SERVICES", &harbor, "VCAP_SERVICES: the Harbor service \"\" cannot be read: service name"),
    ] {
        let error = parse(&vars(&[(variable, text)])).unwrap_err();
        assert!(told(&error).contains(want), "{variable}={text}: {}", told(&error));
    }
    assert!(matches!(parse(&BTreeMap::new()), Err(ParseError::NoVariable)));
}

#[test]
fn lookups_say_what_is_there() {
    let services = parse(&env("x", &[service("udp-a", 4100), service("b-https", 4101)])).unwrap();
    assert_eq!(services.port_of("b-https").unwrap().get(), 4101);
    assert_eq!(
        services.iter().map(|service| service.kind()).collect::<Vec<_>>(),
        [ServiceKind::UDP, ServiceKind::TCP_HTTPS]
    );
    let unknown = services.port_of("c").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "no Harbor service \"c\" is bound to this app (STACKATO_SERVICES has udp-a, b-https)"
    );
    let several = services.only().unwrap_err();
    assert!(matches!(&several, LookupError::NotOne { bound, .. } if bound.len() == 2), "{several}");
    let none = parse(&env("x", &[])).unwrap().only().unwrap_err();
    assert_eq!(none.to_string(), "this app has not exactly one Harbor service (STACKATO_SERVICES has none)");
}
