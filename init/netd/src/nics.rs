//! One wired NIC and what netd knows of it.

use crate::dhcp::machine::Client;
use crate::params::Wishes;
use crate::rtnl::Link;
use contract::state;
use host::Root;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// ARPHRD_ETHER
const ETHERNET: u16 = 1;
/// Drivers of the NICs that a BMC shows over USB.
const BMC_DRIVERS: &[&str] = &["cdc_ether", "cdc_eem", "cdc_ncm", "cdc_subset", "rndis_host"];
/// Set by tests: interfaces without a device (veth) are wired NICs too.
const VIRTUAL: &str = "LIFEBOAT_NETD_VIRTUAL";

pub struct Nic {
    pub link: Link,
    pub mac: [u8; 6],
    pub driver: String,
    pub bmc: bool,
    /// The parameters ask for DHCP here.
    pub wanted: bool,
    /// It was brought up once; whoever takes it down after that means it.
    pub raised: bool,
    /// When bringing it up is tried again, after the driver refused.
    pub retry: Option<Duration>,
    pub client: Option<Client>,
    /// Hears and sends DHCP.
    pub socket: Option<OwnedFd>,
    /// Sends renewals.
    pub udp: Option<OwnedFd>,
    /// Open while an offered address is probed.
    pub arp: Option<OwnedFd>,
    /// What of the lease is in the kernel.
    pub configured: Option<(Ipv4Addr, u8)>,
    /// Which link was the first to get a lease, the second ...
    pub order: Option<u64>,
    /// IPv6, as the kernel made them.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Nic {
    /// `None` for anything but a wired NIC.
    pub fn new(link: Link, root: &Root, wishes: &Wishes) -> Option<Nic> {
        let mac = link.mac.filter(|mac| link.kind == ETHERNET && *mac != [0; 6])?;
        let facts = host::nic::read(root, &link.name);
        if facts.wireless || !(facts.physical || std::env::var_os(VIRTUAL).is_some()) {
            return None;
        }
        Some(Nic {
            mac,
            bmc: BMC_DRIVERS.contains(&facts.driver.as_str()),
            driver: facts.driver,
            wanted: wishes.wants(&link.name),
            link,
            raised: false,
            retry: None,
            client: None,
            socket: None,
            udp: None,
            arp: None,
            configured: None,
            order: None,
            addresses: Vec::new(),
        })
    }

    pub fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    pub fn state(&self, wishes: &Wishes) -> state::Link {
        let lease = self.client.as_ref().and_then(Client::lease).filter(|_| self.configured.is_some());
        let leased = lease.map(|lease| state::Address {
            address: lease.address.to_string(),
            prefix: lease.prefix,
            gateway: lease.gateway.map(|gateway| gateway.to_string()),
            lease: (lease.seconds != u32::MAX).then_some(lease.seconds),
            server: Some(lease.server.to_string()),
        });
        let others = self.addresses.iter().map(|(address, prefix)| state::Address {
            address: address.to_string(),
            prefix: *prefix,
            ..Default::default()
        });
        state::Link {
            name: self.link.name.clone(),
            mac: self.mac_text(),
            driver: self.driver.clone(),
            carrier: self.link.carrier,
            booted_from: wishes.boot_mac == Some(self.mac),
            state: match (&self.client, self.wanted && !self.link.enslaved, self.link.carrier) {
                (_, false, _) => "off",
                (_, _, false) => "no carrier",
                (Some(client), ..) => client.state(),
                (None, ..) => "asking",
            }
            .to_string(),
            addresses: leased.into_iter().chain(others).collect(),
        }
    }
}
