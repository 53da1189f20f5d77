//! Manifests: which services a `stackato.yml` or `manifest.yml` orders, for which apps. Decides what counts as Harbor's and
//! what is a mistake; never opens the file, never asks the node what exists already.

use std::collections::{BTreeMap, BTreeSet};

use harbor_types::wire::CreateService;
use harbor_types::{AppName, ServiceKind, ServiceName, env_suffix};

mod error;
mod parameters;
mod tree;

pub use error::{Fault, ManifestError, Position};

use crate::LABEL;
use error::{Problem, shown};
use tree::NodeRef;

/// The only placeholder: the app's name.
const APP_NAME: &str = "${name}";

/// What a manifest asks of Harbor.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Manifest {
    /// Services to create where they are missing, each once, in the order of the file.
    pub orders: Vec<Order>,
    /// Apps that have services here, in the order of the file.
    pub apps: Vec<App>,
    /// What was passed over, in the order of the file.
    pub notices: Vec<Notice>,
}

/// A service to create.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order {
    /// The order, ready for the node; organisation and space are left open.
    pub service: CreateService,
    /// What its name and parameters make of it.
    pub kind: ServiceKind,
    /// Where the manifest first says so.
    pub at: Position,
}

/// An app and its services.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct App {
    /// Its name; absent when the manifest leaves it open and no service needs it.
    pub name: Option<AppName>,
    /// Services to bind that [`Manifest::orders`] has, in the order of the file.
    pub ordered: Vec<ServiceName>,
    /// Existing services to bind, from lists. They may be of any type; those that the node does not know are not Harbor's.
    pub listed: Vec<Listed>,
}

/// A service that a manifest only names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: ServiceName,
    /// Where the manifest says so.
    pub at: Position,
}

/// Something in a manifest that Harbor passes over; its owner may want to know.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Notice {
    /// A service of another type.
    #[error("{at}: service {service:?} is skipped: its type is {kind:?}, not harbor")]
    OtherType {
        /// The service, as written.
        service: String,
        /// Its type, as written.
        kind: String,
        /// Where.
        at: Position,
    },
    /// A name in a list that no Harbor service can have.
    #[error("{at}: service {service:?} is skipped: no Harbor service can have that name")]
    OtherName {
        /// The name, as written, `${name}` replaced.
        service: String,
        /// Where.
        at: Position,
    },
}

impl Notice {
    /// Where it is.
    #[must_use]
    pub const fn at(&self) -> Position {
        match self {
            Self::OtherType { at, .. } | Self::OtherName { at, .. } => *at,
        }
    }
}

/// The services in the manifest `text`; `file` is its name, for error messages.
///
/// Read are `name:` and `services:` at top level and under each entry of `applications:` (a list, or a map of folders);
/// everything else may be any YAML. A top-level `name:` or `services:` counts for every entry of `applications:`.
///
/// ```yaml
/// name: port-test
/// services:
///   my-port: harbor                # a type; others than harbor become notices
///   udp-${name}: harbor            # the app's name; in a map with braces it needs quotes
///   web: {type: harbor, parameters: {https: true, port: 30200, int_port: 4100, public: true, protocol: tcp}}
/// ```
///
/// A list under `services:` names existing services to bind: `[my-port, {name: other-port}]`. `services:` with nothing
/// under it is no services. Anchors, aliases and merge keys (`<<`) work. A service that several apps order in the same way
/// is one service, bound to each.
///
/// # Errors
/// [`ManifestError`] with file, line and column: text that is no YAML, longer than 256 KiB, nested deeper than 64 or with
/// aliases that unfold without measure; a `services:` block of any other shape; what [`Fault`] lists.
///
/// # Source
/// The user's document, "Requesting a Port" and "Harbor Environment Variables"; the historic stackato.yml options,
/// "services" (name → type, `${name}` in names).
pub fn parse(text: &str, file: &str) -> Result<Manifest, ManifestError> {
    read(text).map_err(|problem| ManifestError { file: file.into(), at: problem.at, fault: Box::new(problem.fault) })
}

