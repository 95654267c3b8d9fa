//! What the boot parameters ask of the network: dracut's grammar (tools/network), and what is Lifeboat's own.

use crate::offers::Wish;
use contract::cmdline::{self, Word};
use host::volumes::{Believed, believed};
use network::{Plan, is_host};
use std::time::Duration;

const BORROW: &str = "rescue.net";
/// A server that answers after 40 seconds, as behind a switch that learns, is no reason yet.
const BORROW_AFTER: Duration = Duration::from_secs(60);
const MOST_AFTER: u64 = 3600;
/// Whoever says one of these has said what the network is to be.
const OF_INTERFACES: &[&str] =
    &["bond", "bridge", "ifname", "ip", "ipam", "nameserver", "rd.route", "team", "vlan"];

pub fn read(words: &[Word]) -> (Plan, Wish) {
    let mut plan = network::dracut::read(words);
    if let Some(value) = cmdline::last(words, "rescue.hostname") {
        if is_host(value) {
            plan.hostname = Some(value.to_string());
        } else {
            plan.problem(format!("rescue.hostname={}: not a host name", value.escape_debug()));
        }
    }
    let is_said = |name: &str| cmdline::all(words, name).next().is_some();
    let is_believed = believed(words) != Believed::Nobody;
    let mut wish =
        Wish { seed: is_believed && !OF_INTERFACES.iter().any(|name| is_said(name)), borrow: None };
    if let Some(value) = cmdline::last(words, BORROW) {
        match after(value) {
            Some(after) => wish.borrow = Some(after),
            None => {
                let value: String = value.chars().take(64).collect();
                plan.problem(format!(
                    "{BORROW}={}: takes borrow, or borrow,SECONDS (1 to {MOST_AFTER}): the settings of the system on the disks are not used",
                    value.escape_debug()
                ));
            }
        }
    }
    (plan, wish)
}

/// Since boot.
fn after(value: &str) -> Option<Duration> {
    match value.split_once(',') {
        None if value == "borrow" => Some(BORROW_AFTER),
        Some(("borrow", seconds)) => {
            let seconds = seconds.parse().ok().filter(|seconds| (1..=MOST_AFTER).contains(seconds))?;
            Some(Duration::from_secs(seconds))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::cmdline::words;

    #[test]
    fn our_own_name_comes_before_one_of_an_ip_and_what_is_no_name_is_a_problem() {
        let (plan, _) = read(&words("ip=::::db1:eth0:dhcp rescue.hostname=rescue7"));
        assert_eq!(plan.hostname.as_deref(), Some("rescue7"));
        let (plan, _) = read(&words("rescue.hostname=a/b"));
        assert_eq!((plan.hostname, plan.problems.len()), (None, 1));
    }

    #[test]
    fn a_volume_s_settings_count_where_no_parameter_is_about_interfaces() {
        for (line, want) in [
            ("quiet BOOTIF=01-52-54-00-12-34-56 rescue.hostname=x rd.peerdns=0", true),
            ("ip=dhcp", false),
            ("vlan=eth0.5:eth0", false),
            ("nameserver=192.0.2.53", false),
            ("rescue.metadata=ec2,none", false),
            ("rescue.metadata=ec2", true),
        ] {
            assert_eq!(read(&words(line)).1.seed, want, "{line}");
        }
        let of_netd = |name: &str| {
            contract::params::PARAMS
                .iter()
                .any(|p| p.name == name && p.owner == contract::params::Owner::Netd)
        };
        assert!(OF_INTERFACES.iter().all(|name| of_netd(name)));
    }

    #[test]
    fn borrowing_is_asked_for_with_its_time_and_a_wrong_wish_is_named() {
        let borrow = |line: &str| read(&words(line)).1.borrow;
        assert_eq!(borrow("quiet"), None);
        assert_eq!(borrow("rescue.net=borrow"), Some(BORROW_AFTER));
        assert_eq!(borrow("rescue.net=borrow,5"), Some(Duration::from_secs(5)));
        for wrong in ["", "steal", "borrow,", "borrow,0", "borrow,3601", "borrow,x"] {
            let (plan, wish) = read(&words(&format!("rescue.net={wrong}")));
            assert_eq!(wish.borrow, None, "{wrong}");
            assert!(plan.problems[0].contains("takes borrow"), "{:?}", plan.problems);
        }
    }
}
