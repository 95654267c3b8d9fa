//! When somebody can log in over the network: the one event that has addresses and host key together. The addresses are
//! netd's to say, in its state file, which is watched.

use crate::settings::Settings;
use contract::event::{Entrance, Event};
use contract::{paths, state};
use rustix::fs::inotify;
use std::fs;
use std::os::fd::OwnedFd;

/// More of them would burst the event.
const MAX_ADDRESSES: usize = 8;

pub struct Watch {
    /// `None` where the kernel has no inotify to give: the event comes when something else happens.
    changes: Option<OwnedFd>,
    told: Option<Entrance>,
}

impl Watch {
    pub fn new(settings: &Settings) -> Watch {
        let watch = || {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            inotify::add_watch(&fd, settings.path(paths::STATE), inotify::WatchFlags::MOVED_TO)?;
            Ok(fd)
        };
        let changes =
            watch().map_err(|error: rustix::io::Errno| host::log!("watch {}: {error}", paths::STATE));
        Watch { changes: changes.ok(), told: None }
    }

    pub fn descriptor(&self) -> Option<&OwnedFd> {
        self.changes.as_ref()
    }

    /// Tells what is new.
    pub fn look(&mut self, settings: &Settings, sshd: &state::Sshd) {
        if let Some(changes) = &self.changes {
            let mut buffer = [0; 4096];
            while matches!(rustix::io::read(changes, &mut buffer), Ok(1..)) {}
        }
        let netd: state::Netd = fs::read(settings.path(&paths::state("netd")))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let Some(entrance) = entrance(sshd, &netd) else { return };
        if self.told.as_ref() != Some(&entrance) {
            let entrance = self.told.insert(entrance).clone();
            host::events::tell(&Event::Ready { service: "rescue".to_string(), entrance: Some(entrance) });
        }
    }
}

/// `None` while nobody can come in.
fn entrance(sshd: &state::Sshd, netd: &state::Netd) -> Option<Entrance> {
    let addresses = netd.links.iter().flat_map(|link| &link.addresses).map(|address| address.address.clone());
    let addresses: Vec<String> = addresses.take(MAX_ADDRESSES).collect();
    (sshd.listening && !addresses.is_empty()).then(|| Entrance {
        addresses,
        port: sshd.port,
        line: sshd.host_key.clone(),
        fingerprint: sshd.fingerprint.clone(),
        alias: sshd.alias.clone(),
        sshfp: sshd.sshfp.first().cloned().unwrap_or_default(),
        origin: sshd.origin.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_come_before_there_is_an_address_and_a_server() {
        let sshd = state::Sshd { listening: true, port: 22, ..Default::default() };
        let address = |text: &str| state::Address { address: text.into(), ..Default::default() };
        let link =
            state::Link { addresses: vec![address("10.0.2.15"), address("fec0::1")], ..Default::default() };
        let netd = state::Netd { links: vec![link], ..Default::default() };
        assert_eq!(entrance(&sshd, &netd).unwrap().addresses, ["10.0.2.15", "fec0::1"]);
        assert_eq!(entrance(&sshd, &state::Netd::default()), None);
        assert_eq!(entrance(&state::Sshd { listening: false, ..sshd }, &netd), None);
    }

    #[test]
    fn the_event_stays_below_its_limit_on_a_machine_of_many_addresses() {
        let long = "2001:0db8:1111:2222:3333:4444:5555:6666";
        let addresses = vec![state::Address { address: long.into(), ..Default::default() }; 40];
        let netd = state::Netd {
            links: vec![state::Link { addresses, ..Default::default() }],
            ..Default::default()
        };
        let sshd = state::Sshd {
            listening: true,
            host_key: format!("ssh-ed25519 {}", "A".repeat(68)),
            fingerprint: format!("SHA256:{}", "f".repeat(43)),
            alias: format!("lifeboat-{}", "S".repeat(64)),
            sshfp: vec![format!("IN SSHFP 4 2 {}", "0".repeat(64))],
            origin: "installed".into(),
            ..Default::default()
        };
        let event = Event::Ready { service: "rescue".into(), entrance: entrance(&sshd, &netd) };
        assert!(host::events::line(&event).is_some_and(|line| line.contains(long)));
    }
}
