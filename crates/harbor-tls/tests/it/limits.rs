//! Handshakes that stall are cut at their deadline, and caps hold for each source and for all.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use harbor_testkit::wait::{bounded, until};
use harbor_tls::{Acceptor, HandshakeLimits, Refusal};
use harbor_types::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::rig::{Authority, SOURCE, acceptor_with, both};

fn limits(total: usize, per_source: usize) -> HandshakeLimits {
    HandshakeLimits { total, per_source, deadline: Span::secs(10) }
}

/// Begins handshakes whose clients say nothing; returns the clients.
fn stall(
    acceptor: &Acceptor,
    tasks: &mut JoinSet<Refusal>,
    sources: impl Iterator<Item = IpAddr>,
) -> Vec<DuplexStream> {
    sources
        .map(|source| {
            let (near, far) = tokio::io::duplex(1 << 14);
            let acceptor = acceptor.clone();
            tasks.spawn(async move { acceptor.accept(far, source).await.unwrap_err().reason });
            near
        })
        .collect()
}

fn sources(count: u8) -> impl Iterator<Item = IpAddr> {
    (0..count).map(|last| IpAddr::V4(Ipv4Addr::new(198, 51, 100, last)))
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut_at_the_deadline_and_so_is_one_that_drips() {
    let acceptor = acceptor_with(&Authority::new().issue(), &[], limits(10, 10));
    for drips in [false, true] {
        let (mut near, far) = tokio::io::duplex(1 << 14);
        let began = Instant::now();
        let talk = async {
            // The header of a long record, then a byte a second: progress that leads nowhere.
            near.write_all(b"\x16\x03\x01\x20\x00\x01\x00\x1f\xfc\x03\x03").await.unwrap();
            let mut seconds = tokio::time::interval(Duration::from_secs(1));
            while drips && near.write_all(b"\0").await.is_ok() {
                seconds.tick().await;
            }
            near.read_to_end(&mut Vec::new()).await.unwrap()
        };
        let (served, told) = tokio::join!(acceptor.accept(far, SOURCE), talk);
        assert_eq!(served.unwrap_err().reason, Refusal::TimedOut, "drips: {drips}");
        assert_eq!((began.elapsed().as_secs(), told), (10, 0), "drips: {drips}");
    }
    let counts = acceptor.counts();
    assert_eq!((counts.live, counts.refused(Refusal::TimedOut), counts.all_refused()), (0, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn one_source_cannot_take_the_places_of_others() {
    let authority = Authority::new();
    let acceptor = acceptor_with(&authority.issue(), &[], limits(100, 8));
    let mut tasks = JoinSet::new();
    let clients = stall(&acceptor, &mut tasks, std::iter::repeat_n(IpAddr::V4(Ipv4Addr::LOCALHOST), 50));
    for _ in 0..42 {
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), Refusal::SourceFull, "closed at once");
    }
    assert_eq!(acceptor.counts().live, 8);
    let (served, session) = both(&acceptor, &authority.client()).await;
    assert!(served.is_ok() && session.is_ok(), "another source is served");
    while let Some(reason) = tasks.join_next().await {
        assert_eq!(reason.unwrap(), Refusal::TimedOut);
    }
    drop(clients);
    let counts = acceptor.counts();
    let refused = (counts.refused(Refusal::SourceFull), counts.refused(Refusal::TimedOut), counts.all_refused());
    assert_eq!((counts.live, counts.completed, refused), (0, 1, (42, 8, 50)));
}

#[tokio::test(start_paused = true)]
async fn the_total_holds_and_places_come_back_at_the_deadline() {
    let authority = Authority::new();
    let acceptor = acceptor_with(&authority.issue(), &[], limits(100, 8));
    let mut tasks = JoinSet::new();
    let clients = stall(&acceptor, &mut tasks, sources(200));
    for _ in 0..100 {
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), Refusal::TotalFull);
    }
    let (served, _) = both(&acceptor, &authority.client()).await;
    assert_eq!(served.unwrap_err().reason, Refusal::TotalFull);
    while let Some(reason) = tasks.join_next().await {
        assert_eq!(reason.unwrap(), Refusal::TimedOut);
    }
    let (served, session) = both(&acceptor, &authority.client()).await;
    assert!(served.is_ok() && session.is_ok(), "served after the deadline");
    drop(clients);
    assert_eq!((acceptor.counts().live, acceptor.counts().all_refused()), (0, 201));
}

#[tokio::test]
async fn a_handshake_that_is_given_up_frees_its_place() {
    let acceptor = acceptor_with(&Authority::new().issue(), &[], limits(1, 1));
    let (mut near, far) = tokio::io::duplex(1 << 14);
    let accepting = tokio::spawn({
        let acceptor = acceptor.clone();
        async move { acceptor.accept(far, SOURCE).await.map(drop) }
    });
    until("the handshake to begin", || acceptor.counts().live == 1).await;
    accepting.abort();
    assert!(accepting.await.unwrap_err().is_cancelled());
    assert_eq!(bounded("the end", near.read(&mut [0])).await.unwrap(), 0, "the connection is closed");
    assert_eq!((acceptor.counts().live, acceptor.counts().refused(Refusal::Cancelled)), (0, 1));
}
