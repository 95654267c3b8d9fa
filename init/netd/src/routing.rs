//! Which routes and rules the addresses of all links ask for: pure. Every address answers by its own
//! gateway (a table per link and a rule `from ADDRESS`; where a link has several gateways, one more for each that an address has
//! and that is not the first); the main table prefers the NIC that the
//! machine was booted from, then what was stated, then whichever had a gateway first; USB NICs of BMCs and link-local
//! addresses come last.

use crate::rtnl;
use network::{Route, is_within};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

const MAIN: u32 = 254;
/// Tables of links begin here: link 2 has table 1002.
const TABLES: u32 = 1000;
/// Tables of single gateways of link 2, where one is needed: 1001002, 2001002 ...
const WAY: u32 = 1_000_000;
/// Ways out of one link that have a table.
const MOST_WAYS: usize = 8;
/// Rules come before the main table's (32766), in the links' order.
const PRIORITY: u32 = 1000;
/// Metric of the most preferred link's routes in the main table. The kernel's own IPv6 routes by routers have 1024.
const METRIC: u32 = 100;
/// Beside which a metric that somebody stated says nothing: what has no cable leads nowhere.
const NO_CARRIER: u32 = 10_000;
/// Of nets in the links' tables, as the kernel's own routes to prefixes have it (IP6_RT_PRIO_ADDRCONF): before a router's
/// (1024) to the same one.
const NEAR_SIX: u32 = 256;
/// Of an address' own gateway in the table that it answers by, before every other metric; 0 is 1024 to IPv6.
const OWN: u32 = 1;

/// One link with addresses.
#[derive(Clone, Debug)]
pub struct Uplink {
    pub link: u32,
    /// With their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    pub routes: Vec<Route>,
    /// Routers that the kernel itself has default routes by: for the link's table alone.
    pub routers: Vec<IpAddr>,
    /// Addresses by routers, with the prefixes that these advertise, and by DHCPv6, which leaves the way out to routers.
    pub routed: Vec<(IpAddr, u8)>,
    /// Addresses of IPv6 that may be sent from: the kernel looked for duplicates of them.
    pub usable: Vec<IpAddr>,
    /// Prefixes that the kernel knows on the link: for the link's table. An address by DHCPv6 says nothing of its
    /// neighbours (RFC 8415 section 18.2.10.1), and would answer them by a router.
    pub near: Vec<(IpAddr, u8)>,
    /// Routes of the main table by others than netd, a router (RFC 4191) or a hand: for the link's tables, or the rules would
    /// lead past them.
    pub beside: Vec<Route>,
    pub preferred: bool,
    /// Somebody stated what is on this link.
    pub stated: bool,
    /// A USB NIC that a BMC shows to its host.
    pub bmc: bool,
    /// The cable is in.
    pub carrier: bool,
    /// Order in which the links got their addresses.
    pub order: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// Sorted: link routes before those through a gateway.
    pub routes: Vec<rtnl::Route>,
    pub rules: Vec<rtnl::Rule>,
}

impl Routing {
    /// What this has and the other has not.
    pub fn without(&self, other: &Routing) -> Routing {
        let routes = self.routes.iter().filter(|route| !other.routes.contains(route));
        let rules = self.rules.iter().filter(|rule| !other.rules.contains(rule));
        Routing { routes: routes.cloned().collect(), rules: rules.copied().collect() }
    }

    /// What is to go and what is to be added, from this to `wanted`. `dropped`: links of which the kernel may have dropped
    /// routes, which are added again.
    pub fn change(&self, wanted: &Routing, dropped: &BTreeSet<u32>) -> (Routing, Routing) {
        let mut known = self.clone();
        known.routes.retain(|route| !dropped.contains(&route.link));
        (self.without(wanted), wanted.without(&known))
    }

    pub fn beside(mut self, other: Routing) -> Routing {
        self.routes.extend(other.routes);
        self.rules.extend(other.rules);
        self
    }

    /// Of this, an earlier life's, what is left in the kernel beside `now`: a route replaces another to the same
    /// destination by the same metric, and the request to remove the old one could hit the new one.
    pub fn left(&self, now: &Routing) -> Routing {
        let key = |route: &rtnl::Route| (route.table, route.destination, route.prefix, route.metric);
        let mut left = self.without(now);
        left.routes.retain(|old| now.routes.iter().all(|new| key(new) != key(old)));
        left
    }
}

/// The links by preference.
pub fn ranked(uplinks: &[Uplink]) -> Vec<&Uplink> {
    let mut ranked: Vec<&Uplink> = uplinks.iter().collect();
    ranked.sort_by_key(|one| {
        let is_local = |(address, _): &(IpAddr, u8)| match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let last = one.bmc || one.addresses.iter().all(is_local);
        let has_gateway = one.routes.iter().any(|route| route.prefix == 0) || !one.routers.is_empty();
        (!one.carrier, last, !one.preferred, !one.stated, !has_gateway, one.order)
    });
    ranked
}

