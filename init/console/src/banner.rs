//! What a console says: pure text from the services' state files.

use contract::state;
use contract::text::Untrusted;
use std::fmt::Write;

/// All that the banner is made of.
pub struct Facts {
    pub sshd: state::Sshd,
    pub netd: state::Netd,
    pub init: state::Init,
    pub layers: state::Layers,
    pub devd: state::Devd,
    /// The one-time password; on consoles and nowhere else.
    pub password: Option<String>,
}

impl Facts {
    /// Enough is known for a login: a listening server with a key, and an address.
    pub fn complete(&self) -> bool {
        self.sshd.listening && !self.sshd.host_key.is_empty() && self.addresses().next().is_some()
    }

    fn addresses(&self) -> impl Iterator<Item = &str> {
        self.netd.links.iter().flat_map(|link| &link.addresses).map(|address| address.address.as_str())
    }

    pub fn banner(&self) -> String {
        let mut text = format!(
            "\n\nLifeboat {}: no disk is written to until you type a command that writes.\n\n",
            Untrusted(&self.init.version)
        );
        let addresses: Vec<&str> = self.addresses().collect();
        if self.sshd.host_key.is_empty() {
            let waits = printable(&self.sshd.waits);
            let waits = if waits.is_empty() { "not up yet".to_string() } else { format!("waits {waits}") };
            let _ = writeln!(text, "  ssh           {waits}"); // a String takes all
        } else {
            self.ssh(&mut text, &addresses);
        }
        if addresses.is_empty() {
            text.push_str("  network       ");
            text.push_str(&self.why_no_address());
            text.push('\n');
        }
        if !self.netd.origin.is_empty() {
            let _ = writeln!(text, "  network by    {}", printable(&self.netd.origin)); // a String takes all
        }
        text
    }

    fn ssh(&self, text: &mut String, addresses: &[&str]) {
        // The alias is made of what the firmware calls the machine.
        let (port, key, alias) =
            (self.sshd.port, Untrusted(&self.sshd.host_key), Untrusted(&self.sshd.alias));
        let _ = writeln!(text, "  host key      ED25519 {}", Untrusted(&self.sshd.fingerprint)); // a String takes all
        if self.sshd.origin == "installed" {
            let _ = writeln!(text, "                of the system on {}", Untrusted(&self.sshd.system));
        }
        if !addresses.is_empty() {
            let names: Vec<String> = addresses
                .iter()
                .map(|address| Untrusted(address))
                .map(|address| if port == 22 { address.to_string() } else { format!("[{address}]:{port}") })
                .collect();
            let _ = writeln!(text, "  known_hosts   {} {key}", names.join(","));
        }
        let _ = writeln!(text, "  or by alias   {alias} {key}");
        for address in addresses {
            let port = if port == 22 { String::new() } else { format!("-p {port} ") };
            let _ = writeln!(
                text,
                "  log in with   ssh -o HostKeyAlias={alias} {port}root@{}",
                Untrusted(address)
            );
        }
        match &self.password {
            Some(password) => {
                let _ = writeln!(text, "  password      {password}   (for this boot only)");
            }
            None => {
                for key in &self.sshd.keys {
                    let _ = writeln!(text, "  may log in    {}", printable(key));
                }
            }
        }
    }

    /// What DNS holds of the host key: on the first screen where there is room.
    pub fn record(&self) -> String {
        self.sshd.sshfp.first().map(|record| format!("  for DNS       {record}\n")).unwrap_or_default()
    }

    /// What is shown when it is asked for: the records of all host keys, and the code, whole on one screen of 24 rows.
    /// Without a code, since this terminal shows none, where it is.
    pub fn code(&self, drawn: bool) -> String {
        let mut text: String = self.sshd.sshfp.iter().map(|record| format!("  {record}\n")).collect();
        match self.sshd.qr.as_str() {
            "" => text
                .push_str("  The QR code of the host key is made some seconds after the start: ask again.\n"),
            _ if !drawn => text.push_str(
                "  No QR code: the terminal at the other end does not say that it draws UTF-8.\n  \
                 It is .qr in /run/lifeboat/state/sshd.json\n",
            ),
            code => {
                text.push_str(code);
                text.push('\n');
            }
        }
        text
    }

    fn why_no_address(&self) -> String {
        if self.netd.links.is_empty() {
            return "no network card was found; is its driver in the image? see lspci -k".to_string();
        }
        let links: Vec<String> = self
            .netd
            .links
            .iter()
            .map(|link| format!("{} {} ({})", link.name, link.mac, link.state))
            .collect();
        format!("no address yet: {}", printable(&links.join(", ")))
    }

    /// What goes on, one line each, the same while it does.
    pub fn notes(&self) -> Vec<String> {
        let coming = self.layers.coming.iter();
        let line = |layer: &contract::state::Coming| {
            let mib = layer.bytes.div_ceil(1 << 20);
            printable(&format!("fetching layer {} ({mib} MiB) from {}", layer.name, layer.from))
        };
        coming.map(line).collect()
    }

    /// What is wrong, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let layers = self
            .layers
            .layers
            .iter()
            .filter_map(|layer| Some(format!("layer {}: {}", layer.name, layer.error.as_ref()?)));
        self.init
            .warnings
            .iter()
            .chain(&self.sshd.problems)
            .chain(&self.netd.problems)
            .chain(&self.devd.problems)
            .cloned()
            .chain(layers)
            .map(|line| printable(&line))
            .collect()
    }
}

