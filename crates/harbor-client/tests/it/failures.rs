//! Nodes that are not there, or slow.

use harbor_client::{Client, ClientError, DeleteMode, Limits, ServiceRef, Token};
use harbor_types::{ServiceName, Span};
use tokio::net::TcpListener;

use crate::peer::{Script, bounded, peer};

fn client(url: &str) -> Client {
    Client::new(url.parse().unwrap(), Token::parse("s3cret").unwrap())
}

#[tokio::test]
async fn nobody_listens() {
    // The listener is bound but never listened on, so the port stays ours and refuses.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let error = bounded(client(&url).ports()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.what().starts_with(&format!("the node at {url} cannot be reached: ")), "{error}");
    assert!(error.remedy().contains("harbor-node dev"), "{error}");
}

#[tokio::test]
async fn the_name_has_no_address() {
    let error = bounded(client("http://nowhere.invalid:8700").ports()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_left_at_the_deadline() {
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"] {
        let bytes = bytes.to_vec();
        let peer = peer(move |_, _| Script::Stall(bytes.clone())).await;
        let limits = Limits { call: Span::millis(100), ..peer.client.limits() };
        let client = peer.client.clone().with_limits(limits);
        let error = bounded(client.ports()).await.unwrap_err();
        assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
        assert!(error.what().contains("did not answer within 100ms (GET /v1/ports)"), "{error}");
    }
}

#[tokio::test]
async fn deleting_may_take_as_long_as_a_drain() {
    let peer = peer(|_, _| Script::Stall(Vec::new())).await;
    let limits = Limits { call: Span::millis(1), delete: Span::millis(200), ..peer.client.limits() };
    let client = peer.client.clone().with_limits(limits);
    let service = ServiceRef::from(ServiceName::parse("my-port").unwrap());
    let error = bounded(client.delete_service(&service, DeleteMode::OnlyUnbound)).await.unwrap_err();
    assert!(error.what().contains("within 200ms (DELETE /v1/services/my-port)"), "{error}");
    assert!(Limits::default().delete > Limits::default().call);
}

#[tokio::test]
async fn nothing_is_sent_twice() {
    let mut peer = peer(|_, _| Script::Reply(Vec::new())).await;
    let order = harbor_types::wire::CreateService::named("my-port".parse().unwrap());
    bounded(peer.client.create_service(&order)).await.unwrap_err();
    bounded(peer.client.ports()).await.unwrap_err();
    let mut lines = Vec::new();
    while let Ok(seen) = peer.seen.try_recv() {
        lines.push(seen.line);
    }
    assert_eq!(lines, ["POST /v1/services HTTP/1.1", "GET /v1/ports HTTP/1.1"]);
}

#[tokio::test]
async fn a_full_backlog_is_unreachable_not_a_hang() {
    // A listener whose backlog is full drops further SYNs: connecting gets no answer at all.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(std::time::Duration::from_millis(200), tokio::net::TcpStream::connect(addr)).await
    {
        held.push(stream);
        assert!(held.len() < 50, "the backlog never fills");
    }
    let limits = Limits { connect: Span::millis(100), ..Limits::default() };
    let error = bounded(client(&format!("http://{addr}")).with_limits(limits).ports()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.what().contains("no connection within 100ms"), "{error}");
}
