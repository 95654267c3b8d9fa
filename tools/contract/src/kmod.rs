//! The binary indices of /usr/lib/modules/KVER: modules.alias.bin and the like. kmod's modprobe reads
//! them, and so the kernel when it asks for a module by itself (`request_module`: a cipher, a codepage, a
//! checksum), and devd, since a megabyte of text to split costs a tenth of a second before the first
//! network card comes up. A trie in big-endian numbers, as libkmod-index.h describes it; depmod writes the
//! same.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
/// In the upper bits of an offset: what the node there has.
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;
/// With these a pattern begins.
const WILD: &[u8] = b"*?[";
/// No alias is longer; a made file may be.
const DEEPEST: usize = 512;

/// Keys in ASCII, each with its values in the order in which they are to be found.
pub type Entries = BTreeMap<String, Vec<String>>;

pub fn index(entries: &Entries) -> Vec<u8> {
    let entries: Vec<(&[u8], &[String])> =
        entries.iter().map(|(key, values)| (key.as_bytes(), values.as_slice())).collect();
    let mut out = Vec::new();
    for number in [MAGIC, VERSION, 0] {
        out.extend(number.to_be_bytes());
    }
    let root = node(&entries, 0, &mut out);
    out[8..12].copy_from_slice(&root.to_be_bytes());
    out
}

/// Writes the node of sorted keys that agree in their first `depth` bytes; returns its offset with its bits.
fn node(entries: &[(&[u8], &[String])], depth: usize, out: &mut Vec<u8>) -> u32 {
    let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else {
        return write(out, &[], &[], &[]);
    };
    // Sorted, so what the first and the last share, all share.
    let shared = first[depth..].iter().zip(&last[depth..]).take_while(|(a, b)| a == b).count();
    let end = depth + shared;
    let (own, below) = match entries {
        [(key, values), rest @ ..] if key.len() == end => (*values, rest),
        all => (&[][..], all),
    };
    let mut children: Vec<(u8, u32)> = Vec::new();
    for group in below.chunk_by(|(a, _), (b, _)| a[end] == b[end]) {
        children.push((group[0].0[end], node(group, end + 1, out)));
    }
    write(out, &first[depth..end], &children, own)
}

