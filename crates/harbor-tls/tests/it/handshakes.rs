//! Real handshakes: versions, application protocols, and a named reason for each that fails.

use harbor_testkit::tools::tool;
use harbor_testkit::wait::bounded;
use harbor_tls::rustls::version::{TLS12, TLS13};
use harbor_tls::rustls::{self, ProtocolVersion};
use harbor_tls::{ConfigError, HandshakeLimits, Refusal, server_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{
    Authority, Client, SOURCE, acceptor, acceptor_with, both, current, echo_server, exchange, named, shown,
};

#[tokio::test]
async fn both_versions_are_served_with_the_chain_to_a_trusted_root() {
    let authority = Authority::new();
    let issued = authority.issue();
    let acceptor = acceptor(&issued);
    for (version, want) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let (served, session) = both(&acceptor, &authority.client_with(&[], &[version])).await;
        let (served, session) = (served.unwrap(), session.unwrap());
        assert_eq!(served.get_ref().1.protocol_version(), Some(want));
        assert_eq!(shown(&session), issued.leaf);
    }
    let counts = acceptor.counts();
    assert_eq!((counts.live, counts.completed, counts.resumed, counts.all_refused()), (0, 2, 0, 0));
}

#[tokio::test]
async fn the_first_of_our_protocols_that_the_client_knows_is_chosen() {
    let authority = Authority::new();
    let issued = authority.issue();
    for (ours, theirs, want) in [
        (&[&b"h2"[..], b"http/1.1"][..], &[&b"http/1.1"[..], b"h2"][..], Some(&b"h2"[..])),
        (&[b"h2", b"http/1.1"], &[b"http/1.1"], Some(b"http/1.1")),
        (&[b"h2"], &[], None),
        (&[], &[b"h2"], None),
    ] {
        let acceptor = acceptor_with(&issued, ours, HandshakeLimits::default());
        let (served, session) = both(&acceptor, &authority.client_with(theirs, rustls::ALL_VERSIONS)).await;
        let served = served.unwrap();
        session.unwrap();
        assert_eq!(served.get_ref().1.alpn_protocol(), want, "{ours:?} {theirs:?}");
    }
}

#[test]
fn a_protocol_name_that_cannot_be_sent_is_refused() {
    let issued = Authority::new().issue();
    for (names, want) in [(&[&b"h2"[..], b""][..], (1, 0)), (&[&[b'x'; 256]], (0, 256))] {
        match server_config(current(&issued), names) {
            Err(ConfigError::Protocol { index, len }) => assert_eq!((index, len), want),
            other => unreachable!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn each_failed_handshake_is_counted_under_its_reason() {
    let authority = Authority::new();
    let issued = authority.issue();
    let acceptor = acceptor_with(&issued, &[b"h2"], HandshakeLimits::default());

    let stranger = Authority::new().client();
    let (served, session) = both(&acceptor, &stranger).await;
    assert_eq!(served.unwrap_err().reason, Refusal::Alert, "it does not trust our certificate");
    session.unwrap_err();

    let (served, session) = both(&acceptor, &authority.client_with(&[b"smtp"], rustls::ALL_VERSIONS)).await;
    assert_eq!(served.unwrap_err().reason, Refusal::NoCommonProtocol);
    session.unwrap_err();

    for (bytes, want) in [
        (&b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n"[..], Refusal::NotTls),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Refusal::NotTls),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", Refusal::Misbehaved), // a server's hello
        (b"\x16\x03\x01\x02", Refusal::Closed),
        (b"", Refusal::Closed),
    ] {
        let (mut near, far) = tokio::io::duplex(1 << 14);
        let talk = async {
            near.write_all(bytes).await.unwrap();
            near.shutdown().await.unwrap();
            near.read_to_end(&mut Vec::new()).await.unwrap();
        };
        let (served, ()) = bounded("a refusal", async { tokio::join!(acceptor.accept(far, SOURCE), talk) }).await;
        let error = served.unwrap_err();
        assert_eq!(error.reason, want, "{bytes:?}: {error:?}");
        assert_eq!(error.to_string(), format!("TLS handshake: {want}"));
    }
    let counts = acceptor.counts();
    let refused: Vec<_> = Refusal::ALL.map(|reason| (reason.name(), counts.refused(reason))).into();
    let want = [("closed", 2), ("not_tls", 2), ("no_common_protocol", 1), ("alert", 1), ("misbehaved", 1)];
    for (name, count) in refused {
        let want = want.iter().find(|(reason, _)| *reason == name).map_or(0, |(_, count)| *count);
        assert_eq!(count, want, "{name}");
    }
    assert_eq!((counts.completed, counts.all_refused(), counts.live), (0, 7, 0));
}

#[tokio::test]
async fn an_expired_certificate_is_served() {
    let authority = Authority::new();
    let mut params = named("leaf");
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(2001, 1, 1));
    let (served, session) = both(&acceptor(&authority.issue_as(&params)), &authority.client()).await;
    // It reaches the client, which is the one to refuse it.
    assert_eq!(served.unwrap_err().reason, Refusal::Alert);
    assert!(session.unwrap_err().to_string().contains("xpired"));
}

#[tokio::test]
async fn a_megabyte_comes_back_byte_for_byte_over_a_real_socket() {
    let authority = Authority::new();
    let addr = echo_server(acceptor(&authority.issue())).await;
    let mut session = authority.client().connect(addr).await.unwrap();
    exchange(&mut session).await;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let (mut from, mut to) = tokio::io::split(session);
    let mut received = vec![0; sent.len()];
    let both = async { tokio::join!(to.write_all(&sent), from.read_exact(&mut received)) };
    let (written, read) = bounded("the echo", both).await;
    written.unwrap();
    read.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn openssl_is_served_with_both_versions_and_nothing_older() {
    let Some(program) = tool("openssl") else { return };
    let authority = Authority::new();
    let acceptor = acceptor(&authority.issue());
    let addr = echo_server(acceptor.clone()).await;
    let root = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(root.path(), authority.root_pem()).unwrap();
    for (version, served) in [("-tls1_2", true), ("-tls1_3", true), ("-tls1_1", false)] {
        let (program, root) = (program.clone(), root.path().to_owned());
        let client = move || {
            std::process::Command::new(program)
                .args(["s_client", "-connect", &addr.to_string(), version, "-verify_return_error", "-CAfile"])
                .arg(root)
                .args(["-cipher", "ALL:@SECLEVEL=0"])
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap()
        };
        let output = bounded("s_client", tokio::task::spawn_blocking(client)).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), served, "{version}: {text} {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(text.contains("Cipher is (NONE)"), !served, "{version}: {text}");
        assert!(text.contains("Verify return code: 0 (ok)"), "{version}: {text}");
    }
    let counts = acceptor.counts();
    assert_eq!((counts.completed, counts.refused(Refusal::Incompatible)), (2, 1), "{counts:?}");
}

#[tokio::test]
async fn a_client_that_never_finishes_does_not_keep_others_waiting() {
    let authority = Authority::new();
    let addr = echo_server(acceptor(&authority.issue())).await;
    let stalled = TcpStream::connect(addr).await.unwrap();
    let client: Client = authority.client();
    exchange(&mut bounded("a session", client.connect(addr)).await.unwrap()).await;
    drop(stalled);
}
