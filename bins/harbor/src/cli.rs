//! The command line: commands, options and their help. Decides what is well-formed, and nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use harbor_client::{NodeUrl, ServiceRef};
use harbor_env::{Format, Prefix};
use harbor_types::{AppName, InstanceId, Port, Protocols, ServiceId, ServiceName, Span};

/// The only type of service there is.
const HARBOR: &str = "harbor";

/// Heading of the options that every command takes.
const EVERYWHERE: &str = "Node and output";

/// How the client finds its node and token, and what its exit codes mean: the end of `harbor --help`.
const AFTER_HELP: &str = "\
The node:   --url, else HARBOR_URL, else the address in .harbor/api, else http://127.0.0.1:8700.
The token:  HARBOR_TOKEN, else the file that HARBOR_TOKEN_FILE names, else .harbor/token.
            There is no option for it: other users can read a process's arguments.
.harbor is the folder that `harbor-node dev` makes, looked for here and in the folders above. Its
token is only sent to its own node. A variable that is empty counts as not set.

Exit codes: 0 done, 1 refused or failed, 2 usage, 69 node unreachable, 78 no token or bad settings.";

/// External ports for applications: order them, bind them, see where they lead.
#[derive(Debug, Parser)]
#[command(name = "harbor", version, term_width = 100, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// Address of the node, like http://127.0.0.1:8700
    #[arg(long, global = true, value_name = "URL", help_heading = EVERYWHERE)]
    pub url: Option<NodeUrl>,
    /// table, for people, or json, the node's own answer, for programs
    #[arg(short, long, global = true, value_name = "FORM", default_value = "table", help_heading = EVERYWHERE)]
    pub output: OutputForm,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// For whom results are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputForm {
    /// Aligned columns and sentences.
    Table,
    /// The node's own JSON.
    Json,
}

impl FromStr for OutputForm {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            _ => Err("give table or json".into()),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Order a service: an external port, held from then on
    CreateService(CreateService),
    /// List all services
    Services,
    /// Show one service: settings, backends and credentials
    Service {
        /// Its name, or its id
        #[arg(value_name = "NAME", value_parser = service)]
        service: ServiceRef,
    },
    /// Delete a service; its connections may finish first, its port rests before anybody gets it
    DeleteService {
        /// Its name, or its id
        #[arg(value_name = "NAME", value_parser = service)]
        service: ServiceRef,
        /// Also when it is bound to apps; the bindings end with it
        #[arg(long)]
        force: bool,
    },
    /// Bind a service to an app, which then finds it in its environment
    BindService(Binding),
    /// End a binding
    UnbindService(Binding),
    /// Print an app's variables: eval "$(harbor env APP)"
    Env {
        /// The app
        app: AppName,
        /// shell, json or dotenv [default: shell]
        #[arg(long)]
        format: Option<Format>,
        /// Give each STACKATO_ variable a twin with this prefix, like HELION; may be repeated
        #[arg(long, value_name = "PREFIX")]
        env_prefix: Vec<Prefix>,
    },
    /// Create and bind what a manifest asks for and is missing; change and delete nothing
    Apply {
        /// The manifest [default: stackato.yml, else manifest.yml]
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Register a backend: an instance of an app that a service leads to
    Register(Register),
    /// Deregister a backend: no new connection goes there
    Deregister {
        /// The service's name, or its id
        #[arg(value_name = "NAME", value_parser = service)]
        service: ServiceRef,
        /// The instance, or the address it was registered with
        #[arg(value_name = "INSTANCE|IP:PORT", value_parser = backend)]
        backend: BackendRef,
    },
    /// Show what the port range is used for
    Ports,
    /// List what happened lately
    Events {
        /// Only what came after the event with this number
        #[arg(long, value_name = "NUMBER")]
        since: Option<u64>,
    },
}

/// `create-service`.
#[derive(Debug, Args)]
pub struct CreateService {
    /// The type of service: harbor
    #[arg(value_name = "TYPE", value_parser = service_type)]
    pub kind: String,
    /// Its name. udp…: UDP, both…: TCP and UDP, otherwise TCP; …https: TLS with the app's certificate
    pub name: ServiceName,
    /// tcp, udp or both, whatever the name says
    #[arg(long)]
    pub protocol: Option<Protocols>,
    /// Whether TLS is terminated for the app, whatever the name says
    #[arg(long, value_name = "BOOL")]
    pub https: Option<bool>,
    /// This external port and no other
    #[arg(long)]
    pub port: Option<Port>,
    /// This port for the app to listen on, and no other
    #[arg(long, value_name = "PORT")]
    pub int_port: Option<Port>,
    /// Whether the port can be reached from outside [default: if the node allows it]
    #[arg(long, value_name = "BOOL")]
    pub public: Option<bool>,
    /// An id of your own (a UUID); the same order can then be repeated without harm
    #[arg(long, value_name = "UUID")]
    pub id: Option<ServiceId>,
}

/// `bind-service` and `unbind-service`.
#[derive(Debug, Args)]
pub struct Binding {
    /// The service's name, or its id
    #[arg(value_name = "NAME", value_parser = service)]
    pub service: ServiceRef,
    /// The app
    pub app: AppName,
}

/// `register`.
#[derive(Debug, Args)]
pub struct Register {
    /// The service's name, or its id
    #[arg(value_name = "NAME", value_parser = service)]
    pub service: ServiceRef,
    /// Where the instance listens: an IP address and a port
    #[arg(value_name = "IP:PORT", value_parser = addr)]
    pub addr: SocketAddr,
    /// A name for the instance [default: made from the address]
    #[arg(long, value_name = "ID")]
    pub instance: Option<InstanceId>,
    /// It stays until it is deregistered; so it is unless --ttl or --keep is given
    #[arg(long, conflicts_with_all = ["ttl", "keep"])]
    pub permanent: bool,
    /// It ends after this time, like 30s, unless it is registered again
    #[arg(long, value_name = "SPAN")]
    pub ttl: Option<Span>,
    /// Stay here and keep it alive; deregister it on Ctrl-C or SIGTERM
    #[arg(long)]
    pub keep: bool,
}

/// A backend, the way people refer to one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BackendRef {
    /// By its instance id.
    Instance(InstanceId),
    /// By its address.
    Addr(SocketAddr),
}

