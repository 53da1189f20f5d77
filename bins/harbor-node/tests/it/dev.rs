//! `harbor-node dev` as a newcomer meets it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use harbor_node::system::ignores;
use rustix::process::Signal;

use crate::dev_run::{Place, exists};

/// What a plain TCP client that says nothing hears first.
fn greeting(addr: SocketAddr) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn two_instances_of_the_greeter_take_turns() {
    let place = Place::new();
    let run = place.up(&["--service", "my-port", "--instances", "2"]);
    let addr = run.external("my-port");
    let heard: Vec<_> = (0..4).map(|_| greeting(addr)).collect();
    let want =
        ["instance 0 of my-port\n", "instance 1 of my-port\n", "instance 0 of my-port\n", "instance 1 of my-port\n"];
    assert_eq!(heard, want);
    let (status, said) = run.interrupt_and_wait();
    assert_eq!(status.code(), Some(0), "{said:?}");
    assert!(said.iter().any(|line| line.contains("stopped")), "{said:?}");
}

#[test]
fn the_greeter_speaks_http_and_udp() {
    let place = Place::new();
    let run = place.up(&["--service", "both-greetings"]);
    let addr = run.external("both-greetings");
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("instance 0 of both-greetings\n"),
        "{answer}"
    );

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.connect(addr).unwrap();
    client.send(b"hello").unwrap();
    let mut buffer = [0; 100];
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"instance 0 of both-greetings: hello");
}

#[test]
fn a_second_run_finds_its_services_on_the_same_ports() {
    let place = Place::new();
    let first = place.up(&["--service", "my-port", "udp-port"]);
    let addrs = (first.external("my-port"), first.external("udp-port"));
    let token = place.token();
    assert_eq!(first.interrupt_and_wait().0.code(), Some(0));
    assert!(!exists(&place.state_dir(), "api"), "nobody answers there any more");

    let second = place.up(&["--service", "my-port", "--service", "udp-port"]);
    assert_eq!((second.external("my-port"), second.external("udp-port")), addrs);
    assert_eq!(place.token(), token);
    assert!(second.said.iter().any(|line| line.contains("kept from an earlier run")));
}

#[test]
fn a_run_after_kill_9_finds_its_services_and_no_dead_instance() {
    let place = Place::new();
    let mut first = place.up(&["--service", "my-port", "--instances", "3"]);
    let addr = first.external("my-port");
    // Only the node: its instances must not outlive it, or the next run would meet them on their ports.
    first.child.kill().unwrap();
    first.wait();
    let second = place.up(&["--service", "my-port"]);
    assert_eq!(second.external("my-port"), addr);
    for _ in 0..4 {
        assert_eq!(greeting(addr), "instance 0 of my-port\n");
    }
}

