//! DHCPv4 on the links that want it: what the client (dhcp) decides is sent, received and configured; and ARP, by which it
//! is seen whether somebody else has an address.

use crate::dhcp::machine::{Action, Client, Event as Happened, Held, step};
use crate::dhcp::message::{CLIENT_PORT, SERVER_PORT, broadcast_packet, decode_packet};
use crate::nics::Presence;
use crate::rtnl::{self, Given};
use crate::{Netd, PACKET, PROBE, TURN, arp, leased_address, now, random};
use contract::event::Event;
use host::sys::packet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

/// Malformed answers on one link that a person is told of.
const MALFORMED: u32 = 5;

impl Netd {
    /// Starts DHCP on a link, with the lease of an earlier life if there is one.
    pub fn begin(&mut self, index: u32) {
        let Some(nic) = self.nics.get(&index) else { return };
        let held = self.leases.four.get(&nic.key());
        let held = held.filter(|held| held.expires().is_none_or(|end| end > now())).cloned();
        match (nic.presence, held) {
            (Presence::Same, held) => self.begin_with(index, held, Happened::Timer),
            (Presence::Replugged, held) => self.begin_with(index, held, Happened::Renew),
            (Presence::Came, held) => {
                self.begin_with(index, None, Happened::Want(held.map(|held| held.lease)))
            }
        }
    }

