//! What can be asked of the registry, and what comes back: commands, answers, refusals.

use std::net::SocketAddr;

use harbor_types::{
    Access, AddressError, AppName, BindingId, InstanceId, KindError, Lifetime, OrgName, Port, PortRanges, Protocol,
    Protocols, ServiceId, ServiceName, SpaceName, Span,
};

/// Marks a call, so that its [`Effect::Reply`](crate::Effect::Reply) finds the caller. Chosen by the driver, never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u64);

/// An order for a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Provision {
    /// Id of the service to be; the same id again with the same attributes is the same order.
    pub id: ServiceId,
    /// Organisation.
    pub org: OrgName,
    /// Space.
    pub space: SpaceName,
    /// Name, unique in the space.
    pub name: ServiceName,
    /// Wins over the name.
    pub protocol: Option<Protocols>,
    /// Wins over the name.
    pub https: Option<bool>,
    /// This external port and no other.
    pub port: Option<Port>,
    /// This container port and no other.
    pub int_port: Option<Port>,
    /// Who can reach it; default: public where the node allows it.
    pub access: Option<Access>,
}

/// Whether a service that is bound to apps may be deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeleteMode {
    /// Refused while there are bindings.
    IfUnbound,
    /// Its bindings end with it.
    Forced,
}

/// A call that changes something.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Order a service. Answer: [`Answer::Created`] or [`Answer::Existing`].
    Provision(Provision),
    /// Delete a service. Answer: [`Answer::Deleted`], once its sockets are closed.
    Deprovision {
        /// Which.
        service: ServiceId,
        /// What about its bindings.
        mode: DeleteMode,
    },
    /// Bind a service to an app. Answer: [`Answer::Bound`].
    Bind {
        /// Id of the binding to be.
        id: BindingId,
        /// Which service.
        service: ServiceId,
        /// The app.
        app: AppName,
    },
    /// End a binding. Answer: [`Answer::Unbound`].
    Unbind {
        /// Which service.
        service: ServiceId,
        /// Which app.
        app: AppName,
    },
    /// An instance joins the pool, or refreshes its registration. Answer: [`Answer::Registered`], once every relay
    /// thread knows it.
    Register {
        /// Which service.
        service: ServiceId,
        /// Which instance.
        instance: InstanceId,
        /// Where it listens.
        addr: SocketAddr,
        /// How long it stays; default: the node's time to live.
        lifetime: Option<Lifetime>,
    },
    /// An instance still lives. Answer: [`Answer::Refreshed`]. Changes no record.
    Heartbeat {
        /// Which service.
        service: ServiceId,
        /// Which instance.
        instance: InstanceId,
    },
    /// An instance leaves. Answer: [`Answer::Deregistered`], once no relay thread will open another connection to it.
    Deregister {
        /// Which service.
        service: ServiceId,
        /// Which instance.
        instance: InstanceId,
    },
}

/// What became of a command that was carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// The service is new: durable, and its sockets are held.
    Created(ServiceId),
    /// The service was there already, with the same attributes.
    Existing(ServiceId),
    /// The service is gone and its sockets are closed.
    Deleted,
    /// The binding, new (`true`) or there already.
    Bound {
        /// Its id (the older one's if it was there already).
        id: BindingId,
        /// Whether this call made it.
        new: bool,
    },
    /// The binding is gone.
    Unbound,
    /// The instance is in the pool.
    Registered {
        /// Whether it joined with this call (first time, or with a new address).
        joined: bool,
        /// Time within which a heartbeat is expected; `None` when permanent.
        ttl: Option<Span>,
    },
    /// The heartbeat counted.
    Refreshed {
        /// Time within which the next one is expected; `None` when permanent.
        ttl: Option<Span>,
    },
    /// The instance is out of the pool.
    Deregistered,
}