fn read(text: &str) -> Result<Manifest, Problem> {
    let tree = tree::read(text)?;
    let Some(root) = tree.root().filter(|root| !root.is_null()) else { return Ok(Manifest::default()) };
    if !root.is_map() {
        return Err(Problem::at(root.at, Fault::NotAMap { found: root.what() }));
    }
    let (name, services) = (root.field("name")?, root.field("services")?);
    let mut entries = match root.field("applications")? {
        None => Vec::new(),
        Some(list) => match list.items() {
            Some(items) => items.collect(),
            None => list.pairs()?.unwrap_or_default().into_iter().map(|(_, entry)| entry).collect(),
        },
    };
    entries.retain(|entry| entry.is_map());
    let mut reader = Reader::default();
    if entries.is_empty() {
        reader.app(name, services, None)?;
    }
    for entry in entries {
        reader.app(entry.field("name")?.or(name), services, entry.field("services")?)?;
    }
    Ok(reader.manifest)
}

/// Collects apps one after the other.
#[derive(Default)]
struct Reader {
    manifest: Manifest,
    /// Index of each order in the manifest.
    orders: BTreeMap<ServiceName, usize>,
    /// Places that have a notice: a block at top level is read once for each app.
    noticed: BTreeSet<Position>,
    /// Nodes of all blocks so far, of [`tree::MAX_NODES`]: a block at top level unfolds once for each app.
    unfolded: usize,
}

/// The app that is being read.
struct Current {
    /// An app without Harbor services may have any name, so what is wrong with it waits until the name matters.
    name: Result<Option<AppName>, Problem>,
    ordered: Vec<ServiceName>,
    listed: Vec<Listed>,
    /// Services by the end of their variable's name.
    variables: BTreeMap<String, (ServiceName, Position)>,
}

impl Reader {
    fn app(
        &mut self,
        name: Option<NodeRef<'_>>,
        shared: Option<NodeRef<'_>>,
        own: Option<NodeRef<'_>>,
    ) -> Result<(), Problem> {
        let blocks: Vec<_> = [shared, own].into_iter().flatten().filter(|block| !block.is_null()).collect();
        if blocks.is_empty() {
            return Ok(());
        }
        let name = name.map_or(Ok(None), app_name);
        let mut current = Current { name, ordered: Vec::new(), listed: Vec::new(), variables: BTreeMap::new() };
        for block in blocks {
            self.block(&mut current, block)?;
        }
        if !current.variables.is_empty() {
            let Current { name, ordered, listed, .. } = current;
            self.manifest.apps.push(App { name: name?, ordered, listed });
        }
        Ok(())
    }

    fn block(&mut self, current: &mut Current, block: NodeRef<'_>) -> Result<(), Problem> {
        self.unfolded = self.unfolded.saturating_add(block.unfolded());
        if self.unfolded > tree::MAX_NODES {
            return Err(Problem::at(block.at, Fault::Unfolds { limit: tree::MAX_NODES }));
        }
        let mut names = BTreeMap::new();
        if let Some(pairs) = block.pairs()? {
            for (key, value) in pairs {
                let Some(written) = key.word() else {
                    return Err(Problem::at(key.at, Fault::NameShape { found: key.what() }));
                };
                once(&mut names, written.into(), key.at)?;
                self.entry(current, &mut names, key.at, written, value)?;
            }
        } else if let Some(items) = block.items() {
            for item in items {
                self.item(current, &mut names, item)?;
            }
        } else {
            return Err(Problem::at(block.at, Fault::ServicesShape { found: block.what() }));
        }
        Ok(())
    }

