//! Kernel modules: what each says of itself (its .modinfo section), which go where, and the indices
//! that devd and modprobe read (modules.dep, modules.alias.bin, modules.softdep, modules.firmware, and what
//! kmod wants in binary), made without depmod.

use crate::packages::Tree;
use crate::say;
use anyhow::{Context as _, Result, bail};
use contract::kmod::{Entries, index, underscored};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

/// The list of what goes where, each with its reason.
const LIST: &str = include_str!("../../kernel-config/modules.list");

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Module {
    /// Below /usr/lib/modules/KVER, without .xz: `kernel/drivers/net/virtio_net.ko`.
    pub path: String,
    pub name: String,
    pub aliases: Vec<String>,
    pub depends: Vec<String>,
    /// As modprobe.d has it: `pre: a post: b`.
    pub softdeps: Vec<String>,
    pub firmware: Vec<String>,
}

impl Module {
    /// How many patterns of devices it asks for: aliases that begin with a bus.
    pub fn devices(&self) -> usize {
        self.aliases.iter().filter(|alias| BUSES.iter().any(|bus| alias.starts_with(bus))).count()
    }
}

/// Buses that a machine's own devices announce themselves on.
const BUSES: &[&str] = &[
    "acpi",
    "cxl:",
    "hid:",
    "ieee1394:",
    "of:",
    "pci:",
    "pcmcia:",
    "platform:",
    "scsi:",
    "sdio:",
    "tbsvc:",
    "usb:",
    "virtio:",
    "vmbus:",
    "xen:",
    "dmi:",
    "ipmi:",
];

/// Directories below drivers/ with NICs, storage controllers, and what these hang at; consoles and watchdogs of BMCs.
const KINDS: &[&str] = &[
    "ata",
    "block",
    "cdrom",
    "char/ipmi",
    "cxl",
    "firewire",
    "hv",
    "md",
    "memstick",
    "message",
    "misc",
    "mmc",
    "mtd",
    "net",
    "nvdimm",
    "nvme",
    "pci",
    "pcmcia",
    "scsi",
    "staging",
    "thunderbolt",
    "ufs",
    "usb/host",
    "usb/storage",
    "virtio",
    "watchdog",
    "xen",
];

/// Where a module lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the nucleus, unpacked: what most machines load at once.
    Nucleus,
    /// In the nucleus, as Debian packs it: needed for the network, on few machines.
    NucleusPacked,
    Layer,
}

/// Modules that no device asks for, behind those that make them of use: (FIRST, THEN), as a softdep of our own.
const FOLLOWS: &[(&str, &str)] = &[
    // /dev/ipmi0, by which ipmitool asks a BMC that one of these has found.
    ("ipmi_si", "ipmi_devintf"),
    ("ipmi_ssif", "ipmi_devintf"),
];

pub struct Kernel {
    pub version: String,
    pub modules: BTreeMap<String, Module>,
    root: std::path::PathBuf,
}

impl Kernel {
    /// Reads every module of the tree's kernel, once per tree.
    pub fn read(tree: &Tree) -> Result<Kernel> {
        let directory = tree.root.join("usr/lib/modules");
        let mut versions: Vec<String> = fs::read_dir(&directory)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        let (Some(version), true) = (versions.pop(), versions.is_empty()) else {
            bail!("exactly one kernel is wanted below {}", directory.display());
        };
        let root = directory.join(&version);
        let index = tree.root.join(".modules.json");
        if !index.exists() {
            say!("reading the modules of {version}");
            let mut found = Vec::new();
            walk(&root, "kernel", &mut found)?;
            let half = found.len().div_ceil(2);
            let parts: Vec<Result<Vec<Module>>> = std::thread::scope(|scope| {
                let readers: Vec<_> = found
                    .chunks(half.max(1))
                    .map(|chunk| {
                        scope.spawn(|| {
                            chunk.iter().map(|path| read_module(&root, path)).collect::<Result<Vec<_>>>()
                        })
                    })
                    .collect();
                readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect()
            });
            let mut modules = Vec::new();
            for part in parts {
                modules.extend(part?);
            }
            let beside = index.with_extension(format!("part{}", std::process::id()));
            fs::write(&beside, serde_json::to_vec(&modules)?)?;
            fs::rename(&beside, &index)?;
        }
        let modules: Vec<Module> = serde_json::from_slice(&fs::read(&index)?)?;
        let modules = modules.into_iter().map(|module| (module.name.clone(), module)).collect();
        Ok(Kernel::of(version, modules, &root))
    }

