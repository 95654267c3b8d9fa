//! What BSD's, Sun's and SGI's labels say beside the partitions that the kernel makes of them, and their slices as they are
//! written, unused ones too: fdisk's view of them. Sectors are those that the label counts in.

use serde::{Deserialize, Serialize};

/// Cylinders, heads and sectors of a track: how many there are, or which one is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chs {
    pub cylinders: u32,
    pub heads: u32,
    pub sectors: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// `None` where the label does not say.
    pub geometry: Option<Chs>,
    pub items: Items,
    /// Those with a size.
    pub slices: Vec<Slice>,
}

impl Label {
    /// Of all slices, those without a size are left out.
    pub fn of(geometry: Option<Chs>, items: Items, slices: Vec<Slice>) -> Label {
        let slices = slices.into_iter().filter(|slice| slice.sectors != 0).collect();
        Label { geometry, items, slices }
    }
}

/// The fields that are not of one slice. Texts are hostile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Items {
    Bsd {
        kind: i16,
        disk: String,
        pack: String,
        bytes_a_sector: u32,
        sectors_a_cylinder: u32,
        rpm: u16,
        interleave: u16,
        track_skew: u16,
        cylinder_skew: u16,
        head_switch: u32,
        track_seek: u32,
        flags: u32,
    },
    Sgi {
        /// Index of the partition.
        root: u16,
        swap: u16,
        boot_file: String,
        extra_sectors: u8,
        physical_cylinders: u16,
        interleave: u16,
    },
    Sun {
        id: String,
        version: u32,
        volume: String,
        slices: u16,
        sanity: u32,
        rpm: u16,
        physical_cylinders: u16,
        extra_sectors: u16,
        interleave: u16,
        alternate_cylinders: u16,
    },
}

/// One line of a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// From 1; BSD's letter counted from `a`.
    pub number: u32,
    pub start: u64,
    pub sectors: u64,
    pub code: u32,
    /// Sun.
    pub flags: u16,
    /// BSD: bytes of a fragment and of a block, cylinders of a group.
    pub fragment: u32,
    pub block: u32,
    pub cylinders_a_group: u16,
}
