//! Settings that were found without a person (on a disk, on a volume made for this machine), beside what is asked for: they
//! add addresses and take none away, and where somebody has said something of the same interface, that counts.

use crate::dracut::add;
use crate::source::ports;
use crate::{Kind, Link, MOST_LINKS, MOST_PER_LINK, Methods, Plan, Selector, words};
use std::collections::HashMap;

/// Whether two selectors mean one interface of this machine, as one may by its name and the other by its MAC.
pub type IsSame<'a> = &'a dyn Fn(&Selector, &Selector) -> bool;

impl Plan {
    /// Takes in what was found. What NICs get of which nothing is said, these still ask for, and what takes NICs for its ports
    /// asks in their place. Of what is here already an address and an `off` stay as they are, and so do the host name and
    /// the lists. Problems are those of what was found.
    pub fn take_in(&mut self, found: Plan, is_same: IsSame<'_>) {
        let Plan { links, nameservers, search, ntp, routes, preferred, hostname, .. } = &found;
        let mut problems = Plan { problems: found.problems.clone(), ..Plan::default() };
        let mut new: Vec<Link> =
            links.iter().filter_map(|link| self.beside(link, links, is_same, &mut problems)).collect();
        let names = self.other_names(links, is_same);
        new.iter_mut().for_each(|link| stand_on(&mut link.kind, &names));
        // One interface may be meant by its name and by its MAC: what is said first of it counts.
        let is_replaced = |old: &Link| new.iter().any(|new| new.selector == old.selector);
        let old = std::mem::take(&mut self.links).into_iter().filter(|old| !is_replaced(old));
        let (stated, rest): (Vec<Link>, Vec<Link>) = old.partition(Link::is_settled);
        self.links = stated.into_iter().chain(new).chain(rest).take(MOST_LINKS).collect();
        keep(&mut self.nameservers, nameservers);
        keep(&mut self.search, search);
        keep(&mut self.ntp, ntp);
        routes.iter().for_each(|route| add(&mut self.routes, route.clone()));
        self.preferred = self.preferred.take().or_else(|| preferred.clone());
        self.hostname = self.hostname.take().or_else(|| hostname.clone());
        self.own_nameservers_only |= found.own_nameservers_only;
        self.problems = problems.problems;
    }

    /// Names that what was found has for a NIC, and the one that a parameter gives to it, which it has then.
    fn other_names(&self, found: &[Link], is_same: IsSame<'_>) -> HashMap<String, String> {
        let mut names = HashMap::new();
        for found in found.iter().filter(|found| found.kind == Kind::Physical) {
            let own = self.links.iter().find(|own| own.rename.is_some() && own.is_about(found, is_same));
            let Some(name) = own.and_then(|own| own.rename.as_ref()) else { continue };
            for old in [&found.rename, &found.selector.name].into_iter().flatten().filter(|old| *old != name)
            {
                names.insert(old.clone(), name.clone());
            }
        }
        names
    }

    /// An entry that was found, with what is asked of the same interface already; `None` where that leaves nothing of it.
    fn beside(&self, found: &Link, all: &[Link], is_same: IsSame<'_>, problems: &mut Plan) -> Option<Link> {
        let own = || self.links.iter().filter(|own| own.is_about(found, is_same));
        let mut link = found.clone();
        if let Some(settled) = own().find(|own| own.is_settled()) {
            if !found.addresses.is_empty() {
                problems.problem(format!(
                    "{}: {} counts; what {} says of its addresses is not used",
                    found.selector,
                    settled.from.join(" "),
                    found.from.join(" ")
                ));
            }
            if settled.addresses.is_empty() {
                // Nor is a bond made that nothing is to be asked of: its ports would not ask either.
                return None;
            }
            (link.addresses, link.routes) = (settled.addresses.clone(), Vec::new());
            link.methods = Methods::OFF;
        }
        for own in own() {
            if own.kind != Kind::Physical {
                link.kind = own.kind.clone();
            }
            if own.rename.is_some() {
                link.selector = own.selector.clone();
            }
            link.rename = own.rename.clone().or(link.rename);
            link.mtu = own.mtu.or(link.mtu);
            link.mac = own.mac.or(link.mac);
            link.routes = own.routes.iter().chain(&link.routes).take(MOST_PER_LINK).cloned().collect();
            for (ours, said) in [(&mut link.search, &own.search), (&mut link.ntp, &own.ntp)] {
                if !said.is_empty() {
                    *ours = said.clone();
                }
            }
            if !own.nameservers.is_empty() {
                link.nameservers = own.nameservers.clone();
            }
            own.from.iter().for_each(|from| add(&mut link.from, from.clone()));
        }
        let is_made_already = own().any(|own| own.kind != Kind::Physical);
        match link.kind {
            Kind::Physical if own().any(Link::is_settled) => {}
            Kind::Physical => {
                link.methods = link.methods.and(self.asked_of(&found.selector, Some(found), is_same))
            }
            Kind::Bond { .. } | Kind::Bridge { .. } if !is_made_already => {
                self.leave_stated(&mut link, is_same, problems)?;
                link.methods = link.methods.and(self.asked_of_ports(&link.kind, all, is_same));
            }
            Kind::Vlan { .. } | Kind::Bond { .. } | Kind::Bridge { .. } => {}
        }
        Some(own().fold(link, |link, own| Link { methods: link.methods.and(own.methods), ..link }))
    }

