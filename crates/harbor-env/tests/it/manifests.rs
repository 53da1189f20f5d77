//! Manifests: what is read out of them, what is passed over, and what is a mistake, with its place.

use std::fmt::Write;

use harbor_env::manifest::{Fault, Manifest, parse};
use harbor_types::{Port, Protocols, ServiceKind};
use proptest::prelude::*;

fn ok(text: &str) -> Manifest {
    parse(text, "stackato.yml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn orders(manifest: &Manifest) -> Vec<&str> {
    manifest.orders.iter().map(|order| order.service.name.as_str()).collect()
}

/// Name, orders and list of each app, in one line each.
fn apps(manifest: &Manifest) -> Vec<String> {
    let app = |app: &harbor_env::manifest::App| {
        let name = app.name.as_ref().map_or("-", |name| name.as_str());
        let ordered: Vec<&str> = app.ordered.iter().map(|name| name.as_str()).collect();
        let listed: Vec<&str> = app.listed.iter().map(|listed| listed.name.as_str()).collect();
        format!("{name}: {} | {}", ordered.join(" "), listed.join(" "))
    };
    manifest.apps.iter().map(app).collect()
}

#[test]
fn the_documents_manifests() {
    let one = ok("name: port-test\nmem: 256\nservices:\n  my-port: harbor\n");
    assert_eq!(apps(&one), ["port-test: my-port | "]);
    assert_eq!(one.orders[0].at.to_string(), "4:3");
    let two = ok("services:\n  udp-port: harbor\n  tcp-port: harbor\n");
    assert_eq!(apps(&two), ["-: udp-port tcp-port | "]);
    assert_eq!(two.orders.iter().map(|o| o.kind).collect::<Vec<_>>(), [ServiceKind::UDP, ServiceKind::TCP]);
    let named = ok("name: web\nservices:\n  udp-${name}: harbor\n  tcp-${name}: harbor\n");
    assert_eq!(orders(&named), ["udp-web", "tcp-web"]);
    let https = ok("name: harbor-test-app\n\nservices:\n  custom-cert-https: harbor\n");
    assert_eq!(https.orders[0].kind, ServiceKind::TCP_HTTPS);
}

#[test]
fn parameters_are_read() {
    let text = "services:\n  web: {type: harbor, parameters: {protocol: both, https: yes, port: 30200, int_port: 4100, public: false}}\n  \
                bare: {type: harbor}\n  empty: {type: harbor, parameters: }\n";
    let manifest = ok(text);
    let [web, bare, empty] = manifest.orders.as_slice() else { panic!("{manifest:?}") };
    assert_eq!(web.service.protocol, Some(Protocols::Both));
    assert_eq!((web.service.https, web.service.public), (Some(true), Some(false)));
    assert_eq!((web.service.port.map(Port::get), web.service.int_port.map(Port::get)), (Some(30200), Some(4100)));
    assert_eq!(web.kind, ServiceKind::BOTH_HTTPS);
    for order in [bare, empty] {
        let plain = harbor_types::wire::CreateService::named(order.service.name.clone());
        assert_eq!(order.service, plain);
    }
}

#[test]
fn applications_as_list_and_as_folders() {
    let list = "applications:\n- name: a\n  services: {'port-${name}': harbor}\n- name: b\n  services: [port-a, 'my db']\n- name: c\n";
    let folders = "applications:\n  ./x:\n    name: a\n    services: {'port-${name}': harbor}\n  ./y:\n    name: b\n    services: [port-a, my db]\n  ./z: ~\n";
    for text in [list, folders] {
        let manifest = ok(text);
        assert_eq!(apps(&manifest), ["a: port-a | ", "b:  | port-a"], "{text}");
        let notices: Vec<String> = manifest.notices.iter().map(ToString::to_string).collect();
        assert_eq!(notices.len(), 1);
        assert!(
            notices[0].ends_with("service \"my db\" is skipped: no Harbor service can have that name"),
            "{notices:?}"
        );
    }
}

#[test]
fn top_level_counts_for_every_application() {
    let text = "name: all\nservices:\n  shared: harbor\n  own-${name}: harbor\n  db: mysql\n\
                applications:\n- name: a\n- name: b\n  services: {shared: harbor, extra: harbor}\n- path: .\n";
    let manifest = ok(text);
    assert_eq!(apps(&manifest), ["a: shared own-a | ", "b: shared own-b extra | ", "all: shared own-all | "]);
    assert_eq!(orders(&manifest), ["shared", "own-a", "own-b", "extra", "own-all"]);
    assert_eq!(manifest.notices.len(), 1, "one notice for one place: {:?}", manifest.notices);
}

#[test]
fn lists_name_existing_services() {
    let manifest = ok("name: a\nservices:\n- my-port\n- 1234\n- on\n- name: other-${name}\n  parameters: {x: 1}\n");
    assert_eq!(apps(&manifest), ["a:  | my-port 1234 on other-a"]);
    assert_eq!(manifest.apps[0].listed[3].at.to_string(), "6:9");
    assert!(manifest.orders.is_empty());
}

#[test]
fn other_types_are_noticed_and_passed_over() {
    let manifest = ok(
        "name: x\nservices:\n  my db!: mysql\n  ${random}-r: {type: redis, plan: free}\n  my-port: harbor\n  h: Harbor\n",
    );
    let notices: Vec<String> = manifest.notices.iter().map(ToString::to_string).collect();
    assert_eq!(
        notices,
        [
            "3:3: service \"my db!\" is skipped: its type is \"mysql\", not harbor",
            "4:3: service \"${random}-r\" is skipped: its type is \"redis\", not harbor",
            "6:3: service \"h\" is skipped: its type is \"Harbor\", not harbor",
        ]
    );
    assert_eq!(orders(&manifest), ["my-port"]);
    let foreign = ok("name: Not Ours!\nservices: {db: mysql}");
    assert_eq!((foreign.apps.len(), foreign.notices.len()), (0, 1), "{foreign:?}");
}

#[test]
fn names_stay_as_they_are_written() {
    let text = "name: 007\nservices:\n  on: harbor\n  1234: harbor\n  0x1F: harbor\n  1_000: harbor\n  1.50: harbor\n  \
                \"yes\": harbor\n  !!str null: harbor\n  'no-${name}': harbor\n";
    assert_eq!(orders(&ok(text)), ["on", "1234", "0x1F", "1_000", "1.50", "yes", "null", "no-007"]);
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let text = "\
x-common: &common
  a: harbor
  b: &kind {type: harbor, parameters: &p {public: true}}
x-other: &other {c: harbor, a: mysql}
services:
  <<: [*common, *other]
  b: {type: harbor, parameters: {<<: *p, https: true}}
  d: *kind
";
    let manifest = ok(text);
    assert_eq!(orders(&manifest), ["b", "d", "a", "c"]);
    assert!(manifest.notices.is_empty(), "{:?}", manifest.notices);
    let by = |name: &str| manifest.orders.iter().find(|o| o.service.name.as_str() == name).unwrap();
    assert_eq!((by("b").service.public, by("b").service.https), (Some(true), Some(true)));
    assert_eq!((by("d").service.public, by("d").service.https), (Some(true), None));
}

#[test]
fn the_rest_of_the_file_is_none_of_our_business() {
    let text = "\
%YAML 1.1
---
a: !!binary zzz
b: !foo bar
c: !ruby/object:X {a: 1}
d: [.nan, 1e999, 99999999999999999999999999999999999999, !!int foo]
? [a, b]
: x
? {a: b}
: x
~: 3
x: 1
x: 2
2001-01-01: !!set {a, b}
h: |
  services: 5
env: {services: 7, name: [1]}
services: {a: harbor}
...
";
    assert_eq!(orders(&ok(text)), ["a"]);
    for text in ["\u{feff}services: {a: harbor}", "services: {a: harbor}\r\nmem: 1\r\n"] {
        assert_eq!(orders(&ok(text)), ["a"], "{text:?}");
    }
    for text in [
        "",
        "---\n",
        "# nothing\n",
        "name: x\n",
        "name: [odd]\n",
        "services:\n",
        "services: {}\n",
        "services: []",
        "applications: 5",
    ] {
        assert_eq!(ok(text), Manifest::default(), "{text:?}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, want) in [
        (
            "services: 5",
            "1:11: services: must be a map of names and types, like my-port: harbor, or a list of names of existing services, but this is a number",
        ),
        (
            "services: harbor",
            "1:11: services: must be a map of names and types, like my-port: harbor, or a list of names of existing services, but this is a text",
        ),
        (
            "applications:\n- name: a\n  services: true",
            "3:13: services: must be a map of names and types, like my-port: harbor, or a list of names of existing services, but this is a boolean",
        ),
        (
            "services:\n  my-port: ~",
            "2:12: service \"my-port\" needs a type, like my-port: harbor, or a map with type: harbor, but this is nothing",
        ),
        (
            "services:\n  my-port: 7",
            "2:12: service \"my-port\" needs a type, like my-port: harbor, or a map with type: harbor, but this is a number",
        ),
        (
            "services:\n  a: [harbor]",
            "2:6: service \"a\" needs a type, like my-port: harbor, or a map with type: harbor, but this is a list",
        ),
        (
            "services:\n  a: {plan: x}",
            "2:6: service \"a\" needs a type, like my-port: harbor, or a map with type: harbor, but this is a map without type:",
        ),
        (
            "services:\n  a: {type: harbor, port: 1}",
            "2:21: service \"a\": \"port\" is not known here; put it under parameters:",
        ),
        (
            "services:\n  a: {type: harbor, plan: 1}",
            "2:21: service \"a\": \"plan\" is not known here; only type: and parameters: are",
        ),
        (
            "services:\n  a: {type: harbor, parameters: {prot: udp}}",
            "2:34: service \"a\": \"prot\" is not known here; protocol, https, port, int_port and public are",
        ),
        (
            "services:\n  a: {type: harbor, parameters: [udp]}",
            "2:33: service \"a\": parameters must be a map, but this is a list",
        ),
        (
            "services:\n  a: {type: harbor, parameters: {protocol: icmp}}",
            "2:44: service \"a\": protocol must be tcp, udp or both, but this is a text (\"icmp\")",
        ),
        (
            "services:\n  a: {type: harbor, parameters: {https: 1}}",
            "2:41: service \"a\": https must be true or false, but this is a number (\"1\")",
        ),
        (
            "services:\n  a: {type: harbor, parameters: {port: 0}}",
            "2:40: service \"a\": port must be a number from 1 to 65535, but this is a number (\"0\")",
        ),
        (
            "services:\n  a: {type: harbor, parameters: {int_port: 65536}}",
            "2:44: service \"a\": int_port must be a number from 1 to 65535, but this is a number (\"65536\")",
        ),
        (
            "services:\n  a: {type: harbor, parameters: {port: '30200'}}",
            "2:40: service \"a\": port must be a number from 1 to 65535, but this is a text (\"30200\")",
        ),
        ("services:\n  [a]: harbor", "2:3: the name of a service must be a text, but this is a list"),
        ("services:\n  ~: harbor", "2:3: the name of a service must be a text, but this is nothing"),
        (
            "services: [{my-port: harbor}]",
            "1:12: an item of a services: list must be the name of a service, but this is a map",
        ),
        ("services: [a, ~]", "1:15: an item of a services: list must be the name of a service, but this is nothing"),
        (
            "services:\n  a b: harbor",
            "2:3: service name \"a b\" is not valid: only letters A-Z a-z, digits, '.', '_' and '-' are allowed",
        ),
        ("services:\n  a: harbor\n  b: mysql\n  a: harbor", "4:3: service \"a\" is given twice, first at 2:3"),
        ("services:\n  db: mysql\n  db: mysql", "3:3: service \"db\" is given twice, first at 2:3"),
        ("name: x\nservices:\n  x-1: harbor\n  ${name}-1: harbor", "4:3: service \"x-1\" is given twice, first at 3:3"),
        ("services: [a, b, a]", "1:18: service \"a\" is given twice, first at 1:12"),
        ("services: {a: harbor}\nservices: {b: harbor}", "2:1: \"services\" is given twice, first at 1:1"),
        (
            "services:\n  ${name}-x: harbor",
            "2:3: \"${name}-x\" needs the app's name, which is not given; add name: to the app",
        ),
        (
            "name: ~\nservices: ['${name}']",
            "2:12: \"${name}\" needs the app's name, which is not given; add name: to the app",
        ),
        ("name: x\nservices:\n  ${nam}-x: harbor", "3:3: \"${nam}-x\": only ${name} is replaced in names of services"),
        (
            "name: my app\nservices: {a: harbor}",
            "1:7: app name \"my app\" is not valid: only letters A-Z a-z, digits, '.', '_' and '-' are allowed",
        ),
        ("name: [x]\nservices: {a: harbor}", "1:7: the name of an app must be a text, but this is a list"),
        (
            "services:\n  udp-https: harbor",
            "2:3: service udp-https: a UDP service cannot terminate HTTPS, which runs over TCP: take a name that starts with 'both', or give protocol (tcp or both) or https: false explicitly",
        ),
        (
            "services:\n  a-b: harbor\n  a_b: harbor",
            "3:3: services a-b (at 2:3) and a_b of one app would share the variable STACKATO_HARBOR_A_B",
        ),
        (
            "applications:\n- name: a\n  services: {p: harbor}\n- name: b\n  services: {p: {type: harbor, parameters: {https: true}}}",
            "5:14: service p is ordered differently at 3:14",
        ),
        ("services:\n  <<: 5\n  a: harbor", "2:7: <<: takes a map or a list of maps, but this is a number"),
        ("- a", "1:1: a manifest is a map with keys like name: and services:, but this is a list"),
        ("---\na: 1\n---\nb: 2\n", "3:1: a manifest is one YAML document; another one starts here"),
        ("x: &x\n  y: *x\n", "2:6: this alias stands inside its own anchor"),
        ("a: *nope\n", "1:4: while parsing node, found unknown anchor"),
        ("a: {b\n", "1:4: unclosed bracket '{'"),
        ("a: foo: bar\n", "1:7: mapping values are not allowed in this context"),
    ] {
        match parse(text, "stackato.yml") {
            Err(error) => assert_eq!(error.to_string(), format!("stackato.yml:{want}"), "{text}"),
            Ok(manifest) => panic!("{text}\n{manifest:?}"),
        }
    }
}

fn fault(text: &str) -> Fault {
    match parse(text, "manifest.yml") {
        Err(error) => *error.fault,
        Ok(manifest) => panic!("{} orders of {} bytes", manifest.orders.len(), text.len()),
    }
}

/// Ten levels of nine aliases each: a few hundred bytes that stand for 3.5 thousand million nodes.
fn laughs(level: impl Fn(usize) -> String) -> String {
    (1..10).fold(format!("a0: &a0 {}\n", "{k: v}"), |text, i| format!("{text}a{i}: &a{i} {}\n", level(i - 1)))
}

#[test]
fn manifests_that_unfold_without_measure_are_refused() {
    let lists = laughs(|below| format!("[{}]", vec![format!("*a{below}"); 9].join(", ")));
    assert!(matches!(fault(&format!("{lists}services: {{a: harbor}}")), Fault::Unfolds { .. }));
    let merges = laughs(|below| format!("{{<<: [{}]}}", vec![format!("*a{below}"); 9].join(", ")));
    assert!(matches!(fault(&format!("{merges}services: *a9")), Fault::Unfolds { .. }));
    let mut shared = String::from("services:\n");
    (0..2000).for_each(|i| writeln!(shared, "  s{i}: mysql").unwrap());
    shared += "applications:\n";
    (0..2000).for_each(|_| shared += "- {}\n");
    assert!(matches!(fault(&shared), Fault::Unfolds { .. }));
}

#[test]
fn manifests_that_are_too_deep_or_too_long_are_refused() {
    let block: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(matches!(fault(&block), Fault::TooDeep { limit: 64 }));
    assert!(matches!(fault(&format!("a: {}{}", "[".repeat(80), "]".repeat(80))), Fault::TooDeep { .. }));
    let chain = (1..80).fold(String::from("a0: &a0 [x]\n"), |text, i| format!("{text}a{i}: &a{i} [*a{}]\n", i - 1));
    assert!(matches!(fault(&chain), Fault::TooDeep { .. }), "aliases count");
    // Far deeper than any stack: either bound may see it first.
    assert!(matches!(fault(&"[".repeat(200_000)), Fault::TooDeep { .. } | Fault::Yaml { .. }));
    assert!(matches!(fault(&"- ".repeat(100_000)), Fault::TooDeep { .. } | Fault::Yaml { .. }));
    let full = "services: {a: harbor}\n#".to_owned();
    let longest = format!("{full}{}", "x".repeat(256 * 1024 - full.len()));
    assert_eq!(orders(&ok(&longest)), ["a"]);
    assert!(matches!(fault(&(longest + "x")), Fault::TooLarge { bytes: 262_145, limit: 262_144 }));
}

#[test]
fn messages_carry_no_control_characters() {
    for text in [
        "a: \u{1b}[31m",
        "a: \"\\u001b",
        "services:\n  \"\\e[31m\": harbor",
        "services:\n  \"\\e[31m\": ~",
        "services:\n  a: {type: harbor, parameters: {port: \"\\e\"}}",
    ] {
        let error = parse(text, "f.yml").unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{text:?}: {error:?}");
    }
}

proptest! {
    #[test]
    fn parse_never_panics(text in "([ \n:,&*!|>'\"%#~{}\\[\\]-]|a|services|name|harbor|<<|\\$\\{name\\}|type|: |\n  |- ){0,60}") {
        let _ = parse(&text, "f.yml");
    }

    #[test]
    fn any_valid_services_are_found(names in prop::collection::btree_set("[a-z0-9][a-zA-Z0-9]{0,10}", 0..20), flow in any::<bool>()) {
        let names: Vec<String> = {
            let mut seen = std::collections::BTreeSet::new();
            names.into_iter().filter(|name| seen.insert(name.to_ascii_uppercase()) && name != "null").filter(|name| !(name.starts_with("udp") && name.ends_with("https"))).collect()
        };
        let text = if flow {
            format!("services: {{{}}}", names.iter().map(|name| format!("{name}: harbor")).collect::<Vec<_>>().join(", "))
        } else {
            format!("services:\n{}", names.iter().fold(String::new(), |text, name| text + "  " + name + ": harbor\n"))
        };
        let manifest = ok(&text);
        prop_assert_eq!(orders(&manifest), names);
    }
}