/// `elsewhere`: routes whose link was not said; they go where their gateway is, or to the most preferred link.
///
/// Of several routes to one destination the first counts and the others come behind it, by their metrics: the kernel has one
/// for each table and metric, and would forget the first for the last.
pub fn plan(uplinks: &[Uplink], elsewhere: &[Route]) -> Routing {
    let ranked = ranked(uplinks);
    let mut routing = Routing::default();
    for (rank, one) in ranked.iter().enumerate() {
        // What a person said comes before what a server says: `routes` has it first.
        let own = elsewhere.iter().filter(|route| home(route, &ranked) == Some(one.link));
        let routes: Vec<&Route> = own.chain(&one.routes).collect();
        let behind = if one.carrier { 0 } else { NO_CARRIER };
        for route in &routes {
            let metric = route.metric.unwrap_or(METRIC + 10 * rank as u32).saturating_add(behind);
            let made = through(one, route, MAIN, metric);
            let source = made.source.or_else(|| sent_from(one, route, &routes));
            routing.add(rtnl::Route { source, ..made });
        }
        let by_router = by_routers(one);
        let all: Vec<&Route> = routes.iter().copied().chain(&by_router).collect();
        let mut filled = BTreeSet::new();
        for (address, _) in &one.addresses {
            let (way, gateway) = way(*address, answering(one, *address, &routes), &all);
            let table = TABLES + one.link + WAY * way;
            routing.rules.push(rtnl::Rule { from: *address, table, priority: PRIORITY + one.link });
            if filled.insert(table) {
                routing.fill(one, table, &all, gateway);
            }
        }
    }
    routing.routes.sort_by_key(|route| route.gateway.is_some());
    routing
}

/// The number of the gateway that an address answers by, 0 for the link's own table, and the gateway where it is not the first
/// of that table.
fn way(address: IpAddr, by: Option<IpAddr>, all: &[&Route]) -> (u32, Option<IpAddr>) {
    let gateways = gateways(address, all);
    let Some(wanted) = by.filter(|by| Some(*by) != first(&gateways)) else { return (0, None) };
    match gateways.iter().take(MOST_WAYS).position(|(_, gateway)| *gateway == wanted) {
        Some(at) => (at as u32 + 1, Some(wanted)),
        None => (0, None),
    }
}

/// The gateways of an address' family with their metrics, each once.
fn gateways(address: IpAddr, routes: &[&Route]) -> Vec<(u32, IpAddr)> {
    let mut gateways: Vec<(u32, IpAddr)> = Vec::new();
    for route in routes.iter().filter(|route| route.prefix == 0) {
        let of_family = route.gateway.filter(|gateway| gateway.is_ipv4() == address.is_ipv4());
        let new = of_family.filter(|gateway| gateways.iter().all(|(_, known)| known != gateway));
        gateways.extend(new.map(|gateway| (route.metric.unwrap_or(METRIC), gateway)));
    }
    gateways
}

/// That of the table which has them all.
fn first(gateways: &[(u32, IpAddr)]) -> Option<IpAddr> {
    gateways.iter().min_by_key(|(metric, _)| *metric).map(|(_, gateway)| *gateway)
}

/// The gateway that came with an address, or goes with it; `routes` without the router's. `None`: the first of the link.
fn own_gateway(one: &Uplink, address: IpAddr, routes: &[&Route]) -> Option<IpAddr> {
    let leased = routes.iter().find(|route| route.prefix == 0 && route.source == Some(address));
    let has = |gateway: IpAddr, of: &dyn Fn(IpAddr) -> bool| {
        one.addresses.iter().any(|(own, prefix)| of(*own) && is_within(gateway, *own, *prefix))
    };
    let said = gateways(address, routes);
    let near =
        || said.iter().map(|(_, gateway)| *gateway).find(|gateway| has(*gateway, &|own| own == address));
    let router = one.routers.first().copied().filter(|router| router.is_ipv4() == address.is_ipv4());
    let is_routed = one.routed.iter().any(|(own, _)| *own == address);
    // A stated one that is in a net with another address, or was leased with it, is that one's.
    let stated: Vec<&Route> = routes.iter().copied().filter(|route| route.source.is_none()).collect();
    let open: Vec<(u32, IpAddr)> =
        gateways(address, &stated).into_iter().filter(|(_, gateway)| !has(*gateway, &|_| true)).collect();
    // A router's own address says nothing of its nets: it is of the link alone (RFC 4861 section 4.2).
    let is_advertised = || one.routed.iter().any(|(own, prefix)| is_within(address, *own, *prefix));
    leased
        .and_then(|route| route.gateway)
        .or_else(near)
        .or(router.filter(|_| is_routed))
        .or(first(&open))
        .or_else(|| router.filter(|_| is_advertised()))
}