fn write(out: &mut Vec<u8>, prefix: &[u8], children: &[(u8, u32)], values: &[String]) -> u32 {
    // Far below 256 MiB, which is what the bits leave.
    let mut offset = u32::try_from(out.len()).unwrap_or(u32::MAX);
    if !prefix.is_empty() {
        out.extend(prefix);
        out.push(0);
        offset |= PREFIX;
    }
    if let ([(first, _), ..], [.., (last, _)]) = (children, children) {
        out.extend([*first, *last]);
        for byte in *first..=*last {
            let child = children.iter().find(|(known, _)| *known == byte).map_or(0, |(_, child)| *child);
            out.extend(child.to_be_bytes());
        }
        offset |= CHILDREN;
    }
    if !values.is_empty() {
        out.extend(u32::try_from(values.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (priority, value) in (0u32..).zip(values) {
            out.extend(priority.to_be_bytes());
            out.extend(value.as_bytes());
            out.push(0);
        }
        offset |= VALUES;
    }
    offset
}

/// An index as it lies in the file. One that is damaged or absent has no entries, or not all.
#[derive(Clone, Debug, Default)]
pub struct Index(Vec<u8>);

/// A node, taken apart.
struct Node<'a> {
    at: u32,
    prefix: &'a [u8],
    /// The byte of the first child, and where the children's offsets lie, four bytes each.
    children: (u8, &'a [u8]),
    /// Where the values begin, if it has any.
    values: Option<usize>,
}

impl Index {
    pub fn new(bytes: Vec<u8>) -> Index {
        let is_one = |number: &[u8]| number == [MAGIC.to_be_bytes(), VERSION.to_be_bytes()].concat();
        Index(if bytes.get(..8).is_some_and(is_one) { bytes } else { Vec::new() })
    }

    /// The first value of a key that is no pattern.
    pub fn find(&self, key: &str) -> Option<String> {
        let (mut offset, mut rest) = (self.number(8)?, key.as_bytes());
        loop {
            let node = self.node(offset)?;
            rest = rest.strip_prefix(node.prefix)?;
            let Some((byte, behind)) = rest.split_first() else {
                return self.prioritised(&node).into_iter().min().map(|(_, value)| value);
            };
            (offset, rest) = (node.child(*byte)?, behind);
        }
    }

    /// The values of every key that, as a pattern of fnmatch(3), matches the text; each once, in the
    /// order in which they are to be used.
    pub fn matching(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(root) = self.number(8) {
            self.walk(root, text.as_bytes(), &mut found);
        }
        found.sort();
        let mut values: Vec<String> = Vec::new();
        for (_, value) in found {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }

    /// Goes down as long as the keys are plain text.
    fn walk(&self, mut offset: u32, mut text: &[u8], found: &mut Vec<(u32, String)>) {
        // Every turn but the first takes a byte of the text.
        while let Some(node) = self.node(offset) {
            let plain = node.prefix.iter().take_while(|byte| !WILD.contains(byte)).count();
            let Some(rest) = text.strip_prefix(&node.prefix[..plain]) else { return };
            if plain < node.prefix.len() {
                return self.collect(&node, &mut node.prefix[plain..].to_vec(), rest, 0, found);
            }
            for wild in WILD {
                if let Some(below) = node.child(*wild).and_then(|child| self.node(child)) {
                    let mut pattern = [&[*wild], below.prefix].concat();
                    self.collect(&below, &mut pattern, rest, 0, found);
                }
            }
            let Some((byte, behind)) = rest.split_first() else {
                return found.extend(self.prioritised(&node));
            };
            let Some(child) = node.child(*byte).filter(|_| !WILD.contains(byte)) else { return };
            (offset, text) = (child, behind);
        }
    }

    /// All below a node whose key, from `text` on, is `pattern` so far.
    fn collect(
        &self,
        node: &Node,
        pattern: &mut Vec<u8>,
        text: &[u8],
        depth: usize,
        found: &mut Vec<(u32, String)>,
    ) {
        if node.values.is_some() && fnmatch(pattern, text) {
            found.extend(self.prioritised(node));
        }
        let (first, children) = node.children;
        for (byte, offset) in (first..=u8::MAX).zip(children.chunks_exact(4)) {
            let offset = u32::from_be_bytes([offset[0], offset[1], offset[2], offset[3]]);
            // A child is written before its parent, so that nothing goes round in circles.
            let is_below = |child: &Node| child.at < node.at && depth < DEEPEST;
            if let Some(child) = self.node(offset).filter(|child| offset != 0 && is_below(child)) {
                let length = pattern.len();
                pattern.push(byte);
                pattern.extend(child.prefix);
                self.collect(&child, pattern, text, depth + 1, found);
                pattern.truncate(length);
            }
        }
    }

    fn number(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.0.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }

    /// Up to the NUL, and what is behind it.
    fn text(&self, at: usize) -> Option<(&[u8], usize)> {
        let bytes = self.0.get(at..)?;
        let length = bytes.iter().position(|byte| *byte == 0)?;
        Some((&bytes[..length], at + length + 1))
    }

    fn node(&self, offset: u32) -> Option<Node<'_>> {
        let start = offset & !(PREFIX | VALUES | CHILDREN);
        let mut at = start as usize;
        let mut node = Node { at: start, prefix: &[], children: (0, &[]), values: None };
        if offset & PREFIX != 0 {
            (node.prefix, at) = self.text(at)?;
        }
        if offset & CHILDREN != 0 {
            let (first, last) = (*self.0.get(at)?, *self.0.get(at + 1)?);
            let end = at + 2 + 4 * (usize::from(last.checked_sub(first)?) + 1);
            node.children = (first, self.0.get(at + 2..end)?);
            at = end;
        }
        node.values = (offset & VALUES != 0).then_some(at);
        Some(node)
    }

    fn prioritised(&self, node: &Node) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        let Some((mut at, count)) = node.values.and_then(|at| Some((at + 4, self.number(at)?))) else {
            return found;
        };
        for _ in 0..count {
            let Some((priority, (text, next))) = self.number(at).zip(self.text(at + 4)) else { break };
            found.push((priority, String::from_utf8_lossy(text).into_owned()));
            at = next;
        }
        found
    }
}

impl Node<'_> {
    fn child(&self, byte: u8) -> Option<u32> {
        let (first, offsets) = self.children;
        let at = 4 * usize::from(byte.checked_sub(first)?);
        let offset = u32::from_be_bytes(offsets.get(at..at + 4)?.try_into().ok()?);
        (offset != 0).then_some(offset)
    }
}

