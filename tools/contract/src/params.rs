//! PARAMS: every word of the command line that a part of Lifeboat reads. The grammar of a value
//! lives with its owner; here are the names, so that a word that nobody reads can be named.

use crate::cmdline::Word;
use crate::near::distance;

/// Who reads a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Init,
    Devd,
    Netd,
    Sshd,
    Layers,
    Console,
    /// The kernel or a boot loader; known, so that it is no near miss of ours.
    Kernel,
}

/// One row of PARAMS.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    pub name: &'static str,
    pub owner: Owner,
    pub repeatable: bool,
    /// The value must not be printed: into a log, an event or a state file.
    pub secret: bool,
    pub help: &'static str,
}

const fn p(name: &'static str, owner: Owner, repeatable: bool, secret: bool, help: &'static str) -> Param {
    Param { name, owner, repeatable, secret, help }
}

/// Sorted by name.
pub const PARAMS: &[Param] = &[
    p(
        "BOOTIF",
        Owner::Netd,
        false,
        false,
        "MAC of the NIC that was booted from, as PXELINUX and iPXE pass it: 01-52-54-00-12-34-56 or 52:54:00:12:34:56",
    ),
    p(
        "bond",
        Owner::Netd,
        true,
        false,
        "NAME:PORT,PORT:OPTION=VALUE,...[:MTU]: a bond of interfaces; options of the bonding driver, such as mode=802.3ad",
    ),
    p("bootdev", Owner::Netd, false, false, "name of the NIC whose default route is preferred"),
    p("bridge", Owner::Netd, true, false, "NAME:PORT,PORT: a bridge of interfaces"),
    p("console", Owner::Kernel, true, false, "a kernel console; Lifeboat opens a root shell on each"),
    p("ifname", Owner::Netd, true, false, "NAME:MAC: what to call the NIC with this MAC"),
    p(
        "ip",
        Owner::Netd,
        true,
        false,
        "dhcp (the default on every wired NIC), dhcp6, auto6, either6, link6, single-dhcp, off; IF:METHOD[:MTU[:MAC]]; ADDRESS:[PEER]:GATEWAY:MASK:HOST:IF:METHOD[:MTU[:MAC]|:DNS[:DNS[:NTP]]]",
    ),
    p(
        "ipa-agent-token",
        Owner::Sshd,
        false,
        true,
        "what Ironic and its agent know each other by, where Ironic hands it over on virtual media",
    ),
    p(
        "ipa-api-url",
        Owner::Sshd,
        false,
        false,
        "URL[,URL] of OpenStack Ironic's API, as Ironic writes it for its rescue: asked for root's password of this boot",
    ),
    p(
        "ipam",
        Owner::Netd,
        true,
        false,
        "MAC:[VLAN]:ADDRESS:MASK:GATEWAY:HOST:DNS,..:SEARCH,..:NTP,..: Tinkerbell's form, the MAC with dashes",
    ),
    p("nameserver", Owner::Netd, true, false, "address of a DNS server, used before those of a lease"),
    p("rd.bootif", Owner::Netd, false, false, "0: BOOTIF= is not heeded"),
    p("rd.peerdns", Owner::Netd, false, false, "0: name servers of leases and routers are not used"),
    p("rd.route", Owner::Netd, true, false, "NETWORK/LENGTH:GATEWAY[:IF]: a route"),
    p(
        "rescue.ca",
        Owner::Sshd,
        false,
        false,
        "file of certificates (PEM), from an appended cpio, that https URLs are checked by instead of the platform's roots",
    ),
    p(
        "rescue.console",
        Owner::Console,
        false,
        false,
        "what stands on the consoles: open (a root shell, the default), login (asks for the password), off",
    ),
    p(
        "rescue.events",
        Owner::Init,
        true,
        false,
        "devices that every event is written to as a JSON line, such as ttyS1 or ttyS0,virtio-ports/NAME; a virtio-serial port named lifeboat needs no word",
    ),
    p(
        "rescue.firmware",
        Owner::Layers,
        false,
        false,
        "no: the layer of rare firmware, where it did not come with the image, is not fetched either",
    ),
    p(
        "rescue.hostkey",
        Owner::Sshd,
        false,
        false,
        "fresh (the default), or installed[,SECONDS]: the host keys of the system on the disks, waited for 15 s",
    ),
    p("rescue.hostname", Owner::Netd, false, false, "host name, before any that a lease offers"),
    p(
        "rescue.layers",
        Owner::Layers,
        false,
        false,
        "http: or https: URL of the directory that layers of this image which did not come with it are fetched from",
    ),
    p(
        "rescue.metadata",
        Owner::Sshd,
        true,
        false,
        "metadata services asked for keys: ec2, openstack, hetzner, digitalocean, vultr, scaleway; disk: volumes that are disks, too; none: no volumes",
    ),
    p(
        "rescue.net",
        Owner::Netd,
        false,
        false,
        "borrow[,SECONDS]: without an address after 60 s, the network settings of the system on the disks are used",
    ),
    p(
        "rescue.password_hash",
        Owner::Sshd,
        false,
        true,
        "crypt(3) hash of root's password ($6$...), instead of a random one",
    ),
    p(
        "rescue.session",
        Owner::Sshd,
        false,
        false,
        "keep: an interactive login comes into a session that outlives the connection, as rescue session does",
    ),
    p("rescue.writable", Owner::Devd, false, false, "no write guard: every disk is writable from the start"),
    p(
        "ssh_key",
        Owner::Sshd,
        true,
        false,
        "public key that may log in as root, in the form of authorized_keys (blanks as commas or in quotes), or a URL of such",
    ),
    p("team", Owner::Netd, true, false, "NAME:PORT,PORT[:RUNNER]: made as the bond that does the same"),
    p(
        "vconsole.keymap",
        Owner::Console,
        false,
        false,
        "keymap of the virtual consoles, such as de or fr-latin9",
    ),
    p("vlan", Owner::Netd, true, false, "NAME:IF: a VLAN, whose number NAME ends in, such as eth0.5:eth0"),
];

