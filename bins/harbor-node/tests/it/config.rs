//! Configuration: files, variables, flags, and what is said about wrong ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harbor_node::config::{Override, SETTINGS};
use harbor_node::{NodeConfig, TokenSource};
use harbor_types::Span;

fn folder(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() > 2);
    files
}

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flag(key: &str, value: &str) -> Override {
    Override { name: format!("--set {key}"), key: key.into(), value: value.into() }
}

#[test]
fn valid_files_load() {
    for file in folder("valid") {
        let loaded = NodeConfig::load(Some(&file), &BTreeMap::new(), &[]);
        assert!(loaded.is_ok(), "{}: {:?}", file.display(), loaded.err());
    }
}

#[test]
fn invalid_files_are_refused_with_the_message_beside_them() {
    for file in folder("invalid") {
        let want = std::fs::read_to_string(file.with_extension("txt")).unwrap();
        let error = NodeConfig::load(Some(&file), &BTreeMap::new(), &[]).expect_err(&file.display().to_string());
        let message = error.to_string();
        assert!(message.contains(want.trim_end_matches('\n')), "{}:\n  want {want}  got  {message}", file.display());
    }
}

#[test]
fn every_setting_is_in_the_full_file_and_the_documentation() {
    let full =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/full.toml")).unwrap();
    let table: toml::Table = full.parse().unwrap();
    let mut keys = BTreeSet::new();
    for (key, value) in &table {
        match value.as_table() {
            Some(block) => keys.extend(block.keys().map(|inner| format!("{key}.{inner}"))),
            None => {
                keys.insert(key.clone());
            }
        }
    }
    let settings: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.key.to_owned()).collect();
    assert_eq!(keys, settings);

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = std::fs::read_to_string(page).unwrap();
    for setting in SETTINGS {
        assert!(page.contains(&format!("| `{}` |", setting.key)), "{} is not in docs/configuration.md", setting.key);
    }
}

#[test]
fn variables_win_over_the_file_and_flags_over_both() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/full.toml");
    let vars = vars(&[
        ("HARBOR_TTL", "1m"),
        ("HARBOR_TCP_IDLE", "20m"),
        ("HARBOR_PORT_RANGE", "21000-21009, 22000"),
        ("HARBOR_PUBLIC_LISTEN", "10.1.1.1,fd00::1"),
        ("HARBOR_API_INSECURE", "true"),
        ("HARBOR_UDP_MAX_SESSIONS", "7"),
        ("HARBOR_UDP_MAX_SESSIONS_NODE", "9"),
        ("HARBOR_TOKEN", "a-token-from-the-environment"),
        ("HARBOR_SERVICE_HOST", "10.96.0.1"),
        ("PATH", "/bin"),
    ]);
    let loaded = NodeConfig::load(Some(&file), &vars, &[flag("tcp.idle", "5m"), flag("node_id", "by-flag")]).unwrap();
    let config = loaded.config;
    assert_eq!(config.ttl, Span::secs(60));
    assert_eq!(config.tcp.idle, Some(Span::secs(300)), "the flag wins");
    assert_eq!(config.port_range.to_string(), "21000-21009,22000-22000");
    let public = config.public.unwrap();
    assert_eq!(public.listen, ["10.1.1.1".parse::<std::net::IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    assert_eq!(public.ext_host.to_string(), "15.185.104.122", "the block's other keys stay");
    assert_eq!((config.udp.sessions, config.udp_sessions.map(usize::from)), (7, Some(9)));
    assert_eq!(config.node_id.as_str(), "by-flag");
    assert!(matches!(config.token, TokenSource::Given(_)));
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("HARBOR_SERVICE_HOST"));
}

#[test]
fn a_node_can_be_configured_without_a_file() {
    let vars = vars(&[("HARBOR_HOST", "10.0.0.5"), ("HARBOR_TOKEN_FILE", "/run/token")]);
    let config = NodeConfig::load(None, &vars, &[]).unwrap().config;
    assert_eq!(config.port_range.to_string(), "20000-29999");
    assert_eq!(config.api.to_string(), "127.0.0.1:8700");
    assert_eq!(config.node_id.as_str(), "harbor_node_1");
    assert_eq!(config.state_file(), Path::new("/var/lib/harbor/harbor.redb"));
    assert!(config.public.is_none());
}

#[test]
fn a_wrong_override_is_named() {
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a [Override], &'a str);
    let rows: [Row<'_>; 8] = [
        (&[("HARBOR_TTL", "30")], &[], "HARBOR_TTL: \"30\" is not a length of time"),
        (&[("HARBOR_THREADS", "many")], &[], "HARBOR_THREADS: \"many\" is not a whole number"),
        (&[("HARBOR_API_INSECURE", "yes")], &[], "HARBOR_API_INSECURE: \"yes\" is neither true nor false"),
        (&[("HARBOR_TOKEN", "h3rb0r")], &[], "HARBOR_TOKEN: the token is too short"),
        (&[], &[flag("tcp.ilde", "1m")], "--set tcp.ilde: there is no setting \"tcp.ilde\"; there are node_id, host,"),
        (&[], &[flag("host", "nowhere")], "--set host: \"nowhere\" is not an IP address"),
        // Wrong as such, and wrong beside other settings: either way it is the flag or variable that is named.
        (&[("HARBOR_HOST", "10.0.0.5"), ("HARBOR_TTL", "2d")], &[], "HARBOR_TTL: ttl: 2d is not possible"),
        (&[("HARBOR_HOST", "10.0.0.5")], &[flag("api", "0.0.0.0:1")], "--set api: api: 0.0.0.0:1 is not a loopback"),
    ];
    for (pairs, flags, want) in rows {
        let message = NodeConfig::load(None, &vars(pairs), flags).unwrap_err().to_string();
        assert!(message.contains(want), "want {want}\ngot  {message}");
        assert!(!message.contains("h3rb0r"), "a token is never repeated");
    }
}

#[test]
fn a_missing_file_is_named() {
    let message =
        NodeConfig::load(Some(Path::new("/nowhere/harbor.toml")), &BTreeMap::new(), &[]).unwrap_err().to_string();
    assert!(message.contains("/nowhere/harbor.toml"), "{message}");
}
