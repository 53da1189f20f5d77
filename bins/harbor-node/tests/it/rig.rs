//! A node for one test: in this process on a loopback address of its own, or as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use harbor_client::{Client, ClientError};
use harbor_node::{Drain, Handle, Node, NodeConfig, NodeError, Status, Token};
use harbor_testkit::ports::own_loopback;
use harbor_testkit::wait::{BOUND, bounded};
use harbor_types::wire::{CreateService, Problem, RegisterBackend, ServiceView};
use harbor_types::{Port, ServiceName, Span};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The token of every test's node.
pub(crate) const TOKEN: &str = "the-token-of-the-tests";
/// Above Linux's ephemeral range, and away from the blocks other rigs guard: with an address of its own, a test has all of it.
pub(crate) const FIRST: u16 = 61_000;

/// `61000-…`, `count` ports.
pub(crate) fn range(count: u16) -> String {
    format!("{FIRST}-{}", FIRST + count - 1)
}

/// A node in this process.
pub(crate) struct TestNode {
    pub(crate) client: Client,
    pub(crate) handle: Handle,
    pub(crate) api: SocketAddr,
    pub(crate) host: IpAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), NodeError>>,
    folder: TempDir,
}

impl TestNode {
    /// A node with so many ports.
    pub(crate) async fn start(count: u16) -> Self {
        Self::start_with(count, |_| {}).await
    }

    /// The same, with other settings changed.
    pub(crate) async fn start_with(count: u16, change: impl FnOnce(&mut NodeConfig)) -> Self {
        Self::open(tempfile::tempdir().unwrap(), own_loopback(), count, change).await.unwrap()
    }

    /// A node on the state in `folder`.
    pub(crate) async fn open(
        folder: TempDir,
        host: IpAddr,
        count: u16,
        change: impl FnOnce(&mut NodeConfig),
    ) -> Result<Self, NodeError> {
        let mut config =
            NodeConfig::loopback(folder.path().into(), range(count).parse().unwrap(), Token::parse(TOKEN).unwrap());
        config.host = host;
        config.drain = Drain { grace: Span::ZERO, limit: Span::secs(5) };
        change(&mut config);
        let node = Node::bind(config).await?;
        let (handle, api) = (node.handle(), node.api_addr());
        let client = client(api);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(node.serve(async {
            let _ = stopped.await;
        }));
        Ok(Self { client, handle, api, host, stop, serving, folder })
    }

    /// Its state folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for a level.
    pub(crate) async fn wait(&self, what: &str, state: impl FnMut(&Status) -> bool) {
        bounded(what, self.handle.status().wait_for(state)).await.unwrap();
    }

    /// Orders a service by name.
    pub(crate) async fn order(&self, name: &str) -> ServiceView {
        self.client.create_service(&named(name)).await.unwrap().value
    }

    /// Registers an instance for good.
    pub(crate) async fn register(&self, service: &ServiceView, instance: &str, addr: SocketAddr) {
        let order = RegisterBackend { addr, ttl: None, permanent: true };
        self.client.register(&service.id.into(), &instance.parse().unwrap(), &order).await.unwrap();
    }

    /// Where clients reach a service.
    pub(crate) fn addr(&self, service: &ServiceView) -> SocketAddr {
        SocketAddr::new(self.host, service.port.get())
    }

    /// The service as it stands.
    pub(crate) async fn show(&self, service: &ServiceView) -> ServiceView {
        self.client.service(&service.id.into()).await.unwrap().value
    }

    /// Stops in order; its state stays.
    pub(crate) async fn stop(self) -> TempDir {
        self.stop.send(()).unwrap();
        bounded("the node to stop", self.serving).await.unwrap().unwrap();
        self.folder
    }

    /// Begins to stop; the second future is the end.
    pub(crate) fn stop_later(self) -> (Handle, JoinHandle<Result<(), NodeError>>, TempDir) {
        self.stop.send(()).unwrap();
        (self.handle, self.serving, self.folder)
    }
}

/// The plainest order.
pub(crate) fn named(name: &str) -> CreateService {
    CreateService::named(name.parse::<ServiceName>().unwrap())
}

/// An order for one port.
pub(crate) fn on_port(name: &str, port: u16) -> CreateService {
    CreateService { port: Some(Port::new(port).unwrap()), ..named(name) }
}

/// A client with the tests' token.
pub(crate) fn client(api: SocketAddr) -> Client {
    Client::new(format!("http://{api}").parse().unwrap(), harbor_client::Token::parse(TOKEN).unwrap())
}

/// Status and problem of a call that must be refused.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, Problem) {
    match result {
        Err(ClientError::Refused { status, problem }) => (status, problem),
        other => panic!("not refused: {other:?}"),
    }
}

/// One answer, as it came.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Raw {
    /// The body as a problem.
    pub(crate) fn problem(&self) -> Problem {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no problem ({error}): {self:?}"))
    }
}

/// Sends one request with these headers, written out.
pub(crate) async fn raw(api: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Raw {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut stream = TcpStream::connect(api).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    // A node that refuses a body need not read it to its end.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = bounded("an answer", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}: {answer:?}"));
    Raw { status: head[9..12].parse().unwrap(), head: head.to_ascii_lowercase(), body: body.into() }
}

/// A connection to a service that says what it got as first line.
pub(crate) async fn greeting(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let mut text = Vec::new();
    loop {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if byte[0] == b'\n' {
            return Ok(String::from_utf8(text).unwrap());
        }
        text.push(byte[0]);
    }
}

/// The program, running.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) lines: Receiver<String>,
    pub(crate) said: Vec<String>,
    pub(crate) api: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with these arguments and nothing of this environment but the search path.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harbor-node"));
    command.args(args).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

/// A configuration file for a node with so many ports; `more` is appended.
pub(crate) fn config_file(folder: &Path, host: IpAddr, count: u16, more: &str) -> String {
    std::fs::write(folder.join("token"), TOKEN).unwrap();
    std::fs::set_permissions(folder.join("token"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "host = \"{host}\"\nport_range = \"{}\"\nstate_dir = \"{state}\"\napi = \"127.0.0.1:0\"\ntoken_file = \"{token}\"\n\
         backend_networks = [\"127.0.0.0/8\"]\n{more}",
        range(count),
        state = folder.join("state").display(),
        token = folder.join("token").display(),
    );
    let file = folder.join("harbor.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

impl Process {
    /// Runs `serve` until it says where its API is.
    pub(crate) fn serve(config: &str) -> Self {
        let mut child = program(&["serve", "--config", config]).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut process = Self { child, lines, said: Vec::new(), api: ([127, 0, 0, 1], 0).into() };
        let line = process.line("serving");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        process.api = value["api"].as_str().unwrap().parse().unwrap();
        process
    }

    /// Waits for a line of the log with this text.
    pub(crate) fn line(&mut self, text: &str) -> String {
        let end = Instant::now() + BOUND;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?} came; these did:\n{}", self.said.join("\n")),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end, at most [`BOUND`].
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        // Registered before the first look, so that no end is missed in between.
        let mut ends = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child()).unwrap();
        bounded("the program to end", async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                ends.recv().await;
            }
        })
        .await
    }
}
