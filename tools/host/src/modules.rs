//! Kernel modules: the indices of /usr/lib/modules/KVER (modules.dep.bin, modules.alias.bin,
//! modules.builtin.bin, modules.softdep), and loading by name or alias with what a module depends on.

use crate::Root;
use crate::sys::kmod as kernel;
use contract::kmod;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

/// Below it, a directory for each release that there are modules of.
const DIRECTORY: &str = "/usr/lib/modules";
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
    /// Name to `FILE: FILE...`, the module's own and those that it needs, the first of them last.
    files: kmod::Index,
    /// Pattern to names.
    aliases: kmod::Index,
    builtin: kmod::Index,
    /// Names to load before and after.
    soft: BTreeMap<String, (Vec<String>, Vec<String>)>,
    /// Firmware files that a module asks for.
    firmware: HashMap<String, Vec<String>>,
}

/// Drivers whose init looks whether a probe has found a device, and which are gone again where none has yet: `init_ipmi_si` of
/// drivers/char/ipmi/ipmi_si_intf.c.
const AWAITED: &[&str] = &["ipmi_si"];

impl Index {
    /// Reads the running kernel's indices; absent ones are empty.
    pub fn read(root: &Root) -> Index {
        let release = root.line("/proc/sys/kernel/osrelease").unwrap_or_default();
        let directory = format!("{DIRECTORY}/{release}");
        let index = |name: &str| {
            kmod::Index::new(root.read(format!("{directory}/modules.{name}.bin")).unwrap_or_default())
        };
        let text = |name: &str| root.read_text(format!("{directory}/modules.{name}")).unwrap_or_default();
        Index {
            files: index("dep"),
            aliases: index("alias"),
            builtin: index("builtin"),
            soft: soft(&text("softdep")),
            firmware: firmware(&text("firmware")),
            directory: directory.into(),
        }
    }

    /// Modules for a name (`raid456`) or an alias (`pci:v00001AF4d...`, `fs-xfs`), most of them one.
    pub fn resolve(&self, wanted: &str) -> Vec<String> {
        let name = normal(wanted);
        if self.files.find(&name).is_some() {
            return vec![name];
        }
        self.aliases.matching(&kmod::underscored(wanted))
    }

    /// The module's file, and the names of what it needs in the order of loading.
    fn found(&self, name: &str) -> Option<(String, Vec<String>)> {
        let line = self.files.find(&normal(name))?;
        let (file, needs) = line.split_once(':')?;
        Some((file.to_string(), needs.split_ascii_whitespace().rev().map(name_of).collect()))
    }

    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.find(&normal(name)).is_some()
    }

    /// What has to be loaded before the module, all of it.
    pub fn needs(&self, module: &str) -> Vec<String> {
        self.found(module).map_or_else(Vec::new, |(_, needs)| needs)
    }

    /// Firmware files that the module may ask for, below /lib/firmware.
    pub fn firmware(&self, module: &str) -> &[String] {
        self.firmware.get(&normal(module)).map_or(&[], Vec::as_slice)
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
        let Some((file, needs)) = self.found(name) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no module {name} in the image")));
        };
        let soft = self.soft.get(name).cloned().unwrap_or_default();
        for before in &soft.0 {
            self.load_softly(root, before, depth);
        }
        for needed in &needs {
            self.load_below(root, needed, depth + 1, Probes::Left)?;
        }
        kernel::load(&self.directory.join(file), parameters(name, probes, &soft.1))
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

/// `after`: what is loaded softly behind it. A wait that never ends must not come before that.
fn parameters(name: &str, probes: Probes, after: &[String]) -> &'static str {
    match probes {
        Probes::Awaited if after.is_empty() => "async_probe=0",
        Probes::Awaited | Probes::Left if AWAITED.contains(&name) => "async_probe=0",
        Probes::Awaited | Probes::Left => "async_probe",
    }
}

/// Loads modules by name, as a program does that needs them itself.
pub fn load_all(root: &Root, names: &[&str]) -> io::Result<()> {
    let index = Index::read(root);
    names.iter().try_for_each(|name| index.load(root, name, Probes::Left))
}

