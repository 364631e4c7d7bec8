//! The trie of filter levels: nodes in generational slots, literal edges in one hash table.
//!
//! Invariants worth naming:
//! * the root always exists and holds nothing but children;
//! * every other node holds something, or has children, or is pinned;
//! * no walk recurses: its depth is the peer's choice.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::NodeKey;
use super::node::{Kind, Node};
use crate::base::{Key, Slots};
use crate::topic::{Level, TopicFilter, TopicName, first_level};

/// A key that never names a node.
pub(super) fn absent() -> NodeKey {
    Key::from_parts(u32::MAX, 0)
}

/// Where a match goes on: a node and the offset of the next level; past the end when all levels
/// are consumed.
pub(super) type Branch = (NodeKey, usize);

pub(super) struct Trie {
    nodes: Slots<Node>,
    /// Literal children by (parent, text); the text is the child's own.
    edges: HashTable<NodeKey>,
    hasher: FixedState,
    root: NodeKey,
}

impl Trie {
    pub(super) fn new(seed: u64) -> Trie {
        let mut nodes = Slots::default();
        let root = nodes.insert(Node::new(absent(), Kind::Root, ""));
        Trie { nodes, edges: HashTable::new(), hasher: FixedState::with_seed(seed), root }
    }

    /// How many nodes there are beside the root.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// How many literal edges there are.
    pub(super) fn edges(&self) -> usize {
        self.edges.len()
    }

    pub(super) fn get(&self, key: NodeKey) -> Option<&Node> {
        self.nodes.get(key)
    }

    pub(super) fn get_mut(&mut self, key: NodeKey) -> Option<&mut Node> {
        self.nodes.get_mut(key)
    }

    fn linked(&self, key: NodeKey) -> &Node {
        self.nodes.get(key).expect("a link names a node until the node is released")
    }

    fn linked_mut(&mut self, key: NodeKey) -> &mut Node {
        self.nodes.get_mut(key).expect("a link names a node until the node is released")
    }

    fn hash(hasher: &FixedState, parent: NodeKey, text: &str) -> u64 {
        let mut hasher = hasher.build_hasher();
        hasher.write_u32(parent.index());
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    fn named_child(&self, parent: NodeKey, text: &str) -> Option<NodeKey> {
        let hash = Trie::hash(&self.hasher, parent, text);
        let same = |key: &NodeKey| {
            let node = self.linked(*key);
            node.parent == parent && *node.text == *text
        };
        self.edges.find(hash, same).copied()
    }

    fn child(&self, parent: NodeKey, level: Level<'_>) -> Option<NodeKey> {
        let node = self.linked(parent);
        let child = match level {
            Level::Name(_) if node.named == 0 => return None,
            Level::Name(text) => return self.named_child(parent, text),
            Level::SingleLevel => node.single,
            Level::MultiLevel => node.multi,
        };
        (child != absent()).then_some(child)
    }

    /// The node of `filter`.
    pub(super) fn find(&self, filter: &TopicFilter) -> Option<NodeKey> {
        filter.levels().try_fold(self.root, |node, level| self.child(node, level))
    }

    /// The node of `filter`, created with its ancestors where they are missing.
    pub(super) fn ensure(&mut self, filter: &TopicFilter) -> NodeKey {
        let mut key = self.root;
        for level in filter.levels() {
            key = self.child(key, level).unwrap_or_else(|| self.add(key, level));
        }
        key
    }

    fn add(&mut self, parent: NodeKey, level: Level<'_>) -> NodeKey {
        match level {
            Level::Name(text) => {
                let child = self.nodes.insert(Node::new(parent, Kind::Name, text));
                let hash = Trie::hash(&self.hasher, parent, text);
                let (nodes, hasher) = (&self.nodes, &self.hasher);
                self.edges.insert_unique(hash, child, |key| {
                    let node = nodes.get(*key).expect("an edge ends at a node");
                    Trie::hash(hasher, node.parent, &node.text)
                });
                self.linked_mut(parent).named += 1;
                child
            }
            Level::SingleLevel => {
                let child = self.nodes.insert(Node::new(parent, Kind::SingleLevel, ""));
                self.linked_mut(parent).single = child;
                child
            }
            Level::MultiLevel => {
                let child = self.nodes.insert(Node::new(parent, Kind::MultiLevel, ""));
                self.linked_mut(parent).multi = child;
                child
            }
        }
    }

    /// Frees the node if nothing keeps it, then its parent likewise, and so on up to the root.
    pub(super) fn release(&mut self, mut key: NodeKey) {
        while key != self.root && self.nodes.get(key).is_some_and(Node::is_vacant) {
            let node = self.nodes.get(key).expect("it was looked at just now");
            let (parent, kind) = (node.parent, node.kind);
            if kind == Kind::Name {
                let hash = Trie::hash(&self.hasher, parent, &node.text);
                if let Ok(edge) = self.edges.find_entry(hash, |other| *other == key) {
                    edge.remove();
                }
            }
            self.nodes.remove(key);
            let above = self.linked_mut(parent);
            match kind {
                Kind::Name => above.named -= 1,
                Kind::SingleLevel => above.single = absent(),
                Kind::MultiLevel => above.multi = absent(),
                Kind::Root => {}
            }
            key = parent;
        }
    }

    /// Appends the bearing nodes that match `topic` to `found`, in an order that depends only on
    /// the filters. `branches` is scratch.
    pub(super) fn matches(
        &self,
        topic: &TopicName,
        branches: &mut Vec<Branch>,
        found: &mut Vec<NodeKey>,
    ) {
        let text = topic.as_str();
        branches.clear();
        branches.push((self.root, 0));
        while let Some((key, start)) = branches.pop() {
            let node = self.linked(key);
            // Offset zero is the root: below it a wildcard doesn't see `$` topics [MQTT-4.7.2-1].
            let open = start > 0 || !topic.is_system();
            if open && self.nodes.get(node.multi).is_some_and(Node::is_bearing) {
                found.push(node.multi);
            }
            let Some(rest) = text.get(start..) else {
                if node.is_bearing() {
                    found.push(key);
                }
                continue;
            };
            let level = first_level(rest);
            let next = start + level.len() + 1;
            if open && node.single != absent() {
                branches.push((node.single, next));
            }
            if node.named > 0
                && let Some(child) = self.named_child(key, level)
            {
                branches.push((child, next));
            }
        }
    }

    /// Puts the filter of `key` into `out`, which is emptied first; empty when the key is stale.
    pub(super) fn filter_of(&self, key: NodeKey, out: &mut String) {
        out.clear();
        let mut path = Vec::new();
        let mut at = key;
        while let Some(node) = self.nodes.get(at).filter(|node| node.kind != Kind::Root) {
            path.push(node);
            at = node.parent;
        }
        for (depth, node) in path.iter().rev().enumerate() {
            if depth > 0 {
                out.push('/');
            }
            out.push_str(match node.kind {
                Kind::Root | Kind::Name => &node.text,
                Kind::SingleLevel => "+",
                Kind::MultiLevel => "#",
            });
        }
    }
}
