//! YAML as a tree of nodes with positions, within bounds. Decides what is too large, too deep or unfolds too far; knows
//! nothing of services. Called by [`parse`](super::parse) and its parts.
//!
//! Built from the parser's events instead of typed values, so that what is none of our business may be any YAML (tags,
//! keys that are lists, repeated keys), names like `on` and `1234` stay as they are written, and nothing is recursive.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::error::{Fault, Position, Problem};

/// Longest manifest, in bytes. The largest ones known have a few kilobytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// Deepest nesting of maps and lists, aliases followed; a `services:` block needs five.
pub(super) const MAX_DEPTH: usize = 64;
/// Nodes with all aliases (`*name`) followed: twice what the longest manifest can have without them. This is what stops
/// small files that unfold into huge ones.
pub(super) const MAX_NODES: usize = 500_000;

/// What a text is called.
const TEXT: &str = "a text";

/// A whole document. Aliases share the node they stand for, so it takes no more room than its text.
pub(super) struct Tree {
    nodes: Vec<Node>,
    root: Option<Place>,
}

struct Node {
    value: Value,
    /// Nodes from here on, aliases followed.
    unfolded: usize,
    /// Levels from here on, aliases followed; 1 for a scalar.
    levels: usize,
}

enum Value {
    /// Its text; `plain` when no quotes or tags say that it is one.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Place>),
    /// Keys and values in turn.
    Map(Vec<Place>),
}

/// Where a node is used: in the file and in the tree. An alias has the place of its own and the node of its anchor.
#[derive(Clone, Copy)]
struct Place {
    at: Position,
    index: usize,
}

/// One use of a node.
#[derive(Clone, Copy)]
pub(super) struct NodeRef<'a> {
    tree: &'a Tree,
    /// Where the file has it; for an alias, the place of the alias.
    pub(super) at: Position,
    node: &'a Node,
}

/// A key and its value.
pub(super) type Pair<'a> = (NodeRef<'a>, NodeRef<'a>);

impl Tree {
    /// The document's only node; `None` when there is no document.
    pub(super) fn root(&self) -> Option<NodeRef<'_>> {
        self.root.and_then(|place| self.at(place))
    }

    fn at(&self, place: Place) -> Option<NodeRef<'_>> {
        let node = self.nodes.get(place.index);
        debug_assert!(node.is_some(), "places come from Builder, which made their nodes first");
        node.map(|node| NodeRef { tree: self, at: place.at, node })
    }
}

impl<'a> NodeRef<'a> {
    /// The text of a scalar as it is written: the name `on` or `1234` is text here, whatever YAML makes of it.
    pub(super) fn word(self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar without quotes or tags.
    pub(super) fn plain(self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, plain: true } => Some(text),
            _ => None,
        }
    }

    /// Whether there is nothing: no text, or `~`.
    pub(super) fn is_null(self) -> bool {
        matches!(self.plain(), Some("" | "~" | "null" | "Null" | "NULL"))
    }

    /// A boolean, as YAML 1.1 has them; the historic manifests say `yes` and `y`.
    pub(super) fn flag(self) -> Option<bool> {
        match self.plain()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" => Some(true),
            "false" | "no" | "n" | "off" => Some(false),
            _ => None,
        }
    }

    /// Whether it is a map.
    pub(super) const fn is_map(self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// The text of a scalar that YAML reads as a text.
    pub(super) fn text(self) -> Option<&'a str> {
        self.word().filter(|_| self.what() == TEXT)
    }

    /// What it is, in an error message.
    pub(super) fn what(self) -> &'static str {
        match &self.node.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } if self.flag().is_some() => "a boolean",
            Value::Scalar { text, plain: true } if text.parse::<f64>().is_ok() => "a number",
            Value::Scalar { .. } => TEXT,
        }
    }

    /// Nodes from here on, aliases followed: what it costs to read it once more.
    pub(super) const fn unfolded(self) -> usize {
        self.node.unfolded
    }

    /// The items, if this is a list.
    pub(super) fn items(self) -> Option<impl Iterator<Item = NodeRef<'a>>> {
        match &self.node.value {
            Value::List(items) => Some(items.iter().filter_map(move |place| self.tree.at(*place))),
            _ => None,
        }
    }

    /// The pairs, if this is a map: its own in their order, then those that `<<` merges in and that it does not have.
    pub(super) fn pairs(self) -> Result<Option<Vec<Pair<'a>>>, Problem> {
        let Value::Map(places) = &self.node.value else { return Ok(None) };
        let mut own = Vec::with_capacity(places.len() / 2);
        let mut sources = Vec::new();
        for pair in places.chunks_exact(2) {
            let [key, value] = pair else { continue };
            let (Some(key), Some(value)) = (self.tree.at(*key), self.tree.at(*value)) else { continue };
            if key.plain() == Some("<<") {
                sources.push(value);
            } else {
                own.push((key, value));
            }
        }
        if sources.is_empty() {
            return Ok(Some(own));
        }
        let mut known: HashSet<&str> = own.iter().filter_map(|(key, _)| key.word()).collect();
        for source in sources {
            let maps: Vec<Self> = source.items().map_or_else(|| vec![source], Iterator::collect);
            for map in maps {
                // No deeper than MAX_DEPTH, which Builder has checked with aliases followed.
                let Some(pairs) = map.pairs()? else {
                    return Err(Problem::at(map.at, Fault::Merge { found: map.what() }));
                };
                own.extend(pairs.into_iter().filter(|(key, _)| key.word().is_none_or(|word| known.insert(word))));
            }
        }
        Ok(Some(own))
    }

    /// The value under `key`, if this is a map that has it.
    pub(super) fn field(self, key: &str) -> Result<Option<Self>, Problem> {
        let mut found: Option<Pair<'a>> = None;
        for pair in self.pairs()?.unwrap_or_default() {
            if pair.0.word() == Some(key) {
                if let Some((first, _)) = found {
                    return Err(Problem::at(pair.0.at, Fault::RepeatedKey { key: key.into(), first: first.at }));
                }
                found = Some(pair);
            }
        }
        Ok(found.map(|(_, value)| value))
    }
}