    pub(crate) fn of(version: String, modules: BTreeMap<String, Module>, root: &Path) -> Kernel {
        Kernel { version, modules, root: root.into() }
    }

    /// The text of the config that it was built with.
    pub fn config(&self) -> Result<String> {
        let path = self.root.join(format!("../../../../boot/config-{}", self.version));
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Names of what would be modules, and is built in.
    pub fn built_in(&self) -> BTreeSet<String> {
        let list = fs::read_to_string(self.root.join("modules.builtin")).unwrap_or_default();
        list.lines().map(stem).collect()
    }

    /// Names of what is built in and asks for firmware, by modules.builtin.modinfo; none where the tree has no such file.
    pub fn built_in_with_firmware(&self) -> BTreeSet<String> {
        let modinfo = fs::read(self.root.join("modules.builtin.modinfo")).unwrap_or_default();
        builtin_fields(&modinfo, "firmware").map(|(module, _)| module).collect()
    }

    /// The places of all wanted modules, with everything that they depend on no later than they are.
    pub fn places(&self) -> Result<BTreeMap<String, Place>> {
        let list = parse_list(LIST)?;
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        for rule in &list {
            let mut any = false;
            for module in self.modules.values().filter(|module| glob(&rule.pattern, &module.path)) {
                any = true;
                match rule.place {
                    Some(place) => drop(
                        places.entry(module.name.clone()).and_modify(|p| *p = place.min(*p)).or_insert(place),
                    ),
                    None => drop(places.remove(&module.name)),
                }
            }
            if !any {
                bail!("kernel-config/modules.list: no module of {} matches {}", self.version, rule.pattern);
            }
        }
        self.with_needs(places)
    }

    /// With everything that they depend on, no later than they are.
    pub fn with_needs(&self, mut places: BTreeMap<String, Place>) -> Result<BTreeMap<String, Place>> {
        let wanted: Vec<(String, Place)> =
            places.iter().map(|(name, place)| (name.clone(), *place)).collect();
        for (name, place) in wanted {
            for needed in self.needs(&name)? {
                places.entry(needed).and_modify(|p| *p = place.min(*p)).or_insert(place);
            }
        }
        Ok(places)
    }

    /// Modules for devices of the kinds that make a rescue, which no line of the list names: neither what it takes nor,
    /// with a reason, what it leaves out. A kernel that learns of a new controller is noticed so.
    pub fn overlooked(&self) -> Result<Vec<String>> {
        let list = parse_list(LIST)?;
        let named = |path: &str| list.iter().any(|rule| glob(&rule.pattern, path));
        let kinds =
            |path: &str| KINDS.iter().any(|kind| path.starts_with(&format!("kernel/drivers/{kind}/")));
        let modules = self.modules.values();
        let wanted = modules.filter(|module| kinds(&module.path) && module.devices() > 0);
        Ok(wanted.filter(|module| !named(&module.path)).map(|module| module.path.clone()).collect())
    }

    /// Everything that a module depends on, directly or not.
    fn needs(&self, name: &str) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        let mut todo = vec![name.to_string()];
        while let Some(name) = todo.pop() {
            let module = self.modules.get(&name).with_context(|| format!("no module {name}"))?;
            for needed in &module.depends {
                // A dependency that is built in has no file.
                if self.modules.contains_key(needed) && all.insert(needed.clone()) {
                    todo.push(needed.clone());
                }
            }
        }
        Ok(all)
    }