#[test]
fn the_token_is_private_and_opens_the_api() {
    let place = Place::new();
    let _run = place.up(&["--service", "my-port"]);
    let mode = std::fs::metadata(place.state_dir().join("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let host = place.api().trim_start_matches("http://").to_owned();
    for (token, want) in [(place.token(), "HTTP/1.1 200"), ("wrong".into(), "HTTP/1.1 401")] {
        let mut stream = TcpStream::connect(&host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!(
            "GET /v1/services HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(want), "{answer}");
    }
}

#[test]
fn an_interrupt_right_after_the_start_ends_it_cleanly() {
    for round in 0..5 {
        let place = Place::new();
        let mut run = place.start(&["--service", "my-port", "--instances", "2"]);
        // From before its first line to after its last one, depending on the round and the machine.
        if round > 2 {
            run.wait_for("starting");
        }
        if round == 0 {
            // Even before the program has come to install its handlers, SIGINT ends it: by the signal itself then.
            run.signal(if ignores(Signal::INT) { "-TERM" } else { "-INT" });
            let status = run.wait();
            assert!(status.code().is_none_or(|code| code == 0), "{status}");
            continue;
        }
        if round <= 2 {
            while !exists(&place.state_dir(), "token") && matches!(run.child.try_wait(), Ok(None)) {
                std::thread::yield_now();
            }
        }
        let (status, said) = run.interrupt_and_wait();
        assert_eq!(status.code(), Some(0), "round {round}: {said:?}");
    }
}

#[test]
fn each_instance_has_numbers_of_its_own_in_all_its_variables() {
    let place = Place::new();
    let script = r#"echo "VARS $HARBOR_INSTANCE_INDEX $STACKATO_HARBOR_MY_PORT $HELION_HARBOR_MY_PORT $PORT $STACKATO_APP_NAME_UPCASE $STACKATO_SERVICES"; exec "$1" dev-greeter"#;
    let program = env!("CARGO_BIN_EXE_harbor-node");
    let run = place.up(&[
        "--service",
        "my-port",
        "--instances",
        "2",
        "--app",
        "my.app",
        "--env-prefix",
        "HELION",
        "--",
        "sh",
        "-c",
        script,
        "sh",
        program,
    ]);
    let mut numbers = std::collections::BTreeSet::new();
    for index in 0..2_u16 {
        let line = run.said.iter().find(|line| line.contains(&format!("VARS {index} "))).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let &[tag, "VARS", _, own, helion, port, app, json] = words.as_slice() else { panic!("{line}") };
        assert_eq!(tag, format!("[{index}]"));
        assert_eq!(own, helion);
        assert_eq!(app, "MY_APP");
        assert!(json.contains(&format!("\"int_port\":{own}")), "{json}");
        assert!(numbers.insert(own.to_owned()) && numbers.insert(port.to_owned()), "{numbers:?}");
        let want = place.block.first() + index;
        assert_eq!(own, want.to_string(), "instance 0 has the service's own number, the others the next ones");
    }
}

#[test]
fn an_instance_that_ends_leaves_the_rotation_and_its_code_is_kept() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_harbor-node");
    let script = r#"if [ $HARBOR_INSTANCE_INDEX = 1 ]; then "$1" dev-greeter & greeter=$!; read stop < stop; kill $greeter; exit 42; fi; exec "$1" dev-greeter"#;
    output_of_mkfifo(&place);
    let mut run = place.up(&["--service", "my-port", "--instances", "2", "--", "sh", "-c", script, "sh", program]);
    let addr = run.external("my-port");
    assert_ne!(greeting(addr), greeting(addr), "both instances answer");
    std::fs::write(place.folder.path().join("stop"), "now\n").unwrap();
    run.wait_for("instance 1 ended");
    for _ in 0..4 {
        assert_eq!(greeting(addr), "instance 0 of my-port\n");
    }
}

fn output_of_mkfifo(place: &Place) {
    crate::dev_run::output(std::process::Command::new("mkfifo").arg(place.folder.path().join("stop")));
}

#[test]
fn the_run_ends_with_the_code_of_an_app_that_ends() {
    let place = Place::new();
    let mut run = place.start(&["--service", "my-port", "--", "sh", "-c", "exit 42"]);
    assert_eq!(run.wait().code(), Some(42), "{:?}", run.said);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let place = Place::new();
    let mut run = place.start(&["--service", "my-port", "--", "no-such-program"]);
    assert_eq!(run.wait().code(), Some(127));
    assert!(run.said.iter().any(|line| line.contains("cannot run no-such-program")), "{:?}", run.said);
}

#[test]
fn a_second_node_in_the_same_folder_is_refused() {
    let place = Place::new();
    let _first = place.up(&["--service", "my-port"]);
    let output = place.command(&["--service", "other"]).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{err}");
    assert!(err.contains("harbor.redb"), "{err}");
    assert!(exists(&place.state_dir(), "api"), "the first one's address stays");
}

/// Waits until nobody has this port: a process that was killed may still be ending.
fn becomes_free(port: u16) {
    let end = std::time::Instant::now() + crate::dev_run::BOUND;
    while let Err(error) = std::net::TcpListener::bind(("0.0.0.0", port)) {
        assert!(std::time::Instant::now() < end, "port {port} stays taken: {error}");
        std::thread::yield_now();
    }
}

#[test]
fn a_closed_terminal_ends_the_run_and_whatever_an_instance_started() {
    if ignores(Signal::HUP) {
        eprintln!("skipped: SIGHUP is ignored here, as under nohup, and a run keeps to that");
        return;
    }
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_harbor-node");
    // The shell stays, and what listens is its child: it would outlive a run that just died.
    let script = r#""$1" dev-greeter; echo over"#;
    let mut run = place.up(&["--service", "my-port", "--", "sh", "-c", script, "sh", program]);
    assert_eq!(greeting(run.external("my-port")), "instance 0 of my-port\n");
    run.signal("-HUP");
    // Told twice, as a shell and the kernel do: still an orderly stop.
    run.signal("-HUP");
    let status = run.wait();
    assert_eq!(status.code(), Some(0), "{:?}", run.said);
    assert!(run.said.iter().any(|line| line.contains("stopped;")), "{:?}", run.said);
    assert!(!exists(&place.state_dir(), "api"), "nobody answers there any more");
    becomes_free(place.block.first());
}

#[test]
fn an_app_that_ignores_sigterm_is_waited_for_until_the_second_interrupt() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_harbor-node");
    let script = r#"trap "" TERM; exec "$1" dev-greeter"#;
    let mut run = place.up(&["--service", "my-port", "--", "sh", "-c", script, "sh", program]);
    run.signal("-INT");
    run.wait_for("Ctrl-C again ends it at once");
    let (status, said) = run.interrupt_and_wait();
    assert_eq!(status.code(), Some(0), "{said:?}");
    assert!(said.iter().any(|line| line.contains("stopped at once")), "{said:?}");
    becomes_free(place.block.first());
}

#[test]
fn addresses_that_a_dev_run_does_not_take_are_refused_with_the_way_out() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, code, want) in [
        (["--api", &taken], 69, "a dev run in another folder"),
        (["--api", &taken], 69, "like --api 127.0.0.1:"),
        (["--api", "0.0.0.0:8701"], 2, "stays on this machine"),
        (["--api", "localhost:8701"], 2, "write it like 127.0.0.1:8701"),
        (["--port-range", "80-90"], 2, "take ports from 1024"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_harbor-node"));
        command.current_dir(place.folder.path()).args(["dev", "--service", "my-port"]).args(arguments);
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(want), "{arguments:?}: want {want:?} in {err}");
    }
}
