//! `rescue net borrow`, as far as it only reads: the installed systems that are mounted, or else those that the disks are
//! looked through for (`host::installed`), and what each would have its network by.

use anyhow::{Context as _, bail, ensure};
use contract::facts::Mount;
use contract::paths::ROOT_SUBVOLUMES;
use host::Root;
use model::mount;
use model::storage::{Device, Storage};
use model::text::Untrusted;
use network::borrow::{Borrowed, borrow};
use network::source::Files;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// For assembling and for mounting each file system; a hung disk costs a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// File systems that an installed system is on, sorted.
const OF_SYSTEMS: &[&str] =
    &["bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "reiserfs", "xfs"];

/// An installed system.
#[derive(Debug, PartialEq, Eq)]
pub struct System {
    /// Where its root is; empty where it was mounted only to be looked into.
    pub directory: String,
    /// What is mounted there.
    pub source: String,
    /// As it calls itself, where it does.
    pub name: Option<String>,
    /// `None`: no file of it describes an interface.
    pub borrowed: Option<Borrowed>,
}

/// A system's files for the sources: links stay below its root.
struct Below<'a>(&'a Root);

impl Files for Below<'_> {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.0.read(path).ok()
    }

    fn list(&self, directory: &str) -> Vec<String> {
        // A name that is no text is none that a configuration has.
        let names = self.0.list(directory).unwrap_or_default();
        names.into_iter().filter_map(|name| name.into_string().ok()).collect()
    }

    fn link(&self, path: &str) -> Option<String> {
        Some(self.0.link(path).ok()?.to_str()?.to_string())
    }
}

/// All systems that are mounted, by where they are.
pub fn mounted(root: &Root, mounts: &[Mount]) -> Vec<System> {
    // What the image itself is of stands on no disk, but for its layers, which are read through loop devices.
    let is_disk = |mount: &&Mount| {
        mount.source.starts_with("/dev/")
            && mount.target != "/"
            && OF_SYSTEMS.contains(&mount.fstype.as_str())
    };
    let mut systems: Vec<System> = Vec::new();
    for mount in mounts.iter().filter(is_disk) {
        for part in ROOT_SUBVOLUMES.iter().filter(|part| part.is_empty() || mount.fstype == "btrfs") {
            let directory = format!("{}/{part}", mount.target);
            let directory = directory.trim_end_matches('/');
            // The same one may be mounted in several places.
            let is_known = systems.iter().any(|known| known.directory == directory);
            if let Some(system) = system(root, directory, &mount.source).filter(|_| !is_known) {
                systems.push(system);
                break;
            }
        }
    }
    systems.sort_by(|one, other| one.directory.cmp(&other.directory));
    systems
}

/// The system whose root a directory is; `None` where it is none.
pub fn system(root: &Root, directory: &str, source: &str) -> Option<System> {
    let own = root.below(directory).ok()?;
    let is_system =
        ["/etc/os-release", "/usr/lib/os-release", "/etc/fstab"].iter().any(|path| own.exists(path));
    is_system.then(|| System {
        directory: directory.to_string(),
        source: source.to_string(),
        name: name(&own),
        borrowed: borrow(&Below(&own)),
    })
}

/// os-release(5)'s PRETTY_NAME.
fn name(own: &Root) -> Option<String> {
    let texts =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| own.read_text(path).ok())?;
    let value = texts.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let bare: String = value.trim().trim_matches(['"', '\'']).chars().take(80).collect();
    Some(bare).filter(|name| !name.is_empty())
}

/// The one system whose settings are meant, of those that are mounted. Errors: several are, or none describes an interface.
pub fn chosen(systems: Vec<System>) -> anyhow::Result<System> {
    let names = |systems: &[System]| systems.iter().map(System::title).collect::<Vec<String>>().join("; ");
    let all = names(&systems);
    let mut able: Vec<System> = systems.into_iter().filter(|system| system.borrowed.is_some()).collect();
    ensure!(able.len() < 2, "several systems are mounted, name the directory of one: {}", names(&able));
    able.pop().ok_or_else(|| anyhow::anyhow!("no file describes an interface in {all}"))
}

/// The one on the disks, none of which is mounted: each is looked into, and all is as before. `storage`: what there is, for
/// the words where nothing is found. The lines are for a person, whatever comes of it.
pub fn on_disks(storage: &Storage) -> (anyhow::Result<System>, Vec<String>) {
    let seen = match host::installed::look(Instant::now() + PATIENCE, within) {
        Ok(seen) => seen,
        Err(error) => return (Err(error).context("look through the disks"), Vec::new()),
    };
    let mut lines = Vec::new();
    if let Some(why) = &seen.left {
        lines.push(format!(
            "what was assembled to look for systems is not all stopped ({why}): rescue assemble --stop"
        ));
    }
    let hidden = seen.hidden();
    if !seen.unread.is_empty() {
        lines.push(format!("the disks were looked through for settings of the network{hidden}"));
    }
    (of_disks(seen.found, &hidden, storage), lines)
}

