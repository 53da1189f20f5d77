//! The UDP relay over real sockets, on loopback.

mod caps;
mod datagrams;
mod exclusive;
mod fifo;
mod lifecycle;
// The attribute tells clippy that a rig may unwrap like the tests do.
#[cfg(test)]
mod rig;
