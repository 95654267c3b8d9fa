//! Addresses of a service and not of the machine: what keeps a cluster going gives them to another machine when this one goes
//! down, and both would answer for them if Lifeboat stated them again. Pure.

use crate::netlink::{Address, Network};
use std::collections::BTreeSet;

/// Programs that move addresses between machines, as the kernel names their processes (15 bytes).
pub const MOVERS: &[&str] =
    &["ctdbd", "heartbeat", "keepalived", "kube-vip", "pacemakerd", "ucarp", "vip-manager", "vrrpd"];

/// Who gave an address that is a service's. keepalived says so of its own; of any other that runs it may be each address that
/// came to a link beside one of the machine's own, to the same subnet or as one host's.
pub fn mover(own: &Address, network: &Network, running: &BTreeSet<String>) -> Option<String> {
    if own.by_keepalived {
        return Some("keepalived".into());
    }
    let is_own = |other: &&Address| {
        other.link == own.link
            && other.address.is_ipv4() == own.address.is_ipv4()
            && !is_added(other)
            && !other.by_keepalived
    };
    let is_beside = is_added(own) && network.addresses.iter().any(|other| is_own(&other));
    let running: Vec<&str> = running.iter().map(String::as_str).collect();
    (is_beside && !running.is_empty()).then(|| running.join(" or "))
}

fn is_added(own: &Address) -> bool {
    own.secondary || own.prefix == if own.address.is_ipv4() { 32 } else { 128 }
}
