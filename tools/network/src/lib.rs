//! What is asked of the network, whoever asks: the boot parameters, a cloud's description, the files of the system
//! on a disk, a person. Pure: each source is text that becomes a [`Plan`], netd carries plans out, and `rescue net`
//! shows them. Nothing here looks at a machine.
//!
//! A source that says something impossible loses that word, not the network: what could not be used is in
//! [`Plan::problems`], a line each that names the word and what was done instead.

mod assign;
mod beside;
pub mod borrow;
pub mod cloud;
pub mod disk;
pub mod dracut;
pub mod ifcfg;
pub mod ifupdown;
mod ini;
pub mod keyfile;
mod names;
pub mod netplan;
pub mod networkd;
pub mod openstack;
pub mod source;
mod stack;
mod text;
pub mod wicked;
mod words;
pub mod yaml;

pub use beside::IsSame;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
pub use words::{glob, is_host, is_interface, is_within, masked};

/// Caps for hostile input: no machine has as many.
pub const MOST_LINKS: usize = 256;
pub const MOST_PER_LINK: usize = 256;

/// Everything that one source, or several together, ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// In the order in which they were named.
    pub links: Vec<Link>,
    /// What a wired NIC gets that no entry of `links` is about, where that was said; else DHCP and what routers advertise.
    pub others: Option<Methods>,
    /// The first NIC with a DHCP lease ends the asking on those that no entry names (`ip=single-dhcp`).
    pub single: bool,
    /// Whose default route is preferred (`BOOTIF=`, `bootdev=`).
    pub preferred: Option<Selector>,
    /// Used before what leases and routers say, in this order.
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<String>,
    /// Names or addresses.
    pub ntp: Vec<String>,
    pub hostname: Option<String>,
    /// Name servers of leases and routers are not used.
    pub own_nameservers_only: bool,
    /// Routes whose link was not said: netd takes the one from which the gateway is reached.
    pub routes: Vec<Route>,
    pub problems: Vec<String>,
}

/// One interface: found by `selector`, or made where `kind` is not [`Kind::Physical`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    pub selector: Selector,
    pub kind: Kind,
    /// The name to give it (`ifname=`, netplan's `set-name`).
    pub rename: Option<String>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// The address to give it.
    pub mac: Option<Mac>,
    pub methods: Methods,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub ntp: Vec<String>,
    /// Who asked, for a person: `ip=eth0:dhcp`, `/etc/netplan/01.yaml`.
    pub from: Vec<String>,
}

/// Which interface is meant. What is not said does not matter; all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selector {
    /// The kernel's name, or the one that systemd would give; `*`, `?` and `[...]` as in a shell.
    pub name: Option<String>,
    pub mac: Option<Mac>,
    pub driver: Option<String>,
}

/// Six bytes, as Ethernet has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[default]
    Physical,
    /// 802.1Q on top of the named link.
    Vlan {
        link: String,
        id: u16,
    },
    Bond {
        ports: Vec<Selector>,
        options: Vec<BondOption>,
    },
    Bridge {
        ports: Vec<Selector>,
        stp: bool,
    },
}

/// One option of the bonding driver by its name there (Documentation/networking/bonding.rst), such as `mode` and `miimon`, and
/// the value in the driver's words. Only known names get in here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BondOption {
    pub name: String,
    pub value: String,
}

/// How a link gets addresses, besides those that were stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Methods {
    pub dhcp4: bool,
    pub ipv6: Ipv6,
}

impl Methods {
    /// What a NIC gets of which nothing was said.
    pub const DEFAULT: Methods = Methods { dhcp4: true, ipv6: Ipv6::Auto };
    pub const OFF: Methods = Methods { dhcp4: false, ipv6: Ipv6::Off };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipv6 {
    /// No address but those that were stated.
    #[default]
    Off,
    /// The link-local one alone.
    LinkLocal,
    /// What routers advertise, and DHCPv6 where they say so (RFC 4861 section 4.2, flags M and O).
    Auto,
    /// As `Auto`, and DHCPv6 when no router has given an address after a while.
    Either,
    /// As `Auto`, and DHCPv6 whatever routers say.
    Dhcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub address: IpAddr,
    /// Bits.
    pub prefix: u8,
    /// The other end of a point-to-point link.
    pub peer: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: IpAddr,
    /// Bits; 0 is the default route.
    pub prefix: u8,
    /// `None`: on the link itself.
    pub gateway: Option<IpAddr>,
    pub metric: Option<u32>,
    pub source: Option<IpAddr>,
}

impl Route {
    /// The default route of the gateway's family.
    pub fn default_by(gateway: IpAddr) -> Route {
        let destination = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Route { destination, prefix: 0, gateway: Some(gateway), metric: None, source: None }
    }
}

impl Selector {
    pub fn name(name: &str) -> Selector {
        Selector { name: Some(name.to_string()), ..Selector::default() }
    }

