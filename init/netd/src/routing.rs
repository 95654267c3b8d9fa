//! Which routes and rules the addresses of all links ask for: pure. Every address answers by its own
//! gateway (a table per link and a rule `from ADDRESS`); the main table prefers the NIC that the
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
/// Rules come before the main table's (32766), in the links' order.
const PRIORITY: u32 = 1000;
/// Metric of the most preferred link's routes in the main table. The kernel's own IPv6 routes by routers have 1024.
const METRIC: u32 = 100;

/// One link with addresses.
#[derive(Clone, Debug)]
pub struct Uplink {
    pub link: u32,
    /// With their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    pub routes: Vec<Route>,
    /// Routers that the kernel itself has default routes by: for the link's table alone.
    pub routers: Vec<IpAddr>,
    /// Prefixes that the kernel knows on the link: for the link's table. An address by DHCPv6 says nothing of its
    /// neighbours (RFC 8415 section 18.2.10.1), and would answer them by a router.
    pub near: Vec<(IpAddr, u8)>,
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
pub fn plan(uplinks: &[Uplink], elsewhere: &[Route]) -> Routing {
    let ranked = ranked(uplinks);
    let mut routing = Routing::default();
    for (rank, one) in ranked.iter().enumerate() {
        let metric = METRIC + 10 * rank as u32;
        let table = TABLES + one.link;
        for (address, prefix) in &one.addresses {
            // The kernel adds the connected route to the main table by itself.
            routing.routes.push(rtnl::Route {
                table,
                destination: network::masked(*address, *prefix),
                prefix: *prefix,
                gateway: None,
                on_link: false,
                link: one.link,
                source: address.is_ipv4().then_some(*address),
                metric: 0,
            });
            routing.rules.push(rule(one.link, *address));
        }
        if one.addresses.iter().any(|(address, _)| address.is_ipv6()) {
            routing.routes.extend(one.near.iter().map(|(destination, prefix)| rtnl::Route {
                table,
                destination: *destination,
                prefix: *prefix,
                gateway: None,
                on_link: false,
                link: one.link,
                source: None,
                metric: 0,
            }));
        }
        let own = elsewhere.iter().filter(|route| home(route, &ranked) == Some(one.link));
        for route in one.routes.iter().chain(own) {
            routing.routes.push(through(one, route, MAIN, route.metric.unwrap_or(metric)));
            routing.routes.push(through(one, route, table, 0));
        }
        let by_routers = one.routers.iter().map(|router| Route::default_by(*router));
        routing.routes.extend(by_routers.take(1).map(|route| through(one, &route, table, 0)));
    }
    // Two of a lease and a person's word may be the same.
    let mut known = Vec::new();
    routing.routes.retain(|route| {
        let is_new = !known.contains(route);
        known.push(route.clone());
        is_new
    });
    routing.routes.sort_by_key(|route| route.gateway.is_some());
    routing
}

/// By which an address answers by its own link's gateway.
pub fn rule(link: u32, from: IpAddr) -> rtnl::Rule {
    rtnl::Rule { from, table: TABLES + link, priority: PRIORITY + link }
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
            near: vec![],
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
