//! The program: its exit codes, its signals, what it says.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use harbor_store::redb::{Database, TableDefinition};
use harbor_testkit::ports::own_loopback;
use harbor_testkit::tcp::Server;
use harbor_testkit::wait::bounded;
use harbor_types::wire::RegisterBackend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Process, TOKEN, client, config_file, named, program, range, raw};

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A state with one service in it, as a node left it.
async fn used_state(config: &str) {
    let mut process = Process::serve(config);
    client(process.api).create_service(&named("udpate-port")).await.unwrap();
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0), "{:?}", process.said);
}

const QUICK: &str = "[drain]\ngrace = \"0s\"\n";

#[tokio::test]
async fn a_bad_state_is_refused_with_65_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_file(folder.path(), own_loopback(), 8, QUICK);
    used_state(&config).await;
    let file = folder.path().join("state/harbor.redb");
    let good = std::fs::read(&file).unwrap();

    type Damage = fn(&Path, &[u8]);
    let damages: [(&str, Damage); 5] = [
        ("empty", |file, _| std::fs::write(file, b"").unwrap()),
        ("cut short", |file, good| std::fs::write(file, &good[..good.len() / 3]).unwrap()),
        ("some text", |file, _| std::fs::write(file, b"this is no database at all").unwrap()),
        ("overwritten", |file, good| {
            let mut bad = good.to_vec();
            bad[64..16_384].fill(0xa5);
            std::fs::write(file, bad).unwrap();
        }),
        ("from a newer version", |file, _| {
            let database = Database::open(file).unwrap();
            let writing = database.begin_write().unwrap();
            writing.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 2).unwrap();
            writing.commit().unwrap();
        }),
    ];
    for (what, damage) in damages {
        std::fs::write(&file, &good).unwrap();
        damage(&file, &good);
        let bad = std::fs::read(&file).unwrap();
        for command in ["serve", "check"] {
            let (code, _, said) = run(&[command, "--config", &config]);
            assert_eq!(code, Some(65), "{command}, {what}: {said}");
            assert!(said.contains(&*file.to_string_lossy()), "{command}, {what}: {said}");
            assert!(
                said.contains("move it away") || said.contains("newer"),
                "{command}, {what} names no way out: {said}"
            );
        }
        if what != "from a newer version" {
            assert!(std::fs::read(&file).unwrap() == bad, "{what}: the evidence was changed");
        }
    }
    std::fs::write(&file, &good).unwrap();
    let (code, said, _) = run(&["check", "--config", &config]);
    assert_eq!(code, Some(0));
    assert!(said.contains("udpate-port"), "{said}");
}

#[tokio::test]
async fn what_is_in_use_is_refused_with_69() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_file(folder.path(), own_loopback(), 8, QUICK);
    let mut process = Process::serve(&config);
    let (code, _, said) = run(&["serve", "--config", &config]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("harbor.redb") && said.contains("another process"), "{said}");
    // What an operator runs before a reload.
    let (code, out, said) = run(&["check", "--config", &config]);
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("harbor_node_1") && out.contains("in use by a running node"), "{out}");
    client(process.api).ports().await.unwrap();
    process.signal("INT");
    assert_eq!(process.ended().await.code(), Some(0));

    for command in ["serve", "check"] {
        let (code, out, said) = run(&[command, "--config", &config, "--state-dir", &config]);
        assert_eq!(code, Some(69), "{command}: {out} {said}");
        assert!(said.contains("cannot use the state directory"), "{command}: {said}");
    }

    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, _, said) = run(&["serve", "--config", &config, "--api", &addr]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&addr) && said.contains("like --api 127.0.0.1:"), "the way out is a flag: {said}");
}

