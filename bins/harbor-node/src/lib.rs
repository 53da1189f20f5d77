//! Harbor's gateway node: orders ports, holds them, and relays what arrives there to application instances.
//!
//! [`Node`] is the whole; [`Handle`] the way to a running one. Inside: api → driver → registry, store and listeners. The
//! program `harbor-node` and tests call this; it reads no environment variable and no argument of its own.
//!
//! ```no_run
//! # use harbor_node::{Node, NodeConfig, Token};
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = NodeConfig::loopback("./state".into(), "20000-20099".parse()?, Token::parse("0123456789abcdef")?);
//! let node = Node::bind(config).await?;
//! println!("API on http://{}", node.api_addr());
//! node.serve(async { let _ = tokio::signal::ctrl_c().await; }).await?;
//! # Ok(())
//! # }
//! ```

mod api;
mod check;
pub mod cli;
mod clock;
pub mod config;
mod dataplane;
pub mod dev;
mod driver;
mod error;
mod event_log;
mod handle;
pub mod logging;
mod metrics;
mod node;
mod observations;
mod program;
mod store_thread;
pub mod system;
mod token;

pub use api::TokenSlot;
pub use check::check;
pub use config::{ConfigError, Drain, NodeConfig, Public};
pub use error::{EXIT_CONFIG, EXIT_RUNTIME, EXIT_STATE, EXIT_UNAVAILABLE, NodeError};
pub use handle::{Handle, Phase, Status, Stopped};
pub use node::Node;
pub use program::serve;
pub use token::{Token, TokenError, TokenSource};
