//! Volumes that a hypervisor or a person made for this machine: NoCloud's (label `cidata`) and OpenStack's config drive
//! (`config-2`), on vfat or ISO 9660. `rescue` mounts one for reading, in a mount namespace of whoever asks, and small
//! files are taken from it.
//!
//! A CD counts by itself: nothing on this machine could have written it. A disk counts where a person says so, and whole:
//! whoever was root on the machine that is rescued can have made a volume of any disk that it has.

use crate::listed::{Device, devices};
use crate::{Root, params, rescue};
use contract::cmdline::{self, Word};
use std::fs;
use std::io;
use std::path::Path;

/// Who is believed; `rescue.metadata=none`, nothing, `rescue.metadata=disk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Believed {
    Nobody,
    Cds,
    DisksToo,
}

/// What the command line says.
pub fn believed(words: &[Word]) -> Believed {
    let said = |wanted: &str| {
        let values = cmdline::all(words, "rescue.metadata").flat_map(|value| value.split(','));
        values.map(str::trim).any(|word| word == wanted)
    };
    match (said(NONE), said(DISK)) {
        (true, _) => Believed::Nobody,
        (false, true) => Believed::DisksToo,
        (false, false) => Believed::Cds,
    }
}

/// The words of `rescue.metadata=` for it.
pub const DISK: &str = "disk";
pub const NONE: &str = "none";
/// As devd names what lies on a disk. vfat has capital letters.
const LABELS: &[(&str, Kind)] = &[
    ("cidata", Kind::NoCloud),
    ("CIDATA", Kind::NoCloud),
    ("config-2", Kind::ConfigDrive),
    ("CONFIG-2", Kind::ConfigDrive),
];
const FILE_SYSTEMS: &[&str] = &["iso9660", "vfat"];
const BY_LABEL: &str = "/dev/disk/by-label";
const BLOCK: &str = "/sys/block";
/// Seconds between two looks for as long as none is found that can be read: a drive spins up, and one that a BMC plugs in by USB
/// comes when devd has heard nothing new for a while.
pub const AGAIN: [u64; 5] = [1, 2, 4, 8, 15];
/// In the namespace of whoever asks.
const MOUNT_POINT: &str = "/run/lifeboat/volume";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NoCloud,
    ConfigDrive,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::NoCloud => "NoCloud volume",
            Kind::ConfigDrive => "config drive",
        }
    }
}

/// One that there is by its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub kind: Kind,
    pub path: String,
    /// As the kernel is told.
    pub fstype: String,
    /// Why it is not believed.
    pub refusal: Option<&'static str>,
}

/// All that there are now. CDs are looked at, since nobody has; disks once one of them has such a label.
pub fn find(root: &Root) -> Vec<Volume> {
    find_for(root, believed(&params::read(root)))
}

/// Whether there is anything to look at, without looking at it.
pub fn may_be(root: &Root) -> bool {
    is_labelled(root) || !cds(root).is_empty()
}

fn is_labelled(root: &Root) -> bool {
    LABELS.iter().any(|(label, _)| root.exists(format!("{BY_LABEL}/{label}")))
}

fn cds(root: &Root) -> Vec<String> {
    let names = root.list(BLOCK).unwrap_or_default();
    let is_cd = |name: &&str| name.strip_prefix("sr").is_some_and(|rest| rest.parse::<u32>().is_ok());
    names.iter().filter_map(|name| name.to_str()).filter(is_cd).map(|name| format!("/dev/{name}")).collect()
}

/// The same for somebody who says what is believed.
pub fn find_for(root: &Root, believed: Believed) -> Vec<Volume> {
    let (is_labelled, cds) = (is_labelled(root), cds(root));
    if believed == Believed::Nobody || (!is_labelled && cds.is_empty()) {
        return Vec::new();
    }
    match devices(if is_labelled { &[] } else { &cds }) {
        Ok(devices) => devices.iter().filter_map(|device| volume(device, believed)).collect(),
        Err(error) => {
            crate::log!("volumes: {error}");
            Vec::new()
        }
    }
}

