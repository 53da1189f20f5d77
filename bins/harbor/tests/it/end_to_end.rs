//! The program against a real node, with real connections through the ports it orders.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use harbor_node::{Drain, Node, NodeConfig, Token};
use harbor_testkit::ports::PortBlock;
use harbor_testkit::wait::until;
use harbor_types::Span;
use harbor_types::wire::{EventKind, EventList, PortState, PortsView, ServiceView};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::node::{BOUND, finish, harbor, succeed};

const TOKEN: &str = "0123456789abcdef";

/// A node on loopback with ports and a state folder of its own, in a thread of its own; stops when dropped.
struct Real {
    url: String,
    folder: TempDir,
    ports: PortBlock,
    stop: Option<oneshot::Sender<()>>,
    running: Option<thread::JoinHandle<()>>,
}

impl Real {
    fn start() -> Self {
        let (folder, ports) = (tempfile::tempdir().unwrap(), PortBlock::reserve());
        let range = ports.range(0, 20).parse().unwrap();
        let mut config = NodeConfig::loopback(folder.path().join("state"), range, Token::parse(TOKEN).unwrap());
        config.drain = Drain { grace: Span::ZERO, limit: Span::millis(200) };
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, start) = std::sync::mpsc::channel();
        let running = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let node = Node::bind(config).await.unwrap();
                started.send(node.api_addr()).unwrap();
                node.serve(async { drop(stopped.await) }).await.unwrap();
            });
        });
        let url = format!("http://{}", start.recv_timeout(BOUND).unwrap());
        Self { url, folder, ports, stop: Some(stop), running: Some(running) }
    }

    fn harbor(&self, args: &[&str]) -> Command {
        let mut command = harbor(self.folder.path(), args);
        command.env("HARBOR_URL", &self.url).env("HARBOR_TOKEN", TOKEN);
        command
    }

    /// Stdout of a run that succeeds in silence.
    fn succeed(&self, args: &[&str]) -> String {
        succeed(self.harbor(args))
    }

    fn json<T: DeserializeOwned>(&self, args: &[&str]) -> T {
        serde_json::from_str(&self.succeed(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// Exit code and stderr of a run that fails with nothing on stdout.
    fn fail(&self, args: &[&str]) -> (i32, String) {
        let (code, out, err) = finish(self.harbor(args));
        assert_eq!(out, "", "{args:?}");
        assert!(err.starts_with("error: ") && err.contains("\ntry: "), "{args:?}: {err}");
        (code, err)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.running.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the node did not end well");
    }
}

/// A server that says its name to everybody and hangs up; ends with the test process.
fn greeter(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(name.as_bytes()));
        }
    });
    addr
}

