//! How long, how often, how much: the limits of a relayed connection and their defaults.
//!
//! Read by every other file of this crate; decides nothing itself.

use harbor_types::Span;

/// Limits of a service's connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// For all attempts to connect to a backend together.
    pub connect: Span,
    /// Attempts to connect, each to another backend; 0 counts as 1.
    pub tries: u32,
    /// A connection that moves no byte for this long ends; `None`: never.
    pub idle: Option<Span>,
    /// The same, once one direction has ended.
    pub half_closed: Span,
    /// Silence after which the kernel asks whether the peer is still there, on both sides; `None`: it does not ask.
    pub keepalive: Option<Span>,
}

impl Limits {
    /// Five seconds to reach some backend: clients rarely wait longer for an answer to their connect.
    pub const CONNECT: Span = Span::secs(5);
    /// Three backends: one that just died, one that dies with it, and a last.
    pub const TRIES: u32 = 3;
    /// One hour outlives the pauses of interactive sessions and database pools.
    pub const IDLE: Span = Span::secs(3600);
    /// Two minutes for the rest of an answer whose request has ended.
    pub const HALF_CLOSED: Span = Span::secs(120);
    /// One minute keeps entries in NAT tables and finds dead peers long before the idle limit does.
    pub const KEEPALIVE: Span = Span::secs(60);
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Self::CONNECT,
            tries: Self::TRIES,
            idle: Some(Self::IDLE),
            half_closed: Self::HALF_CLOSED,
            keepalive: Some(Self::KEEPALIVE),
        }
    }
}