fn volume(device: &Device, believed: Believed) -> Option<Volume> {
    let (_, kind) = LABELS.iter().find(|(label, _)| *label == device.label)?;
    let refusal = match (device.kind.as_str(), believed) {
        ("rom", _) => None,
        ("disk", _) if device.is_divided => {
            Some("the disk has partitions, so what ran on this machine may have made it")
        }
        ("disk", Believed::DisksToo) => None,
        ("disk", _) => Some(
            "it is a disk, which what ran on this machine may have made (rescue.metadata=disk believes it)",
        ),
        _ => Some("it is no whole disk or CD, so what ran on this machine may have made it"),
    };
    let is_odd = !FILE_SYSTEMS.contains(&device.fstype.as_str());
    let refusal = refusal.or(is_odd.then_some("it is neither vfat nor ISO 9660"));
    Some(Volume { kind: *kind, path: device.path.clone(), fstype: device.fstype.clone(), refusal })
}

impl Volume {
    /// `NoCloud volume /dev/sr0`
    pub fn source(&self) -> String {
        format!("{} {}", self.kind.name(), self.path)
    }

    /// Those of the named files that it has. The caller has a namespace of its own ([`rescue::alone`]). An error goes on
    /// after [`Volume::source`].
    pub fn read<'a>(&self, names: &[&'a str]) -> Result<Vec<(&'a str, Vec<u8>)>, String> {
        if let Some(why) = self.refusal {
            return Err(format!("is not read: {why}"));
        }
        let read = || -> io::Result<Vec<(&'a str, Vec<u8>)>> {
            fs::create_dir_all(MOUNT_POINT)?;
            rescue::call(&["mount", "-t", &self.fstype, "-o", "ro", &self.path, MOUNT_POINT])?;
            // Not each of them has to be there.
            let files = Root::at(Path::new(MOUNT_POINT))
                .map(|found| names.iter().filter_map(|name| Some((*name, found.read(name).ok()?))).collect());
            rescue::call(&["umount", MOUNT_POINT])?;
            files
        };
        read().map_err(|error| format!("could not be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: &str, fstype: &str, is_divided: bool) -> Device {
        let (path, label) = ("/dev/x".to_string(), "CIDATA".to_string());
        Device { path, label, kind: kind.into(), fstype: fstype.into(), is_divided, ..Device::default() }
    }

    #[test]
    fn what_the_machine_itself_could_have_made_is_no_volume() {
        use Believed::{Cds, DisksToo};
        for (device, believed, want) in [
            (device("rom", "iso9660", false), Cds, None),
            (device("rom", "vfat", false), DisksToo, None),
            (device("disk", "vfat", false), Cds, Some("rescue.metadata=disk")),
            (device("disk", "vfat", false), DisksToo, None),
            // An ISO 9660 that was written between a table and its first partition.
            (device("disk", "iso9660", true), DisksToo, Some("has partitions")),
            (device("part", "vfat", false), DisksToo, Some("no whole disk")),
            (device("raid1", "vfat", false), DisksToo, Some("no whole disk")),
            (device("loop", "vfat", false), DisksToo, Some("no whole disk")),
            (device("rom", "ext4", false), Cds, Some("neither vfat nor")),
        ] {
            let refusal = volume(&device, believed).unwrap().refusal;
            assert_eq!(refusal.is_some(), want.is_some(), "{device:?} {believed:?}");
            assert!(want.is_none_or(|part| refusal.unwrap().contains(part)), "{refusal:?}");
        }
        assert_eq!(volume(&Device { label: "data".into(), ..device("rom", "vfat", false) }, Cds), None);
        let kind = Kind::NoCloud;
        let (path, fstype) = ("/dev/sda3".to_string(), "vfat".to_string());
        let volume = Volume { kind, path, fstype, refusal: Some("why") };
        assert_eq!(volume.source(), "NoCloud volume /dev/sda3");
        assert_eq!(volume.read(&["user-data"]).unwrap_err(), "is not read: why");
    }

    #[test]
    fn disks_are_believed_where_the_command_line_says_so() {
        for (line, want) in [
            ("quiet", Believed::Cds),
            ("rescue.metadata=ec2", Believed::Cds),
            ("rescue.metadata=ec2,disk", Believed::DisksToo),
            ("rescue.metadata=disk,none", Believed::Nobody),
        ] {
            assert_eq!(believed(&cmdline::words(line)), want, "{line}");
        }
    }
}
