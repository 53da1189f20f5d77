//! Sessions resume by ticket, in both versions, also after the certificate was exchanged.

use std::sync::Arc;

use harbor_tls::rustls::HandshakeKind;
use harbor_tls::rustls::version::{TLS12, TLS13};
use harbor_tls::{Acceptor, Current, HandshakeLimits, server_config};

use crate::rig::{Authority, Client, current, echo_server, exchange, pair, shown};

async fn kind(client: &Client, addr: std::net::SocketAddr) -> HandshakeKind {
    let mut session = client.connect(addr).await.unwrap();
    exchange(&mut session).await;
    session.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_whatever_the_version() {
    let authority = Authority::new();
    let acceptor = Acceptor::new(server_config(current(&authority.issue()), &[]).unwrap(), HandshakeLimits::default());
    let addr = echo_server(acceptor.clone()).await;
    for version in [&TLS12, &TLS13] {
        let client = authority.client_with(&[], &[version]);
        assert_eq!(kind(&client, addr).await, HandshakeKind::Full);
        assert_eq!(kind(&client, addr).await, HandshakeKind::Resumed);
    }
    assert_eq!((acceptor.counts().completed, acceptor.counts().resumed), (4, 2));
}

#[test]
fn tickets_work_for_twelve_hours_and_early_data_is_off() {
    let config = server_config(current(&Authority::new().issue()), &[]).unwrap();
    // Without a ticketer, sessions would resume all the same: from a table that few clients fill.
    assert!(config.ticketer.enabled());
    assert_eq!((config.ticketer.lifetime(), config.max_early_data_size), (12 * 60 * 60, 0));
}

#[tokio::test]
async fn sessions_outlive_a_new_certificate_and_new_clients_see_it() {
    let authority = Authority::new();
    let (old, new) = (authority.issue(), authority.issue());
    let current: Arc<Current> = current(&old);
    let acceptor = Acceptor::new(server_config(Arc::clone(&current), &[]).unwrap(), HandshakeLimits::default());
    let addr = echo_server(acceptor).await;
    for version in [&TLS12, &TLS13] {
        current.replace(Arc::new(pair(&old.chain, &old.key).unwrap()));
        let client = authority.client_with(&[], &[version]);
        assert_eq!(kind(&client, addr).await, HandshakeKind::Full);
        current.replace(Arc::new(pair(&new.chain, &new.key).unwrap()));
        assert_eq!(kind(&client, addr).await, HandshakeKind::Resumed);
        let fresh = authority.client_with(&[], &[version]);
        assert_eq!(shown(&fresh.connect(addr).await.unwrap()), new.leaf);
    }
}

#[tokio::test]
async fn new_settings_end_all_sessions() {
    let authority = Authority::new();
    let current = current(&authority.issue());
    let client = authority.client();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let config = server_config(Arc::clone(&current), &[]).unwrap();
        let addr = echo_server(Acceptor::new(config, HandshakeLimits::default())).await;
        kinds.push(kind(&client, addr).await);
    }
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Full]);
}