    pub fn mac(mac: Mac) -> Selector {
        Selector { mac: Some(mac), ..Selector::default() }
    }

    /// Whether an interface with these names (the kernel's and others), permanent MAC and driver is meant.
    pub fn selects(&self, names: &[&str], mac: Mac, driver: &str) -> bool {
        let by_name = |pattern: &String| names.iter().any(|name| words::glob(pattern, name));
        let is_said = self.name.is_some() || self.mac.is_some() || self.driver.is_some();
        is_said
            && self.name.as_ref().is_none_or(by_name)
            && self.mac.is_none_or(|wanted| wanted == mac)
            && self.driver.as_ref().is_none_or(|pattern| words::glob(pattern, driver))
    }
}

impl Plan {
    /// The entry of an interface by its name, made where there is none yet.
    pub fn link(&mut self, selector: Selector) -> Option<&mut Link> {
        let known = self.links.iter().position(|link| link.selector == selector || link.is_called(&selector));
        let at = match known {
            Some(at) => at,
            None if self.links.len() < MOST_LINKS => {
                self.links.push(Link { selector, ..Link::default() });
                self.links.len() - 1
            }
            None => {
                self.problem(format!(
                    "more than {MOST_LINKS} interfaces are described: the rest is left out"
                ));
                return None;
            }
        };
        self.links.get_mut(at)
    }

    /// A line for a person, once.
    pub fn problem(&mut self, text: String) {
        if !self.problems.contains(&text) && self.problems.len() < MOST_PER_LINK {
            self.problems.push(text);
        }
    }

    /// Takes over what a newer plan says: its entries stand in the place of those about the same interfaces, and before all
    /// others, its lists in that of ours where it has any. What is made of others goes on being that: `ip=bond0:dhcp` is about
    /// the bond's address. Problems are those of the newer one.
    pub fn replace_by(&mut self, mut newer: Plan) {
        for new in newer.links.iter_mut().filter(|new| new.kind == Kind::Physical) {
            let made = |old: &&Link| old.kind != Kind::Physical && old.selector == new.selector;
            if let Some(old) = self.links.iter().find(made) {
                new.kind = old.kind.clone();
            }
        }
        let is_same = |old: &Link, new: &Link| {
            old.selector == new.selector || old.is_called(&new.selector) || new.is_called(&old.selector)
        };
        self.links.retain(|old| !newer.links.iter().any(|new| is_same(old, new)));
        // One interface may be meant by its name and by its MAC: what is said first of it counts.
        self.links.splice(0..0, newer.links);
        self.links.truncate(MOST_LINKS);
        fn put<T>(old: &mut Vec<T>, new: Vec<T>) {
            if !new.is_empty() {
                *old = new;
            }
        }
        put(&mut self.nameservers, newer.nameservers);
        put(&mut self.search, newer.search);
        put(&mut self.ntp, newer.ntp);
        put(&mut self.routes, newer.routes);
        self.others = newer.others.or(self.others);
        self.preferred = newer.preferred.or(self.preferred.take());
        self.hostname = newer.hostname.or(self.hostname.take());
        self.single |= newer.single;
        self.own_nameservers_only |= newer.own_nameservers_only;
        self.problems = newer.problems;
    }
}

impl Link {
    /// It gets the name that the selector asks for.
    fn is_called(&self, selector: &Selector) -> bool {
        selector.mac.is_none()
            && selector.driver.is_none()
            && self.rename.is_some()
            && self.rename == selector.name
    }
}
