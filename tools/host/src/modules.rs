//! Kernel modules: the indices of /usr/lib/modules/KVER (modules.dep(5), modules.alias,
//! modules.softdep, modules.builtin), and loading by name or alias with what a module depends on.

use crate::Root;
use crate::sys::kmod;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

/// Deepest chain of dependencies followed; the kernel's own have fewer than ten links.
const DEEPEST: usize = 32;

/// What of the devices that a module brings up is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probes {
    /// Its own devices in their order, and after that every probe that runs anywhere: for ever, where
    /// a disk hangs.
    Awaited,
    /// None: they come up when they do.
    Left,
}

#[derive(Clone, Debug, Default)]
pub struct Index {
    directory: PathBuf,
    /// Name to file below `directory`.
    files: HashMap<String, String>,
    /// Name to the names that have to be there before, in loading order.
    needs: HashMap<String, Vec<String>>,
    /// (pattern, module) by the alias's bus: what stands before its first colon.
    aliases: HashMap<String, Vec<(String, String)>>,
    /// Names to load before and after.
    soft: BTreeMap<String, (Vec<String>, Vec<String>)>,
    builtin: Vec<String>,
    /// Firmware files that a module asks for.
    firmware: HashMap<String, Vec<String>>,
}

impl Index {
    /// Reads the running kernel's indices; absent ones are empty.
    pub fn read(root: &Root) -> Index {
        let release = root.line("/proc/sys/kernel/osrelease").unwrap_or_default();
        let directory = format!("/usr/lib/modules/{release}");
        let text = |name: &str| root.read_text(format!("{directory}/{name}")).unwrap_or_default();
        Index::parse(
            directory.clone().into(),
            [
                text("modules.dep"),
                text("modules.alias"),
                text("modules.softdep"),
                text("modules.builtin"),
                text("modules.firmware"),
            ],
        )
    }

    fn parse(directory: PathBuf, [dep, alias, soft, builtin, firmware]: [String; 5]) -> Index {
        let mut index = Index { directory, ..Index::default() };
        for line in dep.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            let name = name_of(file);
            // The last of the line is to be loaded first.
            index.needs.insert(name.clone(), needs.split_ascii_whitespace().rev().map(name_of).collect());
            index.files.insert(name, file.to_string());
        }
        for line in alias.lines() {
            if let ["alias", pattern, module] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                let entry = index.aliases.entry(bus(pattern).to_string()).or_default();
                entry.push((pattern.to_string(), module.to_string()));
            }
        }
        for line in soft.lines() {
            let Some((module, rest)) = line.strip_prefix("softdep ").and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            let (mut before, mut after, mut is_after) = (Vec::new(), Vec::new(), false);
            for word in rest.split_ascii_whitespace() {
                match word {
                    "pre:" => is_after = false,
                    "post:" => is_after = true,
                    // As written: an alias (`crypto-crc32c`) is no name.
                    wanted if is_after => after.push(wanted.to_string()),
                    wanted => before.push(wanted.to_string()),
                }
            }
            let entry = index.soft.entry(normal(module)).or_default();
            entry.0.extend(before);
            entry.1.extend(after);
        }
        for line in firmware.lines() {
            let Some((module, files)) = line.split_once(':') else { continue };
            index
                .firmware
                .insert(normal(module), files.split_ascii_whitespace().map(str::to_string).collect());
        }
        index.builtin = builtin.lines().map(name_of).collect();
        index
    }

    /// Modules for a name (`raid456`) or an alias (`pci:v00001AF4d...`, `fs-xfs`), most of them one.
    pub fn resolve(&self, wanted: &str) -> Vec<String> {
        let name = normal(wanted);
        if self.files.contains_key(&name) {
            return vec![name];
        }
        let mut found: Vec<String> = Vec::new();
        for (pattern, module) in self.aliases.get(bus(wanted)).into_iter().flatten() {
            if fnmatch(pattern.as_bytes(), wanted.as_bytes()) && !found.contains(module) {
                found.push(module.clone());
            }
        }
        found
    }

    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normal(name))
    }

    /// What has to be loaded before the module, all of it.
    pub fn needs(&self, module: &str) -> &[String] {
        self.needs.get(&normal(module)).map_or(&[], Vec::as_slice)
    }

    /// Firmware files that the module may ask for, below /lib/firmware.
    pub fn firmware(&self, module: &str) -> &[String] {
        self.firmware.get(&normal(module)).map_or(&[], Vec::as_slice)
    }

    /// Whether the module's file lies below `kernel/PART`, such as `drivers/net/`.
    pub fn is_below(&self, module: &str, part: &str) -> bool {
        self.files.get(module).is_some_and(|file| file.starts_with(&format!("kernel/{part}")))
    }

    /// Loads a module with all that it needs, softly and hard. Built-in: nothing to do.
    ///
    /// Errors: `NotFound` for a name that no index has, else what the kernel said of the module.
    pub fn load(&self, root: &Root, name: &str, probes: Probes) -> io::Result<()> {
        self.load_below(root, &normal(name), 0, probes)
    }

    fn load_below(&self, root: &Root, name: &str, depth: usize, probes: Probes) -> io::Result<()> {
        if is_loaded(root, name) || self.is_builtin(name) || depth > DEEPEST {
            return Ok(());
        }
        let Some(file) = self.files.get(name) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no module {name} in the image")));
        };
        let soft = self.soft.get(name).cloned().unwrap_or_default();
        for before in &soft.0 {
            self.load_softly(root, before, depth);
        }
        for needed in self.needs.get(name).into_iter().flatten() {
            self.load_below(root, needed, depth + 1, Probes::Left)?;
        }
        // A wait that never ends must not come before what is still to be loaded.
        let parameters = match probes {
            Probes::Awaited if soft.1.is_empty() => "async_probe=0",
            _ => "async_probe",
        };
        kmod::load(&self.directory.join(file), parameters)
            .map_err(|error| io::Error::new(error.kind(), format!("load {name}: {error}")))?;
        crate::devices::hold(root, name);
        for after in &soft.1 {
            self.load_softly(root, after, depth);
        }
        Ok(())
    }

    /// Without it the other still works, if less well.
    fn load_softly(&self, root: &Root, wanted: &str, depth: usize) {
        for name in self.resolve(wanted) {
            if let Err(error) = self.load_below(root, &name, depth + 1, Probes::Left) {
                crate::log!("{error}");
            }
        }
    }
}