/// The gateway that an address answers by.
pub fn answers_by(one: &Uplink, address: IpAddr) -> Option<IpAddr> {
    let routes: Vec<&Route> = one.routes.iter().collect();
    answering(one, address, &routes)
}

/// All of them, so that the kernel goes on to the next one when the first does not answer (find_rr_leaf of net/ipv6/route.c).
fn by_routers(one: &Uplink) -> Vec<Route> {
    one.routers.iter().map(|router| Route::default_by(*router)).collect()
}

fn answering(one: &Uplink, address: IpAddr, routes: &[&Route]) -> Option<IpAddr> {
    let by_router = by_routers(one);
    let all: Vec<&Route> = routes.iter().copied().chain(&by_router).collect();
    own_gateway(one, address, routes).or_else(|| first(&gateways(address, &all)))
}

/// What packets by a gateway of IPv6 are sent from, where the kernel could choose an address that answers by another one: it
/// looks for the route first, and then for the address that is most like the destination (RFC 6724 section 5, rule 8).
fn sent_from(one: &Uplink, route: &Route, routes: &[&Route]) -> Option<IpAddr> {
    let gateway = route.gateway.filter(IpAddr::is_ipv6)?;
    let (own, others): (Vec<IpAddr>, Vec<IpAddr>) =
        one.usable.iter().copied().partition(|own| answering(one, *own, routes) == Some(gateway));
    own.first().copied().filter(|_| !others.is_empty())
}

impl Routing {
    /// Behind what is there already to the same destination; once by each gateway of a link.
    fn add(&mut self, route: rtnl::Route) {
        let mut metrics = BTreeSet::new();
        let to = |route: &rtnl::Route| (route.table, route.destination, route.prefix);
        for known in self.routes.iter().filter(|known| to(known) == to(&route)) {
            if (known.link, known.gateway) == (route.link, route.gateway) {
                return;
            }
            metrics.insert(known.metric);
        }
        let free = (route.metric..=u32::MAX).find(|metric| !metrics.contains(metric));
        self.routes.extend(free.map(|metric| rtnl::Route { metric, ..route }));
    }

    /// A link's table: its nets, and its routes with one default before the others.
    fn fill(&mut self, one: &Uplink, table: u32, routes: &[&Route], first: Option<IpAddr>) {
        // The kernel adds the connected route to the main table by itself.
        let own = one.addresses.iter().map(|(address, prefix)| {
            (network::masked(*address, *prefix), *prefix, address.is_ipv4().then_some(*address))
        });
        let has_six = one.addresses.iter().any(|(address, _)| address.is_ipv6());
        let near = one.near.iter().filter(|_| has_six).map(|(prefix, length)| (*prefix, *length, None));
        for (destination, prefix, source) in own.chain(near) {
            self.add(rtnl::Route {
                table,
                destination,
                prefix,
                gateway: None,
                on_link: false,
                link: one.link,
                source,
                metric: if destination.is_ipv4() { 0 } else { NEAR_SIX },
            });
        }
        let is_first = |route: &&&Route| first.is_some() && route.prefix == 0 && route.gateway == first;
        if let Some(route) = routes.iter().find(is_first) {
            self.add(through(one, route, table, OWN));
        }
        for route in routes {
            self.add(through(one, route, table, route.metric.unwrap_or(METRIC)));
        }
        for route in &one.beside {
            self.add(through(one, route, table, route.metric.unwrap_or(0)));
        }
    }
}

/// Whether a rule is of an address of this link.
pub fn is_of(link: u32, rule: &rtnl::Rule) -> bool {
    rule.priority == PRIORITY + link
}

/// The link that a route without one is for.
fn home(route: &Route, ranked: &[&Uplink]) -> Option<u32> {
    let gateway = route.gateway?;
    let has = |one: &&&Uplink| one.addresses.iter().any(|(own, prefix)| is_within(gateway, *own, *prefix));
    let of_family = |one: &&&Uplink| one.addresses.iter().any(|(own, _)| own.is_ipv4() == gateway.is_ipv4());
    let found = ranked.iter().find(has).or_else(|| ranked.iter().find(of_family));
    found.map(|one| one.link)
}