    /// The module's file, unpacked or as packed, with its name below the modules' directory.
    pub fn file(&self, module: &Module, place: Place) -> Result<(String, Vec<u8>)> {
        let packed = fs::read(self.root.join(format!("{}.xz", module.path)))?;
        match place {
            Place::NucleusPacked => Ok((format!("{}.xz", module.path), packed)),
            Place::Nucleus | Place::Layer => Ok((module.path.clone(), unpack(&packed)?)),
        }
    }

    /// The index files for the modules in `places`, as (name, content).
    pub fn indices(&self, places: &BTreeMap<String, Place>) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let path = |name: &String| {
            let packed = places.get(name) == Some(&Place::NucleusPacked);
            format!("{}{}", self.modules[name].path, if packed { ".xz" } else { "" })
        };
        let (mut dep, mut soft, mut firmware) = (String::new(), String::new(), String::new());
        let (mut deps, mut aliases) = (Entries::new(), Entries::new());
        for name in places.keys() {
            let module = &self.modules[name]; // places holds names of modules only
            let needs: Vec<String> =
                ordered(self, name)?.iter().filter(|n| places.contains_key(*n)).map(path).collect();
            let line = [vec![format!("{}:", path(name))], needs].concat().join(" ");
            // A String takes all.
            let _ = writeln!(dep, "{line}");
            deps.insert(name.clone(), vec![line]);
            for pattern in &module.aliases {
                aliases.entry(underscored(pattern)).or_default().push(name.clone());
            }
            for text in &module.softdeps {
                let _ = writeln!(soft, "softdep {name} {text}");
            }
            for (_, then) in
                FOLLOWS.iter().filter(|(first, then)| first == name && places.contains_key(*then))
            {
                let _ = writeln!(soft, "softdep {name} post: {then}");
            }
            if !module.firmware.is_empty() {
                let _ = writeln!(firmware, "{name}: {}", module.firmware.join(" "));
            }
        }
        let builtin = fs::read_to_string(self.root.join("modules.builtin")).unwrap_or_default();
        let is_builtin = |line: &str| (stem(line), vec![String::new()]);
        let modinfo = fs::read(self.root.join("modules.builtin.modinfo")).unwrap_or_default();
        Ok(vec![
            ("modules.alias.bin", index(&aliases)),
            ("modules.builtin.alias.bin", index(&builtin_aliases(&modinfo))),
            ("modules.builtin.bin", index(&builtin.lines().map(is_builtin).collect())),
            ("modules.builtin", builtin.into_bytes()),
            ("modules.dep", dep.into_bytes()),
            ("modules.dep.bin", index(&deps)),
            ("modules.firmware", firmware.into_bytes()),
            ("modules.softdep", soft.into_bytes()),
            // Nobody asks for a module by a symbol, and kmod wants the file.
            ("modules.symbols.bin", index(&Entries::new())),
        ])
    }
}

/// `kernel/fs/ext4/ext4.ko` is `ext4`.
pub(crate) fn stem(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).trim_end_matches(".ko").replace('-', "_")
}

/// Modules and patterns, by modules.builtin.modinfo.
fn builtin_aliases(modinfo: &[u8]) -> Entries {
    let mut entries = Entries::new();
    for (module, pattern) in builtin_fields(modinfo, "alias") {
        entries.entry(underscored(&pattern)).or_default().push(module);
    }
    entries
}

/// Of `module.FIELD=value` in modules.builtin.modinfo, each ended by a NUL: modules and values.
fn builtin_fields(modinfo: &[u8], field: &str) -> impl Iterator<Item = (String, String)> {
    modinfo.split(|byte| *byte == 0).filter_map(move |line| {
        let text = String::from_utf8_lossy(line);
        let (module, rest) = text.split_once('.')?;
        let (name, value) = rest.split_once('=')?;
        (name == field).then(|| (module.replace('-', "_"), value.to_string()))
    })
}

