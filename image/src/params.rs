//! `make params`: the words of a boot for what a person knows (an address, a gateway, a key), and what Lifeboat would say
//! of words that a person wrote, by the code that reads them at the boot. Nothing is guessed: what is wrong is an error
//! here, and not a line on a console far away.

use crate::keys;
use anyhow::{Context as _, Result, bail, ensure};
use contract::cmdline::{self, Word};
use contract::params;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(clap::Args, Debug, Default)]
pub struct Wanted {
    /// Addresses with their lengths, separated by commas: 192.0.2.5/24,2001:db8::5/64; DHCP where none is said.
    #[arg(long, default_value = "")]
    pub ip: String,
    /// Gateways, one of each family, separated by commas.
    #[arg(long, default_value = "")]
    pub gateway: String,
    /// The NIC: its MAC, or a name; the first one with a link where none is said.
    #[arg(long, default_value = "")]
    pub nic: String,
    /// The identifier of a VLAN that the addresses are on; the NIC has to be said.
    #[arg(long, default_value = "")]
    pub vlan: String,
    /// Name servers, separated by commas.
    #[arg(long, default_value = "")]
    pub dns: String,
    #[arg(long, default_value = "")]
    pub hostname: String,
    /// Consoles, separated by blanks: tty0 ttyS1,115200n8; the last one is the kernel's first.
    #[arg(long, default_value = "")]
    pub console: String,
    /// A file of public keys, as authorized_keys.
    #[arg(long)]
    pub keys: Option<PathBuf>,
    /// More words, as they are.
    #[arg(long, default_value = "")]
    pub words: String,
    /// One a line, for the file /etc/lifeboat/params, instead of one command line.
    #[arg(long)]
    pub lines: bool,
}

