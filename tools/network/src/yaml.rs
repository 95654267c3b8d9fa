//! YAML as a value: what netplan, cloud-init's network-config and user-data are written in; JSON is a part of it. The
//! syntax is granit-parser's; this is the tree, with merge keys (`<<`), and the caps that hostile text needs: size,
//! depth, and the number of values after aliases were followed, so that a few lines do not become gigabytes.
//!
//! Scalars stay text: `52:54:00:12:34:56` without quotes is an address here, and no number to the base of sixty.

use granit_parser::{Event, Parser, ScalarStyle};
use std::collections::HashMap;
use std::fmt;

/// Bytes of one document; a cloud's user-data has 16 KiB.
pub const MOST_BYTES: usize = 1 << 20;
/// Lists and maps within each other.
pub const MOST_DEPTH: usize = 64;
/// Values of one document, those counted again that an alias repeats.
pub const MOST_NODES: usize = 1 << 16;
/// Bytes of all scalars of one document, those counted again that an alias repeats.
const MOST_TEXT: usize = 4 * MOST_BYTES;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Node {
    #[default]
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In the order of the text, each key once: the last one counts.
    Map(Vec<(String, Node)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// From 1.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Error {}

impl Node {
    /// The value of a key of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Node::Scalar(text) => Some(text),
            Node::Null | Node::List(_) | Node::Map(_) => None,
        }
    }

    /// The pairs of a map; anything else has none.
    pub fn entries(&self) -> &[(String, Node)] {
        match self {
            Node::Map(entries) => entries,
            Node::Null | Node::Scalar(_) | Node::List(_) => &[],
        }
    }

    /// The items of a list; one value that is written without a list is its only item.
    pub fn items(&self) -> &[Node] {
        match self {
            Node::List(items) => items,
            Node::Null => &[],
            Node::Scalar(_) | Node::Map(_) => std::slice::from_ref(self),
        }
    }

    /// All texts among the items.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.items().iter().filter_map(Node::text)
    }

    /// The words of YAML 1.1.
    pub fn bool(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => Some(true),
            "false" | "no" | "off" | "n" | "0" => Some(false),
            _ => None,
        }
    }
}

/// A list or map that has begun.
struct Open {
    anchor: usize,
    node: Node,
    /// The key whose value comes next.
    key: Option<String>,
    /// Values and bytes before it.
    before: Size,
}

#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text: usize,
}

impl Size {
    fn plus(self, other: Size) -> Size {
        Size { nodes: self.nodes + other.nodes, text: self.text + other.text }
    }

    fn minus(self, other: Size) -> Size {
        Size { nodes: self.nodes - other.nodes, text: self.text - other.text }
    }
}

/// The first document of a text; without any it is [`Node::Null`].
pub fn parse(text: &str) -> Result<Node, Error> {
    if text.len() > MOST_BYTES {
        return Err(Error { line: 1, what: format!("larger than {} KiB", MOST_BYTES >> 10) });
    }
    let mut open: Vec<Open> = Vec::new();
    let mut known: HashMap<usize, (Node, Size)> = HashMap::new();
    let mut size = Size::default();
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| Error { line: error.marker().line(), what: error.info() })?;
        let fail = |what: &str| Error { line: span.start.line(), what: what.to_string() };
        let (anchor, before, node) = match event {
            Event::Scalar(value, style, anchor, _) => {
                let is_null =
                    style == ScalarStyle::Plain && matches!(&*value, "" | "~" | "null" | "Null" | "NULL");
                let before = size;
                size = size.plus(Size { nodes: 1, text: value.len() });
                (anchor, before, if is_null { Node::Null } else { Node::Scalar(value.into_owned()) })
            }
            Event::Alias(anchor) => {
                // One that stands within what it names is not known yet.
                let (node, own) = known.get(&anchor).ok_or_else(|| fail("an alias of what contains it"))?;
                let before = size;
                size = size.plus(*own);
                if size.nodes > MOST_NODES || size.text > MOST_TEXT {
                    return Err(fail("too many values"));
                }
                (0, before, node.clone())
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == MOST_DEPTH => {
                return Err(fail("too many lists and maps within each other"));
            }
            Event::SequenceStart(_, anchor, _) => {
                open.push(Open { anchor, node: Node::List(Vec::new()), key: None, before: size });
                size.nodes += 1;
                continue;
            }
            Event::MappingStart(_, anchor, _) => {
                open.push(Open { anchor, node: Node::Map(Vec::new()), key: None, before: size });
                size.nodes += 1;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(closed) = open.pop() else { continue };
                let node = match closed.node {
                    Node::Map(entries) => Node::Map(settled(entries)),
                    other => other,
                };
                (closed.anchor, closed.before, node)
            }
            Event::DocumentEnd | Event::StreamEnd => break,
            _ => continue,
        };
        if size.nodes > MOST_NODES || size.text > MOST_TEXT {
            return Err(fail("too many values"));
        }
        if anchor != 0 {
            known.insert(anchor, (node.clone(), size.minus(before)));
            // The copy is held too.
            size = size.plus(size.minus(before));
        }
        let Some(parent) = open.last_mut() else { return Ok(node) };
        match (&mut parent.node, parent.key.take()) {
            (Node::List(items), _) => items.push(node),
            (Node::Map(entries), Some(key)) => entries.push((key, node)),
            (Node::Map(_), None) => match node {
                Node::Scalar(key) => parent.key = Some(key),
                Node::Null => parent.key = Some(String::new()),
                Node::List(_) | Node::Map(_) => return Err(fail("a key that is no word")),
            },
            (Node::Null | Node::Scalar(_), _) => {}
        }
    }
    Ok(Node::Null)
}

