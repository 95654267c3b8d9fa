//! `blkid -o udev`: the names and the encoding under which udev's rules, and scripts that `eval` it, know a device.

use model::text::{Untrusted, bytes_of};
use ondisk::DiskReport;
use ondisk::bytes::{is_space, raw_byte};

use super::usage;

/// Names whose value is encoded as a whole.
const ENCODED: &[&str] = &[
    "TYPE",
    "VERSION",
    "SYSTEM_ID",
    "PUBLISHER_ID",
    "APPLICATION_ID",
    "BOOT_SYSTEM_ID",
    "VOLUME_ID",
    "LOGICAL_VOLUME_ID",
    "VOLUME_SET_ID",
    "DATA_PREPARER_ID",
];

/// Bytes of a readable value; an encoded one has room for 8 more.
const LONGEST: usize = 255;

/// The lines of one tag.
pub fn lines(name: &str, value: &str) -> String {
    if name == "UUID" || name == "UUID_SUB" || name.starts_with("LABEL") {
        return line(&format!("ID_FS_{name}"), &safe(value))
            + &line(&format!("ID_FS_{name}_ENC"), &encoded(value));
    }
    match name {
        "PTUUID" => line("ID_PART_TABLE_UUID", value),
        "PTTYPE" => line("ID_PART_TABLE_TYPE", value),
        "PART_ENTRY_NAME" | "PART_ENTRY_TYPE" => line(&format!("ID_{name}"), &encoded(value)),
        _ if name.starts_with("PART_ENTRY_") => line(&format!("ID_{name}"), value),
        _ if ENCODED.contains(&name) => line(&format!("ID_FS_{name}"), &encoded(value)),
        _ => line(&format!("ID_FS_{name}"), value),
    }
}

/// Of a device on which there are several things: each as `USAGE:TYPE:VERSION`.
pub fn ambivalent(report: &DiskReport) -> String {
    let one = |signature: &ondisk::Signature| {
        let words = [Some(usage(signature.usage)), Some(&signature.format), signature.version.as_deref()];
        words.into_iter().flatten().map(encoded).collect::<Vec<_>>().join(":")
    };
    line("ID_FS_AMBIVALENT", &report.signatures.iter().map(one).collect::<Vec<_>>().join(" "))
}

fn line(name: &str, value: &str) -> String {
    format!("{name}={}\n", Untrusted(value))
}

/// Words with one `_` between them; so is whatever is no text.
fn safe(value: &str) -> String {
    let mut out = String::new();
    let mut before: Option<char> = None;
    for c in value.trim_matches(is_space).chars() {
        if !(is_space(c) && before.is_some_and(is_space)) {
            let is_text = !c.is_ascii_control() && c != ' ' && raw_byte(c).is_none();
            let shown = if is_text { c } else { '_' };
            if out.len() + shown.len_utf8() > LONGEST {
                break;
            }
            out.push(shown);
        }
        before = Some(c);
    }
    out
}

/// `\x` and two hex digits for every byte that is neither in udev's list nor of a character beyond ASCII.
fn encoded(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars() {
        let plain =
            c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || (!c.is_ascii() && raw_byte(c).is_none());
        match plain {
            true => out.push(c),
            false => bytes_of(c).for_each(|byte| out.push_str(&format!("\\x{byte:02x}"))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_readable_and_exact() {
        let cases = [
            ("  two  words\n\t", "two_words", r"\x20\x20two\x20\x20words\x0a\x09"),
            ("t\u{e9}s\"'\\", "t\u{e9}s\"'\\", "t\u{e9}s\\x22\\x27\\x5c"),
            ("\u{10ffbe}x\u{7f}", "_x_", r"\xbex\x7f"),
        ];
        for (value, readable, exact) in cases {
            assert_eq!(lines("LABEL", value), format!("ID_FS_LABEL={readable}\nID_FS_LABEL_ENC={exact}\n"));
        }
    }
}
