//! One interface and what netd knows of it.

use crate::MOST_ADVERTISED;
use crate::dhcp::machine::Client;
use crate::dhcp::message::Lease;
use crate::dhcp6;
use crate::links::{self, Role, Seen};
use crate::look::Item;
use crate::routing::{self, Uplink};
use crate::rtnl::{Advertised, Beside, Link, RouterOption};
use crate::{SIX_PREFIX, arp};
use contract::state;
use host::Root;
use network::{Ipv6, Mac, Methods, Plan, Route};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// ARPHRD_ETHER
const ETHERNET: u16 = 1;
/// Drivers of the NICs that a BMC shows over USB.
const BMC_DRIVERS: &[&str] = &["cdc_ether", "cdc_eem", "cdc_ncm", "cdc_subset", "rndis_host"];
/// How long routers are waited for, before DHCPv6 is asked instead (`either6`).
const EITHER: Duration = Duration::from_secs(8);
/// Set by tests: interfaces without a device (veth) are wired NICs too.
const VIRTUAL: &str = "LIFEBOAT_NETD_VIRTUAL";

/// Bytes. With a smaller MTU the kernel has no IPv6 on a link (RFC 8200 section 5; addrconf_notify in net/ipv6/addrconf.c).
const SIX_MTU: u32 = 1280;

pub struct Nic {
    pub link: Link,
    /// Names that systemd would give.
    pub names: Vec<String>,
    pub driver: String,
    /// An Ethernet card, not what stands on one.
    pub wired: bool,
    pub bmc: bool,
    /// What it is configured by; `None` for what is not ours and for ports.
    pub role: Option<Role>,
    pub client: Option<Client>,
    /// Hears and sends DHCP.
    pub socket: Option<OwnedFd>,
    /// Sends renewals.
    pub udp: Option<OwnedFd>,
    /// DHCPv6 and its socket.
    pub six: Option<dhcp6::machine::Client>,
    pub six_socket: Option<OwnedFd>,
    /// What of its lease is in the kernel.
    pub six_configured: Vec<Ipv6Addr>,
    /// Since when it has a link that IPv6 can be asked by.
    pub six_since: Option<Duration>,
    /// Open while an address is probed.
    pub arp: Option<OwnedFd>,
    /// Stated addresses that are being probed, and until when; not those that somebody was found to have.
    pub probing: Vec<(Ipv4Addr, Duration)>,
    /// MTU of the lease of an earlier life, in bytes, until that is asked for again.
    pub held_size: Option<u16>,
    /// What of the lease is in the kernel.
    pub configured: Option<(Ipv4Addr, u8)>,
    /// What is stated for it is another NIC's, by one pattern ([`links::yielding`]).
    pub yields: bool,
    /// Stated addresses that the kernel was given.
    pub given: Vec<network::Address>,
    /// Those of them, and of leases, that went without netd, and when they are given again.
    pub withheld: BTreeMap<IpAddr, Duration>,
    /// An earlier life may have left something on it that is not looked through yet.
    pub left: bool,
    /// Which link was the first to get an address, the second ...
    pub order: Option<u64>,
    /// All that the kernel has and others can use.
    pub addresses: Vec<(IpAddr, u8)>,
    pub advertised: Advertised,
    /// Whom the kernel has IPv6 default routes by, best first.
    pub routers: Vec<Router>,
    /// Prefixes on the link, as the kernel has them.
    pub near: Vec<(Ipv6Addr, u8)>,
    /// Routes of the main table that are not netd's.
    pub beside: Vec<Beside>,
    /// Addresses that the kernel made by a router's word.
    pub by_router: Vec<(IpAddr, u8)>,
    pub said: Names,
    /// Answers of servers that are none.
    pub malformed: u32,
    /// What the kernel was told of routers' words.
    pub heeds_routers: Option<bool>,
    /// When routers are asked to speak, the next time first.
    pub seeks: Vec<Duration>,
    pub presence: Presence,
}

/// What is known of where a NIC's cable leads, when a lease of before is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// To where it led in the earlier life: it was in when this one began, and has been since.
    Same,
    /// It was out.
    Replugged,
    /// The NIC itself was away, and with it all that the kernel had of it.
    Came,
}

/// Between two solicitations, of three (RFC 4861 section 10: RTR_SOLICITATION_INTERVAL). A port of a switch that learns lets none
/// through at first.
const SEEK: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    pub address: Ipv6Addr,
    /// RFC 4191 section 2.1: -1, 0 or 1.
    pub preference: i8,
    /// It was heard before the cable was out, which may lead to another network now.
    pub is_old: bool,
}

/// Name servers and domains by routers (RFC 8106), and when they end, since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    pub servers: Vec<(Ipv6Addr, Duration)>,
    pub search: Vec<(String, Duration)>,
    /// All of them were heard before the cable was out, which may lead to another network now.
    #[serde(default)]
    pub is_old: bool,
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.search.is_empty()
    }

    /// Until their time is over; a lifetime of 0 ends them (RFC 8106 section 5). What is old goes with the first word since.
    pub fn hear(&mut self, option: RouterOption, now: Duration) {
        if self.is_old {
            *self = Names::default();
        }
        let end = |seconds: u32| match seconds {
            u32::MAX => Duration::MAX,
            seconds => now + Duration::from_secs(seconds.into()),
        };
        match option {
            RouterOption::Servers(servers, seconds) => {
                self.servers.retain(|(known, _)| !servers.contains(known));
                if seconds > 0 {
                    self.servers.extend(servers.into_iter().map(|server| (server, end(seconds))));
                    self.servers.truncate(MOST_ADVERTISED);
                }
            }
            RouterOption::Search(search, seconds) => {
                self.search.retain(|(known, _)| !search.contains(known));
                if seconds > 0 {
                    self.search.extend(search.into_iter().map(|domain| (domain, end(seconds))));
                    self.search.truncate(MOST_ADVERTISED);
                }
            }
        }
    }

    /// Those whose time is not over.
    fn left(&self, now: Duration) -> Resolvers {
        let servers = self.servers.iter().filter(|(_, end)| *end > now);
        let search = self.search.iter().filter(|(_, end)| *end > now);
        (
            servers.map(|(server, _)| IpAddr::V6(*server)).collect(),
            search.map(|(domain, _)| domain.clone()).collect(),
        )
    }
}

/// Name servers and domains to look in, best first.
pub type Resolvers = (Vec<IpAddr>, Vec<String>);