#[test]
fn a_wrong_configuration_is_refused_with_78_and_a_wrong_command_line_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_file(folder.path(), own_loopback(), 8, "ttll = \"30s\"\n");
    for command in ["serve", "check"] {
        let (code, _, said) = run(&[command, "--config", &config]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("harbor.toml:7:1: unknown field `ttll`"), "{said}");
    }
    let config = config_file(folder.path(), own_loopback(), 8, "");
    std::fs::remove_file(folder.path().join("token")).unwrap();
    let (code, _, said) = run(&["serve", "--config", &config]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("token"), "{said}");
    assert!(!folder.path().join("state").exists(), "nothing is made before the configuration is right");

    for args in
        [&["serve", "--tokken", "x"][..], &["fly"], &[], &["serve", "--set", "nonsense=1"], &["serve", "--token", "x"]]
    {
        let (code, _, said) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
    }
    for args in [&["--help"][..], &["--version"], &["serve", "--help"], &["check", "--help"]] {
        let (code, said, _) = run(args);
        assert_eq!(code, Some(0), "{args:?}");
        assert!(!said.is_empty());
    }
}

#[test]
fn check_says_what_serve_would_do_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let host = own_loopback();
    let config = config_file(folder.path(), host, 8, "[public]\next_host = \"15.185.104.122\"\n");
    let (code, said, _) = run(&["check", "--config", &config, "--set", "port_range=33000-33010"]);
    assert_eq!(code, Some(0), "{said}");
    for want in ["33000-33010 (11)", &host.to_string(), "0.0.0.0", "15.185.104.122", "does not exist yet"] {
        assert!(said.contains(want), "{want}: {said}");
    }
    // Where the machine's ephemeral range is the usual one, this range meets it.
    let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let reserved = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap();
    if ephemeral.split_whitespace().next() == Some("32768") && reserved.trim().is_empty() {
        assert!(said.contains("warning:") && said.contains("net.ipv4.ip_local_reserved_ports=33000-33010"), "{said}");
    }
    assert!(!folder.path().join("state").exists());
    assert!(!said.contains("chmod"), "{said}");
    let token = folder.path().join("token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (_, said, _) = run(&["check", "--config", &config]);
    assert!(said.contains("mode 0644") && said.contains(&format!("chmod 600 {}", token.display())), "{said}");
}