/// Why a word of ours was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub name: String,
    /// The nearest known name, when one is near.
    pub nearest: Option<&'static str>,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unknown boot parameter {}", self.name.escape_debug())?;
        match self.nearest {
            Some(nearest) => write!(f, ": did you mean {nearest}?"),
            None => write!(f, ": it is ignored"),
        }
    }
}

/// Words that look meant for us and that nobody reads: any `rescue.` word, and near misses of a
/// name in PARAMS. Everything else on the line belongs to the kernel.
pub fn unknown(words: &[Word]) -> Vec<Unknown> {
    words
        .iter()
        .filter(|word| !PARAMS.iter().any(|param| param.name == word.name))
        .filter_map(|word| {
            let nearest = PARAMS
                .iter()
                .map(|param| (distance(&word.name, param.name), param.name))
                // Short names (ip) are near to everything; a near miss is one slip in a longer one.
                .filter(|(d, name)| {
                    *d <= if word.name.starts_with("rescue.") { 4 } else { 1 } && name.len() > 4
                })
                .min()
                .map(|(_, name)| name);
            let ours = word.name.starts_with("rescue.") || nearest.is_some();
            ours.then(|| Unknown { name: word.name.clone(), nearest })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::words;

    #[test]
    fn names_are_unique_and_sorted() {
        assert!(PARAMS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn every_parameter_is_documented() {
        let page = include_str!("../../../docs/parameters.md");
        for param in PARAMS {
            assert!(
                page.contains(&format!("| `{}", param.name)),
                "{} is not in docs/parameters.md",
                param.name
            );
        }
    }

    #[test]
    fn a_word_that_nobody_reads_is_named_with_its_nearest() {
        let cases: &[(&str, Option<Option<&str>>)] = &[
            ("quiet", None),
            ("root=/dev/sda1", None),
            ("ssh_key=x", None),
            ("sshkey=x", Some(Some("ssh_key"))),
            ("ssh-key=x", Some(Some("ssh_key"))),
            ("rescue.writeable", Some(Some("rescue.writable"))),
            ("rescue.passwordhash=x", Some(Some("rescue.password_hash"))),
            ("rescue.xyzzy=1", Some(None)),
            ("up=1", None),
            ("rd.neednet=1 rd.net.timeout.carrier=5", None),
        ];
        for (line, want) in cases {
            let got = unknown(&words(line)).into_iter().next().map(|u| u.nearest);
            assert_eq!(got, *want, "line {line:?}");
        }
    }
}
