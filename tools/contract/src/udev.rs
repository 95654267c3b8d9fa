//! What a drive, a file system or a partition table says, as a part of a file name: udev's three
//! rules, so that a link is called what it is called on an installed system.

/// What stands in a name as it is: these, and whole characters above ASCII that steer no terminal.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "#+-.:=@_".contains(c)
        || (!c.is_ascii() && !c.is_control() && c != char::REPLACEMENT_CHARACTER)
}

/// For labels and UUIDs: every other byte as `\x20`.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
        }
    }
    out
}

/// For what NVMe drives say: trailing blanks away, every other character an underscore.
pub fn replaced(text: &str) -> String {
    text.trim_end().chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

/// For what ATA, SCSI and USB devices say: blanks around it away, each run of them within it one
/// underscore, and every other character one.
pub fn joined(text: &str) -> String {
    replaced(
        &text
            .split(|c: char| c.is_whitespace() || c == '\0')
            .filter(|s| !s.is_empty())
            .collect::<Vec<_>>()
            .join("_"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_udev_makes() {
        // As `udevadm info` shows them for such drives and labels.
        assert_eq!(encoded("EFI System/Partition"), "EFI\\x20System\\x2fPartition");
        assert_eq!(encoded("Größe\\1"), "Größe\\x5c1");
        assert_eq!(encoded("a\u{9b}2J"), "a\\xc2\\x9b2J");
        assert_eq!(encoded("../x"), "..\\x2fx");
        assert_eq!(joined("  WDC  WD40EFRX-68N32N0   "), "WDC_WD40EFRX-68N32N0");
        assert_eq!(joined("a/b\u{1}c"), "a_b_c");
        assert_eq!(replaced("Samsung SSD 970  EVO   "), "Samsung_SSD_970__EVO");
    }
}