/// What is wrong where the image has modules, and none of the running kernel; for a person.
pub fn mismatch(root: &Root) -> Option<String> {
    let release = root.line("/proc/sys/kernel/osrelease")?;
    let names = root.list(DIRECTORY).ok()?;
    let mut others: Vec<String> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    others.sort();
    if others.is_empty() || others.contains(&release) {
        return None;
    }
    let others = others.join(" and ");
    Some(format!(
        "the kernel is {release}, and the image has modules of {others}: vmlinuz and initramfs are of two releases; serve both files of one build"
    ))
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

/// modules.softdep: `softdep MODULE pre: A B post: C`.
fn soft(text: &str) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let mut found: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for line in text.lines() {
        let Some((module, rest)) = line.strip_prefix("softdep ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let entry = found.entry(normal(module)).or_default();
        let mut is_after = false;
        for word in rest.split_ascii_whitespace() {
            match word {
                "pre:" => is_after = false,
                "post:" => is_after = true,
                // As written: an alias (`crypto-crc32c`) is no name.
                wanted if is_after => entry.1.push(wanted.to_string()),
                wanted => entry.0.push(wanted.to_string()),
            }
        }
    }
    found
}

/// modules.firmware, ours: `MODULE: FILE...`.
fn firmware(text: &str) -> HashMap<String, Vec<String>> {
    let split = |line: &str| {
        let (module, files) = line.split_once(':')?;
        Some((normal(module), files.split_ascii_whitespace().map(str::to_string).collect()))
    };
    text.lines().filter_map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_needs_its_probe_to_be_awaited_has_it_awaited() {
        let after = ["ipmi_devintf".to_string()];
        for (name, probes, after, want) in [
            ("virtio_net", Probes::Awaited, &[][..], "async_probe=0"),
            ("virtio_net", Probes::Left, &[], "async_probe"),
            ("ipmi_ssif", Probes::Awaited, &after, "async_probe"),
            ("ipmi_si", Probes::Awaited, &after, "async_probe=0"),
            ("ipmi_si", Probes::Left, &[], "async_probe=0"),
        ] {
            assert_eq!(parameters(name, probes, after), want, "{name}, {probes:?}");
        }
    }

    #[test]
    fn a_kernel_that_the_image_has_no_modules_of_is_named_with_that_which_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path()).unwrap();
        let put =
            |release: &str| std::fs::create_dir_all(directory.path().join("usr/lib/modules").join(release));
        std::fs::create_dir_all(directory.path().join("proc/sys/kernel")).unwrap();
        std::fs::write(directory.path().join("proc/sys/kernel/osrelease"), "6.12.9-x\n").unwrap();
        assert_eq!(mismatch(&root), None, "no modules at all: all may be built in");
        put("6.12.8-x").unwrap();
        let text = mismatch(&root).unwrap();
        for part in ["the kernel is 6.12.9-x", "modules of 6.12.8-x:", "serve both files of one build"] {
            assert!(text.contains(part), "{text}");
        }
        put("6.12.9-x").unwrap();
        assert_eq!(mismatch(&root), None);
    }

    fn index() -> Index {
        let made = |entries: &[(&str, &str)]| {
            let entry = |(key, value): &(&str, &str)| (key.to_string(), vec![value.to_string()]);
            kmod::Index::new(kmod::index(&entries.iter().map(entry).collect()))
        };
        Index {
            directory: "/m".into(),
            files: made(&[
                ("virtio_net", "kernel/a/virtio_net.ko: kernel/a/net_failover.ko kernel/a/failover.ko"),
                ("net_failover", "kernel/a/net_failover.ko: kernel/a/failover.ko"),
                ("failover", "kernel/a/failover.ko:"),
                ("xfs", "kernel/fs/xfs/xfs.ko.xz:"),
            ]),
            aliases: made(&[
                ("virtio:d00000001v*", "virtio_net"),
                ("fs_xfs", "xfs"),
                ("crypto_crc32c", "crc32c_generic"),
                ("pci:v00008086d0000[10]0[0-9]Esv*sd*", "e1000"),
            ]),
            builtin: made(&[("brd", "")]),
            soft: soft("softdep xfs pre: crypto-crc32c post: extra-one\n"),
            firmware: firmware("xfs: a/b.bin c.bin\n"),
        }
    }

    #[test]
    fn a_device_finds_its_module_and_a_module_what_it_needs_first() {
        let index = index();
        assert_eq!(index.resolve("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(index.resolve("fs-xfs"), ["xfs"]);
        assert_eq!(index.resolve("virtio-net"), ["virtio_net"]);
        assert_eq!(index.resolve("pci:v00008086d0000100Esv1sd2"), ["e1000"]);
        assert!(index.resolve("pci:v00008086d0000200Esv1sd2").is_empty());
        assert_eq!(index.needs("virtio-net"), ["failover", "net_failover"]);
        assert_eq!(index.soft["xfs"], (vec!["crypto-crc32c".to_string()], vec!["extra-one".to_string()]));
        assert_eq!(index.resolve("crypto-crc32c"), ["crc32c_generic"]);
        assert_eq!(index.firmware("xfs"), ["a/b.bin", "c.bin"]);
        assert!(index.is_builtin("brd"));
    }
}
