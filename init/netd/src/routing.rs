//! Which routes and rules the leases of all links ask for: pure. Every address answers by its own
//! gateway (a table per link and a rule `from ADDRESS`); the main table prefers the NIC that the
//! machine was booted from, then whichever had a gateway first; USB NICs of BMCs and link-local
//! addresses come last.

use crate::dhcp::message::Lease;
use crate::rtnl::{Route, Rule};
use std::net::Ipv4Addr;

const MAIN: u32 = 254;
/// Tables of links begin here: link 2 has table 1002.
const TABLES: u32 = 1000;
/// Rules come before the main table's (32766), in the links' order.
const PRIORITY: u32 = 1000;
/// Metric of the most preferred link's routes in the main table.
const METRIC: u32 = 100;

/// One link with a lease.
#[derive(Clone, Debug)]
pub struct Leased<'a> {
    pub link: u32,
    pub lease: &'a Lease,
    pub booted_from: bool,
    /// A USB NIC that a BMC shows to its host.
    pub bmc: bool,
    /// The cable is in.
    pub carrier: bool,
    /// Order in which the links got their leases.
    pub order: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// Sorted: link routes before those through a gateway.
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
}

/// The links by preference.
pub fn ranked<'a, 'b>(leased: &'b [Leased<'a>]) -> Vec<&'b Leased<'a>> {
    let mut ranked: Vec<&Leased<'_>> = leased.iter().collect();
    ranked.sort_by_key(|one| {
        let last = one.bmc || one.lease.address.is_link_local();
        (!one.carrier, last, !one.booted_from, one.lease.gateway.is_none(), one.order)
    });
    ranked
}

