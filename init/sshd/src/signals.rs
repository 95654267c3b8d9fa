//! Signals by the names of SSH (RFC 4254, section 6.10), which has no numbers.

use rustix::process::Signal;

const NAMES: &[(&str, Signal)] = &[
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
];

pub fn by_name(name: &str) -> Option<Signal> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

/// The name for an exit-signal message; OpenSSH's word for those that the RFC does not name.
pub fn name(number: i32) -> &'static str {
    NAMES.iter().find(|(_, signal)| signal.as_raw() == number).map_or("SIG@openssh.com", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_inverse() {
        for (name, signal) in NAMES {
            assert_eq!(by_name(name), Some(*signal));
            assert_eq!(super::name(signal.as_raw()), *name);
        }
        assert_eq!(by_name("STOP"), None);
        assert_eq!(name(7), "SIG@openssh.com");
    }
}