/// Each key once, with what is merged into the map behind its own.
fn settled(entries: Vec<(String, Node)>) -> Vec<(String, Node)> {
    let mut place: HashMap<String, usize> = HashMap::new();
    let mut settled: Vec<(String, Node)> = Vec::new();
    let mut merged = Vec::new();
    for (key, node) in entries {
        match (key.as_str(), node) {
            ("<<", node @ (Node::Map(_) | Node::List(_))) => merged.push(node),
            (_, node) => match place.get(&key) {
                Some(at) => settled[*at].1 = node,
                None => {
                    place.insert(key.clone(), settled.len());
                    settled.push((key, node));
                }
            },
        }
    }
    for (key, node) in merged.iter().flat_map(Node::items).flat_map(Node::entries) {
        if !place.contains_key(key) {
            place.insert(key.clone(), settled.len());
            settled.push((key.clone(), node.clone()));
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As JSON would have it, all scalars quoted.
    fn shown(node: &Node) -> String {
        match node {
            Node::Null => "null".to_string(),
            Node::Scalar(text) => format!("{text:?}"),
            Node::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
            Node::Map(entries) => {
                let pairs: Vec<String> =
                    entries.iter().map(|(key, node)| format!("{key}:{}", shown(node))).collect();
                format!("{{{}}}", pairs.join(","))
            }
        }
    }

    #[test]
    fn a_document_is_its_tree() {
        for (text, want) in [
            ("", "null"),
            ("# nothing\n", "null"),
            ("a: 1\nb: [x, 'y', \"z\\n\"]\n", r#"{a:"1",b:["x","y","z\n"]}"#),
            ("---\na:\n  - b: 2\n    c:\n  - ~\n...\n", r#"{a:[{b:"2",c:null},null]}"#),
            ("mac: 52:54:00:12:34:56\n", r#"{mac:"52:54:00:12:34:56"}"#),
            ("a: |\n  one\n  two\n", r#"{a:"one\ntwo\n"}"#),
            ("a: 1\na: 2\n", r#"{a:"2"}"#),
            ("a: &x {m: 1, n: 2}\nb:\n  <<: *x\n  m: 3\n", r#"{a:{m:"1",n:"2"},b:{m:"3",n:"2"}}"#),
            ("a: &x [1]\nb: *x\n", r#"{a:["1"],b:["1"]}"#),
            ("{\"a\": [1, null, true], \"b\": {}}", r#"{a:["1",null,"true"],b:{}}"#),
            ("a: 1\n---\nb: 2\n", r#"{a:"1"}"#),
            ("#cloud-config\nusers: []\n", "{users:[]}"),
        ] {
            assert_eq!(parse(text).as_ref().map(shown), Ok(want.to_string()), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        for (text, line) in [("a: [1\nb: 2\n", 2), ("a: 1\n\tb: 2\n", 1), ("a: *x\n", 1), ("? [a]\n: b\n", 1)]
        {
            assert_eq!(parse(text).map_err(|error| error.line), Err(line), "{text:?}");
        }
    }

    #[test]
    fn aliases_do_not_multiply_without_end() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_string();
        for n in 1..20 {
            text += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 8].join(", "));
        }
        assert_eq!(parse(&text).map_err(|error| error.what), Err("too many values".to_string()));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 1000].join(", "));
        assert_eq!(parse(&long).map_err(|error| error.what), Err("too many values".to_string()));
    }

    #[test]
    fn depth_and_size_have_an_end() {
        for text in
            ["[".repeat(1 << 20), "- ".repeat(1 << 19), "{a: ".repeat(1 << 18), "x".repeat((1 << 20) + 1)]
        {
            assert!(parse(&text).is_err());
        }
        assert!(parse(&"- x\n".repeat(MOST_NODES)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-c]: ?|- |\\[|\\]|\\{|\\}|, |\"|'|\\||>|&a |\\*a|<<: |\n *|#|%|!|\\?|\t|x){0,60}") {
            let _ = parse(&text); // any answer is one
        }
    }
}
