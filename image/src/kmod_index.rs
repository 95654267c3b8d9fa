//! The binary indices that kmod's modprobe reads, and so the kernel when it asks for a module by itself
//! (`request_module`: a cipher, a codepage, a checksum). A trie in big-endian numbers, as libkmod-index.h
//! describes it; depmod would write the same from files that lie in the image alone.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
/// In the upper bits of an offset: what the node there has.
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;

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

#[cfg(test)]
mod tests {
    use super::*;

    /// As libkmod walks it.
    fn find(index: &[u8], key: &str) -> Vec<String> {
        let number = |at: usize| u32::from_be_bytes(index[at..at + 4].try_into().unwrap());
        let text = |at: usize| {
            let end = at + index[at..].iter().position(|byte| *byte == 0).unwrap();
            (String::from_utf8(index[at..end].to_vec()).unwrap(), end + 1)
        };
        assert_eq!((number(0), number(4)), (MAGIC, VERSION));
        let (mut offset, mut rest) = (number(8), key);
        loop {
            let mut at = (offset & 0x0FFF_FFFF) as usize;
            if offset & PREFIX != 0 {
                let (prefix, next) = text(at);
                let Some(behind) = rest.strip_prefix(&prefix) else { return Vec::new() };
                (rest, at) = (behind, next);
            }
            let mut children = BTreeMap::new();
            if offset & CHILDREN != 0 {
                let (first, last) = (index[at], index[at + 1]);
                at += 2;
                for byte in first..=last {
                    children.insert(byte, number(at));
                    at += 4;
                }
            }
            if let Some(byte) = rest.bytes().next() {
                match children.get(&byte) {
                    Some(child) if *child != 0 => (offset, rest) = (*child, &rest[1..]),
                    _ => return Vec::new(),
                }
                continue;
            }
            let mut values = Vec::new();
            if offset & VALUES != 0 {
                let count = number(at);
                at += 4;
                for _ in 0..count {
                    let (value, next) = text(at + 4);
                    values.push(value);
                    at = next;
                }
            }
            return values;
        }
    }

    #[test]
    fn every_key_is_found_and_no_other() {
        let keys = ["ext4", "ext2", "ext", "e", "xfs", "crypto_crc32c", "crypto_crc32c_intel", "pci:v*d?sv*"];
        let entries: Entries = keys
            .iter()
            .map(|key| (key.to_string(), vec![format!("{key}: a b"), "second".to_string()]))
            .collect();
        let made = index(&entries);
        for key in keys {
            assert_eq!(find(&made, key), entries[key], "{key}");
        }
        for absent in ["", "ex", "ext3", "ext44", "crypto", "z"] {
            assert_eq!(find(&made, absent), [""; 0], "{absent}");
        }
        assert_eq!(find(&index(&Entries::new()), "a"), [""; 0]);
    }
}
