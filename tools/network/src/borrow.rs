//! The dead disk's own settings as a last resort: which of six kinds an installed system has its network by, and the plan of
//! that. Several kinds often lie on one disk; the one that the system starts at boot is taken, and the others are named.
//!
//! Nothing of the system is executed, and nothing is read besides configuration below its root.

use crate::ini;
use crate::source::{self, File, Files, shown};
use crate::{Link, MOST_PER_LINK, Plan, ifcfg, ifupdown, keyfile, names, netplan, networkd, wicked};
use std::fmt;

/// In the order in which they are asked, of those that are started at boot and of those that are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Netplan,
    Ifupdown,
    Networkd,
    Wicked,
    NetworkManager,
    Ifcfg,
}

const KINDS: &[Kind] =
    &[Kind::Netplan, Kind::Ifupdown, Kind::Networkd, Kind::Wicked, Kind::NetworkManager, Kind::Ifcfg];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Netplan => "netplan",
            Kind::Ifupdown => "ifupdown",
            Kind::Networkd => "systemd-networkd",
            Kind::Wicked => "wicked",
            Kind::NetworkManager => "NetworkManager",
            Kind::Ifcfg => "ifcfg files",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Borrowed {
    pub kind: Kind,
    /// The system starts it at boot; else its files are only what there is.
    pub is_started: bool,
    pub plan: Plan,
    /// What the plan was read from.
    pub files: Vec<String>,
    /// Kinds that describe interfaces too, and are not taken.
    pub others: Vec<Kind>,
}

impl fmt::Display for Borrowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let started = if self.is_started { "" } else { ", which it does not start at boot" };
        writeln!(f, "by {}{started}: {}", self.kind, self.files.join(" "))?;
        if !self.others.is_empty() {
            let others: Vec<String> = self.others.iter().map(Kind::to_string).collect();
            writeln!(f, "not used: {}", others.join(", "))?;
        }
        write!(f, "{}", self.plan)
    }
}

/// What the system below the root would do; `None` where no kind describes an interface.
pub fn borrow(files: &dyn Files) -> Option<Borrowed> {
    let mut found: Vec<(Kind, bool, Plan)> = Vec::new();
    for kind in KINDS {
        let plan = read(files, *kind);
        if !plan.links.is_empty() {
            found.push((*kind, is_started(files, *kind), plan));
        }
    }
    let at = found.iter().position(|(_, is_started, _)| *is_started).or((!found.is_empty()).then_some(0))?;
    let (kind, is_started, mut plan) = found.remove(at);
    if kind == Kind::NetworkManager
        && let Some(at) = found.iter().position(|(kind, ..)| *kind == Kind::Ifcfg)
    {
        // Up to RHEL 9 NetworkManager reads both.
        let (_, _, more) = found.remove(at);
        add(&mut plan, more);
    }
    let known = names::of(files, &mut plan);
    names::apply(&mut plan, known);
    resolvers(files, &mut plan);
    let mut from: Vec<String> = Vec::new();
    for path in plan.links.iter().flat_map(|link| &link.from) {
        if !from.contains(path) && from.len() < MOST_PER_LINK {
            from.push(path.clone());
        }
    }
    let others = found.into_iter().map(|(kind, ..)| kind).collect();
    Some(Borrowed { kind, is_started, plan, files: from, others })
}

fn read(files: &dyn Files, kind: Kind) -> Plan {
    let mut problems = Plan::default();
    let mut plan = match kind {
        Kind::Netplan => netplan::read(&netplan::files(files, &mut problems)),
        Kind::Ifupdown => ifupdown::read(files),
        Kind::Networkd => networkd::read(files),
        Kind::Wicked => wicked::read(files),
        Kind::NetworkManager => keyfile::read(&keyfile::files(files, &mut problems)),
        Kind::Ifcfg => ifcfg::read(files),
    };
    plan.problems.splice(0..0, problems.problems);
    plan
}

/// The links of another plan whose interfaces are not described yet.
fn add(plan: &mut Plan, more: Plan) {
    let is_new = |link: &Link| {
        plan.links.iter().all(|known| known.selector != link.selector && known.rename != link.selector.name)
    };
    let new: Vec<Link> = more.links.into_iter().filter(is_new).collect();
    new.into_iter().for_each(|link| source::put(plan, link));
    more.problems.into_iter().for_each(|problem| plan.problem(problem));
    plan.routes.extend(more.routes);
    plan.hostname = plan.hostname.take().or(more.hostname);
}