/// What a boot loader, or the file, is given.
pub fn make(wanted: &Wanted) -> Result<String> {
    let keys = wanted.keys.as_deref().map(keys::read).transpose()?.unwrap_or_default();
    let words = words(wanted, &keys)?;
    check(&words)?;
    // The kernel has its consoles before anybody could read the file, and init looks where the kernel does.
    ensure!(
        !wanted.lines || cmdline::last(&words, "console").is_none(),
        "console= counts on the kernel's command line alone, not in the file that LINES=1 writes: leave it out here"
    );
    let text: Vec<String> = words.iter().map(|word| shown(word, wanted.lines)).collect();
    if wanted.lines {
        return Ok(text.join("\n"));
    }
    let line = text.join(" ");
    ensure!(
        line.len() < cmdline::SUSPICIOUS_LENGTH,
        "these are {} bytes, and a kernel takes {}: put them into /etc/lifeboat/params (LINES=1)",
        line.len(),
        cmdline::SUSPICIOUS_LENGTH
    );
    Ok(line)
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn words(wanted: &Wanted, keys: &[keys::Key]) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut say = |name: &str, value: String| words.push(Word { name: name.into(), value: Some(value) });
    for console in wanted.console.split_ascii_whitespace() {
        say("console", console.into());
    }
    let mut interface = wanted.nic.replace(':', "-");
    if !wanted.vlan.is_empty() {
        ensure!(
            !wanted.nic.is_empty(),
            "VLAN={} needs NIC=, the MAC or the name of what it stands on",
            wanted.vlan
        );
        // A VLAN stands on a name.
        let below = match network::Mac::parse(&wanted.nic) {
            Some(mac) => {
                say("ifname", format!("lan0:{mac}"));
                "lan0".to_string()
            }
            None => wanted.nic.clone(),
        };
        interface = format!("{below}.{}", wanted.vlan);
        say("vlan", format!("{interface}:{below}"));
    }
    let mut gateways: Vec<IpAddr> = Vec::new();
    for text in list(&wanted.gateway) {
        gateways.push(text.parse().ok().with_context(|| format!("GATEWAY={text} is no address"))?);
    }
    let field = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    for text in list(&wanted.ip) {
        let (address, length) =
            text.split_once('/').with_context(|| format!("IP={text} has no length, such as /24"))?;
        let address: IpAddr = address.parse().ok().with_context(|| format!("IP={text} is no address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length: u8 = length
            .parse()
            .ok()
            .filter(|length| *length <= most)
            .with_context(|| format!("IP={text}: its length is 0 to {most}"))?;
        let at = gateways.iter().position(|gateway| gateway.is_ipv4() == address.is_ipv4());
        let gateway = at.map(|at| field(gateways.remove(at))).unwrap_or_default();
        say("ip", format!("{}::{gateway}:{length}::{interface}:off", field(address)));
    }
    if let Some(left) = gateways.first() {
        bail!("GATEWAY={left} belongs to none of IP={}", wanted.ip);
    }
    if wanted.ip.is_empty() && !interface.is_empty() {
        say("ip", format!("{interface}:dhcp"));
    }
    for server in list(&wanted.dns) {
        say("nameserver", server.into());
    }
    if !wanted.hostname.is_empty() {
        say("rescue.hostname", wanted.hostname.clone());
    }
    for key in keys {
        // A file's line needs no quotes, whatever the key's options have.
        let value = match wanted.lines {
            true => Some(key.line()),
            false => key.value(),
        };
        let value = value.context(
            "a key with options has no place on a command line: LINES=1 takes it, and KEYS of `make identity`",
        )?;
        say("ssh_key", value);
    }
    words.extend(cmdline::words(&wanted.words));
    Ok(words)
}

/// By what reads them at a boot: names, and of the network every value.
fn check(words: &[Word]) -> Result<()> {
    let mut wrong: Vec<String> = params::unknown(words).iter().map(ToString::to_string).collect();
    wrong.extend(network::dracut::read(words).problems);
    if let Some(name) = cmdline::last(words, "rescue.hostname").filter(|name| !network::is_host(name)) {
        wrong.push(format!("rescue.hostname={name}: not a host name"));
    }
    wrong.dedup();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// As the command line quotes it; a file's line needs no quotes.
fn shown(word: &Word, is_line: bool) -> String {
    match &word.value {
        None => word.name.clone(),
        Some(value) if value.contains(char::is_whitespace) && !is_line => {
            format!("{}=\"{value}\"", word.name)
        }
        Some(value) => format!("{}={value}", word.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::ED25519;
    use std::fs;

    fn made(wanted: &Wanted) -> String {
        make(wanted).unwrap_or_else(|error| panic!("{wanted:?}: {error:#}"))
    }

    #[test]
    fn what_a_person_knows_becomes_words_that_a_boot_reads() {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys");
        fs::write(&keys, format!("# mine\n{ED25519} me at home\n")).unwrap();
        let wanted = Wanted {
            ip: "192.0.2.5/24,2001:db8::5/64".into(),
            gateway: "192.0.2.1,fe80::1".into(),
            nic: "52:54:00:12:34:56".into(),
            dns: "192.0.2.53".into(),
            hostname: "rescue7".into(),
            console: "tty0 ttyS1,115200n8".into(),
            keys: Some(keys),
            words: "rescue.net=borrow".into(),
            ..Wanted::default()
        };
        assert_eq!(
            made(&wanted),
            format!(
                "console=tty0 console=ttyS1,115200n8 ip=192.0.2.5::192.0.2.1:24::52-54-00-12-34-56:off \
             ip=[2001:db8::5]::[fe80::1]:64::52-54-00-12-34-56:off nameserver=192.0.2.53 rescue.hostname=rescue7 \
             ssh_key={},me,at,home rescue.net=borrow",
                ED25519.replace(' ', ",")
            )
        );
        let lines = made(&Wanted { lines: true, console: String::new(), ..wanted });
        let key = format!("{ED25519} me at home");
        assert!(lines.lines().any(|line| line == format!("ssh_key={key}")), "{lines}");
        let read = cmdline::file_words(&lines);
        assert_eq!((read.len(), cmdline::last(&read, "ssh_key")), (6, Some(key.as_str())));
    }

    #[test]
    fn a_key_with_options_goes_into_the_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys");
        let key = format!("from=\"192.0.2.0/24\",no-pty {ED25519} me");
        fs::write(&keys, &key).unwrap();
        let wanted = Wanted { keys: Some(keys), ..Wanted::default() };
        assert!(make(&wanted).unwrap_err().to_string().contains("LINES=1"));
        let lines = made(&Wanted { lines: true, ..wanted });
        assert_eq!(cmdline::last(&cmdline::file_words(&lines), "ssh_key"), Some(key.as_str()));
    }

    /// What `make params` would run.
    fn make_params(environment: &[(&str, &str)], typed: &[&str]) -> String {
        let mut make = std::process::Command::new("make");
        make.args(["-n", "params"]).args(typed).current_dir(crate::vm::programs::source());
        // Of the make that runs the tests.
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"] {
            make.env_remove(name);
        }
        let output = make.envs(environment.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn what_the_environment_says_is_no_word_of_a_boot() {
        let names = ["IP", "GATEWAY", "NIC", "VLAN", "DNS", "HOSTNAME", "CONSOLE", "KEYS", "WORDS", "LINES"];
        let ran = make_params(&names.map(|name| (name, "strange")), &["VLAN=5"]);
        assert!(!ran.contains("strange") && !ran.contains("--lines") && ran.contains("--vlan '5'"), "{ran}");
        let ran =
            make_params(&[], &names.map(|name| format!("{name}=t,{name}")).each_ref().map(String::as_str));
        for name in names.into_iter().filter(|name| *name != "LINES") {
            assert!(ran.contains(&format!("'t,{name}'")), "{name}: {ran}");
        }
        assert!(ran.contains("--lines"), "{ran}");
    }

    #[test]
    fn a_vlan_stands_on_a_nic_that_has_a_name() {
        let wanted = Wanted {
            ip: "192.0.2.5/24".into(),
            nic: "52:54:00:12:34:56".into(),
            vlan: "7".into(),
            ..Wanted::default()
        };
        assert_eq!(
            made(&wanted),
            "ifname=lan0:52:54:00:12:34:56 vlan=lan0.7:lan0 ip=192.0.2.5:::24::lan0.7:off"
        );
    }

    #[test]
    fn what_a_boot_would_complain_of_is_refused() {
        let words = |words: &str| Wanted { words: words.into(), ..Wanted::default() };
        let ip =
            |ip: &str, gateway: &str| Wanted { ip: ip.into(), gateway: gateway.into(), ..Wanted::default() };
        let cases = [
            (words("rescue.writeable"), "rescue.writable"),
            (words("ip=192.0.2.5::192.0.2.1:999.0::eth0:off"), "is not a netmask"),
            (words("sshkey=x"), "ssh_key"),
            (ip("192.0.2.5", ""), "has no length"),
            (ip("192.0.2.5/24", "2001:db8::1"), "belongs to none"),
            (ip("192.0.2.5/33", ""), "0 to 32"),
            (Wanted { vlan: "5".into(), ..Wanted::default() }, "needs NIC="),
            (Wanted { hostname: "a b".into(), ..Wanted::default() }, "not a host name"),
            (
                Wanted { console: "ttyS1".into(), lines: true, ..Wanted::default() },
                "on the kernel's command line alone",
            ),
            (Wanted { lines: true, ..words("console=ttyS1") }, "on the kernel's command line alone"),
            (words(&format!("pad={}", "x".repeat(2100))), "LINES=1"),
        ];
        for (wanted, reason) in cases {
            let error = make(&wanted).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