    /// What an interface asks for that is there without what was found.
    fn asked_of(&self, selector: &Selector, found: Option<&Link>, is_same: IsSame<'_>) -> Methods {
        let is_it = |own: &&Link| {
            own.is_meant(selector, is_same) || found.is_some_and(|found| own.is_about(found, is_same))
        };
        let own = || self.links.iter().filter(is_it);
        let rest = match own().any(Link::is_spoken_of) {
            true => Methods::OFF,
            false => self.others.unwrap_or(Methods::DEFAULT),
        };
        own().fold(rest, |methods, own| methods.and(own.methods))
    }

    /// What the ports of a bond or a bridge will not ask for any more, in however many steps. The NIC below a VLAN goes on.
    fn asked_of_ports(&self, kind: &Kind, all: &[Link], is_same: IsSame<'_>) -> Methods {
        let (mut methods, mut seen, mut rest) = (Methods::OFF, Vec::new(), ports(kind).to_vec());
        while let Some(port) = rest.pop() {
            if seen.contains(&port) || seen.len() >= MOST_PER_LINK {
                continue;
            }
            let below = all.iter().find(|link| link.selector == port || link.is_called(&port));
            match below.map(|below| &below.kind) {
                Some(Kind::Vlan { .. }) => {}
                Some(kind @ (Kind::Bond { .. } | Kind::Bridge { .. })) => rest.extend_from_slice(ports(kind)),
                Some(Kind::Physical) | None => methods = methods.and(self.asked_of(&port, below, is_same)),
            }
            seen.push(port);
        }
        methods
    }

    /// A NIC whose address is stated here would lose it as a port. `None`: no port is left.
    fn leave_stated(&self, link: &mut Link, is_same: IsSame<'_>, problems: &mut Plan) -> Option<()> {
        let name = link.selector.to_string();
        let (Kind::Bond { ports, .. } | Kind::Bridge { ports, .. }) = &mut link.kind else { return Some(()) };
        let had = ports.len();
        ports.retain(|port| {
            let stated =
                self.links.iter().find(|own| own.is_meant(port, is_same) && !own.addresses.is_empty());
            if let Some(stated) = stated {
                problems.problem(format!(
                    "{name}: {port} does not become a port of it, since it has an address by {}",
                    stated.from.join(" ")
                ));
            }
            stated.is_none()
        });
        (had == 0 || !ports.is_empty()).then_some(())
    }
}

impl Link {
    /// Both are of one interface. A pattern is about more than one.
    fn is_about(&self, other: &Link, is_same: IsSame<'_>) -> bool {
        let is_one = |selector: &Selector| {
            selector.driver.is_none()
                && selector.name.as_ref().is_none_or(|name| !name.contains(['*', '?', '[']))
        };
        self.selector == other.selector
            || self.is_called(&other.selector)
            || other.is_called(&self.selector)
            || self.is_of_parameters()
                && is_one(&self.selector)
                && is_one(&other.selector)
                && is_same(&self.selector, &other.selector)
    }

