//! A held port is held: nobody had it before, nobody joins after, and a restart finds it again.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use harbor_tcp::{Listener, accept};
use harbor_testkit::wait::{bounded, until};
use harbor_types::{BindError, Claim, Protocol};
use socket2::{Domain, Socket, Type};

use crate::rig::listener;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Somebody else's socket options.
#[derive(Clone, Copy, Debug)]
struct Foreign {
    reuse_addr: bool,
    reuse_port: bool,
    listens: bool,
}

const ALL: [Foreign; 8] = {
    let plain = Foreign { reuse_addr: false, reuse_port: false, listens: false };
    let addr = Foreign { reuse_addr: true, ..plain };
    let port = Foreign { reuse_port: true, ..plain };
    let both = Foreign { reuse_addr: true, reuse_port: true, ..plain };
    [
        plain,
        addr,
        port,
        both,
        Foreign { listens: true, ..plain },
        Foreign { listens: true, ..addr },
        Foreign { listens: true, ..port },
        Foreign { listens: true, ..both },
    ]
};

impl Foreign {
    fn bind(self, addr: SocketAddr) -> std::io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_reuse_address(self.reuse_addr)?;
        socket.set_reuse_port(self.reuse_port)?;
        socket.bind(&addr.into())?;
        if self.listens {
            socket.listen(1)?;
        }
        Ok(socket)
    }
}

/// The two ways the same port number overlaps on IPv4: same address, or a wildcard on one side.
fn overlapping(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}

fn in_use(result: Result<Listener, BindError>) -> bool {
    matches!(result, Err(BindError::InUse { protocol: Protocol::Tcp, .. }))
}

#[test]
fn a_fresh_bind_fails_beside_any_socket_of_anybody() {
    for foreign in ALL {
        for at in overlapping(0) {
            let theirs = foreign.bind(at).unwrap();
            let port = theirs.local_addr().unwrap().as_socket().unwrap().port();
            for ours in overlapping(port) {
                assert!(in_use(Listener::bind(ours, Claim::Fresh)), "{ours} beside {at} of {foreign:?}");
            }
        }
    }
}

#[test]
fn nobody_joins_a_bound_listener() {
    for claim in [Claim::Fresh, Claim::Restore] {
        for at in overlapping(0) {
            let ours = Listener::bind(at, claim).unwrap();
            for theirs in overlapping(ours.local_addr().port()) {
                for foreign in ALL {
                    let error = foreign.bind(theirs).expect_err(&format!("{foreign:?} joined {at} at {theirs}"));
                    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{foreign:?}");
                }
            }
        }
    }
}

#[test]
fn a_restore_fails_beside_a_foreign_listener_and_beside_one_of_ours() {
    for foreign in ALL.into_iter().filter(|foreign| foreign.listens) {
        let theirs = foreign.bind(LOOPBACK).unwrap();
        let addr = theirs.local_addr().unwrap().as_socket().unwrap();
        assert!(in_use(Listener::bind(addr, Claim::Restore)), "beside {foreign:?}");
    }
    let ours = Listener::bind(LOOPBACK, Claim::Restore).unwrap();
    assert!(in_use(Listener::bind(ours.local_addr(), Claim::Restore)));
}

#[test]
fn a_restore_fails_beside_a_socket_that_does_not_share() {
    let theirs = Foreign { reuse_addr: false, reuse_port: false, listens: false }.bind(LOOPBACK).unwrap();
    let addr = theirs.local_addr().unwrap().as_socket().unwrap();
    assert!(in_use(Listener::bind(addr, Claim::Restore)));
}

#[test]
fn a_port_given_back_can_be_bound_at_once() {
    let addr = listener().local_addr();
    Listener::bind(addr, Claim::Fresh).unwrap();
}

#[test]
fn other_errors_keep_their_cause() {
    // 192.0.2.0/24 is for documentation: no machine has such an address.
    let Err(BindError::Socket { source, .. }) = Listener::bind("192.0.2.1:0".parse().unwrap(), Claim::Fresh) else {
        panic!("bound an address of somebody else");
    };
    assert_eq!(source.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn an_ipv6_listener_leaves_the_number_on_ipv4_alone() {
    let Ok(v6) = Listener::bind((Ipv6Addr::UNSPECIFIED, 0).into(), Claim::Fresh) else {
        eprintln!("skipped: this machine has no IPv6");
        return;
    };
    let port = v6.local_addr().port();
    // Some other program may hold the number on IPv4; ours is only in the way if it says so every time.
    let free = Listener::bind((Ipv4Addr::UNSPECIFIED, port).into(), Claim::Fresh);
    let error = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).err();
    assert!(free.is_ok() || error.is_none(), "{free:?}, and nobody answers on IPv4: {error:?}");
    assert!(in_use(Listener::bind((Ipv6Addr::LOCALHOST, port).into(), Claim::Fresh)));
}

/// Connections whose server side closed first leave the port in TIME_WAIT for a minute.
#[tokio::test]
async fn a_restart_finds_its_port_although_old_connections_linger() {
    let listener = listener();
    let addr = listener.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let accepting = tokio::spawn(accept(
        listener,
        // Closed at once: the active close is ours.
        |stream, _| drop(stream),
        async {
            let _ = stopped.await;
        },
    ));
    for _ in 0..3 {
        let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
        let end = bounded("the end", tokio::io::AsyncReadExt::read(&mut client, &mut [0; 1])).await;
        assert_eq!(end.unwrap(), 0);
    }
    stop.send(()).unwrap();
    bounded("the end of accept", accepting).await.unwrap().unwrap();
    assert!(in_use(Listener::bind(addr, Claim::Fresh)), "somebody may still have data for those connections");
    let restored = Listener::bind(addr, Claim::Restore).unwrap();
    for foreign in ALL {
        assert!(foreign.bind(addr).is_err(), "{foreign:?} joined a restored listener");
    }
    drop(restored);
    // And once more, after a restore.
    let restored = Listener::bind(addr, Claim::Restore).unwrap();
    let accepting = tokio::spawn(accept(restored, |stream, _| drop(stream), std::future::pending()));
    let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
    assert_eq!(tokio::io::AsyncReadExt::read(&mut client, &mut [0; 1]).await.unwrap(), 0);
    accepting.abort();
    until("the second restore", || Listener::bind(addr, Claim::Restore).is_ok()).await;
}