/// Dependencies in modules.dep's order: the last is to be loaded first.
fn ordered(kernel: &Kernel, name: &str) -> Result<Vec<String>> {
    fn visit(kernel: &Kernel, name: &str, out: &mut Vec<String>) {
        for needed in &kernel.modules[name].depends {
            if kernel.modules.contains_key(needed) && !out.contains(needed) {
                visit(kernel, needed, out);
                out.push(needed.clone());
            }
        }
    }
    let mut out = Vec::new();
    visit(kernel, name, &mut out);
    out.reverse();
    Ok(out)
}

fn walk(root: &Path, below: &str, found: &mut Vec<String>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(root.join(below))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = format!("{below}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            walk(root, &path, found)?;
        } else if let Some(path) = path.strip_suffix(".ko.xz") {
            found.push(format!("{path}.ko"));
        }
    }
    Ok(())
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    liblzma::read::XzDecoder::new(packed).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_module(root: &Path, path: &str) -> Result<Module> {
    let bytes =
        unpack(&fs::read(root.join(format!("{path}.xz")))?).with_context(|| format!("unpack {path}"))?;
    let file = ElfBytes::<LittleEndian>::minimal_parse(&bytes).with_context(|| format!("parse {path}"))?;
    let header =
        file.section_header_by_name(".modinfo")?.with_context(|| format!("{path} has no .modinfo"))?;
    let (data, _) = file.section_data(&header)?;
    let mut module = Module { path: path.to_string(), name: stem(path), ..Module::default() };
    for field in data.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
        let text = String::from_utf8_lossy(field);
        match text.split_once('=') {
            Some(("alias", value)) => module.aliases.push(value.to_string()),
            Some(("depends", value)) => {
                module.depends =
                    value.split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")).collect();
            }
            Some(("softdep", value)) => module.softdeps.push(value.to_string()),
            Some(("firmware", value)) => module.firmware.push(value.to_string()),
            _ => {}
        }
    }
    Ok(module)
}

struct Rule {
    pattern: String,
    /// `None` takes modules out again.
    place: Option<Place>,
}

/// Lines are `PATTERN  # reason`, below a section `[nucleus]`, `[nucleus-packed]`, `[layer]` or `[not]`.
fn parse_list(text: &str) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    let mut place = None;
    for (number, line) in text.lines().enumerate() {
        let (pattern, reason) = line.split_once('#').unwrap_or((line, ""));
        let pattern = pattern.trim();
        if pattern.is_empty() {
            continue;
        }
        match pattern {
            "[nucleus]" => place = Some(Some(Place::Nucleus)),
            "[nucleus-packed]" => place = Some(Some(Place::NucleusPacked)),
            "[layer]" => place = Some(Some(Place::Layer)),
            "[not]" => place = Some(None),
            _ if reason.trim().is_empty() => {
                bail!("modules.list, line {}: {pattern} has no reason", number + 1)
            }
            _ => {
                let Some(place) = place else { bail!("modules.list, line {}: no section yet", number + 1) };
                rules.push(Rule { pattern: format!("kernel/{pattern}"), place });
            }
        }
    }
    Ok(rules)
}

