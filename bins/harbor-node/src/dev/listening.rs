//! Who listens on this machine, read from the kernel's socket tables: whether an instance is ready, and which port numbers
//! are still free for the next one. Connects to nobody, so that an app never sees a probe.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

use harbor_types::{Port, Protocol, Protocols};

/// State of a listening TCP socket in `/proc/net/tcp`; a bound UDP socket stands there as closed.
const TCP_LISTEN: &str = "0A";
const UDP_UNCONNECTED: &str = "07";

/// Whether an app is ready on `port`: some socket listens there, at whatever address. Of both protocols TCP decides: some
/// servers open their UDP socket only when a TCP client asks for it.
///
/// # Errors
/// When `/proc/net` cannot be read.
pub(super) fn listens(port: Port, protocols: Protocols) -> io::Result<bool> {
    let (files, state) = if protocols.contains(Protocol::Tcp) {
        (["/proc/net/tcp", "/proc/net/tcp6"], TCP_LISTEN)
    } else {
        (["/proc/net/udp", "/proc/net/udp6"], UDP_UNCONNECTED)
    };
    for file in files {
        match std::fs::read_to_string(file) {
            Ok(table) if table_has(&table, port, state) => return Ok(true),
            Ok(_) => {}
            // No IPv6 on this machine.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether a `/proc/net` table has a socket in `state` with this local port.
fn table_has(table: &str, port: Port, state: &str) -> bool {
    let wanted = format!("{:04X}", port.get());
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().and_then(|local| local.rsplit(':').next());
        local == Some(wanted.as_str()) && fields.nth(1) == Some(state)
    })
}

/// Whether nobody has `port`, on any of `protocols`: shown by binding it for a moment.
pub(super) fn is_free(port: Port, protocols: Protocols) -> bool {
    let addr = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port.get());
    protocols.iter().all(|protocol| match protocol {
        Protocol::Tcp => TcpListener::bind(addr).is_ok(),
        Protocol::Udp => UdpSocket::bind(addr).is_ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_seen_and_its_port_is_not_free() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port::new(tcp.local_addr().unwrap().port()).unwrap();
        assert!(listens(port, Protocols::Tcp).unwrap());
        assert!(!is_free(port, Protocols::Tcp));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = Port::new(udp.local_addr().unwrap().port()).unwrap();
        assert!(listens(port, Protocols::Udp).unwrap());
        assert!(!is_free(port, Protocols::Udp));
    }

    #[test]
    fn connected_and_other_sockets_do_not_count() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:1004 00000000:0000 0A 00000000\n   \
                     1: 0100007F:1005 0100007F:1004 01 00000000\n";
        assert!(table_has(table, Port::new(0x1004).unwrap(), TCP_LISTEN));
        assert!(!table_has(table, Port::new(0x1005).unwrap(), TCP_LISTEN));
        assert!(!table_has(table, Port::new(0x1006).unwrap(), TCP_LISTEN));
    }
}
