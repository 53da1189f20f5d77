//! The built-in app of `harbor-node dev`: names its instance to whoever calls, over TCP (plain or HTTP) and UDP. It learns
//! its ports from its environment as any other app would.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use harbor_types::Protocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a caller may think before it is greeted: an HTTP client speaks first, somebody with `nc` waits.
const CALLER_SPEAKS_FIRST: Duration = Duration::from_millis(200);
/// A caller that neither speaks nor leaves is let go.
const SILENT_CALLER: Duration = Duration::from_secs(300);

/// Listens on every port that the environment names and greets until the process is ended.
///
/// # Errors
/// When the environment names no port, or a port cannot be had.
pub(super) async fn run(vars: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let index = vars.get("HARBOR_INSTANCE_INDEX").map_or("0", String::as_str);
    let services = harbor_env::parse(vars).context("read the app's own ports")?;
    let mut tasks = JoinSet::new();
    for service in services.iter() {
        let greeting = format!("instance {index} of {}", service.name);
        let addr = (Ipv4Addr::UNSPECIFIED, service.int_port().get());
        for protocol in service.kind().protocols.iter() {
            let greeting = greeting.clone();
            let listen = format!("listen on 0.0.0.0:{} ({protocol})", service.int_port());
            match protocol {
                Protocol::Tcp => {
                    let listener = TcpListener::bind(addr).await.with_context(|| listen)?;
                    tasks.spawn(greet_callers(listener, greeting));
                }
                Protocol::Udp => {
                    let socket = UdpSocket::bind(addr).await.with_context(|| listen)?;
                    tasks.spawn(answer_datagrams(socket, greeting));
                }
            }
        }
    }
    anyhow::ensure!(
        !tasks.is_empty(),
        "the environment names no Harbor service; start the greeter through harbor-node dev"
    );
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn greet_callers(listener: TcpListener, greeting: String) {
    let mut callers = JoinSet::new();
    while let Ok((caller, _)) = listener.accept().await {
        while callers.try_join_next().is_some() {}
        callers.spawn(greet(caller, greeting.clone()));
    }
}

/// Greets over HTTP if that is what the caller speaks, else in plain words, and then echoes.
async fn greet(mut caller: TcpStream, greeting: String) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    let first = match timeout(CALLER_SPEAKS_FIRST, caller.read(&mut buffer)).await {
        Ok(read) => read?,
        Err(_) => 0,
    };
    let said = buffer.get(..first).unwrap_or_default().to_vec();
    if said.split(|byte| *byte == b'\r').next().is_some_and(|line| line.windows(6).any(|part| part == b" HTTP/")) {
        let body = format!("{greeting}\n");
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        caller.write_all(head.as_bytes()).await?;
        caller.write_all(body.as_bytes()).await?;
        return caller.shutdown().await;
    }
    caller.write_all(format!("{greeting}\n").as_bytes()).await?;
    caller.write_all(&said).await?;
    loop {
        let Ok(read) = timeout(SILENT_CALLER, caller.read(&mut buffer)).await else { return Ok(()) };
        let Some(heard) = buffer.get(..read?).filter(|heard| !heard.is_empty()) else { return caller.shutdown().await };
        caller.write_all(heard).await?;
    }
}

async fn answer_datagrams(socket: UdpSocket, greeting: String) {
    let mut buffer = vec![0; 65_535];
    loop {
        // An earlier answer that met a closed port shows up here as an error; the next caller is another matter.
        let Ok((length, caller)) = socket.recv_from(&mut buffer).await else { continue };
        let mut answer = format!("{greeting}: ").into_bytes();
        answer.extend_from_slice(buffer.get(..length.min(1_024)).unwrap_or_default());
        let _ = socket.send_to(&answer, caller).await;
    }
}
