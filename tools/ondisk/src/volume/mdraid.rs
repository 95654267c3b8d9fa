//! md superblocks 0.90, 1.0, 1.1 and 1.2 (include/uapi/linux/raid/md_p.h).

use crate::format::Uuid;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Metadata {
    V0_90,
    V1_0,
    V1_1,
    V1_2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Linear,
    Raid0,
    Raid1,
    Raid4,
    Raid5,
    Raid6,
    Raid10,
    Multipath,
    Faulty,
    Container,
    Other(i32),
}

/// What this member is in its array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Active(u32),
    Spare,
    Faulty,
    Journal,
}

/// One member's superblock. Sizes and offsets in bytes; generation numbers as on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superblock {
    pub metadata: Metadata,
    /// Where it lies on the member.
    pub offset: u64,
    /// Of the set.
    pub array: Uuid,
    /// Of the member (version 1 only).
    pub member: Option<Uuid>,
    /// `host:name`, as the set was named (version 1 only). Hostile text.
    pub name: String,
    /// Preferred minor of version 0.90: /dev/mdN.
    pub preferred_minor: Option<u32>,
    pub level: Level,
    /// As the kernel numbers layouts of raid5, 6, 10 and 0.
    pub layout: u32,
    /// Bytes.
    pub chunk: u64,
    pub raid_disks: u32,
    /// Bytes used of each member.
    pub component_size: u64,
    /// Bytes from the member's start; 0 for 0.90 and 1.0.
    pub data_offset: u64,
    pub data_size: u64,
    /// `desc_nr` / `dev_number`: the slot in the member table.
    pub number: u32,
    pub role: Role,
    /// Roles by slot, as this member last saw the set.
    pub roles: Vec<Role>,
    pub events: u64,
    /// Seconds since 1970.
    pub created: u64,
    pub updated: u64,
    /// No resync pending (resync_offset at MaxSector, or the CLEAN state bit of 0.90).
    pub clean: bool,
    /// Bytes already in sync, when not clean.
    pub resync_offset: u64,
    /// Bytes rebuilt so far on this member, while it recovers.
    pub recovery_offset: Option<u64>,
    pub bitmap: bool,
    pub journal: bool,
    pub ppl: bool,
    /// Mid-reshape: position in bytes and the new shape.
    pub reshape: Option<Reshape>,
    /// `bad block log present with N entries` and the like.
    pub bad_blocks: bool,
    pub feature_map: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reshape {
    pub position: u64,
    pub delta_disks: i32,
    pub new_level: i32,
    pub new_layout: u32,
    /// Bytes.
    pub new_chunk: u64,
}