    /// A selector, or one with a pattern, means this one.
    fn is_meant(&self, selector: &Selector, is_same: IsSame<'_>) -> bool {
        let is_by_name = selector.mac.is_none() && selector.driver.is_none();
        let names = [&self.selector.name, &self.rename];
        let has_name = |pattern: &String| names.into_iter().flatten().any(|name| words::glob(pattern, name));
        self.selector == *selector
            || is_by_name && selector.name.as_ref().is_some_and(has_name)
            || self.is_of_parameters() && is_same(&self.selector, selector)
    }

    /// There are few of these, whatever a stranger's file says.
    fn is_of_parameters(&self) -> bool {
        let is_one = |from: &String| {
            ["ifname=", "ip=", "ipam=", "rd.route=", "vlan="]
                .iter()
                .any(|parameter| from.starts_with(parameter))
        };
        self.from.iter().any(is_one)
    }

    /// By a parameter that says how it gets its addresses.
    pub fn is_spoken_of(&self) -> bool {
        self.from.iter().any(|from| from.starts_with("ip=") || from.starts_with("ipam="))
    }

    /// An address is stated, or that it gets none.
    fn is_settled(&self) -> bool {
        !self.addresses.is_empty() || self.is_spoken_of() && self.methods == Methods::OFF
    }
}

impl Methods {
    /// All that either asks for.
    fn and(self, more: Methods) -> Methods {
        Methods { dhcp4: self.dhcp4 || more.dhcp4, ipv6: self.ipv6.max(more.ipv6) }
    }
}

fn stand_on(kind: &mut Kind, names: &HashMap<String, String>) {
    let put = |own: &mut String| {
        if let Some(name) = names.get(own) {
            own.clone_from(name);
        }
    };
    match kind {
        Kind::Physical => {}
        Kind::Vlan { link, .. } => put(link),
        Kind::Bond { ports, .. } | Kind::Bridge { ports, .. } => {
            let by_name = ports.iter_mut().filter(|port| port.mac.is_none() && port.driver.is_none());
            by_name.filter_map(|port| port.name.as_mut()).for_each(put);
        }
    }
}

