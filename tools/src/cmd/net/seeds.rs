//! `rescue net seed`, as far as it only reads: what a volume that was made for this machine says of its network.

use super::{Found, Source};
use anyhow::{Context as _, bail};
use host::Root;
use host::sys::process;
use host::volumes::{Believed, Kind, Volume};
use model::text::Untrusted;
use network::source::{File, MOST_BYTES};
use network::{Plan, cloud, openstack};

/// Whom a stranger's bytes are read as, where nothing is to be done with them: nobody, in Debian's words.
const NOBODY: u32 = 65_534;

type Parse = fn(&File) -> Plan;

fn file(kind: Kind) -> (&'static str, Parse) {
    match kind {
        Kind::NoCloud => ("network-config", cloud::read),
        Kind::ConfigDrive => ("openstack/latest/network_data.json", openstack::read),
    }
}

/// What one volume asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Seed {
    /// `NoCloud volume /dev/vda: network-config`
    origin: String,
    plan: Plan,
}

/// The first volume that says something.
pub fn found(root: &Root, only_look: bool, believed: Believed) -> Found<Seed> {
    let volumes = host::volumes::find_for(root, believed);
    let is_none = volumes.is_empty();
    let read = || -> anyhow::Result<Vec<(Volume, Content)>> {
        if is_none {
            bail!("there is no volume with the label cidata or config-2");
        }
        host::rescue::alone().context("be alone")?;
        let content = |volume: Volume| {
            let content = volume.read(&[file(volume.kind).0]);
            (volume, content.map(|files| files.into_iter().next().map(|(_, bytes)| bytes)))
        };
        let all = volumes.into_iter().map(content).collect();
        if only_look {
            process::drop_privileges(NOBODY).context("give up root")?;
        }
        Ok(all)
    };
    match read() {
        Ok(all) => chosen(all),
        Err(error) => Found { settings: Err(error), notes: Vec::new(), may_come: is_none },
    }
}

/// Of one volume: its file, where it has it, or what is wrong with the volume.
type Content = Result<Option<Vec<u8>>, String>;

fn chosen(volumes: Vec<(Volume, Content)>) -> Found<Seed> {
    let may_come = volumes.iter().all(|(_, content)| content.is_err());
    let mut lines = Vec::new();
    let mut seeds = Vec::new();
    for (volume, content) in volumes {
        let (name, parse) = file(volume.kind);
        let origin = format!("{}: {name}", volume.source());
        match content {
            Err(problem) => lines.push(format!("{} {problem}", volume.source())),
            Ok(None) => {}
            Ok(Some(bytes)) if bytes.len() > MOST_BYTES => {
                lines.push(format!("{origin} is too long: left out"))
            }
            Ok(Some(bytes)) => {
                let plan = parse(&File::new(&origin, &String::from_utf8_lossy(&bytes)));
                match plan.links.is_empty() {
                    true if plan.problems.is_empty() => {
                        lines.push(format!("{origin} describes no interface"))
                    }
                    true => lines.extend(plan.problems.iter().map(|line| Untrusted(line).to_string())),
                    false => seeds.push(Seed { origin, plan }),
                }
            }
        }
    }
    let mut seeds = seeds.into_iter();
    let first = seeds.next().context("no volume made for this machine says anything of the network");
    lines.extend(seeds.map(|more| format!("{} is not used: another volume comes first", more.origin)));
    Found { settings: first, notes: lines, may_come }
}

impl Source for Seed {
    fn shown(&self) -> String {
        format!("{}\n{}", self.origin, super::shown(&self.plan))
    }

    fn taken(self) -> anyhow::Result<(String, Plan)> {
        Ok((self.origin, self.plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(kind: Kind, path: &str) -> Volume {
        Volume { kind, path: path.to_string(), fstype: "vfat".to_string(), refusal: None }
    }

    const VERSION_2: &str =
        "version: 2\nethernets: {eth0: {addresses: [192.0.2.7/24], gateway4: 192.0.2.1}}\n";
    const NETWORK_DATA: &str = r#"{"links": [{"id": "a", "type": "phy", "ethernet_mac_address": "52:54:00:12:34:56"}],
        "networks": [{"id": "n", "link": "a", "type": "ipv4", "ip_address": "192.0.2.8", "netmask": "255.255.255.0"}]}"#;

    #[test]
    fn the_first_volume_that_says_something_is_taken_and_what_is_wrong_is_told() {
        let file = |text: &str| -> Content { Ok(Some(text.as_bytes().to_vec())) };
        let (cidata, config) = (volume(Kind::NoCloud, "/dev/vda"), volume(Kind::ConfigDrive, "/dev/sr0"));
        let of = |all: Vec<(Volume, Content)>| {
            let found = chosen(all);
            (
                found.settings.map(|seed| seed.shown()).map_err(|error| error.to_string()),
                found.notes,
                found.may_come,
            )
        };
        let (shown, lines, _) =
            of(vec![(cidata.clone(), file(VERSION_2)), (config.clone(), file(NETWORK_DATA))]);
        let first = "NoCloud volume /dev/vda: network-config\neth0: IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1\n";
        assert_eq!(shown.as_deref(), Ok(first));
        assert_eq!(
            lines,
            [
                "config drive /dev/sr0: openstack/latest/network_data.json is not used: another volume comes first"
            ]
        );
        let (shown, lines, _) = of(vec![(cidata.clone(), Ok(None)), (config.clone(), file(NETWORK_DATA))]);
        assert!(shown.is_ok_and(|text| text.contains("192.0.2.8/24")) && lines.is_empty(), "{lines:?}");
        for (content, want) in [
            (file("version: 2\n"), "NoCloud volume /dev/vda: network-config describes no interface"),
            (file("{"), "NoCloud volume /dev/vda: network-config"),
            (file(&" ".repeat(MOST_BYTES + 1)), "NoCloud volume /dev/vda: network-config is too long"),
            (Err("is not read: x".to_string()), "NoCloud volume /dev/vda is not read: x"),
        ] {
            let is_unread = content.is_err();
            let (shown, lines, may_come) = of(vec![(cidata.clone(), content)]);
            assert_eq!(may_come, is_unread, "another one may come: {lines:?}");
            assert!(shown.is_err_and(|error| error.contains("no volume made for this machine")));
            assert!(lines[0].starts_with(want), "{lines:?}");
        }
    }

    #[test]
    fn a_volume_s_words_steer_no_terminal() {
        let text =
            "version: 2\nethernets: {\"\\e[2J\": {dhcp4: true, gateway4: \"\\e[2J\"}, eth0: {mtu: 1400}}\n";
        let found = chosen(vec![(volume(Kind::NoCloud, "/dev/vda"), Ok(Some(text.as_bytes().to_vec())))]);
        let shown = found.settings.map(|seed| seed.shown()).unwrap_or_default() + &found.notes.join("\n");
        assert!(!shown.contains('\x1b'), "{shown}");
    }
}