/// Why a command was not carried out. Nothing changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The kind cannot be provided.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// The id is taken by a service with other attributes.
    #[error("service {id} exists with other attributes: {difference}")]
    IdTaken {
        /// The id.
        id: ServiceId,
        /// Which attributes differ, in words.
        difference: String,
    },
    /// The name is taken in the space.
    #[error("a service named {name} exists in {org}/{space}")]
    NameTaken {
        /// Organisation.
        org: OrgName,
        /// Space.
        space: SpaceName,
        /// The name.
        name: ServiceName,
    },
    /// The asked-for port is outside the range.
    #[error("port {port} is outside the range {ranges}")]
    PortOutside {
        /// The port.
        port: Port,
        /// The node's ranges.
        ranges: PortRanges,
    },
    /// The asked-for port is leased to a service.
    #[error("port {port} belongs to another service")]
    PortTaken {
        /// The port.
        port: Port,
    },
    /// The asked-for port was released lately.
    #[error("port {port} was released lately and rests for {left}")]
    PortResting {
        /// The port.
        port: Port,
        /// Time left.
        left: Span,
    },
    /// The asked-for port is held by another process.
    #[error("port {port} ({protocol}) is held by another process")]
    PortHeld {
        /// The port.
        port: Port,
        /// The protocol on which it is.
        protocol: Protocol,
    },
    /// No port is left.
    #[error(
        "no free port in {ranges}: {leased} leased, {quarantined} resting after release, {held_by_others} held by other processes"
    )]
    Exhausted {
        /// The node's ranges.
        ranges: PortRanges,
        /// Ports of the range leased to services.
        leased: usize,
        /// Ports of the range that rest.
        quarantined: usize,
        /// Ports of the range held by other processes.
        held_by_others: usize,
    },
    /// Binding failed for another reason than the port being in use.
    #[error("port {port} could not be bound: {reason}")]
    BindFailed {
        /// The port.
        port: Port,
        /// The operating system's answer.
        reason: String,
    },
    /// The asked-for container port is taken in the space, or no container port is left.
    #[error("container port {int_port} is taken in {org}/{space}")]
    IntPortTaken {
        /// The container port.
        int_port: Port,
        /// Organisation.
        org: OrgName,
        /// Space.
        space: SpaceName,
    },
    /// Every container port of the space is taken.
    #[error("no container port is left in {org}/{space}")]
    IntPortsExhausted {
        /// Organisation.
        org: OrgName,
        /// Space.
        space: SpaceName,
    },
    /// Public access is asked for, and the node does not allow it.
    #[error("this node does not allow public access")]
    PublicNotAllowed,
    /// There is no such service.
    #[error("there is no service {service}")]
    UnknownService {
        /// The id.
        service: ServiceId,
    },
    /// The service is bound to apps.
    #[error("service {name} is bound to {apps}")]
    StillBound {
        /// The service.
        name: ServiceName,
        /// The apps, comma-separated.
        apps: String,
    },
    /// There is no such binding.
    #[error("service {name} is not bound to app {app}")]
    UnknownBinding {
        /// The service.
        name: ServiceName,
        /// The app.
        app: AppName,
    },
    /// Two services of one app would share an environment variable.
    #[error("services {one} and {other} would both be {variable} in app {app}")]
    SameVariable {
        /// The one bound already.
        one: ServiceName,
        /// The one to be bound.
        other: ServiceName,
        /// The shared end of the variable's name.
        variable: String,
        /// The app.
        app: AppName,
    },
    /// There is no such instance in the pool.
    #[error("instance {instance} is not registered with service {name}")]
    UnknownInstance {
        /// The service.
        name: ServiceName,
        /// The instance.
        instance: InstanceId,
    },
    /// The address cannot be a backend's.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The address is one of Harbor's own listeners.
    #[error("{addr} is a listener of Harbor itself; a relay to it would run in circles")]
    OwnListener {
        /// The address.
        addr: SocketAddr,
    },
    /// The time to live is zero or beyond a day.
    #[error("a time to live of {ttl} is not possible; give 1s to 24h")]
    BadTtl {
        /// As asked.
        ttl: Span,
    },
    /// The store did not take the change; nothing changed.
    #[error("the change could not be stored: {reason}")]
    StoreFailed {
        /// The store's answer.
        reason: String,
    },
    /// The change conflicts with one that somebody else committed meanwhile.
    #[error("the change met another one: {reason}")]
    Conflict {
        /// What stood in the way.
        reason: String,
    },
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Draining,
    /// Too many calls are waiting for this service or for the node.
    #[error("too many calls are waiting")]
    Busy,
}
