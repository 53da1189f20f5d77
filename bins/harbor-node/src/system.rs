//! What the operating system allows: file descriptors, and the range it takes ports from for outgoing connections.

use std::net::IpAddr;

use harbor_types::{Port, PortRange, PortRanges};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

/// Where Linux keeps its ephemeral range.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Ports Linux never takes from it.
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// What the kernel says about this process.
const OWN_STATUS: &str = "/proc/self/status";
/// Assumed where a limit cannot be read.
const FEW_FILES: u64 = 1_024;

/// Raises the soft limit of open files to the hard one; the number of files that may be open afterwards.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // A failure leaves the old limit, which is what gets reported.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(FEW_FILES)
}

/// The addresses of this machine's interfaces; none where they cannot be read.
pub fn own_ips() -> Vec<IpAddr> {
    let of_sockets = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let found = getifaddrs().into_iter().flatten();
    found.filter_map(|interface| interface.address.and_then(of_sockets)).collect()
}

/// Whether this process ignores the signal, as `nohup` has it for SIGHUP. To be asked before a handler is set.
#[must_use]
pub fn ignores(signal: Signal) -> bool {
    let bit = u32::try_from(signal.as_raw() - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0);
    std::fs::read_to_string(OWN_STATUS).is_ok_and(|status| ignored_signals(&status) & bit != 0)
}

/// The mask of ignored signals in a process's status; signal 1, SIGHUP, is its lowest bit.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// A warning when `ranges` meets the ports the system hands to outgoing connections, with its cure.
#[must_use]
pub fn ephemeral_warning(ranges: &PortRanges) -> Option<String> {
    let ephemeral = std::fs::read_to_string(EPHEMERAL).ok()?;
    let reserved = std::fs::read_to_string(RESERVED).unwrap_or_default();
    overlap(ranges, &ephemeral, &reserved)
}

fn overlap(ranges: &PortRanges, ephemeral: &str, reserved: &str) -> Option<String> {
    let mut numbers = ephemeral.split_whitespace().filter_map(|word| word.parse::<Port>().ok());
    let ephemeral = PortRange::new(numbers.next()?, numbers.next()?).ok()?;
    let reserved = reserved.trim().parse::<PortRanges>().ok();
    let met = ranges.iter().find(|port| {
        ephemeral.contains(*port) && !reserved.as_ref().is_some_and(|reserved| reserved.contains(*port))
    })?;
    Some(format!(
        "port_range {ranges} meets the range that outgoing connections take their ports from ({ephemeral}, for example \
         at {met}), so single ports may be in use now and then; keep them apart with: \
         sysctl -w net.ipv4.ip_local_reserved_ports={ranges}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_address_of_this_machine() {
        let ips = own_ips();
        assert!(ips.contains(&IpAddr::from([127, 0, 0, 1])), "{ips:?}");
    }

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = |mask| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert_eq!(ignored_signals(&status("0000000000001001")), 0x1001);
        assert_eq!(ignored_signals(&status("0000000000001000")) & 1, 0);
        assert_eq!(ignored_signals("Name:\tx\n"), 0);
    }

    #[test]
    fn a_range_that_meets_the_ephemeral_one_is_warned_about() {
        for (ranges, reserved, warned) in [
            ("20000-29999", "", false),
            ("30000-33000", "", true),
            ("33000", "", true),
            ("30000-33000", "32768-33000\n", false),
            ("30000-33000", "32768-32999\n", true),
            ("20000-20010,60999", "", true),
            ("61000-65535", "", false),
        ] {
            let warning = overlap(&ranges.parse().unwrap(), "32768\t60999\n", reserved);
            assert_eq!(warning.is_some(), warned, "{ranges} {reserved:?}");
            assert!(warning.is_none_or(|text| text.contains(&format!("ip_local_reserved_ports={ranges}"))));
        }
        assert_eq!(overlap(&"1024".parse().unwrap(), "nonsense", ""), None);
    }
}
