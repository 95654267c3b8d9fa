//! What is assembled before it can be mounted: md, LVM, LUKS. The parsed superblock rides in the
//! signature, so that nobody reads it twice.

use serde::{Deserialize, Serialize};

pub mod adaptec;
pub mod bcache;
pub mod bitlocker;
pub mod cow;
pub mod ddf;
pub mod dm;
pub mod drbd;
pub mod drbdmanage;
pub mod firmware;
pub mod fvault;
pub mod highpoint;
pub mod isw;
pub mod jmicron;
pub mod lsi;
pub mod luks;
pub mod lvm;
pub mod mdraid;
pub mod named;
pub mod nvidia;
pub mod promise;
pub mod silicon;
pub mod stratis;
pub mod ubi;
pub mod via;
pub mod vmfs;
pub mod zfs;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "volume")]
pub enum Volume {
    Md(mdraid::Superblock),
    Lvm(lvm::PhysicalVolume),
    Luks(luks::Luks),
    Firmware(firmware::Firmware),
    Bcache(bcache::Bcache),
}