impl Nic {
    /// `None` for what is not Ethernet, and for wireless cards.
    pub fn new(link: Link, root: &Root) -> Option<Nic> {
        link.mac.filter(|mac| link.hardware == ETHERNET && mac.0 != [0; 6])?;
        let facts = host::nic::read(root, &link.name);
        if facts.wireless {
            return None;
        }
        Some(Nic {
            wired: link.kind.is_empty() && facts.physical
                || link.kind == "veth" && std::env::var_os(VIRTUAL).is_some(),
            names: facts.names,
            bmc: BMC_DRIVERS.contains(&facts.driver.as_str()),
            driver: facts.driver,
            link,
            role: None,
            client: None,
            socket: None,
            udp: None,
            six: None,
            six_socket: None,
            six_configured: Vec::new(),
            six_since: None,
            arp: None,
            probing: Vec::new(),
            held_size: None,
            configured: None,
            yields: false,
            given: Vec::new(),
            withheld: BTreeMap::new(),
            left: false,
            order: None,
            addresses: Vec::new(),
            advertised: Advertised::default(),
            routers: Vec::new(),
            near: Vec::new(),
            beside: Vec::new(),
            by_router: Vec::new(),
            said: Names::default(),
            malformed: 0,
            heeds_routers: None,
            seeks: Vec::new(),
            presence: Presence::Came,
        })
    }