/// A list that says nothing is that of what was found.
fn keep<T: Clone>(own: &mut Vec<T>, found: &[T]) {
    if own.is_empty() {
        *own = found.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mac, dracut};
    use contract::cmdline::words;

    /// The entry of one interface once what was found is taken in at a boot with these parameters.
    fn taken(booted: &str, found: &Plan, interface: &str) -> (String, Plan) {
        let mut plan = dracut::read(&words(booted));
        plan.take_in(found.clone(), &|_, _| false);
        let text = plan.to_string();
        let own = text.lines().find(|line| line.starts_with(&format!("{interface}: "))).unwrap_or("none");
        (own.to_string(), plan)
    }

    fn found(line: &str) -> Plan {
        dracut::read(&words(line))
    }

    #[test]
    fn what_was_found_comes_first_and_takes_no_asking_away() {
        let found = found("ip=192.0.2.7::192.0.2.1:24::eth0:none");
        for (booted, want) in [
            ("", "eth0: DHCP, IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1"),
            ("ip=eth0:dhcp6", "eth0: DHCPv6, 192.0.2.7/24, gateway 192.0.2.1"),
            ("ip=dhcp6 ip=eth1:dhcp", "eth0: DHCPv6, 192.0.2.7/24, gateway 192.0.2.1"),
            ("ip=off", "eth0: no DHCP, 192.0.2.7/24, gateway 192.0.2.1"),
            ("ip=off ip=eth0:dhcp", "eth0: DHCP, IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1"),
        ] {
            assert_eq!(taken(booted, &found, "eth0").0, want, "{booted}");
        }
        let renamed = "ip=off ifname=eth0:52:54:00:12:34:56 ip=52-54-00-12-34-56:dhcp";
        let (_, plan) = taken(renamed, &found, "eth0");
        assert_eq!(
            plan.links[0].to_string(),
            "52:54:00:12:34:56, to be called eth0: DHCP, IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1"
        );
        let (_, plan) = taken("ip=52-54-00-12-34-56:dhcp", &found, "eth0");
        let names: Vec<String> = plan.links.iter().map(|link| link.selector.to_string()).collect();
        assert_eq!(names, ["eth0", "52:54:00:12:34:56"]);
    }

    #[test]
    fn a_bond_or_bridge_that_was_found_asks_for_what_its_ports_asked_for() {
        let bond = "bond=bond0:eth2,eth3 ip=192.0.2.8:::24::bond0:none";
        let vlan = "vlan=bond0.5:bond0 ip=192.0.2.9:::24::bond0.5:none";
        let all = found(&format!(
            "{bond} {vlan} bridge=br0:bond0 ip=192.0.2.10:::24::br0:none bridge=br5:bond0.5 ip=br5:off"
        ));
        for (booted, interface, want) in [
            ("", "bond0", "DHCP, IPv6 from routers, 192.0.2.8/24"),
            ("", "br0", "DHCP, IPv6 from routers, 192.0.2.10/24"),
            ("", "bond0.5", "no DHCP, 192.0.2.9/24"),
            ("", "br5", "no DHCP"),
            ("ip=off", "br0", "no DHCP, 192.0.2.10/24"),
            ("ip=off ip=eth3:dhcp6", "br0", "DHCPv6, 192.0.2.10/24"),
            ("ip=eth2:off ip=eth3:off", "bond0", "no DHCP, 192.0.2.8/24"),
            ("bond=bond0:eth2,eth3 ip=bond0:dhcp6", "bond0", "DHCPv6, 192.0.2.8/24"),
        ] {
            let (own, _) = taken(booted, &all, interface);
            assert!(own.ends_with(&format!(", {want}")), "{booted}, {interface}: {own}");
        }
        let mut by_pattern = found("bond=bond0:eth2");
        if let Kind::Bond { ports, .. } = &mut by_pattern.links[0].kind {
            *ports = vec![Selector::name("eth*")];
        }
        by_pattern.links[0].methods = Methods::OFF;
        assert!(taken("ip=off ip=eth7:dhcp", &by_pattern, "bond0").1.links[0].methods.dhcp4);
    }

    #[test]
    fn an_off_and_an_address_of_the_same_interface_stay_whatever_is_found() {
        let disk =
            found("ip=192.0.2.7::192.0.2.1:24::eth1:dhcp bond=bond0:eth2,eth3 ip=192.0.2.8:::24::bond0:none");
        for (booted, interface, want) in [
            ("ip=eth1:off", "eth1", "eth1: no DHCP"),
            (
                "ip=198.51.100.7::198.51.100.1:24::eth1:none",
                "eth1",
                "eth1: no DHCP, 198.51.100.7/24, gateway 198.51.100.1",
            ),
            ("ip=198.51.100.7:::24::eth1:dhcp", "eth1", "eth1: DHCP, IPv6 from routers, 198.51.100.7/24"),
            ("ip=bond0:off", "bond0", "bond0: no DHCP"),
        ] {
            let (own, plan) = taken(booted, &disk, interface);
            assert_eq!(own, want, "{booted}");
            assert!(plan.problems[0].contains(&format!("{booted} counts")), "{:?}", plan.problems);
        }
        let (own, _) = taken("ip=198.51.100.7:::24::bond0:none", &disk, "bond0");
        assert!(
            own.contains("bond of eth2 eth3") && own.ends_with("DHCP, IPv6 from routers, 198.51.100.7/24"),
            "{own}"
        );
        let (own, plan) = taken("ip=198.51.100.7:::24::eth2:none", &disk, "bond0");
        assert!(own.contains("eth3") && !own.contains("eth2"), "{own}");
        assert!(plan.problems[0].contains("eth2 does not become a port"), "{:?}", plan.problems);
        let (_, plan) = taken("ip=52-54-00-12-34-56:off", &disk, "eth1");
        assert_eq!(
            plan.links[0].selector.to_string(),
            "52:54:00:12:34:56",
            "it may be eth1: what is said first counts"
        );
    }

    #[test]
    fn host_name_and_name_servers_that_were_said_stay() {
        let mut disk = found(
            "ip=192.0.2.7:::24:db1:eth0:none:192.0.2.54 nameserver=192.0.2.53 rd.route=10.0.0.0/8:203.0.113.1",
        );
        disk.search = vec!["example.com".to_string()];
        let (eth0, plan) = taken(
            "ip=::::rescue7:eth0:dhcp:198.51.100.54 nameserver=198.51.100.53 rd.route=172.16.0.0/12:203.0.113.2",
            &disk,
            "eth0",
        );
        assert!(eth0.ends_with("DNS 198.51.100.54"), "{eth0}");
        assert_eq!(plan.hostname.as_deref(), Some("rescue7"));
        assert_eq!(plan.nameservers, ["198.51.100.53".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!((plan.search, plan.routes.len()), (disk.search.clone(), 2));
        let (_, plan) = taken("", &disk, "eth0");
        assert_eq!((plan.hostname, plan.nameservers), (disk.hostname.clone(), disk.nameservers.clone()));
    }

    #[test]
    fn what_was_found_on_top_of_a_nic_stands_on_it_by_the_name_that_a_parameter_gives() {
        let disk = "ifname=eth1:52:54:00:12:34:56 vlan=eth1.5:eth1 bond=bond0:eth1,eth2 bridge=br0:eth1.5";
        let mut plan = dracut::read(&words("ifname=lan0:52:54:00:12:34:56"));
        plan.take_in(found(disk), &|_, _| false);
        assert_eq!(
            plan.to_string(),
            "52:54:00:12:34:56, to be called lan0: DHCP, IPv6 from routers\n\
             eth1.5: VLAN 5 on lan0, no DHCP\n\
             bond0: bond of lan0 eth2 mode=balance-rr miimon=100, DHCP, IPv6 from routers\n\
             br0: bridge of eth1.5, DHCP, IPv6 from routers\n"
        );
        // The NIC is called lan0 by now, and is eth0 beside it.
        let is_same = |a: &Selector, b: &Selector| {
            let names = ["lan0", "eth0"];
            let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
            [a, b].into_iter().all(|selector| selector.selects(&names, mac, "virtio_net"))
        };
        let mut plan = dracut::read(&words("ifname=lan0:52:54:00:12:34:56"));
        plan.take_in(found("ip=192.0.2.7:::24::eth0:none vlan=v5:eth0"), &is_same);
        assert!(plan.to_string().contains("v5: VLAN 5 on lan0"), "{plan}");
        assert!(plan.to_string().contains("lan0: DHCP, IPv6 from routers, 192.0.2.7/24"), "{plan}");
    }

    #[test]
    fn one_nic_that_is_meant_by_its_name_and_by_its_mac_is_one() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let is_same = |a: &Selector, b: &Selector| {
            [a, b].into_iter().all(|selector| selector.selects(&["eth0"], mac, "virtio_net"))
        };
        let disk = "ip=192.0.2.7:::24::eth0:none";
        let of_mac = "52:54:00:12:34:56: ";
        for (booted, found_as, first) in [
            (
                "ip=off ip=52-54-00-12-34-56:dhcp",
                disk,
                "eth0: DHCP, IPv6 from routers, 192.0.2.7/24".to_string(),
            ),
            ("ip=52-54-00-12-34-56:off", disk, format!("{of_mac}no DHCP")),
            ("ip=eth0:off", "ip=192.0.2.7:::24::52-54-00-12-34-56:none", "eth0: no DHCP".to_string()),
            (
                "ip=198.51.100.7:::24::52-54-00-12-34-56:none",
                disk,
                format!("{of_mac}no DHCP, 198.51.100.7/24"),
            ),
            (
                "ifname=lan0:52-54-00-12-34-56",
                disk,
                "52:54:00:12:34:56, to be called lan0: DHCP, IPv6 from routers, 192.0.2.7/24".to_string(),
            ),
            (
                "ip=52-54-00-12-34-56:dhcp6 ifname=lan0:52-54-00-12-34-56",
                disk,
                "52:54:00:12:34:56, to be called lan0: DHCPv6, 192.0.2.7/24".to_string(),
            ),
        ] {
            let mut plan = dracut::read(&words(booted));
            plan.take_in(found(found_as), &is_same);
            assert_eq!(plan.links[0].to_string(), first, "{booted}, {found_as}");
        }
        let mut plan = dracut::read(&words("ip=off ip=52-54-00-12-34-56:dhcp"));
        plan.take_in(found("bond=bond0:eth0,eth1 ip=bond0:off"), &is_same);
        assert!(plan.links[0].methods.dhcp4, "a port of the bond");
        let mut pattern = found(disk);
        pattern.links[0].selector = Selector::name("eth*");
        let mut plan = dracut::read(&words("ip=198.51.100.7:::24::52-54-00-12-34-56:none"));
        plan.take_in(pattern, &is_same);
        assert!(plan.links[1].to_string().ends_with("192.0.2.7/24"), "it is about other NICs too: {plan}");
    }
}
