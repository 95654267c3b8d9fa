//! What tells this machine from another one: the serial number of its firmware, or the next best.

use crate::Root;

/// What vendors and hypervisors leave in SMBIOS where nobody filled it in, in lower case.
const PLACEHOLDERS: &[&str] = &[
    "0",
    "0123456789",
    "123456789",
    "default string",
    "empty",
    "n/a",
    "na",
    "none",
    "not applicable",
    "not available",
    "not settable",
    "not specified",
    "oem",
    "serial number",
    "system serial number",
    "to be filled by o.e.m.",
    "unknown",
];

/// The SMBIOS serial number, else the SMBIOS UUID, else the first NIC's MAC address; made of
/// `[A-Za-z0-9._-]` only, 64 characters at most. `None` on a machine that has none of them (yet).
pub fn serial(root: &Root) -> Option<String> {
    ["product_serial", "product_uuid"]
        .iter()
        .filter_map(|name| root.line(format!("/sys/class/dmi/id/{name}")))
        .find_map(|value| usable(&value))
        .or_else(|| first_mac(root))
}

fn first_mac(root: &Root) -> Option<String> {
    let names = root.list("/sys/class/net").ok()?;
    names
        .iter()
        .map(|name| format!("/sys/class/net/{}", name.to_string_lossy()))
        // Only what has hardware below it: not lo, not a bridge.
        .filter(|path| root.exists(format!("{path}/device")))
        .filter_map(|path| root.line(format!("{path}/address")))
        .find_map(|mac| usable(&mac.replace(':', "")))
}

fn usable(value: &str) -> Option<String> {
    if PLACEHOLDERS.contains(&value.to_ascii_lowercase().as_str()) {
        return None;
    }
    let clean: String = value
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(64)
        .collect();
    let clean = clean.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    // A UUID or a MAC of nothing but zeros, or of nothing but ones.
    let digits: Vec<char> = clean.chars().filter(char::is_ascii_alphanumeric).collect();
    let first = *digits.first()?;
    (!digits.iter().all(|c| *c == first)).then(|| clean.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::at(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn the_best_name_there_is_is_taken() {
        const SERIAL: &str = "sys/class/dmi/id/product_serial";
        const UUID: &str = "sys/class/dmi/id/product_uuid";
        type Files = &'static [(&'static str, &'static str)];
        let cases: &[(&str, Files, Option<&str>)] = &[
            ("nothing", &[], None),
            ("serial", &[(SERIAL, "CZ3014 XYZ/7\n")], Some("CZ3014-XYZ-7")),
            ("placeholder", &[(SERIAL, "To Be Filled By O.E.M.\n"), (UUID, "1F5C-AB\n")], Some("1F5C-AB")),
            (
                "zero uuid",
                &[
                    (UUID, "00000000-0000-0000-0000-000000000000"),
                    ("sys/class/net/eth0/address", "52:54:00:12:34:56\n"),
                    ("sys/class/net/eth0/device/vendor", "0x1af4"),
                    ("sys/class/net/br0/address", "02:00:00:00:00:01\n"),
                ],
                Some("525400123456"),
            ),
            ("hostile", &[(SERIAL, "\u{1b}[31m;rm -rf /\n")], Some("31m-rm--rf")),
        ];
        for (label, files, want) in cases {
            let (_dir, root) = machine(files);
            assert_eq!(serial(&root).as_deref(), *want, "{label}");
        }
    }
}