/// Nothing that a disk, a peer or the command line said may steer the terminal.
fn printable(text: &str) -> String {
    Untrusted(text).to_string().chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            sshd: state::Sshd {
                port: 22,
                listening: true,
                host_key: "ssh-ed25519 AAAAkey".into(),
                fingerprint: "SHA256:print".into(),
                alias: "lifeboat-S1".into(),
                ..Default::default()
            },
            netd: state::Netd {
                links: vec![state::Link {
                    name: "eth0".into(),
                    addresses: vec![state::Address { address: "10.0.2.15".into(), ..Default::default() }],
                    ..Default::default()
                }],
                ..Default::default()
            },
            init: state::Init { version: "1.2".into(), ..Default::default() },
            layers: Default::default(),
            devd: Default::default(),
            password: Some("six little words".into()),
        }
    }

    #[test]
    fn the_lines_to_paste_stand_whole_on_the_console() {
        let text = facts().banner();
        for line in [
            "10.0.2.15 ssh-ed25519 AAAAkey\n",
            "lifeboat-S1 ssh-ed25519 AAAAkey\n",
            "ssh -o HostKeyAlias=lifeboat-S1 root@10.0.2.15\n",
            "SHA256:print\n",
            "six little words ",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }

    #[test]
    fn what_is_asked_for_stands_whole_on_the_smallest_screen() {
        let mut facts = facts();
        facts.sshd.sshfp = [4, 1].map(|kind| format!("IN SSHFP {kind} 2 {}", "0".repeat(64))).into();
        facts.sshd.qr = ["\u{2588}"; 21].join("\n");
        let screen = crate::screen::Screen { rows: 24, columns: 80, video: false };
        // The cursor stands on the last row.
        assert!(screen.rows_of(&facts.code(true)) < screen.rows, "{}", facts.code(true));
        assert!(facts.code(true).contains(&facts.sshd.qr) && facts.code(true).contains("IN SSHFP 1 2 00"));
        assert!(!facts.code(false).contains('\u{2588}') && facts.code(false).contains("sshd.json"));
        facts.sshd.qr.clear();
        assert!(facts.code(true).contains("ask again"));
    }

    #[test]
    fn whose_host_key_it_is_and_what_ssh_waits_for_is_said() {
        let mut facts = facts();
        assert!(!facts.banner().contains("of the system"));
        (facts.sshd.origin, facts.sshd.system) = ("installed".into(), "/dev/md2 (db1)".into());
        assert!(facts.banner().contains("of the system on /dev/md2 (db1)\n"), "{}", facts.banner());
        facts.sshd = state::Sshd { waits: "for the disks, 15 s at most".into(), ..Default::default() };
        assert!(
            facts.banner().contains("ssh           waits for the disks, 15 s at most\n"),
            "{}",
            facts.banner()
        );
    }

    #[test]
    fn another_port_is_in_every_line() {
        let mut facts = facts();
        facts.sshd.port = 2022;
        let text = facts.banner();
        assert!(
            text.contains("[10.0.2.15]:2022 ssh-ed25519") && text.contains("-p 2022 root@10.0.2.15"),
            "{text}"
        );
    }

    #[test]
    fn a_machine_without_network_says_why() {
        let mut facts = facts();
        facts.netd.links[0].addresses.clear();
        facts.netd.links[0].state = "no carrier".into();
        assert!(!facts.complete());
        assert!(facts.banner().contains("no address yet: eth0  (no carrier)"));
        facts.netd.links.clear();
        assert!(facts.banner().contains("no network card"));
    }

    #[test]
    fn warnings_cannot_steer_the_terminal() {
        let mut facts = facts();
        facts.init.warnings.push("unknown boot parameter \x1b[2J".into());
        facts.layers.layers.push(state::Layer { name: "10".into(), bytes: 1, error: Some("cut".into()) });
        assert_eq!(facts.warnings(), ["unknown boot parameter \\x1b[2J", "layer 10: cut"]);
    }

    #[test]
    fn no_text_of_a_firmware_a_server_or_a_key_steers_the_console() {
        for word in ["\x1b[2J", "a\nEVIL", "\u{202e}gpj", "\u{9b}2J\u{2028}", "\u{10ff9b}"] {
            let mut facts = facts();
            let link = &mut facts.netd.links[0];
            for text in [
                &mut facts.sshd.host_key,
                &mut facts.sshd.alias,
                &mut facts.sshd.fingerprint,
                &mut facts.init.version,
                &mut link.name,
                &mut link.mac,
                &mut link.state,
                &mut link.addresses[0].address,
            ] {
                text.push_str(word);
            }
            facts.sshd.keys.push(word.to_string());
            facts.netd.problems.push(word.to_string());
            let with = facts.banner() + &facts.warnings().join("\n");
            facts.password = None;
            facts.netd.links[0].addresses.clear();
            let without = facts.banner();
            for text in [with, without] {
                let steers = |c: char| contract::text::steers(c) && c != '\n';
                assert!(!text.contains(steers) && !text.contains("\nEVIL"), "{word:?}: {text:?}");
            }
        }
    }
}
