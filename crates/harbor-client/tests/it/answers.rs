//! Answers that are refusals, and answers that are none.

use harbor_client::{ClientError, ServiceFilter, ServiceRef};
use harbor_types::ServiceName;

use crate::peer::{Script, always, bounded, http, peer};

const TAKEN: &str = r#"{"error":"name_taken","message":"the name my-port is taken","remedy":"take another name"}"#;

#[tokio::test]
async fn a_refusal_carries_the_nodes_words() {
    for status in ["409 Conflict", "404 Not Found", "503 Service Unavailable", "403 Forbidden"] {
        let peer = always(status, TAKEN).await;
        let error = peer.client.ports().await.unwrap_err();
        assert_eq!(error.refusal(), Some("name_taken"), "{status}");
        assert_eq!(error.what(), "the name my-port is taken");
        assert_eq!(error.remedy(), "take another name");
        assert_eq!(error.is_passing(), status.starts_with('5'), "{status}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_told_apart_and_not_shown() {
    for body in ["", "nginx says no", TAKEN] {
        let peer = always("401 Unauthorized", body).await;
        let error = peer.client.ports().await.unwrap_err();
        assert!(matches!(error, ClientError::Unauthorized { .. }), "{body}: {error:?}");
        let shown = format!("{error} {error:?} {:?}", peer.client);
        assert!(shown.contains("does not accept the token") && !shown.contains("s3cret"), "{shown}");
    }
}

#[tokio::test]
async fn answers_that_no_node_gives_are_named() {
    let huge = format!("[{}]", "1,".repeat(60_000));
    let later =
        format!("HTTP/1.1 301 Moved\r\nlocation: http://elsewhere/\r\ncontent-length: {}\r\n\r\n{TAKEN}", TAKEN.len());
    for (bytes, want) in [
        (http("200 OK", "<html>\x1b[31m"), "the body '<html> [31m' does not have the expected shape"),
        (http("200 OK", ""), "an empty body does not have the expected shape"),
        (http("200 OK", r#"{"range":"1-2"}"#), "missing field `free`"),
        (http("200 OK", &huge), "it is longer than 65536 bytes"),
        (http("502 Bad Gateway", "<h1>proxy</h1>"), "status 502 Bad Gateway with the body '<h1>proxy</h1>'"),
        (http("404 Not Found", "{}"), "status 404 Not Found with the body '{}'"),
        (later.into_bytes(), "status 301 Moved Permanently with the body"),
        (b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), "it is not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe".to_vec(), "it is not UTF-8"),
    ] {
        let peer = peer(move |_, _| Script::Reply(bytes.clone())).await;
        let error = bounded(peer.client.ports()).await.unwrap_err();
        assert!(matches!(error, ClientError::BadAnswer { .. }), "{want}: {error:?}");
        assert!(error.what().contains(want), "want {want:?} in {error}");
        assert!(!error.what().chars().any(char::is_control), "{error:?}");
        assert!(error.to_string().contains("GET /v1/ports") && error.remedy().contains("harbor-node"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_a_length_is_bounded_too() {
    let peer = peer(|_, _| {
        let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..200 {
            bytes.extend_from_slice(b"400\r\n");
            bytes.extend_from_slice(&[b'x'; 0x400]);
            bytes.extend_from_slice(b"\r\n");
        }
        Script::Stall(bytes)
    })
    .await;
    let error = bounded(peer.client.services(&ServiceFilter::default())).await.unwrap_err();
    assert!(error.what().contains("it is longer than 65536 bytes"), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_the_outcome_open() {
    for bytes in [
        Vec::new(),
        b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"range\"".to_vec(),
    ] {
        let peer = peer(move |_, _| Script::Reply(bytes.clone())).await;
        let service = ServiceRef::from(ServiceName::parse("my-port").unwrap());
        let error = bounded(peer.client.service(&service)).await.unwrap_err();
        assert!(matches!(error, ClientError::Interrupted { .. }), "{error:?}");
        assert!(error.remedy().contains("list before you repeat it"), "{error}");
        assert!(error.is_passing());
    }
}
