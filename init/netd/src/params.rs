//! What the boot parameters ask of the network: dracut's grammar (tools/network), and what is Lifeboat's own.

use crate::dhcp::message::is_name;
use contract::cmdline::{self, Word};
use network::Plan;

pub fn read(words: &[Word]) -> Plan {
    let mut plan = network::dracut::read(words);
    if let Some(value) = cmdline::last(words, "rescue.hostname") {
        if is_name(value) {
            plan.hostname = Some(value.to_string());
        } else {
            plan.problem(format!("rescue.hostname={}: not a host name", value.escape_debug()));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::cmdline::words;

    #[test]
    fn our_own_name_comes_before_one_of_an_ip_and_what_is_no_name_is_a_problem() {
        let plan = read(&words("ip=::::db1:eth0:dhcp rescue.hostname=rescue7"));
        assert_eq!(plan.hostname.as_deref(), Some("rescue7"));
        let plan = read(&words("rescue.hostname=a/b"));
        assert_eq!((plan.hostname, plan.problems.len()), (None, 1));
    }
}