/// In the root of a file system, or where distributions have theirs in it.
fn within(root: &Root, device: &str) -> Option<System> {
    let system = ROOT_SUBVOLUMES.iter().find_map(|part| system(root, &format!("/{part}"), device))?;
    Some(System { directory: String::new(), ..system })
}

/// Copies of one system, such as the halves of a mirror, are one.
fn of_disks(systems: Vec<System>, hidden: &str, storage: &Storage) -> anyhow::Result<System> {
    let titles = |systems: &[System]| systems.iter().map(System::title).collect::<Vec<String>>().join("; ");
    if systems.is_empty() {
        bail!("{}{hidden}", nothing(storage));
    }
    let all = titles(&systems);
    let mut able: Vec<System> = systems.into_iter().filter(|system| system.borrowed.is_some()).collect();
    able.dedup_by(|other, first| other.borrowed == first.borrowed);
    ensure!(
        able.len() < 2,
        "several systems are on the disks: {}; mount the one that is meant (rescue mount DEVICE /mnt), then rescue net borrow",
        titles(&able)
    );
    able.pop().with_context(|| format!("no file describes an interface in {all}{hidden}"))
}

/// What to type first.
fn nothing(storage: &Storage) -> String {
    match &candidates(storage)[..] {
        [] => "no installed system was found, and no device is seen that could have one; locked ones are opened by rescue open"
            .to_string(),
        free => format!("no installed system was found on {}", free.join(" ")),
    }
}

/// Devices with a file system that a system could be on, which is mounted nowhere.
fn candidates(storage: &Storage) -> Vec<String> {
    let is_mounted = |device: &Device| {
        storage.mounts.iter().any(|mount| {
            (mount.major, mount.minor) == (device.block.major, device.block.minor)
                || Path::new(&mount.source) == Path::new(&device.path)
                || mount.source == mount::shown(device)
        })
    };
    let is_one = |device: &&Device| {
        let has_one =
            device.signature().is_some_and(|signature| OF_SYSTEMS.contains(&signature.format.as_str()));
        has_one && device.node && device.upper.is_empty() && !is_mounted(device)
    };
    let mut found: Vec<String> = storage.devices.iter().filter(is_one).map(mount::shown).collect();
    found.sort();
    found.dedup();
    found
}

impl System {
    pub fn title(&self) -> String {
        let name = self.name.as_deref().unwrap_or("a system without a name");
        match self.directory.as_str() {
            "" => format!("{} on {}", Untrusted(name), Untrusted(&self.source)),
            at => format!("{} at {} ({})", Untrusted(name), Untrusted(at), Untrusted(&self.source)),
        }
    }