pub fn plan(leased: &[Leased<'_>]) -> Routing {
    let ranked = ranked(leased);
    let mut routing = Routing::default();
    for (rank, one) in ranked.iter().enumerate() {
        let metric = METRIC + 10 * rank as u32;
        let table = TABLES + one.link;
        for table in [MAIN, table] {
            // The kernel adds the connected route to the main table by itself.
            if table != MAIN {
                routing.routes.push(connected(one, table));
            }
            let metric = if table == MAIN { metric } else { 0 };
            routing.routes.extend(granted(one, table, metric));
        }
        routing.rules.push(Rule { from: one.lease.address, table, priority: PRIORITY + one.link });
    }
    routing.routes.sort_by_key(|route| route.gateway.is_some());
    routing
}

fn connected(one: &Leased<'_>, table: u32) -> Route {
    let lease = one.lease;
    let destination = Ipv4Addr::from(u32::from(lease.address) & mask(lease.prefix));
    Route {
        table,
        destination,
        prefix: lease.prefix,
        gateway: None,
        on_link: false,
        link: one.link,
        source: lease.address,
        metric: 0,
    }
}

/// The default route and those of option 121.
fn granted<'a>(one: &'a Leased<'_>, table: u32, metric: u32) -> impl Iterator<Item = Route> + 'a {
    let lease = one.lease;
    let route = move |destination, prefix, gateway: Ipv4Addr| {
        let gateway = (!gateway.is_unspecified()).then_some(gateway);
        let outside = gateway
            .is_some_and(|gateway| (u32::from(gateway) ^ u32::from(lease.address)) & mask(lease.prefix) != 0);
        Route {
            table,
            destination,
            prefix,
            gateway,
            on_link: outside,
            link: one.link,
            source: lease.address,
            metric,
        }
    };
    let default = lease.gateway.map(|gateway| route(Ipv4Addr::UNSPECIFIED, 0, gateway));
    let classless = lease.routes.iter().filter(|(_, prefix, _)| *prefix > 0);
    classless.map(move |(destination, prefix, gateway)| route(*destination, *prefix, *gateway)).chain(default)
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(address: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>) -> Lease {
        Lease {
            address: address.into(),
            prefix,
            server: Ipv4Addr::new(10, 0, 0, 1),
            gateway: gateway.map(Ipv4Addr::from),
            routes: vec![],
            nameservers: vec![],
            search: vec![],
            hostname: None,
            mtu: None,
            ntp: vec![],
            seconds: 3600,
            t1: 1800,
            t2: 3150,
        }
    }

    fn leased(link: u32, lease: &Lease, order: u64) -> Leased<'_> {
        Leased { link, lease, booted_from: false, bmc: false, carrier: true, order }
    }

    /// The link of the main table's default route with the lowest metric.
    fn default_link(routing: &Routing) -> Option<u32> {
        let main = routing.routes.iter().filter(|route| route.table == MAIN && route.prefix == 0);
        main.min_by_key(|route| route.metric).map(|route| route.link)
    }

    #[test]
    fn every_address_answers_by_its_own_gateway() {
        let (a, b) =
            (lease([10, 0, 2, 15], 24, Some([10, 0, 2, 2])), lease([10, 0, 3, 15], 24, Some([10, 0, 3, 2])));
        let routing = plan(&[leased(2, &a, 0), leased(3, &b, 1)]);
        for (rule, gateway) in routing.rules.iter().zip([[10, 0, 2, 2], [10, 0, 3, 2]]) {
            let own: Vec<&Route> = routing.routes.iter().filter(|route| route.table == rule.table).collect();
            assert_eq!(own.len(), 2, "connected and default");
            assert_eq!(own[1].gateway, Some(gateway.into()));
        }
    }

    #[test]
    fn the_main_default_prefers_the_nic_that_was_booted_from() {
        let (a, b) =
            (lease([10, 0, 2, 15], 24, Some([10, 0, 2, 2])), lease([10, 0, 3, 15], 24, Some([10, 0, 3, 2])));
        assert_eq!(default_link(&plan(&[leased(2, &a, 0), leased(3, &b, 1)])), Some(2));
        let booted = Leased { booted_from: true, ..leased(3, &b, 1) };
        assert_eq!(default_link(&plan(&[leased(2, &a, 0), booted])), Some(3));
    }

    #[test]
    fn a_bmc_and_a_link_local_address_come_last() {
        let (bmc, nic) = (
            lease([169, 254, 0, 2], 16, Some([169, 254, 0, 1])),
            lease([10, 0, 3, 15], 24, Some([10, 0, 3, 2])),
        );
        assert_eq!(default_link(&plan(&[leased(2, &bmc, 0), leased(3, &nic, 1)])), Some(3));
        let other = lease([10, 9, 0, 2], 24, Some([10, 9, 0, 1]));
        let usb = Leased { bmc: true, booted_from: true, ..leased(2, &other, 0) };
        assert_eq!(default_link(&plan(&[usb, leased(3, &nic, 1)])), Some(3));
    }

    #[test]
    fn without_its_cable_no_link_is_preferred() {
        let (a, b) =
            (lease([10, 0, 2, 15], 24, Some([10, 0, 2, 2])), lease([10, 0, 3, 15], 24, Some([10, 0, 3, 2])));
        let unplugged = Leased { booted_from: true, carrier: false, ..leased(2, &a, 0) };
        assert_eq!(default_link(&plan(&[unplugged, leased(3, &b, 1)])), Some(3));
    }

    #[test]
    fn a_gateway_outside_the_subnet_is_on_the_link() {
        let lease = lease([192, 0, 2, 7], 32, Some([172, 31, 1, 1]));
        let routing = plan(&[leased(2, &lease, 0)]);
        assert!(routing.routes.iter().filter(|route| route.gateway.is_some()).all(|route| route.on_link));
    }

    #[test]
    fn classless_routes_are_in_both_tables_and_link_routes_come_first() {
        let mut lease = lease([10, 0, 2, 15], 24, Some([10, 0, 2, 2]));
        lease.routes = vec![
            (Ipv4Addr::new(192, 168, 0, 0), 16, Ipv4Addr::new(10, 0, 2, 9)),
            (Ipv4Addr::new(172, 31, 1, 1), 32, Ipv4Addr::UNSPECIFIED),
            (Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 2, 2)),
        ];
        let routing = plan(&[leased(2, &lease, 0)]);
        assert_eq!(routing.routes.iter().filter(|route| route.prefix == 16).count(), 2);
        assert_eq!(routing.routes.iter().filter(|route| route.prefix == 0).count(), 2);
        let first_gateway = routing.routes.iter().position(|route| route.gateway.is_some()).unwrap();
        assert!(routing.routes[first_gateway..].iter().all(|route| route.gateway.is_some()));
    }
}