/// Whether the system starts it at boot: by systemd, by OpenRC, by sysvinit.
fn is_started(files: &dyn Files, kind: Kind) -> bool {
    let unit = |name: &str| is_unit_wanted(files, name);
    let script = |name: &str| is_script_wanted(files, name);
    match kind {
        // It is a generator: where it is installed, it runs.
        Kind::Netplan => ["/usr/lib/systemd/system-generators", "/lib/systemd/system-generators"]
            .iter()
            .any(|directory| files.list(directory).iter().any(|name| name == "netplan")),
        Kind::Ifupdown => unit("networking.service") || script("networking"),
        Kind::Networkd => unit("systemd-networkd.service"),
        Kind::Wicked => unit("wicked.service") || unit("wickedd.service"),
        Kind::NetworkManager => unit("NetworkManager.service") || script("NetworkManager"),
        // network.service is made of the script, and on SUSE an alias.
        Kind::Ifcfg => unit("NetworkManager.service") || unit("network.service") || script("network"),
    }
}

/// Whether a target that is reached at boot wants a unit, and that is not masked.
fn is_unit_wanted(files: &dyn Files, unit: &str) -> bool {
    const DIRECTORIES: &[&str] = &["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    const TARGETS: &[&str] =
        &["multi-user", "graphical", "default", "basic", "sysinit", "network", "network-online"];
    if files.link(&format!("{}/{unit}", DIRECTORIES[0])).is_some_and(|target| target.ends_with("/dev/null")) {
        return false;
    }
    DIRECTORIES.iter().any(|directory| {
        TARGETS.iter().any(|target| {
            files.list(&format!("{directory}/{target}.target.wants")).iter().any(|name| name == unit)
        })
    })
}

/// Whether a runlevel of OpenRC or of sysvinit has a script.
fn is_script_wanted(files: &dyn Files, script: &str) -> bool {
    let of_openrc = ["boot", "default", "sysinit"]
        .iter()
        .any(|level| files.list(&format!("/etc/runlevels/{level}")).iter().any(|name| name == script));
    // S10network
    let is_it = |name: &String| {
        name.strip_prefix('S')
            .is_some_and(|name| name.trim_start_matches(|c: char| c.is_ascii_digit()) == script)
    };
    of_openrc
        || ["/etc/rcS.d", "/etc/rc2.d", "/etc/rc3.d", "/etc/rc5.d", "/etc/rc.d/rc3.d", "/etc/rc.d/rc5.d"]
            .iter()
            .any(|directory| files.list(directory).iter().any(is_it))
}

/// Where the kind's own files name no server, what the system asks otherwise: a stub on the system itself is none.
fn resolvers(files: &dyn Files, plan: &mut Plan) {
    if !plan.nameservers.is_empty() || plan.links.iter().any(|link| !link.nameservers.is_empty()) {
        return;
    }
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut search = Vec::new();
    for path in ["/etc/systemd/resolved.conf", "/etc/resolv.conf"] {
        let Some(file) = File::read(files, path, plan) else { continue };
        let resolve = ini::whole(&ini::sections(&file.text, true), "Resolve");
        texts.extend(resolve.words("DNS").iter().map(|text| (path.to_string(), text.to_string())));
        for line in file.text.lines().take(4096) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    texts.extend(words.next().map(|text| (path.to_string(), text.to_string())))
                }
                Some("search" | "domain") => search = words.map(str::to_string).take(MOST_PER_LINK).collect(),
                _ => {}
            }
        }
    }
    for (path, text) in texts.into_iter().take(MOST_PER_LINK) {
        match source::server(&text) {
            Ok(server) if server.is_loopback() || plan.nameservers.contains(&server) => {}
            Ok(server) => plan.nameservers.push(server),
            Err(problem) => plan.problem(format!("{}: {problem}", shown(&path))),
        }
    }
    if plan.search.is_empty() && plan.links.iter().all(|link| link.search.is_empty()) {
        plan.search = search.iter().filter_map(|text| source::domain(text).ok()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, check};
    use proptest::prelude::*;

    const NETPLAN: &str = "== /etc/netplan/01.yaml\nnetwork: {ethernets: {enp1s0: {dhcp4: true}}}\n\n";
    const IFUPDOWN: &str =
        "== /etc/network/interfaces\nauto eth0\niface eth0 inet static\n address 192.0.2.7/24\n\n";
    const NETWORKD: &str = "== /etc/systemd/network/10.network\n[Match]\nName=eno1\n[Network]\nDHCP=ipv4\n\n";
    const KEYFILE: &str = "== /etc/NetworkManager/system-connections/a.nmconnection\n[connection]\ntype=ethernet\ninterface-name=eno2\n\n";
    const IFCFG: &str = "== /etc/sysconfig/network-scripts/ifcfg-eth1\nDEVICE=eth1\nBOOTPROTO=dhcp\n\n";
    const WICKED: &str = "== /etc/sysconfig/network/ifcfg-eth2\nSTARTMODE=auto\nBOOTPROTO=dhcp\n\n";

    fn wants(unit: &str) -> String {
        format!("== /etc/systemd/system/multi-user.target.wants/{unit} -> /usr/lib/systemd/system/{unit}\n")
    }

    #[test]
    fn the_kind_that_is_started_at_boot_is_taken() {
        let all = [NETPLAN, IFUPDOWN, NETWORKD, KEYFILE, IFCFG, WICKED].concat();
        let generator =
            "== /usr/lib/systemd/system-generators/netplan -> /usr/libexec/netplan/generate\n".to_string();
        let masked = format!(
            "{}== /etc/systemd/system/networking.service -> /dev/null\n",
            wants("networking.service")
        );
        for (started, want) in [
            (generator, (Kind::Netplan, true)),
            (wants("networking.service"), (Kind::Ifupdown, true)),
            (wants("systemd-networkd.service"), (Kind::Networkd, true)),
            (wants("NetworkManager.service"), (Kind::NetworkManager, true)),
            (wants("wicked.service"), (Kind::Wicked, true)),
            (wants("network.service"), (Kind::Ifcfg, true)),
            ("== /etc/rc.d/rc3.d/S10network -> ../init.d/network\n".to_string(), (Kind::Ifcfg, true)),
            ("== /etc/rcS.d/S12networking -> ../init.d/networking\n".to_string(), (Kind::Ifupdown, true)),
            (
                "== /etc/runlevels/boot/networking -> /etc/init.d/networking\n".to_string(),
                (Kind::Ifupdown, true),
            ),
            (masked, (Kind::Netplan, false)),
            (String::new(), (Kind::Netplan, false)),
        ] {
            let found = borrow(&Disk::of(&format!("{all}{started}"))).unwrap();
            assert_eq!((found.kind, found.is_started), want, "{started}");
        }
    }

    #[test]
    fn what_is_borrowed_is_shown_with_its_origin() {
        let nothing =
            |text: &str| borrow(&Disk::of(text)).map_or("nothing".to_string(), |found| found.to_string());
        let debian = [
            IFUPDOWN,
            &wants("networking.service"),
            "== /etc/resolv.conf\nsearch example.com\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n",
        ]
        .concat();
        let rhel = [KEYFILE, IFCFG, &wants("NetworkManager.service")].concat();
        let ubuntu = ["== /etc/netplan/01-network-manager-all.yaml\nnetwork: {version: 2, renderer: NetworkManager}\n\n", KEYFILE, &wants("NetworkManager.service")].concat();
        let lo = [
            "== /etc/network/interfaces\nauto lo\niface lo inet loopback\n\n",
            NETWORKD,
            &wants("networking.service"),
            &wants("systemd-networkd.service"),
        ]
        .concat();
        let named = [IFUPDOWN, NETWORKD, &wants("networking.service"), "== /etc/udev/rules.d/70-persistent-net.rules\nSUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:12:34:56\", NAME=\"eth0\"\n\n== /etc/systemd/resolved.conf\n[Resolve]\nDNS=192.0.2.54#x\n"].concat();
        check(
            &[
                ("", "nothing"),
                (
                    &debian,
                    "by ifupdown: /etc/network/interfaces\neth0: IPv6 from routers, 192.0.2.7/24\nDNS 192.0.2.53\nsearch example.com\n",
                ),
                (
                    &rhel,
                    "by NetworkManager: /etc/NetworkManager/system-connections/a.nmconnection /etc/sysconfig/network-scripts/ifcfg-eth1\neno2: DHCP, IPv6 from routers\neth1: DHCP, IPv6 from routers\n",
                ),
                (
                    &ubuntu,
                    "by NetworkManager: /etc/NetworkManager/system-connections/a.nmconnection\neno2: DHCP, IPv6 from routers\n",
                ),
                (
                    &lo,
                    "by systemd-networkd: /etc/systemd/network/10.network\neno1: DHCP, IPv6 from routers\n",
                ),
                (
                    &named,
                    "by ifupdown: /etc/network/interfaces /etc/udev/rules.d/70-persistent-net.rules\nnot used: systemd-networkd\n52:54:00:12:34:56, to be called eth0: IPv6 from routers, 192.0.2.7/24\nDNS 192.0.2.54\n",
                ),
                (
                    WICKED,
                    "by wicked, which it does not start at boot: /etc/sysconfig/network/ifcfg-eth2\neth2: DHCP, IPv6 from routers\n",
                ),
            ],
            nothing,
        );
    }

    proptest! {
        #[test]
        fn no_disk_panics(parts in prop::collection::vec(prop::sample::select(vec![
            NETPLAN, IFUPDOWN, NETWORKD, KEYFILE, IFCFG, WICKED, "network: {", "[Match]\n", "iface x", "== /etc/resolv.conf\nnameserver x\n", "== /etc/udev/rules.d/a.rules\nNAME=\"\"\"\n",
        ]), 0..12)) {
            let _ = borrow(&Disk::of(&parts.concat())).map(|found| found.to_string());
        }
    }
}