    /// One entry of a map of services.
    fn entry(
        &mut self,
        current: &mut Current,
        names: &mut BTreeMap<String, Position>,
        at: Position,
        written: &str,
        value: NodeRef<'_>,
    ) -> Result<(), Problem> {
        let typed = value.field("type")?.unwrap_or(value);
        let Some(kind) = typed.text() else {
            let found = if typed.is_map() { "a map without type:" } else { typed.what() };
            return Err(Problem::at(typed.at, Fault::TypeShape { service: shown(written), found }));
        };
        if kind != LABEL {
            self.notice(Notice::OtherType { service: shown(written), kind: shown(kind), at });
            return Ok(());
        }
        let expanded = current.expand(written, at)?;
        if expanded.contains("${") {
            return Err(Problem::at(at, Fault::Placeholder { service: shown(written) }));
        }
        let name = ServiceName::parse(&expanded).map_err(|error| Problem::at(at, Fault::Name(error)))?;
        if expanded != written {
            once(names, expanded, at)?;
        }
        let service = parameters::read(CreateService::named(name.clone()), written, value)?;
        let kind = ServiceKind::decide(&name, service.protocol, service.https)
            .map_err(|cause| Problem::at(at, Fault::Kind { service: name.clone(), cause }))?;
        if current.add(&name, at)? {
            current.ordered.push(name.clone());
        }
        self.order(Order { service, kind, at })
    }

    fn order(&mut self, order: Order) -> Result<(), Problem> {
        let known = self.orders.get(&order.service.name).and_then(|index| self.manifest.orders.get(*index));
        match known {
            None => {
                self.orders.insert(order.service.name.clone(), self.manifest.orders.len());
                self.manifest.orders.push(order);
                Ok(())
            }
            Some(known) if known.service == order.service => Ok(()),
            Some(known) => {
                let fault = Fault::OrderedDifferently { service: order.service.name, first: known.at };
                Err(Problem::at(order.at, fault))
            }
        }
    }

    /// One item of a list of services: a name, or a map with one.
    fn item(
        &mut self,
        current: &mut Current,
        names: &mut BTreeMap<String, Position>,
        item: NodeRef<'_>,
    ) -> Result<(), Problem> {
        let named = item.field("name")?.unwrap_or(item);
        let Some(written) = named.word() else {
            return Err(Problem::at(named.at, Fault::ItemShape { found: named.what() }));
        };
        let (at, expanded) = (named.at, current.expand(written, named.at)?);
        once(names, expanded.clone(), at)?;
        let Ok(name) = ServiceName::parse(&expanded) else {
            self.notice(Notice::OtherName { service: shown(&expanded), at });
            return Ok(());
        };
        if current.add(&name, at)? {
            current.listed.push(Listed { name, at });
        }
        Ok(())
    }

    fn notice(&mut self, notice: Notice) {
        if self.noticed.insert(notice.at()) {
            self.manifest.notices.push(notice);
        }
    }
}

impl Current {
    /// A service's name with the app's name in its place.
    fn expand(&self, written: &str, at: Position) -> Result<String, Problem> {
        if !written.contains(APP_NAME) {
            return Ok(written.into());
        }
        match &self.name {
            Ok(Some(app)) => Ok(written.replace(APP_NAME, app.as_str())),
            Ok(None) => Err(Problem::at(at, Fault::NeedsAppName { service: shown(written) })),
            Err(problem) => Err(problem.clone()),
        }
    }

    /// Whether the app did not have the service yet.
    fn add(&mut self, name: &ServiceName, at: Position) -> Result<bool, Problem> {
        let suffix = env_suffix(name.as_str());
        match self.variables.get(&suffix) {
            None => {
                self.variables.insert(suffix, (name.clone(), at));
                Ok(true)
            }
            Some((known, _)) if known == name => Ok(false),
            Some((other, first)) => {
                let (service, other, first) = (name.clone(), other.clone(), *first);
                Err(Problem::at(at, Fault::SharedVariable { service, other, first, suffix }))
            }
        }
    }
}

fn app_name(node: NodeRef<'_>) -> Result<Option<AppName>, Problem> {
    if node.is_null() {
        return Ok(None);
    }
    let Some(written) = node.word() else {
        return Err(Problem::at(node.at, Fault::AppNameShape { found: node.what() }));
    };
    AppName::parse(written).map(Some).map_err(|error| Problem::at(node.at, Fault::Name(error)))
}

/// Refuses a name that stands in one block twice.
fn once(names: &mut BTreeMap<String, Position>, name: String, at: Position) -> Result<(), Problem> {
    match names.get(&name) {
        None => {
            names.insert(name, at);
            Ok(())
        }
        Some(first) => Err(Problem::at(at, Fault::RepeatedService { service: shown(&name), first: *first })),
    }
}