#[tokio::test]
async fn sigterm_lets_a_running_connection_finish_and_exits_0() {
    let folder = tempfile::tempdir().unwrap();
    let host = own_loopback();
    let config = config_file(folder.path(), host, 8, QUICK);
    let mut process = Process::serve(&config);
    let node = client(process.api);
    let service = node.create_service(&named("tcp-port")).await.unwrap().value;
    let backend = Server::echo().await;
    let order = RegisterBackend { addr: backend.addr(), ttl: None, permanent: true };
    node.register(&service.id.into(), &"i0".parse().unwrap(), &order).await.unwrap();
    let addr = (host, service.port.get());
    let mut running = TcpStream::connect(addr).await.unwrap();
    running.write_all(b"x").await.unwrap();
    running.read_exact(&mut [0]).await.unwrap();

    process.signal("TERM");
    process.line("no new connections");
    bounded("the port to close", async { while TcpStream::connect(addr).await.is_ok() {} }).await;
    assert_eq!(raw(process.api, "GET", "/readyz", &[], b"").await.status, 503);
    running.write_all(b"the rest").await.unwrap();
    running.shutdown().await.unwrap();
    let mut rest = String::new();
    running.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "the rest");
    assert_eq!(process.ended().await.code(), Some(0));
    // The attempts to find the port closed may have left records too.
    let record = match process.said.iter().find(|line| line.contains("\"bytes_up\":9")) {
        Some(line) => line.clone(),
        None => process.line("\"bytes_up\":9"),
    };
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["target"], &record["reason"]), (&"harbor::close".into(), &"finished".into()), "{record}");
    assert_eq!(record["bytes_down"], 9, "{record}");
    assert_eq!((&record["service"], &record["name"]), (&service.id.to_string().into(), &service.name.as_str().into()));
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_file(folder.path(), own_loopback(), 8, "[drain]\ngrace = \"10m\"\nlimit = \"10m\"\n");
    let mut process = Process::serve(&config);
    process.signal("TERM");
    process.line("still accepting");
    assert_eq!(raw(process.api, "GET", "/livez", &[], b"").await.status, 200);
    // A request whose body never comes would be waited for, were there time.
    let mut slow = TcpStream::connect(process.api).await.unwrap();
    let head = format!(
        "POST /v1/services HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    bounded("the node to ask for the body", slow.read_exact(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 100"), "{answer:?}");
    let asked = Instant::now();
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn sighup_takes_a_new_token_names_what_must_wait_and_keeps_the_old_on_error() {
    let folder = tempfile::tempdir().unwrap();
    let host = own_loopback();
    let config = config_file(folder.path(), host, 8, QUICK);
    let mut process = Process::serve(&config);
    let token = |text: &str| harbor_client::Token::parse(text).unwrap();
    let url: harbor_client::NodeUrl = format!("http://{}", process.api).parse().unwrap();
    let (old, new) = (client(process.api), harbor_client::Client::new(url, token("another-token-of-the-tests")));

    std::fs::write(&config, "this is no TOML").unwrap();
    process.signal("HUP");
    let line = process.line("not reloaded");
    assert!(line.contains("harbor.toml:1:"), "{line}");
    old.ports().await.unwrap();

    config_file(folder.path(), host, 8, "ttl = \"45s\"\n[drain]\ngrace = \"0s\"\n");
    std::fs::write(folder.path().join("token"), "another-token-of-the-tests\n").unwrap();
    process.signal("HUP");
    let line = process.line("wait for a restart");
    assert!(line.contains("\"settings\":\"ttl\""), "{line}");
    assert!(matches!(old.ports().await, Err(harbor_client::ClientError::Unauthorized { .. })));
    new.ports().await.unwrap();
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_killed_node_starts_again_on_the_same_ports() {
    let folder = tempfile::tempdir().unwrap();
    let host = own_loopback();
    let config = config_file(folder.path(), host, 32, QUICK);
    let mut process = Process::serve(&config);
    let mut services = Vec::new();
    for n in 0..10 {
        services.push(client(process.api).create_service(&named(&format!("both-{n}"))).await.unwrap().value);
    }
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let process = Process::serve(&config);
    for old in services {
        let new = client(process.api).service(&old.id.into()).await.unwrap().value;
        assert_eq!((new.port, new.state), (old.port, harbor_types::wire::ServiceState::Bound));
    }
}

#[tokio::test]
async fn the_log_tells_what_happens_to_services_and_instances() {
    let (folder, host) = (tempfile::tempdir().unwrap(), own_loopback());
    let config = config_file(folder.path(), host, 4, QUICK);
    let mut process = Process::serve(&config);
    let node = client(process.api);
    let service = node.create_service(&named("tcp-port")).await.unwrap().value;
    let order = RegisterBackend { addr: "127.0.0.1:9".parse().unwrap(), ttl: None, permanent: true };
    node.register(&service.id.into(), &"i0".parse().unwrap(), &order).await.unwrap();
    let field = |line: &str, key: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()[key].clone();
    let line = process.line("service created");
    assert_eq!((field(&line, "name"), field(&line, "service")), ("tcp-port".into(), service.id.to_string().into()));
    let line = process.line("instance joined");
    assert_eq!(field(&line, "detail"), "instance i0 at 127.0.0.1:9");

    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let _thief = TcpListener::bind((host, service.port.get())).unwrap();
    let mut process = Process::serve(&config);
    let said = process.said.iter().find(|line| line.contains("conflicted"));
    let line = said.unwrap_or_else(|| panic!("the start says nothing of it: {:?}", process.said)).clone();
    assert_eq!((field(&line, "name"), field(&line, "level")), ("tcp-port".into(), "WARN".into()));
    assert!(field(&line, "detail").to_string().contains("held by another process"), "{line}");
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_environment_configures_a_node_and_the_token_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "a-secret-nobody-may-read";
    let child = program(&["check"])
        .env("HARBOR_HOST", "10.0.0.5")
        .env("HARBOR_TOKEN", secret)
        .env("HARBOR_STATE_DIR", folder.path())
        .env("HARBOR_PORT_RANGE", range(4))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(child.stdout).unwrap() + &String::from_utf8(child.stderr).unwrap();
    assert!(child.status.success(), "{said}");
    assert!(said.contains("10.0.0.5") && !said.contains(secret), "{said}");
}
