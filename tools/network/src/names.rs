//! Names that an installed system gives to NICs by their MAC: udev's rules (70-persistent-net.rules of Debian 8, RHEL 6, SLES,
//! and by hand) and systemd's .link files. Where a configuration says such a name, the MAC is the better word.

use crate::source::{File, Files, put};
use crate::stack::below;
use crate::{Kind, Link, MOST_LINKS, Mac, Plan, Selector, networkd};

const RULES: &str = "/etc/udev/rules.d";

/// Every NIC that the system names by its MAC.
pub(crate) fn of(files: &dyn Files, plan: &mut Plan) -> Vec<Link> {
    let mut names = networkd::renames(files, plan);
    for file in File::all(files, RULES, &|name| name.ends_with(".rules"), plan) {
        for (mac, name) in file.text.lines().filter_map(rule).take(MOST_LINKS) {
            names.push(Link { rename: Some(name), ..Link::of(Selector::mac(mac), &file.path) });
        }
    }
    names.truncate(4 * MOST_LINKS);
    names
}

/// `SUBSYSTEM=="net", ..., ATTR{address}=="52:54:00:12:34:56", ..., NAME="eth0"`
fn rule(line: &str) -> Option<(Mac, String)> {
    let line = line.trim();
    if line.starts_with('#') || line.len() > 4096 {
        return None;
    }
    let (mut mac, mut name, mut is_net) = (None, None, false);
    let mut rest = line;
    // KEY, an operator, a value between quotes; then a comma.
    while let Some((key, more)) = rest.split_once('"') {
        let (value, more) = more.split_once('"')?;
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace());
        match key {
            "SUBSYSTEM==" => is_net = value == "net",
            "ATTR{address}==" | "ATTRS{address}==" | "SYSFS{address}==" => mac = Mac::parse(value),
            "NAME=" | "NAME:=" => name = crate::source::interface(value).ok(),
            _ => {}
        }
        rest = more;
    }
    mac.filter(|mac| is_net && mac.is_one()).zip(name)
}

/// Puts MACs in the place of names.
pub(crate) fn apply(plan: &mut Plan, names: Vec<Link>) {
    for named in names {
        let Some(name) = named.rename.clone() else { continue };
        let is_it = |link: &&mut Link| link.kind == Kind::Physical && link.selector == Selector::name(&name);
        if let Some(link) = plan.links.iter_mut().find(is_it) {
            link.selector = named.selector;
            link.rename = link.rename.take().or(named.rename);
            link.mtu = link.mtu.or(named.mtu);
            link.mac = link.mac.or(named.mac);
            link.from.extend(named.from);
        } else if plan.links.iter().any(|link| below(&link.kind).contains(&name.as_str()))
            && !plan.links.iter().any(|link| link.rename.as_ref() == Some(&name))
        {
            // What stands on it finds it by the name.
            put(plan, named);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;

    #[test]
    fn rules_of_udev_name_nics_by_their_mac() {
        for (line, want) in [
            (
                r#"SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="52:54:00:12:34:56", ATTR{dev_id}=="0x0", ATTR{type}=="1", KERNEL=="eth*", NAME="eth0""#,
                Some("52:54:00:12:34:56 eth0"),
            ),
            (
                r#"ACTION=="add",SUBSYSTEM=="net",ATTR{address}=="52:54:00:12:34:56",NAME="lan""#,
                Some("52:54:00:12:34:56 lan"),
            ),
            (r#"SUBSYSTEM=="block", ATTR{address}=="52:54:00:12:34:56", NAME="eth0""#, None),
            (r#"SUBSYSTEM=="net", ATTR{address}=="52:54:00:12:34:56""#, None),
            (r##"# SUBSYSTEM=="net", ATTR{address}=="52:54:00:12:34:56", NAME="eth0""##, None),
            (r#"SUBSYSTEM=="net", NAME="eth0"#, None),
        ] {
            assert_eq!(rule(line).map(|(mac, name)| format!("{mac} {name}")).as_deref(), want, "{line}");
        }
    }

    #[test]
    fn a_name_that_a_file_gives_becomes_its_mac() {
        let disk = Disk::of(
            "== /etc/udev/rules.d/70-persistent-net.rules\nSUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:00:00:01\", NAME=\"eth0\"\nSUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:00:00:02\", NAME=\"eth1\"\nSUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:00:00:03\", NAME=\"eth2\"\n\
             \n== /etc/systemd/network/10.link\n[Match]\nMACAddress=52:54:00:00:00:04\n[Link]\nName=lan0\nMTUBytes=1400\n",
        );
        let mut plan = Plan::default();
        for (name, kind) in [
            ("eth0", Kind::Physical),
            ("lan0", Kind::Physical),
            ("v", Kind::Vlan { link: "eth1".to_string(), id: 7 }),
        ] {
            put(&mut plan, Link::made(name, kind, "x"));
        }
        let names = of(&disk, &mut plan);
        apply(&mut plan, names);
        assert_eq!(
            plan.to_string(),
            "52:54:00:00:00:01, to be called eth0: no DHCP\n52:54:00:00:00:04, to be called lan0: MTU 1400, no DHCP\nv: VLAN 7 on eth1, no DHCP\n52:54:00:00:00:02, to be called eth1: no DHCP\n"
        );
    }
}