fn through(one: &Uplink, route: &Route, table: u32, metric: u32) -> rtnl::Route {
    let gateway = route.gateway.filter(|gateway| !gateway.is_unspecified());
    let is_reached = |gateway: IpAddr| {
        let is_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        is_local || one.addresses.iter().any(|(own, prefix)| is_within(gateway, *own, *prefix))
    };
    // Of the link's addresses the one that the gateway is in a net with. IPv6 chooses well by itself, and refuses one
    // that is still being looked for duplicates.
    let of_family = || one.addresses.iter().filter(|(own, _)| own.is_ipv4() && route.destination.is_ipv4());
    let near =
        gateway.and_then(|gateway| of_family().find(|(own, prefix)| is_within(gateway, *own, *prefix)));
    let source = route.source.or_else(|| near.or_else(|| of_family().next()).map(|(own, _)| *own));
    rtnl::Route {
        table,
        destination: route.destination,
        prefix: route.prefix,
        gateway,
        on_link: gateway.is_some_and(|gateway| !is_reached(gateway)),
        link: one.link,
        source,
        metric,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtnl::Route as Made;

    fn uplink(link: u32, address: &str, prefix: u8, gateway: Option<&str>) -> Uplink {
        Uplink {
            link,
            addresses: vec![(address.parse().unwrap(), prefix)],
            routes: gateway.map(|gateway| Route::default_by(gateway.parse().unwrap())).into_iter().collect(),
            routers: vec![],
            routed: vec![],
            usable: vec![],
            near: vec![],
            beside: vec![],
            preferred: false,
            stated: false,
            bmc: false,
            carrier: true,
            order: link.into(),
        }
    }

    fn two() -> (Uplink, Uplink) {
        (uplink(2, "10.0.2.15", 24, Some("10.0.2.2")), uplink(3, "10.0.3.15", 24, Some("10.0.3.2")))
    }

    #[test]
    fn what_a_killed_life_routed_goes_and_what_was_replaced_or_is_asked_for_still_stays() {
        let (one, other) = two();
        let moved = uplink(2, "10.0.2.16", 24, Some("10.0.2.3"));
        for (label, now, routes, rules) in [
            ("the same", vec![one.clone(), other.clone()], 0, 0),
            // The connected route and the default one of its table; that of the main table by its metric.
            ("a link less", vec![one.clone()], 3, 1),
            // The routes of its table and the main one's have taken the old ones' places.
            ("another address and gateway", vec![moved, other.clone()], 0, 1),
            ("nothing at all", vec![], 6, 2),
        ] {
            let left = routed(&[one.clone(), other.clone()]).left(&routed(&now));
            assert_eq!((left.routes.len(), left.rules.len()), (routes, rules), "{label}");
        }
    }

    #[test]
    fn what_the_kernel_dropped_with_an_address_is_added_again() {
        let (one, other) = two();
        let both = routed(&[one.clone(), other]);
        for (label, wanted, dropped, gone, new) in [
            ("nothing happened", both.clone(), &[][..], 0, 0),
            ("a link's last address went and came back at once", both.clone(), &[2], 0, 3),
            ("that of the other one did not come back", routed(&[one]), &[3], 4, 0),
        ] {
            let (left, added) = both.change(&wanted, &dropped.iter().copied().collect());
            let count = |routing: &Routing| routing.routes.len() + routing.rules.len();
            assert_eq!((count(&left), count(&added)), (gone, new), "{label}");
        }
    }

    fn routed(uplinks: &[Uplink]) -> Routing {
        plan(uplinks, &[])
    }

    /// The link of the main table's default route with the lowest metric.
    fn default_link(routing: &Routing) -> Option<u32> {
        let main = routing.routes.iter().filter(|route| route.table == MAIN && route.prefix == 0);
        main.min_by_key(|route| route.metric).map(|route| route.link)
    }

    #[test]
    fn every_address_answers_by_its_own_gateway() {
        let (a, b) = two();
        let six = uplink(4, "2001:db8::7", 64, Some("2001:db8::1"));
        let routing = routed(&[a, b, six]);
        assert_eq!(routing.rules.len(), 3);
        for (rule, gateway) in routing.rules.iter().zip(["10.0.2.2", "10.0.3.2", "2001:db8::1"]) {
            let own: Vec<&Made> = routing.routes.iter().filter(|route| route.table == rule.table).collect();
            assert_eq!(own.len(), 2, "connected and default");
            assert_eq!(own[1].gateway, Some(gateway.parse().unwrap()));
        }
    }

    #[test]
    fn the_main_default_prefers_the_nic_that_was_booted_from_then_what_was_stated() {
        let (a, b) = two();
        assert_eq!(default_link(&routed(&[a.clone(), b.clone()])), Some(2));
        assert_eq!(default_link(&routed(&[a.clone(), Uplink { preferred: true, ..b.clone() }])), Some(3));
        assert_eq!(default_link(&routed(&[a.clone(), Uplink { stated: true, ..b.clone() }])), Some(3));
        let booted = Uplink { preferred: true, ..a };
        assert_eq!(default_link(&routed(&[booted, Uplink { stated: true, ..b }])), Some(2));
    }

    /// Of a table the gateways of its default routes, best first; no two may have one metric.
    fn ways(routing: &Routing, table: u32) -> Vec<String> {
        let of_table = |route: &&Made| route.table == table && route.prefix == 0;
        let mut ways: Vec<&Made> = routing.routes.iter().filter(of_table).collect();
        ways.sort_by_key(|route| route.metric);
        assert!(ways.windows(2).all(|two| two[0].metric < two[1].metric), "{ways:?}");
        ways.iter().map(|route| route.gateway.unwrap().to_string()).collect()
    }

    fn answers(routing: &Routing, own: &str) -> Vec<String> {
        let rule = routing.rules.iter().find(|rule| rule.from == own.parse::<IpAddr>().unwrap()).unwrap();
        ways(routing, rule.table)
    }

    /// A route of a lease.
    fn leased(own: &str, gateway: &str) -> Route {
        Route { source: Some(own.parse().unwrap()), ..Route::default_by(gateway.parse().unwrap()) }
    }

    #[test]
    fn of_several_gateways_of_a_link_each_address_answers_by_its_own_and_the_stated_one_is_the_default() {
        let stated = |gateway: &str, metric| Route { metric, ..Route::default_by(gateway.parse().unwrap()) };
        for (label, one, other, routes, main, by) in [
            (
                "a stated address and a lease",
                ("192.0.2.7", 24),
                ("10.0.0.5", 24),
                vec![stated("192.0.2.1", None), leased("10.0.0.5", "10.0.0.1")],
                ["192.0.2.1", "10.0.0.1"],
                ["192.0.2.1", "10.0.0.1"],
            ),
            (
                "in one net",
                ("192.0.2.7", 24),
                ("192.0.2.50", 24),
                vec![stated("192.0.2.1", None), leased("192.0.2.50", "192.0.2.254")],
                ["192.0.2.1", "192.0.2.254"],
                ["192.0.2.1", "192.0.2.254"],
            ),
            (
                "a stated metric that is worse",
                ("192.0.2.7", 24),
                ("10.0.0.5", 24),
                vec![stated("192.0.2.1", Some(500)), leased("10.0.0.5", "10.0.0.1")],
                ["10.0.0.1", "192.0.2.1"],
                ["192.0.2.1", "10.0.0.1"],
            ),
            (
                "two stated ones",
                ("192.0.2.7", 24),
                ("198.51.100.7", 24),
                vec![stated("192.0.2.1", None), stated("198.51.100.1", None)],
                ["192.0.2.1", "198.51.100.1"],
                ["192.0.2.1", "198.51.100.1"],
            ),
            (
                "two stated ones of IPv6",
                ("2001:db8:1::7", 64),
                ("2001:db8:2::7", 64),
                vec![stated("2001:db8:1::1", None), stated("2001:db8:2::1", None)],
                ["2001:db8:1::1", "2001:db8:2::1"],
                ["2001:db8:1::1", "2001:db8:2::1"],
            ),
            (
                "one gateway outside every net",
                ("192.0.2.7", 32),
                ("10.0.0.5", 24),
                vec![stated("172.31.1.1", None), leased("10.0.0.5", "10.0.0.1")],
                ["172.31.1.1", "10.0.0.1"],
                ["172.31.1.1", "10.0.0.1"],
            ),
            (
                "one gateway outside every net, by a metric that is worse",
                ("192.0.2.7", 32),
                ("10.0.0.5", 24),
                vec![stated("172.31.1.1", Some(500)), leased("10.0.0.5", "10.0.0.1")],
                ["10.0.0.1", "172.31.1.1"],
                ["172.31.1.1", "10.0.0.1"],
            ),
        ] {
            let address = |(own, prefix): (&str, u8)| (own.parse().unwrap(), prefix);
            let addresses = vec![address(one), address(other)];
            let routing = routed(&[Uplink { addresses, routes, ..uplink(2, one.0, one.1, None) }]);
            assert_eq!(ways(&routing, MAIN), main, "{label}");
            for (own, want) in [one.0, other.0].into_iter().zip(by) {
                let ways = answers(&routing, own);
                assert_eq!((ways[0].as_str(), ways.len()), (want, 2), "{label}: {own}");
            }
        }
    }

    #[test]
    fn what_routers_give_answers_by_them_and_what_is_stated_by_the_stated_gateway_though_they_disagree() {
        type Addresses = &'static [(&'static str, u8, &'static str)];
        type Gateways = &'static [(&'static str, Option<u32>)];
        const ROUTER: &str = "fe80::2";
        const OTHER: Addresses = &[("2001:db8:2::9", 64, ROUTER)];
        // Stated addresses with the gateway that each is to answer by, the same of what came by the router, stated gateways, and
        // what the main table's first default is sent from.
        let cases: &[(&str, Addresses, Addresses, Gateways, Option<&str>)] = &[
            (
                "another provider's router",
                &[("2001:db8:1::7", 64, "2001:db8:1::1")],
                OTHER,
                &[("2001:db8:1::1", None)],
                Some("2001:db8:1::7"),
            ),
            (
                "a gateway of the link alone",
                &[("2001:db8:1::7", 64, "fe80::1")],
                OTHER,
                &[("fe80::1", None)],
                Some("2001:db8:1::7"),
            ),
            (
                "an address by DHCPv6",
                &[("2001:db8:1::7", 64, "fe80::1")],
                &[("2001:db8:2::100", 128, ROUTER)],
                &[("fe80::1", None)],
                Some("2001:db8:1::7"),
            ),
            (
                "a gateway outside every net",
                &[("2001:db8:1::7", 128, "2001:db8:9::1")],
                OTHER,
                &[("2001:db8:9::1", None)],
                Some("2001:db8:1::7"),
            ),
            (
                "one net, one of its gateways stated",
                &[("2001:db8:1::7", 64, "2001:db8:1::1")],
                &[("2001:db8:1::9", 64, "2001:db8:1::1")],
                &[("2001:db8:1::1", None)],
                None,
            ),
            (
                "one net, two routers of the link alone",
                &[("2001:db8:2::7", 64, "fe80::1")],
                OTHER,
                &[("fe80::1", None)],
                Some("2001:db8:2::7"),
            ),
            (
                "the router is the stated gateway",
                &[("2001:db8:1::7", 64, ROUTER)],
                OTHER,
                &[(ROUTER, None)],
                None,
            ),
            (
                "a stated address without a gateway of its own, in the router's net",
                &[("2001:db8:1::7", 64, "2001:db8:1::1"), ("2001:db8:2::7", 64, ROUTER)],
                OTHER,
                &[("2001:db8:1::1", None)],
                Some("2001:db8:1::7"),
            ),
            (
                "a stated metric that is worse",
                &[("2001:db8:1::7", 64, "fe80::1")],
                OTHER,
                &[("fe80::1", Some(500))],
                Some("2001:db8:1::7"),
            ),
            ("no stated gateway", &[("2001:db8:1::7", 64, ROUTER)], OTHER, &[], None),
        ];
        for (label, stated, given, gateways, from) in cases {
            let mut one = uplink(2, stated[0].0, stated[0].1, None);
            let address = |(own, prefix, _): &(&str, u8, &str)| (own.parse().unwrap(), *prefix);
            one.addresses = stated.iter().chain(*given).map(address).collect();
            one.routed = given.iter().map(address).collect();
            one.usable = one.addresses.iter().map(|(own, _)| *own).filter(IpAddr::is_ipv6).collect();
            one.routers = vec![ROUTER.parse().unwrap()];
            let route = |(gateway, metric): &(&str, Option<u32>)| Route {
                metric: *metric,
                ..Route::default_by(gateway.parse().unwrap())
            };
            one.routes = gateways.iter().map(route).collect();
            let made = routed(std::slice::from_ref(&one));
            for (own, _, want) in stated.iter().chain(*given) {
                assert_eq!(answers(&made, own)[0], *want, "{label}: {own}");
                let shown = answers_by(&one, own.parse().unwrap());
                assert_eq!(shown, Some(want.parse().unwrap()), "{label}: {own} is shown");
            }
            let source = |made: &Routing| {
                made.routes.iter().find(|route| route.table == MAIN && route.prefix == 0)?.source
            };
            assert_eq!(source(&made), from.map(|own| own.parse().unwrap()), "{label}");
            // The kernel refuses to send from what it looks for duplicates of still.
            one.usable.clear();
            assert_eq!(source(&routed(&[one])), None, "{label}");
        }
    }

    #[test]
    fn a_stated_gateway_of_ipv4_is_none_of_what_a_router_gives() {
        let mut one = uplink(2, "192.0.2.7", 24, Some("192.0.2.1"));
        one.addresses.push(("2001:db8:2::9".parse().unwrap(), 64));
        one.routed = one.addresses[1..].to_vec();
        one.routers = vec!["fe80::2".parse().unwrap()];
        for (own, want) in [("192.0.2.7", "192.0.2.1"), ("2001:db8:2::9", "fe80::2")] {
            assert_eq!(answers_by(&one, own.parse().unwrap()), Some(want.parse().unwrap()));
        }
        let tables: BTreeSet<u32> = routed(&[one]).rules.iter().map(|rule| rule.table).collect();
        assert_eq!(tables, BTreeSet::from([1002]));
    }

    #[test]
    fn what_a_router_gave_answers_by_the_stated_gateway_once_that_is_no_router_any_more() {
        let mut one = uplink(2, "2001:db8:1::7", 64, Some("fe80::1"));
        one.addresses.push(("2001:db8:2::9".parse().unwrap(), 64));
        one.routed = one.addresses[1..].to_vec();
        assert_eq!(answers(&routed(&[one]), "2001:db8:2::9"), ["fe80::1"]);
    }

    #[test]
    fn a_router_comes_behind_a_stated_gateway_in_the_links_table() {
        let mut one = uplink(2, "2001:db8::7", 64, Some("2001:db8::1"));
        one.routers.push("fe80::1".parse().unwrap());
        assert_eq!(answers(&routed(&[one]), "2001:db8::7"), ["2001:db8::1", "fe80::1"]);
    }

    #[test]
    fn when_a_lease_ends_what_goes_is_its_own_and_the_stated_default_stays() {
        let stated = uplink(2, "192.0.2.7", 24, Some("192.0.2.1"));
        let mut both = stated.clone();
        both.addresses.push(("192.0.2.50".parse().unwrap(), 24));
        both.routes.push(leased("192.0.2.50", "192.0.2.254"));
        let (gone, new) = routed(&[both]).change(&routed(&[stated]), &BTreeSet::new());
        assert_eq!(new, Routing::default());
        // One in the main table, all of the lease's own table, and its default in the link's.
        let own = |route: &&Made| route.gateway == Some("192.0.2.254".parse().unwrap());
        assert_eq!(gone.routes.iter().filter(own).count(), 3);
        assert!(gone.routes.iter().all(|route| own(&route) || route.table > WAY));
    }

    #[test]
    fn no_metric_makes_up_for_a_cable_that_is_not_there() {
        let (a, b) = two();
        let metric = |one: &Uplink, metric| {
            let routes = one.routes.iter().map(|route| Route { metric, ..route.clone() }).collect();
            Uplink { routes, ..one.clone() }
        };
        for (label, unplugged, live) in [
            ("a stated one", metric(&a, Some(50)), b.clone()),
            ("none, beside a live one that is high", a.clone(), metric(&b, Some(500))),
            ("the highest", metric(&a, Some(u32::MAX)), metric(&b, Some(1024))),
        ] {
            let routing = routed(&[Uplink { carrier: false, ..unplugged }, live]);
            assert_eq!(default_link(&routing), Some(3), "{label}");
        }
        assert_eq!(default_link(&routed(&[metric(&a, Some(500)), b])), Some(3), "with cables it counts");
    }

    #[test]
    fn a_bmc_and_a_link_local_address_come_last() {
        let (_, nic) = two();
        let bmc = uplink(2, "169.254.0.2", 16, Some("169.254.0.1"));
        assert_eq!(default_link(&routed(&[bmc, nic.clone()])), Some(3));
        let other = uplink(2, "10.9.0.2", 24, Some("10.9.0.1"));
        let usb = Uplink { bmc: true, preferred: true, ..other };
        assert_eq!(default_link(&routed(&[usb, nic])), Some(3));
    }

    #[test]
    fn without_its_cable_no_link_is_preferred() {
        let (a, b) = two();
        let unplugged = Uplink { preferred: true, carrier: false, ..a };
        assert_eq!(default_link(&routed(&[unplugged, b])), Some(3));
    }

    #[test]
    fn a_gateway_outside_the_subnet_is_on_the_link() {
        for (address, prefix, gateway) in
            [("192.0.2.7", 32, "172.31.1.1"), ("2001:db8::7", 128, "2001:db8:9::1")]
        {
            let routing = routed(&[uplink(2, address, prefix, Some(gateway))]);
            assert!(routing.routes.iter().filter(|route| route.gateway.is_some()).all(|route| route.on_link));
        }
        let routing = routed(&[uplink(2, "2001:db8::7", 128, Some("fe80::1"))]);
        assert!(
            routing.routes.iter().all(|route| !route.on_link),
            "a link-local gateway is on its link anyway"
        );
    }

    #[test]
    fn of_several_addresses_the_one_in_the_gateways_net_is_sent_from() {
        let mut one = uplink(2, "192.0.2.7", 24, Some("198.51.100.1"));
        one.addresses.push(("198.51.100.7".parse().unwrap(), 24));
        let routing = routed(&[one]);
        let default = routing.routes.iter().find(|route| route.prefix == 0).unwrap();
        assert_eq!((default.source, default.on_link), (Some("198.51.100.7".parse().unwrap()), false));
    }

    #[test]
    fn behind_the_first_router_the_others_are_in_the_table_that_answers() {
        let mut one = uplink(2, "2001:db8::7", 64, None);
        one.routers = ["fe80::2", "fe80::1"].map(|router| router.parse().unwrap()).to_vec();
        let routing = routed(&[one]);
        let table = routing.rules[0].table;
        let mut defaults: Vec<(u32, String)> = routing
            .routes
            .iter()
            .filter(|route| route.prefix == 0 && route.table == table)
            .filter_map(|route| Some((route.metric, route.gateway?.to_string())))
            .collect();
        defaults.sort();
        let gateways: Vec<&str> = defaults.iter().map(|(_, gateway)| gateway.as_str()).collect();
        assert_eq!(gateways, ["fe80::2", "fe80::1"], "{defaults:?}");
    }

    #[test]
    fn the_kernels_own_routers_are_in_the_links_table_alone() {
        let mut one = uplink(2, "2001:db8::7", 64, None);
        one.routers.push("fe80::1".parse().unwrap());
        let routing = routed(&[one]);
        let by_router: Vec<&Made> = routing.routes.iter().filter(|route| route.gateway.is_some()).collect();
        assert_eq!(by_router.iter().map(|route| route.table).collect::<Vec<u32>>(), [1002]);
    }

    #[test]
    fn an_address_that_is_alone_in_its_prefix_reaches_its_neighbours_without_a_router() {
        let mut one = uplink(2, "2001:db8::7", 128, None);
        one.routers.push("fe80::1".parse().unwrap());
        one.near.push(("2001:db8::".parse().unwrap(), 64));
        let routing = routed(&[one]);
        let near: Vec<&Made> = routing.routes.iter().filter(|route| route.prefix == 64).collect();
        assert_eq!(near.iter().map(|route| (route.table, route.gateway)).collect::<Vec<_>>(), [(1002, None)]);
    }

    #[test]
    fn routes_by_hand_and_by_routers_are_in_every_table_of_their_link_and_no_other() {
        let (mut one, other) = two();
        one.addresses.push(("10.0.4.15".parse().unwrap(), 24));
        one.routes.push(Route::default_by("10.0.4.2".parse().unwrap()));
        let gateway = Some("10.0.2.9".parse().unwrap());
        let by_hand = |metric| Route {
            destination: "10.200.0.0".parse().unwrap(),
            prefix: 16,
            gateway,
            metric,
            source: None,
        };
        one.beside.push(by_hand(None));
        one.routes.push(Route { gateway: Some("10.0.2.8".parse().unwrap()), ..by_hand(None) });
        let routing = routed(&[one, other]);
        for rule in &routing.rules {
            let to = |route: &&Made| route.table == rule.table && route.prefix == 16;
            let first = routing.routes.iter().filter(to).min_by_key(|route| route.metric);
            let want = if rule.priority == 1002 { gateway } else { None };
            assert_eq!(first.and_then(|route| route.gateway), want, "{}", rule.from);
        }
        assert_eq!(routing.rules.len(), 3);
        assert!(!routing.routes.iter().any(|route| route.table == MAIN && route.gateway == gateway));
    }

    #[test]
    fn a_route_without_a_link_goes_where_its_gateway_is() {
        let (a, b) = two();
        let route = |gateway: &str| Route {
            destination: "10.200.0.0".parse().unwrap(),
            prefix: 16,
            gateway: Some(gateway.parse().unwrap()),
            metric: None,
            source: None,
        };
        for (gateway, want) in [("10.0.3.9", 3), ("10.0.2.9", 2), ("172.16.0.1", 2)] {
            let routing = plan(&[a.clone(), b.clone()], &[route(gateway)]);
            let found = routing.routes.iter().find(|route| route.prefix == 16).unwrap();
            assert_eq!(found.link, want, "{gateway}");
        }
        assert!(plan(&[], &[route("10.0.3.9")]).routes.is_empty());
    }

    #[test]
    fn classless_routes_are_in_both_tables_and_link_routes_come_first() {
        let (mut one, _) = two();
        let route = |destination: &str, prefix, gateway: Option<&str>| Route {
            destination: destination.parse().unwrap(),
            prefix,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            metric: None,
            source: None,
        };
        one.routes.push(route("192.168.0.0", 16, Some("10.0.2.9")));
        one.routes.push(route("172.31.1.1", 32, None));
        one.routes.push(route("0.0.0.0", 0, Some("10.0.2.2"))); // twice
        let routing = routed(&[one]);
        assert_eq!(routing.routes.iter().filter(|route| route.prefix == 16).count(), 2);
        assert_eq!(routing.routes.iter().filter(|route| route.prefix == 0).count(), 2);
        let first_gateway = routing.routes.iter().position(|route| route.gateway.is_some()).unwrap();
        assert!(routing.routes[first_gateway..].iter().all(|route| route.gateway.is_some()));
    }
}
