//! Keys from the metadata service of a cloud, by opt-in (`rescue.metadata=ec2`): the service is at a link-local address
//! without a name or a certificate, so on a machine that is in no such cloud whoever sits on its line could answer. Asked
//! by curl, by nobody, as URLs are ([`crate::fetch`]).

use crate::cloud::{self, Found};
use crate::settings::Settings;
use anyhow::{Context, Result};
use contract::cmdline::{self, Word};
use host::sys::inherited;
use host::volumes;
use std::fs::File;
use std::io::{Read, Write as _};
use std::process::{Command, Stdio};

const PARAMETER: &str = "rescue.metadata";
/// Most bytes of one answer.
const MAX_TEXT: u64 = 256 << 10;
/// Most keys that are asked for one by one.
const MAX_KEYS: usize = 32;
/// Exit statuses of curl(1): it could not begin, the server refused (`--fail`), too long an answer.
const TROUBLE: i32 = 2;
const REFUSED: i32 = 22;
const TOO_LONG: i32 = 63;

pub struct Service {
    pub name: &'static str,
    /// For people.
    pub shown: &'static str,
    host: &'static str,
    ask: fn(&Ask<'_>) -> Result<Found, i32>,
}

const LINK_LOCAL: &str = "http://169.254.169.254";

/// Sorted by name.
pub const SERVICES: &[Service] = &[
    // docs.digitalocean.com/reference/api/metadata
    Service {
        name: "digitalocean",
        shown: "DigitalOcean metadata",
        host: LINK_LOCAL,
        ask: |ask| Ok(cloud::listing(&ask.get("/metadata/v1/public-keys", "")?)),
    },
    Service { name: "ec2", shown: "EC2 metadata", host: LINK_LOCAL, ask: ec2 },
    // docs.hetzner.cloud, "Server metadata"
    Service {
        name: "hetzner",
        shown: "Hetzner metadata",
        host: LINK_LOCAL,
        ask: |ask| Ok(cloud::listing(&ask.get("/hetzner/v1/metadata/public-keys", "")?)),
    },
    // docs.openstack.org/nova, "Metadata service"
    Service {
        name: "openstack",
        shown: "OpenStack metadata",
        host: LINK_LOCAL,
        ask: |ask| Ok(cloud::openstack(&ask.get("/openstack/latest/meta_data.json", "")?)),
    },
    Service {
        name: "scaleway",
        shown: "Scaleway metadata",
        host: "http://169.254.42.42",
        ask: |ask| Ok(cloud::scaleway(&ask.get("/conf?format=json", "")?)),
    },
    // vultr.com/metadata
    Service {
        name: "vultr",
        shown: "Vultr metadata",
        host: LINK_LOCAL,
        ask: |ask| Ok(cloud::vultr(&ask.get("/v1.json", "")?)),
    },
];

/// What the boot parameter asks for: services in its order, whether volumes may be looked at, what is wrong with it.
pub struct Wish {
    pub services: Vec<&'static Service>,
    pub volumes: bool,
    pub problems: Vec<String>,
}

pub fn wish(words: &[Word]) -> Wish {
    let volumes = volumes::believed(words) != volumes::Believed::Nobody;
    let mut wish = Wish { services: Vec::new(), volumes, problems: Vec::new() };
    for name in cmdline::all(words, PARAMETER).flat_map(|value| value.split(',')).map(str::trim) {
        if name == volumes::NONE {
            wish.services = Vec::new();
        } else if name == volumes::DISK {
            // Of volumes: see there.
        } else if let Some(service) = by_name(name) {
            if !wish.services.iter().any(|known| known.name == name) {
                wish.services.push(service);
            }
        } else {
            let names: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
            let name: String = name.chars().take(64).collect();
            wish.problems.push(format!(
                "boot parameter {PARAMETER}: no service {}: it takes none, or some of disk, {}",
                name.escape_debug(),
                names.join(", ")
            ));
        }
    }
    wish
}

pub fn by_name(name: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|service| service.name == name)
}