/// Loads modules by name, as a program does that needs them itself.
pub fn load_all(root: &Root, names: &[&str]) -> io::Result<()> {
    let index = Index::read(root);
    names.iter().try_for_each(|name| index.load(root, name, Probes::Left))
}

/// Loaded and past its init, or built in with parameters.
pub fn is_loaded(root: &Root, name: &str) -> bool {
    match root.line(format!("/sys/module/{}/initstate", normal(name))) {
        Some(state) => state == "live",
        None => false,
    }
}

/// `kernel/drivers/net/e1000-x.ko.xz` is `e1000_x`.
fn name_of(file: &str) -> String {
    let base = file.trim().rsplit('/').next().unwrap_or(file);
    normal(base.split(".ko").next().unwrap_or(base))
}

/// The kernel and its tools take `-` and `_` for the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn bus(alias: &str) -> &str {
    alias.split([':', '-']).next().unwrap_or(alias)
}

/// fnmatch(3) without flags, as modules.alias is written for: `*`, `?` and `[...]`.
fn fnmatch(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last `*`: linear in space, and never worse than pattern times text.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let matched = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => {
                class(&pattern[p..], text[t]).and_then(|(length, is_in)| is_in.then_some(p + length))
            }
            Some(c) if *c == text[t] => Some(p + 1),
            _ => None,
        };
        match (matched, retry) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((after, from))) => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// A bracket expression at the start of `pattern`: its length and whether it holds `c`.
fn class(pattern: &[u8], c: u8) -> Option<(usize, bool)> {
    let end = pattern.iter().skip(1).position(|c| *c == b']')? + 1;
    let mut set = &pattern[1..end];
    let mut is_in = false;
    while let [low, rest @ ..] = set {
        if let [b'-', high, rest @ ..] = rest {
            is_in |= (*low..=*high).contains(&c);
            set = rest;
        } else {
            is_in |= *low == c;
            set = rest;
        }
    }
    Some((end + 1, is_in))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let texts = [
            "kernel/a/virtio_net.ko: kernel/a/net_failover.ko kernel/a/failover.ko\nkernel/a/net_failover.ko: kernel/a/failover.ko\nkernel/a/failover.ko:\nkernel/fs/xfs/xfs.ko.xz: \n",
            "alias virtio:d00000001v* virtio_net\nalias fs-xfs xfs\nalias crypto-crc32c crc32c_generic\nalias pci:v00008086d0000[10]0[0-9]Esv*sd* e1000\n",
            "softdep xfs pre: crypto-crc32c post: extra-one\n",
            "kernel/drivers/block/brd.ko\n",
            "xfs: a/b.bin c.bin\n",
        ];
        Index::parse("/m".into(), texts.map(str::to_string))
    }

    #[test]
    fn a_device_finds_its_module_and_a_module_what_it_needs_first() {
        let index = index();
        assert_eq!(index.resolve("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(index.resolve("fs-xfs"), ["xfs"]);
        assert_eq!(index.resolve("virtio-net"), ["virtio_net"]);
        assert_eq!(index.resolve("pci:v00008086d0000100Esv1sd2"), ["e1000"]);
        assert!(index.resolve("pci:v00008086d0000200Esv1sd2").is_empty());
        assert_eq!(index.needs["virtio_net"], ["failover", "net_failover"]);
        assert_eq!(index.soft["xfs"], (vec!["crypto-crc32c".to_string()], vec!["extra-one".to_string()]));
        assert_eq!(index.resolve("crypto-crc32c"), ["crc32c_generic"]);
        assert_eq!(index.firmware("xfs"), ["a/b.bin", "c.bin"]);
        assert!(index.is_builtin("brd"));
    }

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text, want) in [
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*bc*bc", "abcbcbc", true),
            ("a?c", "ac", false),
            ("a[0-9]", "a5", true),
            ("a[0-9", "a5", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(fnmatch(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
        // Not exponential.
        assert!(!fnmatch("*a*a*a*a*a*a*a*a*b".as_bytes(), &[b'a'; 2000]));
    }
}
