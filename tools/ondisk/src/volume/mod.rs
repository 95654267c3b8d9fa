//! What is assembled before it can be mounted: md, LVM, LUKS. The parsed superblock rides in the
//! signature, so that nobody reads it twice.

use serde::{Deserialize, Serialize};

pub mod bitlocker;
pub mod cow;
pub mod luks;
pub mod lvm;
pub mod mdraid;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "volume")]
pub enum Volume {
    Md(mdraid::Superblock),
}