fn service_type(text: &str) -> Result<String, String> {
    if text == HARBOR { Ok(text.into()) } else { Err(format!("only services of type {HARBOR} can be ordered here")) }
}

/// A UUID with its hyphens is an id; anything else is a name.
fn service(text: &str) -> Result<ServiceRef, String> {
    if text.len() == 36
        && let Ok(id) = text.parse::<ServiceId>()
    {
        return Ok(id.into());
    }
    ServiceName::parse(text).map(ServiceRef::from).map_err(|error| error.to_string())
}

/// Host names are not looked up: a pool has addresses, and they stay what they were checked as.
fn addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an IP address and a port; write it like 10.0.0.5:4100 or [fd12::1]:4100".into())
}

fn backend(text: &str) -> Result<BackendRef, String> {
    if let Ok(addr) = text.parse() {
        return Ok(BackendRef::Addr(addr));
    }
    InstanceId::parse(text).map(BackendRef::Instance).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ids_names_and_addresses_are_told_apart() {
        assert!(matches!(service("cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09"), Ok(ServiceRef::Id(_))));
        assert!(matches!(service("cf7f868a8b7b4ac8ab4d9fd87efb7c09"), Ok(ServiceRef::Name { .. })));
        assert!(service("a b").unwrap_err().contains("not valid"));
        assert!(matches!(backend("10.0.0.5:4100"), Ok(BackendRef::Addr(_))));
        assert!(matches!(backend("[fd12::1]:4100"), Ok(BackendRef::Addr(_))));
        assert!(matches!(backend("10.0.0.5-4100"), Ok(BackendRef::Instance(_))));
        assert!(backend("10.0.0.5:").is_err());
        assert!(addr("[fd12::1]:4100").is_ok());
        assert!(addr("localhost:4100").unwrap_err().contains("10.0.0.5:4100"));
    }
}
