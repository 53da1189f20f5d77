//! Services, leases and backends of a Harbor node: commands in, effects out, committed records folded.
//!
//! Driven by one task of the node, which carries out the effects and brings back their outcomes. The store decides:
//! committed state changes only by folding what the store has committed, in revision order; a call in flight holds nothing
//! but volatile reservations, which its outcome releases. Nothing is answered before it is durable, and no port is promised
//! before its sockets are held. Opens no socket, reads no clock, writes no file.
//!
//! ```
//! use harbor_registry::{Answer, BindOrder, CallId, Command, Config, Effect, Outcome, Provision, Registry};
//! use harbor_types::{CommitOutcome, Loaded, Now, OrgName, Revision, ServiceId, SpaceName, WallTime};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example needs some moment")]
//! let now = Now { mono: std::time::Instant::now(), wall: WallTime::from_millis(1_700_000_000_000) };
//! let config = Config::new("harbor_node_1".parse()?, "192.168.68.111".parse()?, "20000-29999".parse()?);
//! let mut registry = Registry::new(config, 7);
//! registry.load(now, Loaded::default());
//!
//! let (id, name) = (ServiceId::from_u128(1), "my-port".parse()?);
//! let (org, space) = (OrgName::fallback(), SpaceName::fallback());
//! let (protocol, https, port, int_port, access) = (None, None, None, None, None);
//! let order = Provision { id, org, space, name, protocol, https, port, int_port, access };
//! registry.command(now, CallId(1), Command::Provision(order));
//!
//! let mut answers = Vec::new();
//! while let Some(effect) = registry.next_effect() {
//!     match effect {
//!         Effect::Bind(BindOrder { service, port, .. }) => {
//!             let result = Ok(vec![(registry.config().host, port.get()).into()]);
//!             registry.outcome(now, Outcome::Bound { service, port, result });
//!         }
//!         Effect::Commit(commit) => {
//!             let outcome = CommitOutcome::Committed(Revision(1));
//!             registry.outcome(now, Outcome::Committed { token: commit.token, outcome });
//!         }
//!         Effect::Publish { service, snapshot } => {
//!             registry.outcome(now, Outcome::Published { service, generation: snapshot.generation });
//!         }
//!         Effect::Reply { answer, .. } => answers.push(answer),
//!         _ => {}
//!     }
//! }
//! assert_eq!(answers, [Ok(Answer::Created(id))]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backends;
mod bindings;
mod calls;
mod command;
mod commits;
mod config;
mod effect;
mod events;
mod invariants;
mod pool;
mod provision;
mod registry;
mod rests;
mod services;
mod state;
mod timers;
mod views;

pub use command::{Answer, CallId, Command, DeleteMode, Provision, Refusal};
pub use config::{
    Config, LONGEST_TTL, MAX_WAITING, PublicAddress, QUARANTINE, SET_ASIDE, SHORTEST_TTL, TTL, first_int_port,
};
pub use effect::{BindFailure, BindOrder, Effect, Outcome};
pub use registry::Registry;
pub use views::Counts;