    pub fn begin_with(&mut self, index: u32, held: Option<Held>, first: Happened) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        match packet::open(index, CLIENT_PORT) {
            Ok(socket) => nic.socket = Some(socket),
            Err(error) => {
                let name = nic.link.name.clone();
                return self.problem(format!("{name}: open a packet socket: {error}"));
            }
        }
        let adopted = held.is_some();
        nic.client =
            Some(Client::new(nic.mac().0, self.plans.current.hostname.clone(), held, random(), now()));
        if adopted {
            self.configure(index);
        }
        self.step(index, first);
    }

    pub fn receive(&mut self, index: u32) {
        let mut buffer = vec![0; PACKET];
        for _ in 0..TURN {
            let Some(nic) = self.nics.get_mut(&index) else { return };
            let (Some(socket), Some(client)) = (&nic.socket, &nic.client) else { return };
            let length = match packet::receive(socket, &mut buffer) {
                Ok(Some(length)) => length,
                Ok(None) => return,
                Err(error) => return host::log!("{}: receive: {error}", nic.link.name), // a link that went down
            };
            match decode_packet(&buffer[..length], client.xid(), client.mac) {
                Ok(Some(message)) => self.step(index, Happened::Received(message)),
                Ok(None) => {}
                Err(reason) => self.malformed(index, &reason),
            }
        }
    }

    /// An answer that is none. Whoever sends nothing else must not fill the consoles.
    pub fn malformed(&mut self, index: u32, reason: &str) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        nic.malformed = nic.malformed.saturating_add(1);
        let name = nic.link.name.clone();
        match nic.malformed {
            0..MALFORMED => self.problem(format!("{name}: {reason}")),
            MALFORMED => self.problem(format!("{name}: {reason}; more of this kind is not told")),
            _ => {}
        }
    }

    pub fn step(&mut self, index: u32, event: Happened) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let Some(client) = &nic.client else { return };
        let free = is_free(client, &event);
        let (next, actions) = step(client, event, now(), random());
        let held = next.lease().map(|lease| lease.address);
        let free = free.filter(|address| next.probing().is_none() && held == Some(*address));
        nic.client = Some(next);
        nic.stop_listening();
        for action in actions {
            self.act(index, action);
        }
        if let Some(address) = free {
            self.announce(index, address);
        }
    }

    /// Tells the link who has a leased address (RFC 2131 section 4.4.1).
    fn announce(&self, index: u32, address: Ipv4Addr) {
        let Some(nic) = self.nics.get(&index) else { return };
        let announced = packet::open_arp(index)
            .and_then(|socket| packet::broadcast_arp(&socket, index, &arp::announce(nic.mac().0, address)));
        if let Err(error) = announced {
            host::log!("{}: announce {address}: {error}", nic.link.name);
        }
    }

    pub fn act(&mut self, index: u32, action: Action) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let name = nic.link.name.clone();
        match action {
            Action::Say(text) => host::log!("{name}: {text}"),
            Action::Warn(text) => self.problem(format!("{name}: {text}")),
            Action::Probe(address) => match packet::open_arp(index) {
                Ok(socket) => {
                    if let Err(error) =
                        packet::broadcast_arp(&socket, index, &arp::probe(nic.mac().0, address))
                    {
                        host::log!("{name}: probe {address}: {error}");
                    }
                    nic.arp = Some(socket);
                }
                // Without the probe the address is used as any client uses it.
                Err(error) => host::log!("{name}: open an ARP socket: {error}"),
            },
            Action::Broadcast(message) => {
                let packet = broadcast_packet(&message.encode(), message.client);
                let sent = nic.socket.as_ref().map(|socket| packet::broadcast(socket, index, &packet));
                if let Some(Err(error)) = sent {
                    host::log!("{name}: send: {error}"); // retransmitted anyway
                }
            }
            Action::Unicast(server, message) => {
                let sent = nic.udp.as_ref().map(|udp| {
                    packet::send_udp(udp, SocketAddrV4::new(server, SERVER_PORT), &message.encode())
                });
                if let Some(Err(error)) = sent {
                    host::log!("{name}: send to {server}: {error}");
                }
            }
            Action::Configure => self.configure(index),
            Action::Remove(address) => {
                nic.udp = None;
                let prefix = nic.configured.take().map_or(32, |(_, prefix)| prefix);
                self.take(index, leased_address(IpAddr::V4(address), prefix));
            }
        }
    }

    /// Puts the lease of a link into the kernel and writes it down.
    pub fn configure(&mut self, index: u32) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let Some(held) = nic.client.as_ref().and_then(|client| client.held.clone()) else { return };
        let (name, lease) = (nic.link.name.clone(), &held.lease);
        let end = held.expires().filter(|_| {
            // What is stated as well does not end with the lease.
            !nic.states(&self.plans.current, IpAddr::V4(lease.address), lease.prefix)
        });
        let seconds = end.map_or(u32::MAX, |end| end.saturating_sub(now()).as_secs().max(1) as u32);
        let news = nic.configured != Some((lease.address, lease.prefix));
        // While it is asked who has it, nothing is claimed.
        let is_probed = nic.client.as_ref().is_some_and(|client| client.probing().is_some());
        nic.configured = Some((lease.address, lease.prefix));
        if nic.order.is_none() {
            nic.order = Some(self.counted);
            self.counted += 1;
        }
        let (address, prefix) = (lease.address, lease.prefix);
        let given = Given { address: IpAddr::V4(address), prefix, peer: None, seconds, preferred: u32::MAX };
        self.other(format!("give {name} {address}/{prefix}"), |sequence| {
            rtnl::add_address(sequence, index, &given)
        });
        if news && !is_probed {
            self.announce(index, address);
        }
        if news {
            host::log!("{name}: {address}/{prefix} from {}, {} s", lease.server, lease.seconds);
            host::events::tell(&Event::Address {
                interface: name.clone(),
                address: address.to_string(),
                gateway: lease.gateway.map(|gateway| gateway.to_string()),
            });
            match packet::udp(&name, address, CLIENT_PORT) {
                Ok(udp) => {
                    if let Some(nic) = self.nics.get_mut(&index) {
                        nic.udp = Some(udp);
                    }
                }
                Err(error) => self.problem(format!("{name}: open the renewal socket: {error}")),
            }
        }
    }

    /// Asks whether somebody has a stated address, and tells the link that it is here. It is used in any case: a person
    /// said so, and IPv6 looks by itself.
    pub fn claim(&mut self, index: u32, address: Ipv4Addr) {
        let Some(nic) = self.nics.get_mut(&index) else { return };
        let mac = nic.mac().0;
        let claimed = nic.arp.take().map_or_else(|| packet::open_arp(index), Ok).and_then(|socket| {
            packet::broadcast_arp(&socket, index, &arp::probe(mac, address))?;
            packet::broadcast_arp(&socket, index, &arp::announce(mac, address))?;
            Ok(socket)
        });
        match claimed {
            Ok(socket) => {
                nic.arp = Some(socket);
                nic.probing.retain(|(known, _)| *known != address);
                nic.probing.push((address, now() + PROBE));
            }
            Err(error) => host::log!("{}: probe {address}: {error}", nic.link.name),
        }
    }

    /// Answers to the probe of an offered address.
    pub fn receive_arp(&mut self, index: u32) {
        let mut buffer = [0; 128];
        let own: Vec<[u8; 6]> = self.nics.values().map(|nic| nic.mac().0).collect();
        for _ in 0..TURN {
            let Some(nic) = self.nics.get_mut(&index) else { return };
            let Some(socket) = &nic.arp else { return };
            let length = match packet::receive(socket, &mut buffer) {
                Ok(Some(length)) => length.min(buffer.len()),
                Ok(None) => return,
                Err(error) => return host::log!("{}: receive ARP: {error}", nic.link.name),
            };
            let claims = |address| arp::claims(&buffer[..length], nic.mac().0, address);
            let offered = nic.client.as_ref().and_then(Client::probing).and_then(claims);
            let contested = nic.contested(&buffer[..length], &own);
            let name = nic.link.name.clone();
            if let Some(mac) = offered {
                self.step(index, Happened::Conflict(mac));
            }
            if let Some((mac, address)) = contested {
                let mac = network::Mac(mac);
                self.problem(format!(
                    "{name}: {mac} has {address} already, which was asked for here: used all the same; if this machine cannot be reached, that is why"
                ));
            }
        }
    }
}

/// The address that is being probed, which nobody has unless this event says so.
fn is_free(client: &Client, event: &Happened) -> Option<Ipv4Addr> {
    client.probing().filter(|_| !matches!(event, Happened::Conflict(_)))
}
