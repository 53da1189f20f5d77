//! The examples of the user's document, to the letter.

use harbor_types::{Credentials, Host};

use crate::rig::{env, internal, public, run, service};

/// The example, without the blanks between its tokens (none of its strings has one).
const MY_PORT: &str = r#"
    {
      "my-port": {
        "hostname": "192.168.68.111",
        "host": "192.168.68.111",
        "port": 30134,
        "name": "cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09",
        "node_id": "harbor_node_1",
        "int_port": 4100,
        "ext_hostname": "ports.example.com",
        "ext_host": "15.185.104.122"
      }
    }"#;

fn dense(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

fn services_json(credentials: Credentials) -> String {
    env("port-test", &[("my-port".parse().unwrap(), credentials)]).remove("STACKATO_SERVICES").unwrap()
}

#[test]
fn my_port_with_public_access() {
    assert_eq!(services_json(public()), dense(MY_PORT));
}

#[test]
fn my_port_without_public_access_has_no_ext_keys() {
    let want = dense(MY_PORT).replace(r#","ext_hostname":"ports.example.com","ext_host":"15.185.104.122""#, "");
    assert_eq!(services_json(internal()), want);
}

#[test]
fn my_port_with_an_internal_host_name() {
    let name = Host::Name("node-1.internal".parse().unwrap());
    let want = dense(MY_PORT).replacen("192.168.68.111", "node-1.internal", 1);
    assert_eq!(services_json(Credentials { hostname: name, ..public() }), want);
}

#[test]
fn my_port_without_a_public_name_repeats_the_address() {
    let ip = "15.185.104.122".parse().unwrap();
    let want = dense(MY_PORT).replace("ports.example.com", "15.185.104.122");
    assert_eq!(services_json(Credentials { ext_hostname: Some(Host::Ip(ip)), ..public() }), want);
}

#[test]
fn keys_that_depart_from_the_name_come_last() {
    let departing = Credentials { protocol: Some(harbor_types::Protocols::Both), https: Some(true), ..public() };
    let want = dense(MY_PORT).replace("\"}}", r#"","protocol":"both","https":true}}"#);
    assert_eq!(services_json(departing), want);
}

#[test]
fn cloud_foundry_shape_carries_the_same_credentials() {
    let vars = env("port-test", &[("my-port".parse().unwrap(), public())]);
    let credentials = dense(MY_PORT).replacen("{\"my-port\":", "", 1);
    let credentials = credentials.strip_suffix('}').unwrap();
    let want = format!(
        r#"{{"harbor":[{{"name":"my-port","label":"harbor","plan":"free","tags":["tcp"],"credentials":{credentials}}}]}}"#
    );
    assert_eq!(vars["VCAP_SERVICES"], want);
}

#[test]
fn tags_say_the_kind() {
    for (name, tags) in [
        ("a", r#"["tcp"]"#),
        ("udp-a", r#"["udp"]"#),
        ("both-a", r#"["tcp","udp"]"#),
        ("a-https", r#"["tcp","https"]"#),
        ("both-https", r#"["tcp","udp","https"]"#),
    ] {
        let vcap = env("x", &[service(name, 4100)]).remove("VCAP_SERVICES").unwrap();
        assert!(vcap.contains(&format!(r#""tags":{tags}"#)), "{name}: {vcap}");
    }
}

/// Names and ports of the variables that hold no JSON.
fn plain(vars: &std::collections::BTreeMap<String, String>) -> Vec<(&str, &str)> {
    vars.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(_, value)| !value.starts_with('{'))
        .collect()
}

#[test]
fn one_service_has_both_variables() {
    let vars = env("port-test", &[service("my-port", 4100)]);
    let want =
        [("STACKATO_APP_NAME_UPCASE", "PORT_TEST"), ("STACKATO_HARBOR", "4100"), ("STACKATO_HARBOR_MY_PORT", "4100")];
    assert_eq!(plain(&vars), want);
    assert_eq!(vars.len(), 5, "the three above, STACKATO_SERVICES and VCAP_SERVICES: {vars:?}");
}

#[test]
fn two_services_have_one_variable_each() {
    let vars = env("port-test", &[service("udp-port", 4100), service("tcp-port", 4101)]);
    let want = [
        ("STACKATO_APP_NAME_UPCASE", "PORT_TEST"),
        ("STACKATO_HARBOR_TCP_PORT", "4101"),
        ("STACKATO_HARBOR_UDP_PORT", "4100"),
    ];
    assert_eq!(plain(&vars), want);
    assert!(vars["STACKATO_SERVICES"].starts_with(r#"{"udp-port":{"#), "in the order given: {vars:?}");
}

#[test]
fn no_service_leaves_empty_objects() {
    let vars = env("port-test", &[]);
    assert_eq!(plain(&vars), [("STACKATO_APP_NAME_UPCASE", "PORT_TEST")]);
    assert_eq!((vars["STACKATO_SERVICES"].as_str(), vars["VCAP_SERVICES"].as_str()), ("{}", "{}"));
}

/// The document's manifest with `${name}`, an environment for it, and the document's two lines, run by bash as they are.
#[test]
fn indirection_runs_in_bash_as_written() {
    let text = "name: my.test-app\nservices:\n  udp-${name}: harbor\n  tcp-${name}: harbor\n";
    let manifest = harbor_env::manifest::parse(text, "manifest.yml").unwrap();
    let app = manifest.apps[0].name.clone().unwrap();
    let services: Vec<_> =
        manifest.orders.iter().zip(4100..).map(|(order, port)| service(order.service.name.as_str(), port)).collect();
    let vars = env(app.as_str(), &services);
    let script = "UDP_SERVICE_NAME=STACKATO_HARBOR_UDP_${STACKATO_APP_NAME_UPCASE}\n\
                  UDP_SERVICE_PORT=${!UDP_SERVICE_NAME}\n\
                  echo $UDP_SERVICE_PORT";
    if let Some(output) = run("bash", script, &vars, "") {
        assert_eq!(String::from_utf8_lossy(&output), "4100\n");
    }
}