/// For a process that is nobody already: asks, and tells on stdout in the form of [`cloud::sections`]. Gives curl's exit
/// status.
pub fn run(settings: &Settings, service: &Service) -> Result<i32> {
    let host = if settings.metadata.is_empty() { service.host } else { &settings.metadata };
    match (service.ask)(&Ask { settings, host }) {
        Err(status) => Ok(status),
        Ok(found) => {
            let mut stdout = File::from(inherited(1).try_clone_to_owned().context("stdout")?);
            stdout.write_all(cloud::section(service.shown, &found).as_bytes()).context("answer")?;
            Ok(0)
        }
    }
}

struct Ask<'a> {
    settings: &'a Settings,
    host: &'a str,
}

impl Ask<'_> {
    fn get(&self, path: &str, header: &str) -> Result<String, i32> {
        self.ask(&[], path, header)
    }

    /// The header goes by stdin, since it may hold a token, and everybody reads command lines.
    fn ask(&self, words: &[&str], path: &str, header: &str) -> Result<String, i32> {
        let mut curl = Command::new(&self.settings.curl)
            .args(["--disable", "--fail", "--silent", "--show-error", "--noproxy", "*", "--proto", "=http"])
            .args(["--connect-timeout", "3", "--max-time", "10", "--header", "@-"])
            .args(words)
            .args(["--url", &format!("{}{path}", self.host)])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|_| TROUBLE)?;
        let mut text = Vec::new();
        let (stdin, stdout) = (curl.stdin.take(), curl.stdout.take());
        let said = stdin.is_some_and(|mut stdin| stdin.write_all(header.as_bytes()).is_ok());
        let read = stdout.is_some_and(|stdout| stdout.take(MAX_TEXT).read_to_end(&mut text).is_ok());
        let whole = said && read && (text.len() as u64) < MAX_TEXT;
        if !whole {
            // It may have ended by itself.
            let _ = curl.kill();
        }
        match curl.wait().ok().and_then(|status| status.code()) {
            Some(0) if whole => Ok(host::text::text(&text)),
            Some(0) | None => Err(TOO_LONG),
            Some(status) => Err(status),
        }
    }
}

/// Instance metadata of Amazon EC2 and of those who do as it does: by a token (version 2), and where there is none,
/// without (docs.aws.amazon.com, "Use the Instance Metadata Service").
fn ec2(ask: &Ask<'_>) -> Result<Found, i32> {
    let header = "X-aws-ec2-metadata-token-ttl-seconds: 300";
    let header = match ask.ask(&["--request", "PUT"], "/latest/api/token", header) {
        Ok(token) if !token.trim().is_empty() => format!("X-aws-ec2-metadata-token: {}", token.trim()),
        Ok(_) | Err(REFUSED) => String::new(),
        Err(status) => return Err(status),
    };
    let list = match ask.get("/latest/meta-data/public-keys/", &header) {
        Ok(list) => list,
        // A machine that was made without a key has no such list.
        Err(REFUSED) => return Ok(Found::default()),
        Err(status) => return Err(status),
    };
    let mut found = Found::default();
    // `0=name`
    let numbers = list.lines().filter_map(|line| line.split('=').next()?.trim().parse::<u32>().ok());
    for number in numbers.take(MAX_KEYS) {
        let text = ask.get(&format!("/latest/meta-data/public-keys/{number}/openssh-key"), &header)?;
        found.keys.extend(cloud::listing(&text).keys);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_asked_in_the_order_in_which_they_were_named_and_only_then() {
        let wish = |line: &str| {
            let wish = super::wish(&cmdline::words(line));
            let names: Vec<&str> = wish.services.iter().map(|service| service.name).collect();
            (names.join(" "), wish.volumes, wish.problems.len())
        };
        assert_eq!(wish("quiet"), (String::new(), true, 0));
        assert_eq!(wish("rescue.metadata=openstack,ec2,ec2"), ("openstack ec2".into(), true, 0));
        assert_eq!(wish("rescue.metadata=ec2 rescue.metadata=hetzner"), ("ec2 hetzner".into(), true, 0));
        assert_eq!(wish("rescue.metadata=disk"), (String::new(), true, 0));
        assert_eq!(wish("rescue.metadata=none"), (String::new(), false, 0));
        assert_eq!(wish("rescue.metadata=azure,ec2"), ("ec2".into(), true, 1));
        assert!(SERVICES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
