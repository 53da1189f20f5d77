//! Services, leases and backends of a Harbor node: commands in, effects out, committed records folded.
//! (under construction: signatures first)
mod command;
mod config;
mod effect;
mod registry;

pub use command::{Answer, CallId, Command, DeleteMode, Provision, Refusal};
pub use config::{
    Config, LONGEST_TTL, MAX_WAITING, PublicAddress, QUARANTINE, SET_ASIDE, SHORTEST_TTL, TTL, first_int_port,
};
pub use effect::{BindFailure, BindOrder, Effect, Outcome};
pub use registry::{Counts, Registry};