    /// What `--dry-run` shows.
    pub fn shown(&self) -> String {
        let mut text = format!("{}\n", self.title());
        let plan = self.borrowed.as_ref().map(Borrowed::to_string);
        for line in plan.unwrap_or_else(|| "no file describes an interface\n".to_string()).lines() {
            // Into a string it cannot fail.
            let _ = writeln!(text, "  {}", Untrusted(line));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mount(target: &str, source: &str, fstype: &str) -> Mount {
        Mount {
            target: target.to_string(),
            source: source.to_string(),
            fstype: fstype.to_string(),
            ..Mount::default()
        }
    }

    /// A machine with files at their paths.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::at(directory.path()).unwrap();
        (directory, root)
    }

    const INTERFACES: &str = "auto eth0\niface eth0 inet static\n address 192.0.2.7/24\n gateway 192.0.2.1\n";

    #[test]
    fn the_settings_of_a_mounted_system_are_shown() {
        let (_directory, root) = machine(&[
            ("mnt/etc/os-release", "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            ("mnt/etc/network/interfaces", INTERFACES),
            ("mnt/boot/grub/grub.cfg", ""),
            ("data/movie", ""),
        ]);
        let mounts = [
            mount("/", "none", "rootfs"),
            mount("/usr", "overlay", "overlay"),
            mount("/mnt", "/dev/sda2", "ext4"),
            mount("/mnt/boot", "/dev/sda1", "ext4"),
            mount("/data", "/dev/sdb1", "xfs"),
        ];
        let system = chosen(mounted(&root, &mounts)).unwrap();
        assert_eq!(
            system.shown(),
            "Debian GNU/Linux 12 (bookworm) at /mnt (/dev/sda2)\n  \
             by ifupdown, which it does not start at boot: /etc/network/interfaces\n  \
             eth0: IPv6 from routers, 192.0.2.7/24, gateway 192.0.2.1\n"
        );
    }

    #[test]
    fn the_root_of_a_btrfs_may_be_a_subvolume() {
        let (_directory, root) = machine(&[
            ("mnt/@/etc/fstab", ""),
            ("mnt/@/etc/netplan/01.yaml", "network: {ethernets: {eth0: {dhcp4: true}}}"),
            ("mnt/@home/user/x", ""),
        ]);
        let found = mounted(&root, &[mount("/mnt", "/dev/sda2", "btrfs")]);
        let places: Vec<&str> = found.iter().map(|system| system.directory.as_str()).collect();
        assert_eq!((places, found[0].borrowed.is_some()), (vec!["/mnt/@"], true));
    }

    #[test]
    fn links_of_a_system_stay_below_its_root() {
        let (directory, root) = machine(&[
            ("etc/network/interfaces", INTERFACES),
            ("mnt/etc/fstab", ""),
            ("mnt/srv/interfaces", INTERFACES),
            ("mnt/etc/network/x", ""),
            ("other/etc/fstab", ""),
            ("other/etc/network/x", ""),
        ]);
        symlink("/srv/interfaces", directory.path().join("mnt/etc/network/interfaces")).unwrap();
        symlink("../../../etc/network/interfaces", directory.path().join("other/etc/network/interfaces"))
            .unwrap();
        assert!(system(&root, "/mnt", "/dev/sda2").unwrap().borrowed.is_some());
        assert!(system(&root, "/other", "/dev/sda3").unwrap().borrowed.is_none());
    }

    #[test]
    fn hostile_words_of_a_system_steer_no_terminal() {
        let (_directory, root) = machine(&[
            ("mnt/etc/os-release", "PRETTY_NAME=\"\x1b[2JDebian\"\n"),
            ("mnt/etc/netplan/01.yaml", "network: {ethernets: {eth0: {dhcp4: true, gateway4: \"\\e[2J\"}}}"),
            (
                "mnt/etc/netplan/02\x1b[2J.yaml",
                "network: {ethernets: {eth0: {mtu: 1400}, \"\\e[2J\": {mtu: 1400}}}",
            ),
        ]);
        let shown = system(&root, "/mnt", "/dev/sda2").unwrap().shown();
        assert!(shown.lines().count() >= 5 && !shown.contains('\x1b'), "{shown}");
    }

    #[test]
    fn which_system_is_meant_is_asked_where_several_are() {
        let (_directory, root) = machine(&[
            ("mnt/etc/fstab", ""),
            ("mnt/etc/network/interfaces", INTERFACES),
            ("old/etc/fstab", ""),
            ("old/etc/network/interfaces", INTERFACES),
            ("bare/etc/fstab", ""),
        ]);
        let of = |mounts: &[Mount]| {
            chosen(mounted(&root, mounts)).map(|system| system.directory).map_err(|error| error.to_string())
        };
        let (mnt, old, bare) = (
            mount("/mnt", "/dev/sda2", "ext4"),
            mount("/old", "/dev/sda3", "xfs"),
            mount("/bare", "/dev/sda4", "xfs"),
        );
        assert_eq!(of(&[mnt.clone(), bare.clone()]), Ok("/mnt".to_string()));
        assert_eq!(
            of(&[mnt, old]),
            Err("several systems are mounted, name the directory of one: a system without a name at /mnt (/dev/sda2); a system without a name at /old (/dev/sda3)".to_string())
        );
        assert_eq!(
            of(&[bare]),
            Err("no file describes an interface in a system without a name at /bare (/dev/sda4)".to_string())
        );
    }

    #[test]
    fn of_the_systems_on_the_disks_one_is_taken_and_copies_of_it_are_one() {
        let files = |place: &str, address: &str| {
            vec![
                (format!("{place}/etc/os-release"), format!("PRETTY_NAME={place}\n")),
                (format!("{place}/etc/network/interfaces"), INTERFACES.replace("192.0.2.7", address)),
            ]
        };
        let mut all =
            [files("one", "192.0.2.7"), files("copy/@", "192.0.2.7"), files("other", "192.0.2.8")].concat();
        all.push(("bare/etc/fstab".to_string(), String::new()));
        let all: Vec<(&str, &str)> = all.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let (_directory, root) = machine(&all);
        let of = |places: &[&str]| {
            let system = |place: &&str| within(&root.below(*place).unwrap(), &format!("/dev/{place}"));
            of_disks(places.iter().filter_map(system).collect(), "; hidden", &Storage::default())
                .map(|system| system.shown())
                .map_err(|error| error.to_string())
        };
        let shown = of(&["bare", "one", "copy"]).unwrap();
        assert!(shown.starts_with("one on /dev/one\n  by ifupdown"), "{shown}");
        let several = of(&["one", "other"]).unwrap_err();
        assert!(several.contains("one on /dev/one; other on /dev/other; mount the one"), "{several}");
        let none = of(&["bare"]).unwrap_err();
        assert!(none.ends_with("a system without a name on /dev/bare; hidden"), "{none}");
        assert!(of(&[]).unwrap_err().starts_with("no installed system was found"));
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(OF_SYSTEMS.is_sorted());
    }
}