/// `*` stands for any run of characters without a slash, `**` for any run at all.
pub fn glob(pattern: &str, text: &str) -> bool {
    fn matches(p: &[u8], t: &[u8]) -> bool {
        match p {
            [] => t.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=t.len()).any(|n| matches(rest, &t[n..])),
            [b'*', rest @ ..] => {
                let end = t.iter().position(|c| *c == b'/').unwrap_or(t.len());
                (0..=end).any(|n| matches(rest, &t[n..]))
            }
            [c, rest @ ..] => t.first() == Some(c) && matches(rest, &t[1..]),
        }
    }
    matches(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_are_written_as_kmod_looks_them_up() {
        assert_eq!(underscored("crypto-crc32c"), "crypto_crc32c");
        assert_eq!(underscored("pci:a-[b-c]-d"), "pci:a_[b-c]_d");
        assert_eq!(stem("kernel/crypto/crc32c-intel.ko"), "crc32c_intel");
        let aliases = builtin_aliases(b"ext4.license=GPL\0unix.alias=net-pf-1\0");
        assert_eq!(aliases, Entries::from([("net_pf_1".to_string(), vec!["unix".to_string()])]));
    }

    #[test]
    fn patterns_stop_at_slashes_unless_doubled() {
        for (pattern, text, want) in [
            ("kernel/net/*.ko", "kernel/net/a.ko", true),
            ("kernel/net/*.ko", "kernel/net/x/a.ko", false),
            ("kernel/net/**", "kernel/net/x/a.ko", true),
            ("kernel/net/a.ko", "kernel/net/ab.ko", false),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn a_controller_that_no_line_names_is_noticed() {
        let module = |path: &str, alias: &str| {
            let name = stem(path);
            (
                name.clone(),
                Module {
                    path: path.to_string(),
                    name,
                    aliases: vec![alias.to_string()],
                    ..Module::default()
                },
            )
        };
        let modules = [
            module("kernel/drivers/scsi/of-tomorrow/new.ko", "pci:v1d2"),
            module("kernel/drivers/ndds/disk.ko", "pci:v1d3"),
            module("kernel/drivers/net/of_tomorrow.ko", "pci:v1d4"),
            module("kernel/drivers/net/virtual.ko", "rtnl-link-virtual"),
            module("kernel/drivers/misc/bridge_of_readers.ko", "pci:v1d6"),
            module("kernel/drivers/net/pc_card.ko", "pcmcia:m1"),
            module("kernel/drivers/net/wireless/wifi.ko", "pci:v1d5"),
        ];
        let kernel = Kernel::of(String::new(), modules.into(), Path::new(""));
        let names = ["misc/bridge_of_readers", "net/of_tomorrow", "net/pc_card"];
        assert_eq!(kernel.overlooked().unwrap(), names.map(|name| format!("kernel/drivers/{name}.ko")));
    }

    #[test]
    fn what_no_device_asks_for_follows_what_makes_it_of_use() {
        let directory = tempfile::tempdir().unwrap();
        let module = |name: &str| {
            let path = format!("kernel/drivers/char/ipmi/{name}.ko");
            (name.to_string(), Module { path, name: name.to_string(), ..Module::default() })
        };
        let names = ["ipmi_si", "ipmi_ssif", "ipmi_devintf"];
        let kernel = Kernel::of(String::new(), names.map(module).into(), directory.path());
        let softdeps = |names: &[&str]| {
            let places = names.iter().map(|name| (name.to_string(), Place::Layer)).collect();
            let indices = kernel.indices(&places).unwrap();
            let (_, content) = indices.into_iter().find(|(name, _)| *name == "modules.softdep").unwrap();
            String::from_utf8(content).unwrap()
        };
        assert_eq!(
            softdeps(&names),
            "softdep ipmi_si post: ipmi_devintf\nsoftdep ipmi_ssif post: ipmi_devintf\n"
        );
        assert_eq!(softdeps(&["ipmi_si"]), "", "in a part of the image that has it not");
        let list = parse_list(LIST).unwrap();
        for (first, then) in FOLLOWS {
            for name in [first, then] {
                let path = format!("kernel/drivers/char/ipmi/{name}.ko");
                assert!(list.iter().any(|rule| rule.place.is_some() && glob(&rule.pattern, &path)), "{name}");
            }
        }
    }

    #[test]
    fn every_line_of_the_list_has_a_reason() {
        assert!(!parse_list(LIST).unwrap().is_empty());
        assert!(parse_list("[layer]\nfs/ext4/*\n").is_err());
        assert!(parse_list("fs/ext4/*  # why\n").is_err());
    }
}