    pub fn seen(&self) -> Seen<'_> {
        let Nic { link, names, driver, addresses, wired, bmc, .. } = self;
        Seen { link, names, driver, addresses, size: self.size(), wired: *wired, bmc: *bmc }
    }

    /// MTU by DHCP in bytes, also while it is not clear yet whether that is asked. Where IPv6 is wanted it is not below
    /// [`SIX_MTU`], as systemd-networkd does it: servers say 576 that never meant it, and who loses IPv6 may lose the only way
    /// in.
    pub fn size(&self) -> Option<u32> {
        let said = match &self.client {
            Some(client) => client.lease()?.mtu,
            None => self.held_size.filter(|_| self.left || self.methods().dhcp4),
        };
        let least = if self.methods().ipv6 == Ipv6::Off { 0 } else { SIX_MTU };
        said.map(|mtu| u32::from(mtu).max(least))
    }

    pub fn mac(&self) -> Mac {
        self.link.mac.unwrap_or(Mac([0; 6])) // `new` takes none without
    }

    /// By what its lease is written down: a VLAN has the MAC of its NIC.
    pub fn key(&self) -> String {
        if self.wired { self.mac().to_string() } else { self.link.name.clone() }
    }

    pub fn methods(&self) -> Methods {
        self.role.map_or(Methods::OFF, |role| role.methods)
    }

    /// The lease that is in the kernel.
    pub fn lease(&self) -> Option<&Lease> {
        self.client.as_ref().and_then(Client::lease).filter(|_| self.configured.is_some())
    }

    pub fn entry<'a>(&self, plan: &'a Plan) -> Option<&'a network::Link> {
        plan.links.get(self.role?.entry?)
    }

    /// The stated addresses.
    pub fn stated<'a>(&self, plan: &'a Plan) -> &'a [network::Address] {
        self.entry(plan).filter(|_| !self.yields).map_or(&[], |link| &link.addresses)
    }

    pub fn states(&self, plan: &Plan, address: IpAddr, prefix: u8) -> bool {
        self.stated(plan).iter().any(|one| is_one((one.address, one.prefix), (address, prefix)))
    }

    /// What the plan states here, and what leases have: what both do is in the kernel once.
    fn asked_for(&self, plan: &Plan) -> impl Iterator<Item = (IpAddr, u8)> {
        let four = self.configured.map(|(own, length)| (IpAddr::V4(own), length));
        let stated = self.stated(plan).iter().map(|one| (one.address, one.prefix));
        four.into_iter().chain(self.six_leased()).chain(stated)
    }

    /// Addresses by DHCPv6.
    fn six_leased(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        let lease = self.six.as_ref().and_then(dhcp6::machine::Client::lease);
        let addresses = lease.into_iter().flat_map(|lease| &lease.addresses);
        addresses.map(|(own, _)| (IpAddr::V6(*own), SIX_PREFIX))
    }

    pub fn asks_for(&self, plan: &Plan, address: IpAddr, prefix: u8) -> bool {
        self.asked_for(plan).any(|own| is_one(own, (address, prefix)))
    }

    /// The same, whatever its prefix.
    pub fn is_asked_for(&self, plan: &Plan, address: IpAddr) -> bool {
        self.asked_for(plan).any(|(own, _)| own == address)
    }

    /// Stated addresses that the kernel is to be given now.
    pub fn missing(&mut self, plan: &Plan, now: Duration) -> Vec<network::Address> {
        self.withheld.retain(|_, time| *time > now);
        let is_missing = |stated: &&network::Address| {
            !self.given.contains(stated) && !self.withheld.contains_key(&stated.address)
        };
        self.stated(plan).iter().filter(is_missing).copied().collect()
    }

    /// What a link with a cable is to be told that it is here.
    pub fn to_claim(&self) -> Vec<Ipv4Addr> {
        let four = |given: &network::Address| match given.address {
            IpAddr::V4(own) => Some(own),
            IpAddr::V6(_) => None,
        };
        self.given.iter().filter_map(four).filter(|_| self.link.carrier).collect()
    }

    /// The MAC of another machine that has a stated address, by an ARP packet, and the address: once for each, since a stranger
    /// can make up a hundred MACs. Another NIC of this machine (`own`) on the same switch answers for all its addresses.
    pub fn contested(&mut self, packet: &[u8], own: &[[u8; 6]]) -> Option<([u8; 6], Ipv4Addr)> {
        let mac = self.mac().0;
        let claims = |address| arp::claims(packet, mac, address).filter(|theirs| !own.contains(theirs));
        let found = self.probing.iter().find_map(|(address, _)| Some((claims(*address)?, *address)))?;
        self.probing.retain(|(address, _)| *address != found.1);
        Some(found)
    }

    /// Nobody is listened for any more who may have an address.
    pub fn stop_listening(&mut self) {
        let is_probing =
            !self.probing.is_empty() || self.client.as_ref().is_some_and(|c| c.probing().is_some());
        self.arp = self.arp.take().filter(|_| is_probing);
    }

    /// Whether a lease that went without netd is to be put into the kernel now. One that has ended is not: its client knows.
    pub fn is_unconfigured(&self, now: Duration) -> bool {
        let held = self.client.as_ref().and_then(|client| client.held.as_ref());
        let is_due = |own: Ipv4Addr| self.withheld.get(&IpAddr::V4(own)).is_none_or(|time| *time <= now);
        self.configured.is_none()
            && held
                .is_some_and(|held| held.expires().is_none_or(|end| end > now) && is_due(held.lease.address))
    }

    /// The same for an address by DHCPv6.
    pub fn is_six_unconfigured(&self, now: Duration) -> bool {
        let held = self.six.as_ref().and_then(|six| six.held.as_ref());
        let is_due = |own: Ipv6Addr| self.withheld.get(&IpAddr::V6(own)).is_none_or(|time| *time <= now);
        let mut left = held.into_iter().flat_map(|held| held.left(now));
        left.any(|(own, _)| !self.six_configured.contains(&own) && is_due(own))
    }

    /// What the kernel told of it.
    pub fn items(&self) -> Vec<Item> {
        let index = self.link.index;
        let addresses = self.addresses.iter().map(|(own, prefix)| Item::Address(index, *own, *prefix));
        let routers = self.routers.iter().map(|router| Item::Router(index, router.address));
        let near = self.near.iter().map(|near| Item::Near(index, *near));
        let beside = self.beside.iter().map(|beside| Item::Beside(index, beside.clone()));
        [Item::Link(index)].into_iter().chain(addresses).chain(routers).chain(near).chain(beside).collect()
    }

    /// The kernel has an address no more. Whether it is a stated one or a lease's that netd did not take away, which is given
    /// again at the time `again`.
    pub fn lose(&mut self, address: IpAddr, prefix: u8, again: Duration) -> bool {
        self.addresses.retain(|known| *known != (address, prefix));
        self.by_router.retain(|(known, _)| *known != address);
        // Which the kernel drops without a word: `fib_sync_down_addr`, `fib_disable_ip` of net/ipv4.
        let is_last = !self.addresses.iter().any(|(own, _)| own.is_ipv4());
        self.beside.retain(|Beside { route, .. }| {
            route.destination.is_ipv6() || !is_last && route.source != Some(address)
        });
        // With the interface the kernel takes all of IPv6 away: that is confirmed before it comes back. What is stated too is
        // given as that.
        let is_by_hand = self.link.up && self.given.iter().all(|given| given.address != address);
        let leased = self.six_configured.len();
        self.six_configured.retain(|own| !is_by_hand || IpAddr::V6(*own) != address);
        let is_six = self.six_configured.len() < leased;
        let before = self.given.len();
        self.given.retain(|given| (given.address, given.prefix) != (address, prefix));
        let four = self.configured.map(|(own, length)| (IpAddr::V4(own), length));
        let is_leased = four == Some((address, prefix));
        self.configured = self.configured.filter(|_| !is_leased);
        let is_lost = is_leased || is_six || self.given.len() < before;
        if is_lost {
            self.withheld.insert(address, again);
        }
        is_lost
    }

    /// Of the stated addresses and the leases of an earlier life those that the kernel has still and the plan has no more. What
    /// it states of any link stays: it may be about this one, which is not clear at once. What is left to another NIC of the same
    /// pattern goes.
    pub fn gone(&self, given: &[network::Address], leased: &[IpAddr], plan: &Plan) -> Vec<(IpAddr, u8)> {
        let Methods { dhcp4, ipv6 } = self.methods();
        let is_asked_for = |own: IpAddr| if own.is_ipv4() { dhcp4 } else { ipv6 >= Ipv6::Auto };
        let was_leased = |own: IpAddr| leased.contains(&own) && !is_asked_for(own);
        let was_ours = |own: IpAddr| was_leased(own) || given.iter().any(|one| one.address == own);
        let yielded = self.role.and_then(|role| role.entry).filter(|_| self.yields);
        let stating = plan.links.iter().enumerate().filter(|(at, _)| Some(*at) != yielded);
        let stated = stating.flat_map(|(_, link)| &link.addresses);
        let is_stated = |own: IpAddr| stated.clone().any(|one| one.address == own);
        let is_gone = |(own, _): &&(IpAddr, u8)| was_ours(*own) && !is_stated(*own);
        self.addresses.iter().filter(is_gone).copied().collect()
    }

    /// Routes that the kernel has by routers' words: where they go to, and the router. A prefix stays where another address has
    /// it too.
    pub fn routes_by_router(&self) -> Vec<((Ipv6Addr, u8), Option<Ipv6Addr>)> {
        let is_needed = |(prefix, bits): &(Ipv6Addr, u8)| {
            self.addresses.iter().any(|own| {
                own.1 == *bits
                    && network::is_within(own.0, IpAddr::V6(*prefix), *bits)
                    && !self.by_router.contains(own)
            })
        };
        let near = self.near.iter().filter(|near| !is_needed(near)).map(|near| (*near, None));
        let default = self.routers.iter().map(|router| ((Ipv6Addr::UNSPECIFIED, 0), Some(router.address)));
        let by_router = self.beside.iter().filter(|one| one.by_router).map(|one| &one.route);
        let behind = by_router.filter_map(|route| match (route.destination, route.gateway?) {
            (IpAddr::V6(to), IpAddr::V6(router)) => Some(((to, route.prefix), Some(router))),
            _ => None,
        });
        default.chain(behind).chain(near).collect()
    }

    /// Shown and named to people: a card, or what a plan made.
    pub fn is_ours(&self) -> bool {
        self.wired || self.role.is_some()
    }

    /// Whether DHCPv6 is to be asked, and for addresses too: as the plan says, or as routers do. `is_held`: an earlier life
    /// of this process got addresses so, which nobody else would renew.
    pub fn wants_six(&self, is_held: bool, now: Duration) -> Option<bool> {
        let since = self.six_since?;
        let Advertised { managed, other, .. } = self.advertised;
        let has_address = self.addresses.iter().any(|(address, _)| address.is_ipv6());
        match self.methods().ipv6 {
            Ipv6::Off | Ipv6::LinkLocal => None,
            Ipv6::Dhcp => Some(true),
            Ipv6::Either if is_held => Some(true),
            Ipv6::Either if !has_address && now >= since + EITHER => Some(true),
            // What was begun goes on.
            Ipv6::Either if self.six.as_ref().is_some_and(|six| six.wants_addresses()) => Some(true),
            Ipv6::Auto | Ipv6::Either => (managed || other).then_some(managed),
        }
    }

    /// Whether a server has not answered yet who may have more to say than an address.
    pub fn is_asking(&self) -> bool {
        let four = self.client.as_ref().is_some_and(|client| client.lease().is_none());
        let six = self.six.as_ref().is_some_and(|six| six.lease().is_none());
        self.link.carrier && (four || six)
    }

    /// When [`Nic::wants_six`] may change without a word from anybody.
    pub fn six_due(&self) -> Option<Duration> {
        let is_waiting = self.methods().ipv6 == Ipv6::Either && self.six.is_none();
        self.six_since.filter(|_| is_waiting).map(|since| since + EITHER)
    }

    /// Those that are preferred come first (RFC 4191 section 3.1), of these those that are new since the cable is in, then as they
    /// came: of one that the kernel has kept it does not tell that it was heard again. Which of them answers is for the kernel to
    /// find out.
    pub fn hear_router(&mut self, address: Ipv6Addr, preference: i8) {
        let heard = Router { address, preference, is_old: false };
        match self.routers.iter().position(|known| known.address == address) {
            Some(at) => self.routers[at] = heard,
            None if self.routers.len() < MOST_ADVERTISED => self.routers.push(heard),
            None => {}
        }
        self.routers.sort_by_key(|router| (-router.preference, router.is_old));
    }

    /// What was known by a cable that is out is of a network that it may not lead to any more. The routers of one that came back
    /// are asked: the kernel does so for an interface's first carrier alone (net/ipv6/addrconf.c, addrconf_notify).
    pub fn heed_carrier(&mut self, had_carrier: bool, now: Duration) {
        if !self.link.carrier {
            self.seeks.clear();
            self.routers.iter_mut().for_each(|router| router.is_old = true);
            self.said.is_old = !self.said.is_empty();
            if self.presence == Presence::Same {
                self.presence = Presence::Replugged;
            }
        } else if !had_carrier && self.six_since.is_some() && self.heeds_routers == Some(true) {
            self.seeks = (0..3).map(|n| now + n * SEEK).collect();
        }
    }

    /// What routing has to know; `None` without an address.
    pub fn uplink(&self, plan: &Plan, preferred: bool) -> Option<Uplink> {
        let lease = self.lease();
        let entry = self.entry(plan).filter(|_| !self.yields);
        let mut addresses: Vec<(IpAddr, u8)> = Vec::new();
        let given = self.given.iter().map(|given| (given.address, given.prefix));
        let leased = lease.map(|lease| (IpAddr::V4(lease.address), lease.prefix));
        let by_router = self.addresses.iter().copied().filter(|(address, _)| address.is_ipv6());
        for one in given.chain(leased).chain(by_router) {
            if !addresses.iter().any(|(known, _)| *known == one.0) {
                addresses.push(one);
            }
        }
        if addresses.is_empty() {
            return None;
        }
        let mut routes: Vec<Route> = entry.map(|link| link.routes.clone()).unwrap_or_default();
        // `rd.route=` may name an interface whose address was asked for without its name.
        let named =
            links::named(plan, &self.seen()).filter(|at| Some(*at) != self.role.and_then(|role| role.entry));
        let named = named.and_then(|at| plan.links.get(at)).filter(|named| named.addresses.is_empty());
        routes.extend(named.into_iter().flat_map(|named| named.routes.iter().cloned()));
        if let Some(lease) = lease {
            // A default route of these by a gateway is `gateway`.
            let classless =
                lease.routes.iter().filter(|(_, prefix, gateway)| *prefix > 0 || gateway.is_unspecified());
            routes.extend(classless.map(|(destination, prefix, gateway)| Route {
                destination: IpAddr::V4(*destination),
                prefix: *prefix,
                gateway: (!gateway.is_unspecified()).then_some(IpAddr::V4(*gateway)),
                metric: None,
                source: Some(IpAddr::V4(lease.address)),
            }));
            let gateway = lease.gateway.map(|gateway| Route::default_by(IpAddr::V4(gateway)));
            // One that is stated as well answers by the stated gateway.
            let own = Some(IpAddr::V4(lease.address));
            let own = own.filter(|own| self.given.iter().all(|given| given.address != *own));
            routes.extend(gateway.map(|route| Route { source: own, ..route }));
        }
        let is_given = |own: IpAddr| self.given.iter().any(|given| given.address == own);
        let routed = self.by_router.iter().copied().chain(self.six_leased());
        let is_usable = |own: &IpAddr| own.is_ipv6() && self.addresses.iter().any(|(known, _)| known == own);
        Some(Uplink {
            link: self.link.index,
            routed: routed.filter(|(own, _)| !is_given(*own)).collect(),
            usable: addresses.iter().map(|(own, _)| *own).filter(is_usable).collect(),
            addresses,
            routes,
            routers: self.routers.iter().map(|router| IpAddr::V6(router.address)).collect(),
            beside: self.beside.iter().map(|one| one.route.clone()).collect(),
            near: self.near.iter().map(|(prefix, length)| (IpAddr::V6(*prefix), *length)).collect(),
            preferred,
            stated: entry.is_some_and(|link| !link.addresses.is_empty()),
            bmc: self.bmc,
            carrier: self.link.carrier,
            order: self.order.unwrap_or(u64::MAX),
        })
    }

    /// Of this link, but for [`Nic::old_resolvers`].
    pub fn resolvers(&self, plan: &Plan, now: Duration) -> Resolvers {
        let (mut servers, mut search) = (Vec::new(), Vec::new());
        let six = self.six.as_ref().and_then(|six| six.held.as_ref()).map(|held| &held.lease);
        if let Some(entry) = self.entry(plan) {
            servers.extend(&entry.nameservers);
            search.extend(entry.search.iter().cloned());
        }
        if !plan.own_nameservers_only {
            let lease = self.lease();
            if let Some(lease) = lease {
                servers.extend(lease.nameservers.iter().map(|server| IpAddr::V4(*server)));
                search.extend(lease.search.iter().cloned());
            }
            let said = if self.said.is_old { Resolvers::default() } else { self.said.left(now) };
            servers.extend(said.0);
            servers.extend(six.iter().flat_map(|lease| &lease.nameservers).map(|server| IpAddr::V6(*server)));
            search.extend(six.iter().flat_map(|lease| lease.search.iter().cloned()));
            search.extend(said.1);
        }
        (servers, search)
    }

    /// Those of the network where the cable led before it was out, which may be the same one: they come after all others.
    pub fn old_resolvers(&self, plan: &Plan, now: Duration) -> Resolvers {
        let counts = self.said.is_old && !plan.own_nameservers_only;
        if counts { self.said.left(now) } else { Resolvers::default() }
    }

    pub fn state(&self, plan: &Plan, preferred: bool) -> state::Link {
        let lease = self.lease();
        let leased = lease.map(|lease| state::Address {
            address: lease.address.to_string(),
            prefix: lease.prefix,
            gateway: lease.gateway.map(|gateway| gateway.to_string()),
            lease: (lease.seconds != u32::MAX).then_some(lease.seconds),
            server: Some(lease.server.to_string()),
        });
        let uplink = self.uplink(plan, preferred);
        let gateway = |own: IpAddr| Some(routing::answers_by(uplink.as_ref()?, own)?.to_string());
        let is_leased = |address: IpAddr| lease.is_some_and(|lease| IpAddr::V4(lease.address) == address);
        let others = self.addresses.iter().filter(|(address, _)| !is_leased(*address));
        let others: Vec<state::Address> = others
            .map(|(address, prefix)| state::Address {
                address: address.to_string(),
                prefix: *prefix,
                gateway: gateway(*address),
                ..Default::default()
            })
            .collect();
        let is_on = self.role.is_some() && (self.methods() != Methods::OFF || !self.stated(plan).is_empty());
        state::Link {
            name: self.link.name.clone(),
            names: self.names.clone(),
            kind: self.link.kind.clone(),
            mac: self.mac().to_string(),
            driver: self.driver.clone(),
            carrier: self.link.carrier,
            booted_from: preferred,
            state: match (&self.client, is_on, self.link.carrier) {
                _ if self.link.master.is_some() => "port",
                (_, false, _) => "off",
                (_, _, false) => "no carrier",
                (Some(client), ..) if client.lease().is_some() || others.is_empty() => client.state(),
                (..) if !others.is_empty() => "configured",
                (None, ..) if self.six.is_some() => {
                    self.six.as_ref().map_or("asking", dhcp6::machine::Client::state)
                }
                (..) => "asking",
            }
            .to_string(),
            asked: self.entry(plan).map(|link| link.from.clone()).unwrap_or_default(),
            addresses: leased.into_iter().chain(others).collect(),
        }
    }
}

