//! DHCPv6 on the links that want it: what the client (dhcp6) decides is sent, received and configured.

use crate::dhcp6::machine::{Action, Client, Event as Happened, step};
use crate::dhcp6::message::{CLIENT_PORT, SERVER_PORT, SERVERS, decode};
use crate::nics::Presence;
use crate::rtnl::{self, Given};
use crate::{Netd, PACKET, SIX_PREFIX, TURN, leased_address, now, random};
use host::sys::packet;
use std::net::{IpAddr, Ipv6Addr};

impl Netd {
    /// DHCPv6 where the plan or a router wants it.
    pub fn ask_six(&mut self, index: u32) {
        let Some(nic) = self.nics.get(&index).filter(|nic| nic.link.carrier) else { return };
        if nic.six.is_some() && nic.methods().ipv6 < network::Ipv6::Auto {
            return self.end_six(index);
        }
        let held = self.leases.six.get(&nic.key());
        let held = held.filter(|held| held.expires().is_none_or(|end| end > now())).cloned();
        let is_held = held.as_ref().is_some_and(|held| !held.lease.addresses.is_empty());
        let Some(addresses) = nic.wants_six(is_held, now()) else { return };
        // Who asks for addresses is told the rest as well.
        if nic.six.as_ref().is_some_and(|six| six.wants_addresses() || !addresses) {
            return;
        }
        let (name, mac) = (nic.link.name.clone(), nic.mac().0);
        let socket = match packet::udp6(&name, CLIENT_PORT) {
            Ok(socket) => socket,
            Err(error) => return self.problem(format!("{name}: open the DHCPv6 socket: {error}")),
        };
        if self.leases.identifier.is_empty() {
            self.leases.identifier = self.identifier(mac);
        }
        let identity = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]);
        let (is_held, presence) = (held.is_some(), nic.presence);
        let identifier = self.leases.identifier.clone();
        let client = Client::new(addresses, identifier, identity, held, random(), now());
        let Some(nic) = self.nics.get_mut(&index) else { return };
        (nic.six, nic.six_socket) = (Some(client), Some(socket));
        if is_held {
            self.configure_six(index);
        }
        let is_elsewhere = is_held && presence != Presence::Same;
        self.step_six(index, if is_elsewhere { Happened::Replugged } else { Happened::Timer });
    }

    /// DUID-UUID (RFC 6355), which is what firmware and iPXE send, so that the lease stays the same; without one of the
    /// machine's, DUID-LL.
    pub fn identifier(&self, mac: [u8; 6]) -> Vec<u8> {
        let uuid = self.root.line("/sys/class/dmi/id/product_uuid").unwrap_or_default();
        let digits: Vec<u8> = uuid.bytes().filter(|c| *c != b'-').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        match bytes.filter(|bytes| bytes.len() == 16 && bytes.iter().any(|byte| !matches!(byte, 0 | 0xff))) {
            Some(bytes) => [&[0, 4], &bytes[..]].concat(),
            None => [&[0, 3, 0, 1], &mac[..]].concat(),
        }
    }

    pub fn receive_six(&mut self, index: u32) {
        let mut buffer = vec![0; PACKET];
        for _ in 0..TURN {
            let Some(nic) = self.nics.get(&index) else { return };
            let (Some(socket), Some(six)) = (&nic.six_socket, &nic.six) else { return };
            let name = nic.link.name.clone();
            let length = match packet::receive(socket, &mut buffer) {
                Ok(Some(length)) => length,
                Ok(None) => return,
                Err(error) => return host::log!("{name}: receive DHCPv6: {error}"),
            };
            let (transaction, identifier, identity) = six.exchange();
            match decode(&buffer[..length], transaction, identifier, identity) {
                Ok(Some(message)) => self.step_six(index, Happened::Received(message)),
                Ok(None) => {}
                Err(reason) => self.malformed(index, &reason),
            }
        }
    }

    pub fn step_six(&mut self, index: u32, event: Happened) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let Some(six) = &nic.six else { return };
        let (next, actions) = step(six, event, now(), random());
        nic.six = Some(next);
        for action in actions {
            self.act_six(index, action);
        }
    }

    pub fn act_six(&mut self, index: u32, action: Action) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let name = nic.link.name.clone();
        match action {
            Action::Say(text) => host::log!("{name}: {text}"),
            Action::Warn(text) => self.problem(format!("{name}: {text}")),
            Action::Send(message) => {
                let to = (SERVERS, SERVER_PORT);
                let sent = nic
                    .six_socket
                    .as_ref()
                    .map(|socket| packet::send_udp6(socket, index, to, &message.encode()));
                if let Some(Err(error)) = sent {
                    host::log!("{name}: send DHCPv6: {error}"); // retransmitted anyway
                }
            }
            Action::Configure => self.configure_six(index),
            Action::Remove(addresses) => {
                nic.six_configured.retain(|own| !addresses.contains(own));
                for address in addresses {
                    self.take(index, leased_address(IpAddr::V6(address), SIX_PREFIX));
                }
            }
        }
    }

    pub fn configure_six(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let Some(held) = nic.six.as_ref().and_then(|six| six.held.clone()) else { return };
        let name = nic.link.name.clone();
        let left: Vec<(Ipv6Addr, u32)> = held.left(now()).collect();
        nic.six_configured = left.iter().map(|(address, _)| *address).collect();
        for (address, left) in left {
            let Some(nic) = self.nics.get(&index) else { return };
            // What is stated as well does not end with the lease.
            let is_stated = nic.states(&self.plans.current, IpAddr::V6(address), SIX_PREFIX);
            let (seconds, preferred) =
                if is_stated { (u32::MAX, u32::MAX) } else { (left, held.preferred(address, now())) };
            let (prefix, peer) = (SIX_PREFIX, None);
            let given = Given { address: IpAddr::V6(address), prefix, peer, seconds, preferred };
            self.other(format!("give {name} {address}/{SIX_PREFIX}"), |sequence| {
                rtnl::add_address(sequence, index, &given)
            });
        }
    }
}