fn greeting(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Waits until nobody listens. The node has closed its sockets by the time it answers, but it shares this process with
/// tests that start programs, and until such a program runs it has a copy of every socket.
fn refuses(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(until("the deleted port refuses", || TcpStream::connect(("127.0.0.1", port)).is_err()));
}

#[test]
fn a_port_from_its_order_to_its_end() {
    let node = Real::start();
    assert!(node.succeed(&["create-service", "harbor", "my-port"]).starts_with("created my-port\n"));
    let view: ServiceView = node.json(&["service", "my-port"]);
    assert!(node.ports.iter().any(|port| port == view.port.get()));
    assert_eq!((view.int_port.get(), view.credentials.int_port.get()), (4100, 4100));
    assert_eq!(node.json::<ServiceView>(&["service", &view.id.to_string()]).id, view.id);

    // Traffic, round robin, to instances that were registered by address and by name.
    let (one, two) = (greeter("one"), greeter("two"));
    let said = node.succeed(&["register", "my-port", &one]);
    assert!(said.ends_with(" for my-port, until it is deregistered\n"), "{said}");
    assert!(node.succeed(&["register", "my-port", &two, "--instance", "web-1", "--ttl", "1h"]).contains("for 1h"));
    let heard: Vec<_> = (0..4).map(|_| greeting(view.port.get())).collect();
    assert!(heard == ["one", "two", "one", "two"] || heard == ["two", "one", "two", "one"], "{heard:?}");
    assert!(node.succeed(&["services"]).contains("  2/2  "));
    node.succeed(&["deregister", "my-port", &one]);
    assert_eq!((greeting(view.port.get()), greeting(view.port.get())), ("two".into(), "two".into()));

    // Bound: the app's shell sees its port.
    assert_eq!(node.succeed(&["bind-service", "my-port", "port-test"]), "bound my-port to port-test\n");
    assert_eq!(node.succeed(&["bind-service", "my-port", "port-test"]), "my-port is bound to port-test already\n");
    let variables: Value = serde_json::from_str(&node.succeed(&["env", "port-test", "--format", "json"])).unwrap();
    assert_eq!(variables["STACKATO_HARBOR"], "4100");
    let services: Value = serde_json::from_str(variables["STACKATO_SERVICES"].as_str().unwrap()).unwrap();
    assert_eq!(services["my-port"], serde_json::to_value(&view.credentials).unwrap());
    assert!(node.succeed(&["env", "port-test", "--env-prefix", "HELION"]).contains("export HELION_HARBOR='4100'\n"));

    // Bound services are not deleted by mistake; the port rests afterwards.
    let (code, err) = node.fail(&["delete-service", "my-port"]);
    assert!(code == 1 && err.contains("port-test"), "{err}");
    assert_eq!(node.succeed(&["delete-service", "my-port", "--force"]), "deleted my-port\n");
    refuses(view.port.get());
    let ports: PortsView = node.json(&["ports"]);
    assert!(ports.ports.iter().any(|port| port.port == view.port && port.state == PortState::Quarantined));
    let shown = node.succeed(&["ports"]);
    let resting = shown.lines().find(|line| line.contains(" quarantined ") && !line.contains(':')).unwrap();
    assert!(!resting.ends_with("ms"), "a person reads seconds: {resting}");

    let events: EventList = node.json(&["events"]);
    let kinds: Vec<_> = events.events.iter().map(|event| event.kind).collect();
    for kind in [EventKind::ServiceCreated, EventKind::BackendJoined, EventKind::Bound, EventKind::ServiceDeleted] {
        assert!(kinds.contains(&kind), "{kind:?} is not among {kinds:?}");
    }
    let since = events.events[0].sequence.to_string();
    assert_eq!(node.json::<EventList>(&["events", "--since", &since]).events.len(), events.events.len() - 1);
    assert!(node.succeed(&["events"]).contains("service created"));
}

#[test]
fn a_manifest_is_applied_once_and_found_again() {
    let node = Real::start();
    let manifest = "name: port-test\nservices:\n  udp-${name}: harbor\n  tcp-${name}: harbor\n";
    std::fs::write(node.folder.path().join("stackato.yml"), manifest).unwrap();
    let first = node.succeed(&["apply"]);
    assert!(first.contains("created udp-port-test: udp port ") && first.contains("bound tcp-port-test to port-test\n"));
    let second = node.succeed(&["apply"]);
    assert!(second.contains("udp-port-test is there already: udp port "), "{second}");
    assert!(!second.contains("created") && !second.contains("bound udp-port-test to"), "{second}");
    assert_eq!(node.json::<Value>(&["services"])["services"].as_array().unwrap().len(), 2);
    // Two services: the short variable is gone, each has its own.
    let shell = node.succeed(&["env", "port-test"]);
    assert!(shell.contains("export STACKATO_HARBOR_UDP_PORT_TEST='4100'\n"), "{shell}");
    assert!(shell.contains("export STACKATO_HARBOR_TCP_PORT_TEST='4101'\n"), "{shell}");
    assert!(!shell.contains("STACKATO_HARBOR="), "{shell}");

    let other =
        "name: port-test\nservices:\n  third: harbor\n  udp-port-test: {type: harbor, parameters: {protocol: both}}\n";
    std::fs::write(node.folder.path().join("other.yml"), other).unwrap();
    let (code, err) = node.fail(&["apply", "-f", "other.yml"]);
    assert!(code == 1 && err.contains("udp-port-test exists with kind udp, but the manifest asks for both"), "{err}");
    assert_eq!(node.json::<Value>(&["services"])["services"].as_array().unwrap().len(), 2, "nothing was changed");
}

#[test]
fn orders_with_wishes_and_their_refusals() {
    let node = Real::start();
    let port = node.ports.first().to_string();
    let id = "cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09";
    let order =
        ["create-service", "harbor", "wish", "--protocol", "both", "--port", &port, "--int-port", "4200", "--id", id];
    assert!(node.succeed(&order).starts_with("created wish\n"));
    let again = node.succeed(&order);
    assert!(again.starts_with("found wish\n") && again.contains(&format!("  port        {port}\n")), "{again}");
    let (code, out, err) = finish(node.harbor(&["create-service", "harbor", "udpate-port"]));
    assert!(
        code == 0 && out.contains("kind        udp") && err.starts_with("note: the name starts with 'udp'"),
        "{err}"
    );
    node.succeed(&["bind-service", "wish", "app"]);
    for (args, want, remedy) in [
        (&["create-service", "harbor", "wish"][..], "wish", "another name"),
        (&["create-service", "harbor", "other", "--port", &port], &port, "harbor ports"),
        (&["create-service", "harbor", "other", "--port", "80"], "80", "harbor ports"),
        (&["create-service", "harbor", "other", "--int-port", "4200"], "4200", "--int-port"),
        (&["create-service", "harbor", "other", "--public", "true"], "public", "--public"),
        (&["create-service", "harbor", "udp-web-https"], "HTTPS", "--protocol"),
        (&["service", "nothing"], "nothing", "harbor services"),
        (&["delete-service", "nothing"], "nothing", "harbor services"),
        (&["delete-service", "wish"], "wish", "--force"),
        (&["bind-service", "nothing", "web"], "nothing", "harbor services"),
        (&["unbind-service", "wish", "web"], "web", "harbor services"),
        (&["register", "wish", "8.8.8.8:53"], "8.8.8.8:53", "those networks"),
        (&["register", "wish", "169.254.169.254:80"], "169.254.169.254:80", "register"),
        (&["deregister", "wish", "nobody"], "nobody", "harbor service"),
        (&["deregister", "wish", "127.0.0.1:9"], "127.0.0.1:9", "harbor service wish"),
    ] {
        let (code, err) = node.fail(args);
        assert!(code == 1 && err.contains(want), "{args:?}: {code} {err}");
        let (_, said) = err.split_once("\ntry: ").unwrap();
        assert!(said.contains(remedy), "{args:?}: {said}");
        for word in ["/v1", "GET ", "PUT", "POST", "?org", "force=true"] {
            assert!(!said.contains(word), "{args:?}: {word} is no word of the command line: {said}");
        }
    }
    let (code, out, err) = finish(node.harbor(&["env", "misspelt"]));
    assert!(code == 0 && out.contains("STACKATO_SERVICES='{}'"), "{out}");
    assert_eq!(err, "note: no service is bound to misspelt; bind one: harbor bind-service NAME misspelt\n");
    assert_eq!(node.json::<Value>(&["services"])["services"].as_array().unwrap().len(), 2);

    let mut stranger = node.harbor(&["services"]);
    stranger.env("HARBOR_TOKEN", "another0123456789");
    let (code, _, err) = finish(stranger);
    assert!(code == 1 && err.contains("does not accept the token"), "{err}");
}

#[test]
fn a_kept_backend_is_there_while_the_command_runs() {
    let node = Real::start();
    node.succeed(&["create-service", "harbor", "my-port"]);
    let port = node.json::<ServiceView>(&["service", "my-port"]).port.get();
    let mut command =
        node.harbor(&["register", "my-port", &greeter("kept"), "--instance", "a", "--keep", "--ttl", "2s"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.ends_with("kept alive until Ctrl-C\n"), "{line}");
    assert_eq!(greeting(port), "kept");
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(node.json::<ServiceView>(&["service", "my-port"]).backends, []);
    assert_eq!(greeting(port), "", "nobody is left to greet");
}