/// Whether two are one address to the kernel, which has one of IPv6 once on a link, whatever its prefix (`ipv6_get_ifaddr` of
/// net/ipv6/addrconf.c).
fn is_one(one: (IpAddr, u8), other: (IpAddr, u8)) -> bool {
    one.0 == other.0 && (one.0.is_ipv6() || one.1 == other.1)
}

/// A name server for resolv.conf(5). A router may name itself by its address of the link (RFC 8106 section 5.1), which is none
/// without the link.
pub fn name_server(server: IpAddr, link: &str) -> String {
    match server {
        IpAddr::V6(six) if six.is_unicast_link_local() && !link.is_empty() => format!("{six}%{link}"),
        IpAddr::V4(_) | IpAddr::V6(_) => server.to_string(),
    }
}

/// Of which link DHCP is to be asked anew. Errors: in words, where there is none of this name, or it does not ask.
pub fn renewable<'a>(mut nics: impl Iterator<Item = &'a Nic>, interface: &str) -> Result<u32, String> {
    let nic = nics.find(|nic| nic.link.name == interface);
    let nic = nic.ok_or_else(|| format!("no wired interface {interface}"))?;
    match &nic.client {
        Some(_) => Ok(nic.link.index),
        None => Err(format!("DHCP is not asked for on {interface}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::Root;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn nic() -> Nic {
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        let link = Link { index: 2, name: "none0".to_string(), hardware: 1, mac, ..Link::default() };
        Nic::new(link, &Root::live().unwrap()).unwrap()
    }

    #[test]
    fn a_route_by_name_goes_with_an_address_that_was_asked_for_without_one() {
        let plan = network::dracut::read(&contract::cmdline::words(
            "ip=192.0.2.7::192.0.2.1:24 rd.route=10.0.0.0/8:192.0.2.9:none0",
        ));
        let mut nic = nic();
        nic.wired = true;
        nic.role = Some(Role { entry: Some(0), methods: Methods::OFF });
        nic.given = plan.links[0].addresses.clone();
        let routes = nic.uplink(&plan, false).unwrap().routes;
        assert_eq!(routes.iter().map(|route| route.prefix).collect::<Vec<u8>>(), [0, 8]);
    }

    #[test]
    fn of_a_routers_addresses_and_stated_ones_each_is_shown_with_its_own_gateway() {
        let plan = network::dracut::read(&contract::cmdline::words(
            "ip=[2001:db8:1::7]::[2001:db8:1::1]:64::none0:auto6 ip=[2001:db8:2::8]:::64::none0:auto6",
        ));
        let mut nic = nic();
        nic.wired = true;
        nic.role = Some(Role { entry: Some(0), methods: plan.links[0].methods });
        nic.given = nic.missing(&plan, Duration::ZERO);
        nic.hear_router("fe80::2".parse().unwrap(), 0);
        let address = |text: &str| (text.parse::<IpAddr>().unwrap(), 64);
        // The last is stated as well; the other stated one is looked for duplicates of still.
        nic.by_router = vec![address("2001:db8:2::9"), address("2001:db8:2::8")];
        nic.addresses = vec![address("2001:db8:2::9"), address("2001:db8:2::8")];
        let uplink = nic.uplink(&plan, false).unwrap();
        assert_eq!(uplink.routed, [address("2001:db8:2::9")]);
        assert_eq!(uplink.usable, [address("2001:db8:2::8").0, address("2001:db8:2::9").0]);
        nic.addresses.push(address("2001:db8:1::7"));
        let shown = nic.state(&plan, false).addresses;
        let shown: Vec<(&str, &str)> = shown
            .iter()
            .map(|one| (one.address.as_str(), one.gateway.as_deref().unwrap_or_default()))
            .collect();
        assert_eq!(
            shown,
            [("2001:db8:2::9", "fe80::2"), ("2001:db8:2::8", "fe80::2"), ("2001:db8:1::7", "2001:db8:1::1")]
        );
    }

    #[test]
    fn routers_are_ordered_by_when_they_were_heard_and_by_what_they_say_of_themselves() {
        let mut nic = nic();
        let router = |last: u16| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last);
        let order = |nic: &Nic| nic.routers.iter().map(|one| one.address.segments()[7]).collect::<Vec<_>>();
        for (last, preference) in [(1, -1), (2, 0), (3, 1), (4, 0)] {
            nic.hear_router(router(last), preference);
        }
        assert_eq!(order(&nic), [3, 2, 4, 1]);
        nic.hear_router(router(2), 0);
        assert_eq!(order(&nic), [3, 2, 4, 1], "said again");
        nic.link.carrier = false;
        nic.heed_carrier(true, Duration::ZERO);
        nic.hear_router(router(9), -1);
        nic.hear_router(router(4), 0);
        assert_eq!(order(&nic), [3, 4, 2, 9, 1], "after the cable was out");
        (10..60).for_each(|last| nic.hear_router(router(last), 0));
        assert_eq!(nic.routers.len(), MOST_ADVERTISED);
    }

    #[test]
    fn routers_are_asked_when_a_cable_comes_back_and_not_for_the_first_one() {
        let mut nic = nic();
        let seconds = |nic: &Nic| nic.seeks.iter().map(Duration::as_secs).collect::<Vec<_>>();
        nic.heeds_routers = Some(true);
        nic.link.carrier = true;
        nic.heed_carrier(false, Duration::from_secs(10));
        assert_eq!(seconds(&nic), [0; 0], "the kernel asks");
        nic.six_since = Some(Duration::from_secs(11));
        nic.heed_carrier(true, Duration::from_secs(12));
        assert_eq!(seconds(&nic), [0; 0], "nothing came");
        nic.heed_carrier(false, Duration::from_secs(20));
        assert_eq!(seconds(&nic), [20, 24, 28]);
        nic.link.carrier = false;
        nic.heed_carrier(true, Duration::from_secs(21));
        assert_eq!(seconds(&nic), [0; 0], "nobody hears");
        nic.link.carrier = true;
        nic.heeds_routers = Some(false);
        nic.heed_carrier(false, Duration::from_secs(30));
        assert_eq!(seconds(&nic), [0; 0], "nobody wants to know");
    }

    #[test]
    fn a_link_that_does_not_ask_by_dhcp_is_not_asked_for_anew() {
        let (held, none) = (crate::dhcp::machine::tests::lease(800), nic());
        let held = crate::dhcp::machine::Held { lease: held, since: Duration::ZERO };
        let client = Some(Client::new([2, 0, 0, 0, 0, 1], None, Some(held), 1, Duration::ZERO));
        let asking = Nic { client, ..nic() };
        assert_eq!(renewable([&asking].into_iter(), "none0"), Ok(2));
        assert!(renewable([&asking].into_iter(), "eth0").is_err(), "no such link");
        assert!(renewable([&none].into_iter(), "none0").is_err(), "DHCPv6 alone, or nothing");
    }

    #[test]
    fn name_servers_and_domains_that_others_say_are_used_unless_own_ones_alone_are_wanted() {
        let (server, end) = ("2001:db8::53".parse().unwrap(), Duration::from_secs(9));
        let mut nic = nic();
        nic.said = Names {
            servers: vec![(server, end)],
            search: vec![("of.router".to_string(), end)],
            is_old: false,
        };
        let lease = dhcp6::message::Lease {
            nameservers: vec!["2001:db8::54".parse().unwrap()],
            search: vec!["of.lease".to_string()],
            ..Default::default()
        };
        let mut six = dhcp6::machine::Client::new(false, vec![1], 1, None, 1, Duration::ZERO);
        six.held = Some(dhcp6::machine::Held { lease, since: Duration::ZERO });
        nic.six = Some(six);
        for (line, now, want) in [
            ("", 8, (2, vec!["of.lease", "of.router"])),
            ("", 9, (1, vec!["of.lease"])),
            ("rd.peerdns=0", 8, (0, vec![])),
        ] {
            let plan = network::dracut::read(&contract::cmdline::words(line));
            let (servers, search) = nic.resolvers(&plan, Duration::from_secs(now));
            assert_eq!((servers.len(), search.iter().map(String::as_str).collect()), want, "{line} {now}");
        }
    }

    #[test]
    fn what_routers_said_before_the_cable_was_out_comes_last_and_goes_with_the_first_word_after_it() {
        let server = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let (now, plan) = (Duration::from_secs(10), Plan::default());
        let servers = |last| RouterOption::Servers(vec![server(last)], 600);
        let search = |domain: &str| RouterOption::Search(vec![domain.to_string()], 600);
        let shown = |(servers, search): Resolvers| {
            servers.iter().map(IpAddr::to_string).chain(search).collect::<Vec<_>>().join(" ")
        };
        for (label, word, want) in [
            ("a name server", servers(2), "2001:db8::2"),
            ("a domain", search("new"), "new"),
            ("the end of one", RouterOption::Servers(vec![server(1)], 0), ""),
        ] {
            let mut nic = nic();
            nic.link.carrier = true;
            nic.said.hear(servers(1), now);
            nic.said.hear(search("old"), now);
            assert_eq!(shown(nic.resolvers(&plan, now)), "2001:db8::1 old", "{label}");
            assert_eq!(shown(nic.old_resolvers(&plan, now)), "", "{label}");
            for carrier in [false, true] {
                let had = std::mem::replace(&mut nic.link.carrier, carrier);
                nic.heed_carrier(had, now);
                assert_eq!(shown(nic.resolvers(&plan, now)), "", "{label} {carrier}");
                assert_eq!(shown(nic.old_resolvers(&plan, now)), "2001:db8::1 old", "{label} {carrier}");
                let own_alone = Plan { own_nameservers_only: true, ..Plan::default() };
                assert_eq!(shown(nic.old_resolvers(&own_alone, now)), "", "{label} {carrier}");
                // The next life knows it too.
                let text = serde_json::to_string(&nic.said).unwrap();
                assert_eq!(serde_json::from_str::<Names>(&text).unwrap(), nic.said, "{label}");
            }
            nic.said.hear(word, now);
            assert_eq!(shown(nic.resolvers(&plan, now)), want, "{label}");
            assert_eq!(shown(nic.old_resolvers(&plan, now)), "", "{label}");
        }
    }

    #[test]
    fn a_name_server_of_one_link_is_written_with_that_link() {
        for (server, link, wanted) in [
            ("fe80::1", "eth0", "fe80::1%eth0"),
            ("2001:db8::1", "eth0", "2001:db8::1"),
            ("169.254.1.1", "eth0", "169.254.1.1"),
            ("fe80::1", "", "fe80::1"),
        ] {
            assert_eq!(name_server(server.parse().unwrap(), link), wanted);
        }
    }

    #[test]
    fn a_lease_may_have_the_link_itself_as_its_default_route() {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut lease = crate::dhcp::machine::tests::lease(800);
        lease.routes = vec![(none, 0, none), ([10, 9, 0, 0].into(), 16, [10, 0, 2, 2].into())];
        let mut nic = nic();
        nic.configured = Some((lease.address, lease.prefix));
        let held = crate::dhcp::machine::Held { lease, since: Duration::ZERO };
        nic.client = Some(Client::new([2, 0, 0, 0, 0, 1], None, Some(held), 1, Duration::ZERO));
        let made = routing::plan(&[nic.uplink(&Plan::default(), false).unwrap()], &[]);
        let defaults = made.routes.iter().filter(|route| route.prefix == 0);
        let defaults: Vec<(u32, Option<IpAddr>)> =
            defaults.map(|route| (route.table, route.gateway)).collect();
        assert_eq!(defaults, [(254, None), (1002, None)]);
    }

    fn beside(to: (Ipv6Addr, u8), router: Ipv6Addr, by_router: bool) -> Beside {
        let (gateway, metric) = (Some(IpAddr::V6(router)), Some(1024));
        let route = Route { destination: IpAddr::V6(to.0), prefix: to.1, gateway, metric, source: None };
        Beside { route, by_router }
    }

    #[test]
    fn what_routers_brought_goes_without_what_else_has_its_prefix() {
        let mut nic = nic();
        let (router, behind) = ("fe80::1".parse().unwrap(), ("2001:db8:a::".parse().unwrap(), 48));
        let prefix = |text: &str| (text.parse::<Ipv6Addr>().unwrap(), 64);
        let address = |text: &str| (text.parse::<IpAddr>().unwrap(), 64);
        nic.hear_router(router, 0);
        nic.beside = [true, false].map(|by_router| beside(behind, router, by_router)).to_vec();
        nic.near = vec![prefix("2001:db8:1::"), prefix("2001:db8:2::")];
        nic.by_router = vec![address("2001:db8:1::7"), address("2001:db8:2::7")];
        nic.addresses = [&nic.by_router[..], &[address("2001:db8:2::9")]].concat();
        let default = (Ipv6Addr::UNSPECIFIED, 0);
        assert_eq!(
            nic.routes_by_router(),
            [(default, Some(router)), (behind, Some(router)), (prefix("2001:db8:1::"), None)]
        );
    }

    #[test]
    fn what_an_earlier_life_got_by_dhcpv6_is_asked_for_though_its_address_is_there() {
        let mut nic = nic();
        nic.role = Some(Role { entry: None, methods: Methods { dhcp4: false, ipv6: Ipv6::Either } });
        nic.six_since = Some(Duration::ZERO);
        let late = EITHER * 2;
        assert_eq!(nic.wants_six(false, late), Some(true));
        nic.addresses = vec![("2001:db8::7".parse().unwrap(), 128)];
        assert_eq!([nic.wants_six(false, late), nic.wants_six(true, Duration::ZERO)], [None, Some(true)]);
    }

    /// By `ip=` alone.
    fn stating(nic: &mut Nic, line: &str) -> Plan {
        let plan = network::dracut::read(&contract::cmdline::words(line));
        nic.role = Some(Role { entry: (!plan.links.is_empty()).then_some(0), methods: Methods::OFF });
        plan
    }

    #[test]
    fn the_mtu_of_a_lease_leaves_ipv6_its_own_where_that_is_wanted() {
        let mut nic = nic();
        for (ipv6, said, want) in [
            (Ipv6::Auto, Some(1400), Some(1400)),
            (Ipv6::LinkLocal, Some(576), Some(1280)),
            (Ipv6::Off, Some(576), Some(576)),
            (Ipv6::Auto, None, None),
        ] {
            nic.role = Some(Role { entry: None, methods: Methods { dhcp4: true, ipv6 } });
            nic.held_size = said;
            assert_eq!(nic.size(), want, "{ipv6:?}, {said:?}");
        }
    }

    #[test]
    fn an_address_stays_for_as_long_as_a_lease_or_the_plan_has_it() {
        let own = "192.0.2.7";
        for (label, line, leased, prefix, want) in [
            ("nobody", "ip=none0:dhcp", None, 24, false),
            ("the plan", "ip=192.0.2.7:::24::none0:none", None, 24, true),
            ("the lease", "ip=none0:dhcp", Some((own, 24)), 24, true),
            ("both", "ip=192.0.2.7:::24::none0:none", Some((own, 24)), 24, true),
            ("the plan, with another prefix", "ip=192.0.2.7:::32::none0:none", None, 24, false),
            ("another lease", "ip=none0:dhcp", Some(("192.0.2.8", 24)), 24, false),
        ] {
            let mut nic = nic();
            let plan = stating(&mut nic, line);
            nic.configured = leased.map(|(own, prefix)| (own.parse().unwrap(), prefix));
            assert_eq!(nic.asks_for(&plan, own.parse().unwrap(), prefix), want, "{label}");
        }
        let mut nic = nic();
        let plan = stating(&mut nic, "ip=[2001:db8::7]:::64::none0:none");
        let six = "2001:db8::7".parse().unwrap();
        assert!(nic.asks_for(&plan, six, SIX_PREFIX), "IPv6 has an address once");
    }

    #[test]
    fn a_stated_address_that_somebody_took_away_is_given_again_after_a_moment_and_not_before() {
        let mut nic = nic();
        let plan = stating(&mut nic, "ip=192.0.2.7:::24::none0:none");
        let (own, at) = ("192.0.2.7".parse().unwrap(), Duration::from_secs);
        nic.given = nic.missing(&plan, at(0));
        nic.addresses = vec![(own, 24), (own, 32)];
        assert!(!nic.lose(own, 32, at(2)), "it is there still, with the prefix that is asked for");
        assert_eq!((nic.given.len(), nic.addresses.clone()), (1, vec![(own, 24)]));
        assert!(nic.lose(own, 24, at(2)));
        assert_eq!((nic.missing(&plan, at(1)).len(), nic.missing(&plan, at(2)).len()), (0, 1));
        assert!(!nic.lose(own, 24, at(3)), "netd took it away by itself, or it is told twice");
        assert_eq!(nic.missing(&plan, at(2)).len(), 1);
        nic.configured = Some(([192, 0, 2, 8].into(), 24));
        assert!(nic.lose([192, 0, 2, 8].into(), 24, at(4)), "a lease's");
        assert_eq!((nic.configured, nic.withheld.len()), (None, 1));
    }

    #[test]
    fn an_address_of_dhcpv6_that_somebody_took_away_is_given_again_while_it_lasts_and_not_with_its_interface()
    {
        let at = Duration::from_secs;
        let (own, short): (Ipv6Addr, Ipv6Addr) =
            ("2001:db8::7".parse().unwrap(), "2001:db8::8".parse().unwrap());
        let addresses = vec![(own, 1000), (short, 100)];
        let lease = dhcp6::message::Lease { addresses, t1: 500, t2: 800, ..Default::default() };
        let held = dhcp6::machine::Held { lease, since: at(0) };
        let mut nic = nic();
        nic.link.up = true;
        nic.six = Some(dhcp6::machine::Client::new(true, vec![1], 1, Some(held), 1, at(0)));
        nic.six_configured = vec![own, short];
        assert!(!nic.is_six_unconfigured(at(1)));
        assert!(nic.lose(own.into(), SIX_PREFIX, at(3)), "by hand");
        assert_eq!([2, 3].map(|time| nic.is_six_unconfigured(at(time))), [false, true]);
        nic.six_configured.push(own);
        assert!(nic.lose(short.into(), SIX_PREFIX, at(101)) && !nic.is_six_unconfigured(at(101)), "it ended");
        nic.link.up = false;
        assert!(
            !nic.lose(own.into(), SIX_PREFIX, at(9)) && !nic.is_six_unconfigured(at(9)),
            "with its interface"
        );
        nic.link.up = true;
        nic.given = vec![network::Address { address: own.into(), prefix: 64, peer: None }];
        assert!(
            nic.lose(own.into(), 64, at(9)) && !nic.is_six_unconfigured(at(9)),
            "given as the stated one"
        );
    }

    #[test]
    fn whoever_has_a_stated_address_is_named_once_and_never_this_machine_itself() {
        let (one, other) = ([192, 0, 2, 7].into(), [192, 0, 2, 8].into());
        let (ours, theirs) = ([2, 0, 0, 0, 0, 9], [6; 6]);
        let mut nic = nic();
        nic.probing = vec![(one, PATIENCE), (other, PATIENCE)];
        for (label, mac, address, want) in [
            ("its other NIC", ours, one, None),
            ("a neighbour", theirs, one, Some((theirs, one))),
            ("more of them", [7; 6], one, None),
            ("with the other address", theirs, other, Some((theirs, other))),
        ] {
            assert_eq!(nic.contested(&arp::announce(mac, address), &[ours]), want, "{label}");
        }
        assert!(nic.probing.is_empty());
    }

    #[test]
    fn a_stated_address_is_told_to_the_link_once_there_is_one() {
        let mut nic = nic();
        let plan = stating(&mut nic, "ip=192.0.2.7:::24::none0:none ip=[2001:db8::7]:::64::none0:none");
        nic.given = nic.missing(&plan, Duration::ZERO);
        assert_eq!((nic.given.len(), nic.to_claim()), (2, vec![]));
        nic.link.carrier = true;
        assert_eq!(nic.to_claim(), [Ipv4Addr::new(192, 0, 2, 7)]);
    }

    #[test]
    fn what_a_killed_life_left_goes_unless_the_plan_has_it_and_strangers_addresses_stay() {
        let words = |line: &str| network::dracut::read(&contract::cmdline::words(line));
        let given = words("ip=192.0.2.7:::24::none0:none").links[0].addresses.clone();
        let leased = ["198.51.100.7", "2001:db8::7"].map(|own| own.parse().unwrap());
        let mut nic = nic();
        nic.addresses = ["192.0.2.7", "198.51.100.7", "203.0.113.9", "2001:db8::7", "2001:db8::9"]
            .map(|own| (own.parse().unwrap(), 24))
            .into();
        let all = &["192.0.2.7", "198.51.100.7", "2001:db8::7"][..];
        for (label, line, dhcp4, ipv6, want) in [
            ("another address", "ip=192.0.2.8:::24::none0:none", false, Ipv6::LinkLocal, all),
            ("DHCP alone", "ip=none0:dhcp", true, Ipv6::Off, &["192.0.2.7", "2001:db8::7"]),
            ("IPv6 alone", "ip=none0:auto6", false, Ipv6::Auto, &["192.0.2.7", "198.51.100.7"]),
            ("the same", "ip=192.0.2.7:::24::none0:none", false, Ipv6::Dhcp, &["198.51.100.7"]),
            ("the same, for whom is not clear yet", "ip=192.0.2.7:::24", true, Ipv6::Auto, &[]),
            ("the lease's, stated", "ip=198.51.100.7:::24::none0:none", false, Ipv6::Dhcp, &["192.0.2.7"]),
        ] {
            nic.role = Some(Role { entry: None, methods: Methods { dhcp4, ipv6 } });
            let gone = nic.gone(&given, &leased, &words(line));
            let gone: Vec<String> = gone.iter().map(|(address, _)| address.to_string()).collect();
            assert_eq!(gone, want, "{label}");
        }
    }

    #[test]
    fn a_life_that_was_killed_between_two_nics_of_one_pattern_leaves_the_address_to_one() {
        let plan = network::dracut::read(&contract::cmdline::words("ip=192.0.2.7:::24::none*:none"));
        let mut nic = nic();
        nic.role = Some(Role { entry: Some(0), methods: Methods::OFF });
        nic.addresses = vec![("192.0.2.7".parse().unwrap(), 24)];
        let gone = |nic: &Nic| nic.gone(&plan.links[0].addresses, &[], &plan);
        assert_eq!(gone(&nic), [], "it holds it");
        nic.yields = true;
        assert_eq!(gone(&nic), nic.addresses, "another one holds it");
    }
}