/// kmod takes `-` and `_` for the same, but within brackets.
pub fn underscored(pattern: &str) -> String {
    let mut within = false;
    let change = |c: char| {
        within = (within || c == '[') && c != ']';
        if c == '-' && !within { '_' } else { c }
    };
    pattern.chars().map(change).collect()
}

/// fnmatch(3) without flags, as modules.alias is written for: `*`, `?` and `[...]`.
fn fnmatch(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last `*`: linear in space, and never worse than pattern times text.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let matched = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => {
                class(&pattern[p..], text[t]).and_then(|(length, is_in)| is_in.then_some(p + length))
            }
            Some(c) if *c == text[t] => Some(p + 1),
            _ => None,
        };
        match (matched, retry) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((after, from))) => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// A bracket expression at the start of `pattern`: its length and whether it holds `c`.
fn class(pattern: &[u8], c: u8) -> Option<(usize, bool)> {
    let end = pattern.iter().skip(1).position(|c| *c == b']')? + 1;
    let mut set = &pattern[1..end];
    let mut is_in = false;
    while let [low, rest @ ..] = set {
        if let [b'-', high, rest @ ..] = rest {
            is_in |= (*low..=*high).contains(&c);
            set = rest;
        } else {
            is_in |= *low == c;
            set = rest;
        }
    }
    Some((end + 1, is_in))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other() {
        let keys = ["ext4", "ext2", "ext", "e", "xfs", "crypto_crc32c", "crypto_crc32c_intel", "x:v_d"];
        let entries: Entries = keys
            .iter()
            .map(|key| (key.to_string(), vec![format!("{key}: a b"), "second".to_string()]))
            .collect();
        let made = Index::new(index(&entries));
        for key in keys {
            assert_eq!(made.find(key).as_ref(), entries[key].first(), "{key}");
            assert_eq!(made.matching(key), entries[key], "{key}");
        }
        for absent in ["", "ex", "ext3", "ext44", "crypto", "z"] {
            assert_eq!(made.find(absent), None, "{absent}");
            assert_eq!(made.matching(absent), [""; 0], "{absent}");
        }
        assert_eq!(Index::new(index(&Entries::new())).find("a"), None);
    }

    #[test]
    fn every_pattern_is_found_that_fnmatch_would_match() {
        let patterns = [
            "pci:v00008086d0000[10]0[0-9]Esv*sd*",
            "pci:v00008086d*sv*sd*",
            "pci:v*",
            "*",
            "pci:v00008086d00001000sv1sd2",
            "virtio:d00000001v*",
            "usb:v?p*",
        ];
        let entries: Entries =
            patterns.iter().map(|pattern| (pattern.to_string(), vec![format!("m {pattern}")])).collect();
        let made = Index::new(index(&entries));
        for text in [
            "pci:v00008086d0000100Esv1sd2",
            "pci:v00008086d00001000sv1sd2",
            "pci:v00001AF4d00001000",
            "virtio:d00000001v00001AF4",
            "virtio:d00000002v00001AF4",
            "usb:v1p2",
            "usb:v12p2",
            "",
        ] {
            let mut want: Vec<String> = patterns
                .iter()
                .filter(|pattern| fnmatch(pattern.as_bytes(), text.as_bytes()))
                .map(|pattern| format!("m {pattern}"))
                .collect();
            want.sort();
            assert_eq!(made.matching(text), want, "{text}");
        }
    }

    #[test]
    fn a_damaged_index_ends_in_nothing_worse_than_nothing() {
        let entries: Entries = ["pci:v*d[12]", "pci:v1d3", "virtio:d*", "x"]
            .iter()
            .map(|key| (key.to_string(), vec!["module".to_string()]))
            .collect();
        let made = index(&entries);
        for at in 0..made.len() {
            for value in [0, 1, 0x2A, 0x7F, 0xE0, 0xFF] {
                let mut bytes = made.clone();
                bytes[at] = value;
                let broken = Index::new(bytes);
                broken.matching("pci:v1d3");
                broken.find("pci:v1d3");
            }
            Index::new(made[..at].to_vec()).matching("virtio:d1");
        }
    }

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text, want) in [
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*bc*bc", "abcbcbc", true),
            ("a?c", "ac", false),
            ("a[0-9]", "a5", true),
            ("a[0-9", "a5", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(fnmatch(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
        // Not exponential.
        assert!(!fnmatch("*a*a*a*a*a*a*a*a*b".as_bytes(), &[b'a'; 2000]));
    }
}
