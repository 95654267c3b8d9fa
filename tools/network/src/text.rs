//! A plan in words, a line for each thing: what `rescue net` shows before it does it, and what the tests compare.

use crate::{Address, Ipv6, Kind, Link, Methods, Plan, Route, Selector};
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for link in &self.links {
            writeln!(f, "{link}")?;
        }
        if let Some(others) = self.others {
            writeln!(f, "other NICs: {others}{}", if self.single { ", until one has a lease" } else { "" })?;
        }
        if let Some(preferred) = &self.preferred {
            writeln!(f, "preferred: {preferred}")?;
        }
        for route in &self.routes {
            writeln!(f, "route {route}")?;
        }
        if !self.nameservers.is_empty() {
            writeln!(f, "DNS {}", list(&self.nameservers))?;
        }
        if self.own_nameservers_only {
            writeln!(f, "DNS of leases and routers is not used")?;
        }
        if !self.search.is_empty() {
            writeln!(f, "search {}", self.search.join(" "))?;
        }
        if !self.ntp.is_empty() {
            writeln!(f, "NTP {}", self.ntp.join(" "))?;
        }
        if let Some(hostname) = &self.hostname {
            writeln!(f, "host name {hostname}")?;
        }
        for problem in &self.problems {
            writeln!(f, "! {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.selector)?;
        if let Some(name) = &self.rename {
            write!(f, ", to be called {name}")?;
        }
        write!(f, ": {}", self.kind)?;
        if let Some(mac) = self.mac {
            write!(f, "MAC {mac}, ")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, "MTU {mtu}, ")?;
        }
        write!(f, "{}", self.methods)?;
        for address in &self.addresses {
            write!(f, ", {address}")?;
        }
        for route in &self.routes {
            write!(f, ", {route}")?;
        }
        if !self.nameservers.is_empty() {
            write!(f, ", DNS {}", list(&self.nameservers))?;
        }
        if !self.search.is_empty() {
            write!(f, ", search {}", self.search.join(" "))?;
        }
        if !self.ntp.is_empty() {
            write!(f, ", NTP {}", self.ntp.join(" "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Physical => Ok(()),
            Kind::Vlan { link, id } => write!(f, "VLAN {id} on {link}, "),
            Kind::Bond { ports, options } => {
                write!(f, "bond of {}", list(ports))?;
                for option in options {
                    write!(f, " {}={}", option.name, option.value)?;
                }
                f.write_str(", ")
            }
            Kind::Bridge { ports, stp } => {
                write!(f, "bridge of {}{}, ", list(ports), if *stp { " with STP" } else { "" })
            }
        }
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let six = match self.ipv6 {
            Ipv6::Off => None,
            Ipv6::LinkLocal => Some("IPv6 on the link alone"),
            Ipv6::Auto => Some("IPv6 from routers"),
            Ipv6::Either => Some("IPv6 from routers or DHCPv6"),
            Ipv6::Dhcp => Some("DHCPv6"),
        };
        match (self.dhcp4, six) {
            (false, None) => f.write_str("no DHCP"),
            (true, None) => f.write_str("DHCP"),
            (false, Some(six)) => f.write_str(six),
            (true, Some(six)) => write!(f, "DHCP, {six}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.as_ref().map(|driver| format!("driver {driver}"));
        let mac = self.mac.map(|mac| mac.to_string());
        let said: Vec<String> = [self.name.clone(), mac, driver].into_iter().flatten().collect();
        f.write_str(if said.is_empty() { "the first NIC" } else { "" })?;
        f.write_str(&said.join(" "))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)?;
        self.peer.map_or(Ok(()), |peer| write!(f, " peer {peer}"))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.prefix, self.gateway) {
            (0, Some(gateway)) => write!(f, "gateway {gateway}")?,
            (_, Some(gateway)) => write!(f, "{}/{} by {gateway}", self.destination, self.prefix)?,
            (_, None) => write!(f, "{}/{} on the link", self.destination, self.prefix)?,
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        self.source.map_or(Ok(()), |source| write!(f, " from {source}"))
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<String>>().join(" ")
}
