//! The node's HTTP API as typed calls: one method of [`Client`] a route, wire shapes of `harbor_types::wire` in and out.
//!
//! Used by the command-line client and by the container proxy. Each call opens one connection and has deadlines on every
//! wait. No call is repeated on its own, neither reads nor changes: whoever calls knows whether a second try is harmless.
//! Plain `http://` only; no proxy of the environment is used, no redirect followed, so the token goes to the node that
//! was named and nowhere else. This crate reads no environment, no file and no clock.
//!
//! ```no_run
//! # use harbor_client::{Client, NodeUrl, Token};
//! # use harbor_types::wire::CreateService;
//! # async fn order() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:8700".parse()?, Token::parse("a secret")?);
//! let service = client.create_service(&CreateService::named("my-port".parse()?)).await?.value;
//! println!("{} is on port {}", service.name, service.port);
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod exchange;
mod keep;
mod request;
mod token;
mod url;

pub use client::{Answer, Client, Limits, Readiness};
pub use error::ClientError;
pub use keep::{Kept, keep_registered};
pub use request::{DeleteMode, ServiceFilter, ServiceRef};
pub use token::{Token, TokenError};
pub use url::{NodeUrl, UrlError};
