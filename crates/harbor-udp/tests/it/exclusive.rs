//! A held port is nobody else's: not before, not afterwards.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use harbor_types::{BindError, Claim};
use harbor_udp::UdpListener;
use socket2::{Domain, Socket, Type};

/// How a foreign program asks for an address.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Plainly,
    ReuseAddr,
    ReusePort,
    Both,
}

const ALL: [Asks; 4] = [Asks::Plainly, Asks::ReuseAddr, Asks::ReusePort, Asks::Both];

fn foreign(addr: SocketAddr, asks: Asks) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    if matches!(asks, Asks::ReuseAddr | Asks::Both) {
        socket.set_reuse_address(true)?;
    }
    if matches!(asks, Asks::ReusePort | Asks::Both) {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn v4(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(ip), port))
}

/// `(ours, theirs)`: the same address, and each a wildcard that covers the other.
fn pairs() -> [([u8; 4], [u8; 4]); 4] {
    let (one, all) = ([127, 0, 0, 1], [0, 0, 0, 0]);
    [(one, one), (one, all), (all, one), (all, all)]
}

#[test]
fn a_port_that_anybody_has_is_not_ours() {
    for (ours, theirs) in pairs() {
        for asks in ALL {
            let theirs = foreign(v4(theirs, 0), asks).unwrap();
            let port = theirs.local_addr().unwrap().as_socket().unwrap().port();
            for claim in [Claim::Fresh, Claim::Restore] {
                let bound = UdpListener::bind(v4(ours, port), claim);
                assert!(matches!(bound, Err(BindError::InUse { .. })), "{ours:?} {asks:?} {claim:?}: {bound:?}");
            }
        }
    }
}

#[test]
fn nobody_joins_a_port_that_is_ours() {
    for (ours, theirs) in pairs() {
        let held = UdpListener::bind(v4(ours, 0), Claim::Fresh).unwrap();
        for asks in ALL {
            let joined = foreign(v4(theirs, held.local_addr().port()), asks).map(drop);
            let kind = joined.map_err(|error| error.kind());
            assert_eq!(kind, Err(std::io::ErrorKind::AddrInUse), "{ours:?} {theirs:?} {asks:?}");
        }
    }
}

#[test]
fn a_foreign_socket_for_both_families_stands_in_the_way() {
    let Ok(theirs) = foreign(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), Asks::Both) else {
        return println!("skipped: no IPv6 here");
    };
    let port = theirs.local_addr().unwrap().as_socket().unwrap().port();
    for addr in [v4([127, 0, 0, 1], port), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        assert!(matches!(UdpListener::bind(addr, Claim::Fresh), Err(BindError::InUse { .. })), "{addr}");
    }
}

#[test]
fn the_families_are_held_apart_and_a_closed_port_is_free_at_once() {
    let held = UdpListener::bind(v4([0, 0, 0, 0], 0), Claim::Fresh).unwrap();
    let port = held.local_addr().port();
    match UdpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), Claim::Fresh) {
        // Another test's socket may have the number in the other family.
        Ok(_) | Err(BindError::InUse { .. }) => {}
        Err(error) => println!("skipped: no IPv6 here: {error}"),
    }
    drop(held);
    let again = UdpListener::bind(v4([0, 0, 0, 0], port), Claim::Restore);
    assert!(again.is_ok(), "{again:?}");
}

#[test]
fn an_address_that_is_not_ours_is_no_conflict() {
    let bound = UdpListener::bind(v4([192, 0, 2, 77], 0), Claim::Fresh);
    assert!(matches!(bound, Err(BindError::Socket { .. })), "{bound:?}");
}
