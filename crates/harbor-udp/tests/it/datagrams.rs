//! Datagrams pass unchanged, to the right side, from the right address.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;

use harbor_testkit::udp::{Manners, UdpBackend, UdpClient};
use harbor_testkit::wait::until;
use harbor_types::Claim;
use harbor_udp::{Limits, UdpListener};
use quinn_udp::{Transmit, UdpSocketState};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu_discover, ipv6_mtu_discover};

use crate::rig::{ANY, Relay};

/// Bytes that differ from place to place.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap_or_default()).collect()
}

#[tokio::test]
async fn two_clients_are_told_apart_and_each_gets_its_own_answers() {
    let backend = UdpBackend::start("").await;
    let relay = Relay::start(ANY, Limits::default(), &[(1, backend.addr)]).await;
    let (one, other) = (UdpClient::connect(relay.addr).await, UdpClient::connect(relay.addr).await);
    for round in 0..20 {
        one.send(format!("one {round}").as_bytes()).await;
        other.send(format!("other {round}").as_bytes()).await;
        assert_eq!(one.receive("one's answer").await, format!("one {round}").as_bytes());
        assert_eq!(other.receive("other's answer").await, format!("other {round}").as_bytes());
    }
    assert_eq!(backend.seen().peers.len(), 2, "one socket a client");
    assert_eq!(relay.notes.opened.lock().unwrap().as_slice(), [one.addr(), other.addr()]);
}

async fn every_size_passes(addr: SocketAddr, largest: usize) {
    let backend = UdpBackend::at(SocketAddr::new(addr.ip(), 0), "", Manners::Answers).await;
    let relay = Relay::start(addr, Limits::default(), &[(1, backend.addr)]).await;
    let client = UdpClient::connect(relay.addr).await;
    let sizes = [0, 1, 1472, 1473, 9000, largest];
    for size in sizes {
        let sent = payload(size);
        assert!(client.ask(&sent).await == sent, "{size} bytes came back changed");
    }
    assert_eq!(backend.seen().sizes, sizes, "uncut on the way in");
    let (up, down) = (relay.service.traffic().up(), relay.service.traffic().down());
    assert_eq!((up, up.datagrams), (down, 6));
}

#[tokio::test]
async fn datagrams_of_every_size_pass_unchanged() {
    every_size_passes(ANY, 65_507).await;
}

#[tokio::test]
async fn datagrams_of_every_size_pass_unchanged_over_ipv6() {
    let addr = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if UdpListener::bind(addr, Claim::Fresh).is_err() {
        return println!("skipped: no IPv6 here");
    }
    every_size_passes(addr, 65_527).await;
}

#[tokio::test]
#[ignore = "needs a loopback with an MTU of 1500: run by datagrams_larger_than_the_mtu_are_fragmented"]
async fn in_a_network_of_its_own() {
    every_size_passes(ANY, 65_507).await;
    every_size_passes(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), 65_527).await;
}

#[test]
fn datagrams_larger_than_the_mtu_are_fragmented() {
    let network = "ip link set lo mtu 1500 up && exec \"$0\" --ignored --exact datagrams::in_a_network_of_its_own";
    let unshare =
        |arguments: &[&str]| Command::new("unshare").args(["--map-root-user", "--net"]).args(arguments).output();
    match unshare(&["ip", "link", "set", "lo", "mtu", "1500", "up"]) {
        Ok(tried) if tried.status.success() => {}
        tried => return println!("skipped: no network of its own to be had: {tried:?}"),
    }
    let this = std::env::current_exe().unwrap();
    let ran = unshare(&["sh", "-c", network, &this.to_string_lossy()]).unwrap();
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && out.contains("1 passed"), "{out}{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn nothing_forbids_fragments() {
    let four = UdpListener::bind(ANY, Claim::Fresh).unwrap();
    assert_eq!(ip_mtu_discover(four.as_fd()), Ok(Ipv4PathMtuDiscovery::DONT));
    let Ok(six) = UdpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), Claim::Fresh) else {
        return println!("skipped: no IPv6 here");
    };
    assert_eq!(ipv6_mtu_discover(six.as_fd()), Ok(Ipv6PathMtuDiscovery::DONT));
    let forbids = nix::sys::socket::getsockopt(&six, nix::sys::socket::sockopt::Ipv6DontFrag);
    assert_eq!(forbids, Ok(false));
}

#[tokio::test]
async fn datagrams_that_the_kernel_coalesced_arrive_one_by_one() {
    let backend = UdpBackend::silent().await;
    let relay = Relay::start(ANY, Limits::default(), &[(1, backend.addr)]).await;
    let socket = std::net::UdpSocket::bind(ANY).unwrap();
    let state = UdpSocketState::new((&socket).into()).unwrap();
    let bytes = payload(10 * 100 + 37);
    let segment_size = (state.max_gso_segments() > 10).then_some(100);
    if segment_size.is_none() {
        println!("the kernel here does not coalesce: sent as one");
    }
    let run = Transmit { destination: relay.addr, ecn: None, contents: &bytes, segment_size, src_ip: None };
    state.try_send((&socket).into(), &run).unwrap();
    let want = if segment_size.is_some() { [vec![100; 10], vec![37]].concat() } else { vec![1037] };
    until("all of them to arrive", || backend.seen().sizes.len() >= want.len()).await;
    assert_eq!(backend.seen().sizes, want);
    assert_eq!(backend.seen().peers.len(), 1);
}

#[tokio::test]
async fn on_a_wildcard_socket_the_answer_leaves_from_the_address_the_client_used() {
    let backend = UdpBackend::start("").await;
    let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let relay = Relay::start(wildcard, Limits::default(), &[(1, backend.addr)]).await;
    // A connected socket hears only the address it is connected to.
    for ip in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 77, 0, 3]] {
        let client = UdpClient::connect(SocketAddr::from((ip, relay.addr.port()))).await;
        assert_eq!(client.ask(b"from where?").await, b"from where?", "{ip:?}");
    }
}

#[tokio::test]
async fn one_client_port_may_use_two_of_our_addresses() {
    let backend = UdpBackend::start("").await;
    let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let relay = Relay::start(wildcard, Limits::default(), &[(1, backend.addr)]).await;
    let client = tokio::net::UdpSocket::bind(ANY).await.unwrap();
    for ip in [[127, 0, 0, 2], [127, 0, 0, 3]] {
        let used = SocketAddr::from((ip, relay.addr.port()));
        client.send_to(b"x", used).await.unwrap();
        let heard = harbor_testkit::wait::bounded("an answer", client.recv_from(&mut [0; 8])).await.unwrap();
        assert_eq!(heard, (1, used));
    }
    assert_eq!(relay.service.budget().live(), 2);
}

#[tokio::test]
async fn on_an_ipv6_wildcard_socket_the_answer_leaves_from_the_address_the_client_used() {
    let backend = UdpBackend::start("").await;
    let wildcard = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    if UdpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), Claim::Fresh).is_err() {
        return println!("skipped: no IPv6 here");
    }
    let relay = Relay::start(wildcard, Limits::default(), &[(1, backend.addr)]).await;
    let client = UdpClient::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, relay.addr.port()))).await;
    assert_eq!(client.ask(b"six to four").await, b"six to four");
}