/// Reads one YAML document.
pub(super) fn read(text: &str) -> Result<Tree, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem { at: None, fault: Fault::TooLarge { bytes: text.len(), limit: MAX_BYTES } });
    }
    let mut builder =
        Builder { tree: Tree { nodes: Vec::new(), root: None }, open: Vec::new(), anchors: HashMap::new() };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| unreadable(&error))?;
        builder.on_event(event, start(&span))?;
    }
    Ok(builder.tree)
}

fn start(span: &Span) -> Position {
    Position::of_marker(span.start.line(), span.start.col())
}

fn unreadable(error: &ScanError) -> Problem {
    let at = Position::of_marker(error.marker().line(), error.marker().col());
    // The parser may quote the file; its control characters are not for terminals.
    let message = error.kind().to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    Problem::at(at, Fault::Yaml { message })
}

/// Makes a tree of events.
struct Builder {
    tree: Tree,
    /// Lists and maps that have begun and not ended, outermost first.
    open: Vec<Open>,
    /// Nodes by the number of their anchor; `None` while they are open.
    anchors: HashMap<usize, Option<usize>>,
}

struct Open {
    at: Position,
    anchor: usize,
    is_map: bool,
    children: Vec<Place>,
}

impl Builder {
    fn on_event(&mut self, event: Event<'_>, at: Position) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !tag.as_deref().is_some_and(says_text);
                self.close(Value::Scalar { text: text.into_owned(), plain }, anchor, at)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Open { at, anchor, is_map: false, children: Vec::new() }),
            Event::MappingStart(_, anchor, _) => self.begin(Open { at, anchor, is_map: true, children: Vec::new() }),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let value = if open.is_map { Value::Map(open.children) } else { Value::List(open.children) };
                self.close(value, open.anchor, open.at)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).copied().flatten() {
                Some(index) => self.place(Place { at, index }),
                None => Err(Problem::at(at, Fault::AliasInItself)),
            },
            Event::DocumentStart(..) if self.tree.root.is_some() => Err(Problem::at(at, Fault::SeveralDocuments)),
            // Ends, comments and the like: they hold nothing.
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem::at(open.at, Fault::TooDeep { limit: MAX_DEPTH }));
        }
        if open.anchor != 0 {
            self.anchors.insert(open.anchor, None);
        }
        self.open.push(open);
        Ok(())
    }

    /// Adds a node that is complete.
    fn close(&mut self, value: Value, anchor: usize, at: Position) -> Result<(), Problem> {
        let children: &[Place] = match &value {
            Value::Scalar { .. } => &[],
            Value::List(children) | Value::Map(children) => children,
        };
        let (mut unfolded, mut levels) = (1_usize, 1_usize);
        for child in children.iter().filter_map(|place| self.tree.nodes.get(place.index)) {
            unfolded = unfolded.saturating_add(child.unfolded);
            levels = levels.max(child.levels.saturating_add(1));
        }
        if unfolded > MAX_NODES {
            return Err(Problem::at(at, Fault::Unfolds { limit: MAX_NODES }));
        }
        if levels > MAX_DEPTH + 1 {
            return Err(Problem::at(at, Fault::TooDeep { limit: MAX_DEPTH }));
        }
        let index = self.tree.nodes.len();
        self.tree.nodes.push(Node { value, unfolded, levels });
        if anchor != 0 {
            self.anchors.insert(anchor, Some(index));
        }
        self.place(Place { at, index })
    }

    /// Puts a node where the document has it.
    fn place(&mut self, place: Place) -> Result<(), Problem> {
        match self.open.last_mut() {
            Some(open) => open.children.push(place),
            None => self.tree.root = Some(place),
        }
        Ok(())
    }
}

/// Whether a tag makes a text of what looks like something else: `!!str 1234`, `! 1234`.
fn says_text(tag: &Tag) -> bool {
    tag.is_yaml_core_schema_tag("str") || (tag.handle().is_empty() && tag.suffix() == "!")
}
