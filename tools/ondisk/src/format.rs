//! The words in which a disk is described: signatures, their health, tables, and the report that
//! holds all that was found on one device.

use crate::read::ReadAt;
use crate::table::Table;
use crate::volume::Volume;
use serde::{Deserialize, Serialize};

/// Sixteen bytes as the format prints them. GPT's mixed endianness is resolved by its parser.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Uuid(pub [u8; 16]);

impl std::fmt::Display for Uuid {
    /// Lower case, with dashes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What a device is used as, in libblkid's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Usage {
    Filesystem,
    Raid,
    Crypto,
    Other,
}

/// A good magic with a bad checksum is the most useful answer of all, so it is an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum Health {
    /// The format's checksum was verified, or every redundant field agrees.
    Sound,
    /// The format has nothing to check.
    Unchecked,
    /// One line: the field and what is wrong with it.
    Damaged(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// Bytes from the device's start.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// One thing found on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// libblkid's TYPE: `ext4`, `linux_raid_member`, `LVM2_member`, `crypto_LUKS`, `swap`, `vfat`.
    pub format: String,
    pub usage: Usage,
    /// As libblkid prints UUID: most as a dashed UUID, vfat as `1234-ABCD`, ntfs as 16 hex digits.
    pub uuid: Option<String>,
    /// UUID_SUB: of a member within its array or pool.
    pub member_uuid: Option<String>,
    /// Hostile text: only report and logging may print it, escaped.
    pub label: Option<String>,
    pub version: Option<String>,
    /// Where the magic was found, bytes.
    pub magic_offset: u64,
    /// What the format says of its own size: the whole of it on this device.
    pub extent: Option<Extent>,
    /// File system block size in bytes, as blkid's BLOCK_SIZE / FSBLOCKSIZE.
    pub block_size: Option<u32>,
    pub health: Health,
    /// The journal or log has to be replayed before what is on the disk is the last state.
    pub dirty: bool,
    /// For a person, one line each: `mounted 3 times since the last check`, `backup superblock at 32768 used`.
    pub notes: Vec<String>,
    /// For volumes (md, LVM PV, LUKS): everything the assembler needs.
    pub volume: Option<Volume>,
}

/// The device's sector sizes in bytes. `logical` is what a partition table counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    pub logical: u32,
    pub physical: u32,
}

impl Default for Geometry {
    fn default() -> Geometry {
        Geometry { logical: 512, physical: 512 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// What is wrong with one device, in one line that names the thing and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    pub text: String,
}

/// All that was found on one device. More than one signature is an ambiguity that is reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DiskReport {
    /// Sorted as libblkid prefers them; the first is what the device is most likely.
    pub signatures: Vec<Signature>,
    pub table: Option<Table>,
    /// Reports of partitions read as sections of this device, keyed by their start in bytes.
    pub sections: Vec<(u64, DiskReport)>,
    pub findings: Vec<Finding>,
    /// Read errors, one line each; the rest of the report still holds.
    pub errors: Vec<String>,
}

/// A magic number: `bytes` at `offset` from the device's start.
#[derive(Clone, Copy, Debug)]
pub struct Magic {
    pub offset: u64,
    pub bytes: &'static [u8],
}

/// One row of FORMATS.
pub struct Format {
    pub name: &'static str,
    pub usage: Usage,
    /// Empty: `probe` looks by itself (superblocks counted from the device's end).
    pub magics: &'static [Magic],
    /// Bytes; a smaller device cannot hold it.
    pub min_size: u64,
    /// `None`: not this format after all. Damage is a `Signature` with `Health::Damaged`.
    pub probe: fn(&dyn ReadAt, Option<&Magic>) -> Option<Signature>,
}
