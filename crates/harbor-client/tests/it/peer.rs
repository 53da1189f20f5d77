//! A peer that speaks raw bytes: each connection gets one request read and one scripted reply written.

use std::future::Future;
use std::time::Duration;

use harbor_client::{Client, Limits, Token};
use harbor_types::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bound of every wait in these tests.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// What a peer does after it has read a request.
#[derive(Clone)]
pub(crate) enum Script {
    /// Writes these bytes and closes.
    Reply(Vec<u8>),
    /// Writes these bytes, then nothing, the connection open.
    Stall(Vec<u8>),
}

/// One request as it came.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Aborts its task when dropped.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers every request by `script(request number, request)`.
pub(crate) async fn peer(mut script: impl FnMut(usize, &Seen) -> Script + Send + 'static) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, seen) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(request) = read_request(&mut stream).await else { continue };
            let script = script(number, &request);
            let _ = sender.send(request);
            match script {
                Script::Reply(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                }
                Script::Stall(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    open.push(stream);
                }
            }
        }
    });
    let limits = Limits { connect: Span::secs(5), call: Span::secs(10), delete: Span::secs(10), answer: 64 << 10 };
    Peer { client: Client::new(url, Token::parse("s3cret").unwrap()).with_limits(limits), seen, task }
}

/// Always the same reply.
pub(crate) async fn always(status: &str, body: &str) -> Peer {
    let reply = http(status, body);
    peer(move |_, _| Script::Reply(reply.clone())).await
}

/// A well-formed HTTP reply.
pub(crate) fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// Fails the test instead of hanging it.
pub(crate) async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("the test's bound has passed")
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let mut buf = [0; 4096];
        match stream.read(&mut buf).await.ok()? {
            0 => return None,
            n => bytes.extend_from_slice(&buf[..n]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut seen = Seen { line: head.lines().next()?.to_owned(), head, body: String::new() };
    let length: usize = seen.header("content-length").map_or(0, |value| value.parse().unwrap());
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        let mut buf = [0; 4096];
        let n = stream.read(&mut buf).await.ok()?;
        body.extend_from_slice(&buf[..n]);
    }
    seen.body = String::from_utf8(body).unwrap();
    Some(seen)
}
