//! Lockdown: what a kernel that Secure Boot started keeps even from root (kernel_lockdown(7)), in plain words.

use host::Root;
use serde::Serialize;

/// The levels that refuse something (security/lockdown/lockdown.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nobody changes the kernel that runs.
    Integrity,
    /// And nobody reads what it holds.
    Confidentiality,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Lockdown {
    pub level: Level,
    /// In words, what a rescue may want first. Not all: rarer reasons are in `enum lockdown_reason`.
    pub refused: &'static [&'static str],
}

/// `enum lockdown_reason` up to LOCKDOWN_INTEGRITY_MAX, then up to LOCKDOWN_CONFIDENTIALITY_MAX (include/linux/security.h).
const REFUSED: &[&str] = &[
    "modules that are not signed by a key that it trusts",
    "kexec into kernels that are not signed so",
    "/dev/mem and /dev/port",
    "hibernation",
    "raw I/O ports and PCI registers",
    "writing MSRs",
    "ACPI tables of one's own",
    "most of debugfs",
    "bpf that writes to programs",
    "kprobes, tracefs and /proc/kcore",
    "perf and bpf that read the kernel",
];
/// How many of them integrity alone refuses.
const OF_INTEGRITY: usize = 9;

/// `None` where nothing is refused: a kernel without lockdown, or with it off. Needs securityfs, which init mounts.
pub fn read(root: &Root) -> Option<Lockdown> {
    parse(&root.line(contract::paths::LOCKDOWN)?)
}

/// `none [integrity] confidentiality`: the chosen one is in brackets.
fn parse(line: &str) -> Option<Lockdown> {
    let chosen = line.split_once('[')?.1.split_once(']')?.0;
    let (level, count) = match chosen {
        "integrity" => (Level::Integrity, OF_INTEGRITY),
        "confidentiality" => (Level::Confidentiality, REFUSED.len()),
        _ => return None,
    };
    Some(Lockdown { level, refused: &REFUSED[..count] })
}

impl Lockdown {
    /// One line for a person.
    pub fn line(&self) -> String {
        let level = match self.level {
            Level::Integrity => "integrity",
            Level::Confidentiality => "confidentiality",
        };
        format!("Locked down ({level}): the kernel refuses {}\n", self.refused.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_in_brackets_counts_and_each_says_what_is_refused() {
        for (line, level) in [
            ("none [integrity] confidentiality", Some(Level::Integrity)),
            ("none integrity [confidentiality]", Some(Level::Confidentiality)),
            ("[none] integrity confidentiality", None),
            ("", None),
            ("none ]integrity[", None),
        ] {
            assert_eq!(parse(line).map(|lockdown| lockdown.level), level, "{line}");
        }
        let said = |line: &str| parse(line).unwrap().line();
        let integrity = said("none [integrity] confidentiality");
        assert!(
            ["Locked down (integrity)", "modules", "kexec", "/dev/mem", "hibernation", "MSR", "debugfs"]
                .iter()
                .all(|word| integrity.contains(word)),
            "{integrity}"
        );
        assert!(!integrity.contains("perf"), "which confidentiality alone refuses: {integrity}");
        assert!(said("none integrity [confidentiality]").contains("perf"));
        assert_eq!(integrity.lines().count(), 1);
    }
}
