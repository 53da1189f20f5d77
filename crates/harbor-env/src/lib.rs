//! What an application sees of its ports, in both directions: the environment and services JSON that a platform renders
//! for it, and the same parsed by a Rust app that wants to know its own ports; and the manifests that order services.
//!
//! Called by the node and the client (render), by apps and the container proxy (parse), by `harbor apply` (manifests).
//! Everything is text in and values out: no variable of this process is read, no file is opened.
//!
//! ```
//! # use std::collections::BTreeMap;
//! use harbor_types::{Credentials, ServiceName};
//!
//! let name: ServiceName = "my-port".parse()?;
//! let credentials: Credentials = // as the node answers them
//! #     serde_json::from_str(r#"{"hostname":"10.0.0.1","host":"10.0.0.1","port":20001,"node_id":"harbor_node_1",
//! #         "name":"cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09","int_port":4100}"#)?;
//! let vars: BTreeMap<String, String> = harbor_env::render(&"web".parse()?, &[(name, credentials)], &[])?;
//! assert_eq!(vars["STACKATO_HARBOR"], "4100");
//!
//! let ports = harbor_env::parse(&vars)?;
//! assert_eq!(ports.port_of("my-port")?.get(), 4100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod format;
pub mod manifest;
mod parse;
mod prefix;
mod render;

pub use format::{Format, FormatError};
pub use parse::{AppService, AppServices, LookupError, ParseError, parse};
pub use prefix::{Prefix, PrefixError};
pub use render::{LABEL, PLAN, RenderError, render};
