//! Port numbers, ranges of them, and the two protocols they carry.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A TCP or UDP port number, 1 to 65535.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Port(NonZeroU16);

/// Why a number is no [`Port`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("0 is not a port; give a number from 1 to 65535")]
pub struct PortError;

impl Port {
    /// The port with this number.
    ///
    /// # Errors
    /// [`PortError`] for 0.
    pub fn new(number: u16) -> Result<Self, PortError> {
        NonZeroU16::new(number).map(Self).ok_or(PortError)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl TryFrom<u16> for Port {
    type Error = PortError;
    fn try_from(number: u16) -> Result<Self, PortError> {
        Self::new(number)
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        port.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Port {
    type Err = PortRangeError;
    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let wrong = || PortRangeError::Syntax { text: text.into() };
        let number: u16 = text.parse().map_err(|_| wrong())?;
        Self::new(number).map_err(|_| wrong())
    }
}

/// An inclusive range of ports, written `20000-29999` or `30000`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortRange {
    first: Port,
    last: Port,
}

/// Why a text is no [`PortRange`] or [`PortRanges`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PortRangeError {
    /// Not `FIRST-LAST` or one number.
    #[error("{text:?} is not a port or a range of ports; write it like 20000-29999")]
    Syntax {
        /// The text as given.
        text: String,
    },
    /// The first port is above the last.
    #[error("the range {first}-{last} runs backwards; put the lower port first")]
    Backwards {
        /// First port as given.
        first: Port,
        /// Last port as given.
        last: Port,
    },
    /// Two ranges share ports.
    #[error("the ranges {one} and {other} overlap")]
    Overlap {
        /// The lower range.
        one: PortRange,
        /// The higher range.
        other: PortRange,
    },
    /// No range at all.
    #[error("no port range is given")]
    Empty,
}

impl PortRange {
    /// The range from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`PortRangeError::Backwards`] when `first` is above `last`.
    pub fn new(first: Port, last: Port) -> Result<Self, PortRangeError> {
        if first > last {
            return Err(PortRangeError::Backwards { first, last });
        }
        Ok(Self { first, last })
    }

    /// Lowest port.
    #[must_use]
    pub const fn first(self) -> Port {
        self.first
    }

    /// Highest port.
    #[must_use]
    pub const fn last(self) -> Port {
        self.last
    }

    /// Whether `port` is in the range.
    #[must_use]
    pub fn contains(self, port: Port) -> bool {
        self.first <= port && port <= self.last
    }

    /// All ports, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Port> {
        let numbers: RangeInclusive<u16> = self.first.get()..=self.last.get();
        numbers.filter_map(|number| Port::new(number).ok())
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;
    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let text = text.trim();
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let wrong = |_| PortRangeError::Syntax { text: text.into() };
        Self::new(first.trim().parse().map_err(wrong)?, last.trim().parse().map_err(wrong)?)
    }
}

/// One or several ranges that do not overlap, lowest first; written `20000-29999` or `20000-20999,31000-31999`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRanges(Vec<PortRange>);

impl PortRanges {
    /// The set of these ranges, in any order.
    ///
    /// # Errors
    /// [`PortRangeError::Empty`] or [`PortRangeError::Overlap`].
    pub fn new(mut ranges: Vec<PortRange>) -> Result<Self, PortRangeError> {
        ranges.sort();
        if ranges.is_empty() {
            return Err(PortRangeError::Empty);
        }
        for pair in ranges.windows(2) {
            if let [one, other] = *pair
                && one.last >= other.first
            {
                return Err(PortRangeError::Overlap { one, other });
            }
        }
        Ok(Self(ranges))
    }

    /// The ranges, lowest first.
    #[must_use]
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    /// Whether `port` is in one of the ranges.
    #[must_use]
    pub fn contains(&self, port: Port) -> bool {
        self.0.iter().any(|range| range.contains(port))
    }

    /// All ports, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Port> {
        self.0.iter().flat_map(|range| range.iter())
    }
}

impl From<PortRange> for PortRanges {
    fn from(range: PortRange) -> Self {
        Self(vec![range])
    }
}

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for PortRanges {
    type Err = PortRangeError;
    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        Self::new(text.split(',').map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl TryFrom<String> for PortRanges {
    type Error = PortRangeError;
    fn try_from(text: String) -> Result<Self, PortRangeError> {
        text.parse()
    }
}

impl From<PortRanges> for String {
    fn from(ranges: PortRanges) -> Self {
        ranges.to_string()
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The protocols one service listens on: one, or both on the same number.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Protocols {
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
    /// TCP and UDP on one number.
    Both,
}

impl Protocols {
    /// Whether `protocol` is among them.
    #[must_use]
    pub fn contains(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Tcp => self != Self::Udp,
            Protocol::Udp => self != Self::Tcp,
        }
    }

    /// Each of them, TCP first.
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        [Protocol::Tcp, Protocol::Udp].into_iter().filter(move |protocol| self.contains(*protocol))
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Both => "both",
        })
    }
}

impl FromStr for Protocols {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "both" => Ok(Self::Both),
            other => Err(format!("{other:?} is not a protocol; give tcp, udp or both")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_checked() {
        for (text, want) in [
            ("20000-29999", Ok("20000-29999")),
            ("31000-31999, 20000-20999", Ok("20000-20999,31000-31999")),
            ("30000", Ok("30000-30000")),
            ("30000-20000", Err("the range 30000-20000 runs backwards; put the lower port first")),
            ("1-10,10-20", Err("the ranges 1-10 and 10-20 overlap")),
            ("0-10", Err("\"0-10\" is not a port or a range of ports; write it like 20000-29999")),
            ("", Err("\"\" is not a port or a range of ports; write it like 20000-29999")),
            ("1-70000", Err("\"1-70000\" is not a port or a range of ports; write it like 20000-29999")),
        ] {
            let got = text.parse::<PortRanges>().map(|r| r.to_string()).map_err(|e| e.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text}");
        }
    }

    #[test]
    fn a_range_ends_at_the_highest_port_without_overflow() {
        let range: PortRange = "65534-65535".parse().unwrap();
        assert_eq!(range.iter().map(Port::get).collect::<Vec<_>>(), [65534, 65535]);
    }
}
