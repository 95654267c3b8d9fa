//! Partition tables as they stand on the disk, sound or not.

use crate::format::{Extent, Finding, Geometry, Health, Severity};
use crate::read::ReadAt;
pub use label::{Chs, Items, Label, Slice};
use serde::{Deserialize, Serialize};

pub mod atari;
pub mod bsd;
pub mod gpt;
pub mod label;
pub mod mac;
pub mod mbr;
pub mod sgi;
pub mod sun;

/// The table of the device, if there is one. GPT before MBR, as its protective MBR is one too; what has no magic
/// comes last.
pub fn probe(device: &dyn ReadAt, geometry: Geometry, findings: &mut Vec<Finding>) -> Option<Table> {
    mbr_before_gpt(device, geometry, findings)
        .or_else(|| gpt::probe(device, geometry, findings))
        .or_else(|| sgi::probe(device, geometry))
        .or_else(|| sun::probe(device, geometry))
        .or_else(|| mbr::probe(device, geometry, findings))
        .or_else(|| mac::probe(device, geometry, findings))
        .or_else(|| bsd::probe(device, geometry))
        .or_else(|| atari::probe(device, geometry, findings))
}

/// An MBR that has partitions of its own and does not say GPT is what the kernel uses (block/partitions/efi.c:
/// is_pmbr_valid) although a sound GPT lies behind it, as on the sticks that some ISO images make.
fn mbr_before_gpt(device: &dyn ReadAt, geometry: Geometry, findings: &mut Vec<Finding>) -> Option<Table> {
    if mbr::is_protective(device) {
        return None;
    }
    let mut told = Vec::new();
    let table = mbr::probe(device, geometry, &mut told).filter(|table| !table.is_blank())?;
    gpt::probe(device, geometry, &mut Vec::new())?;
    findings.extend(told);
    findings.push(finding(
        Severity::Info,
        "a GPT lies behind the MBR, which has partitions of its own and does not say GPT: the kernel uses the MBR, and so is it shown; gdisk shows the other",
    ));
    Some(table)
}

fn finding(severity: Severity, text: impl Into<String>) -> Finding {
    Finding { severity, text: text.into() }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub kind: TableKind,
    /// Disk GUID (upper case, as fdisk prints it) or MBR signature (`0x1234abcd`).
    pub id: Option<String>,
    /// Sector size that the table counts in, bytes.
    pub sector: u32,
    /// In the order of their numbers.
    pub partitions: Vec<Entry>,
    pub health: Health,
    /// GPT: first and last usable LBA, entry count, which header was used, where the backup lies.
    pub gpt: Option<Gpt>,
    /// BSD, Sun, SGI: what the label says as a whole.
    #[serde(default)]
    pub label: Option<Label>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    Gpt,
    Mbr,
    Bsd,
    Mac,
    Sun,
    Sgi,
    Atari,
}

impl Table {
    /// A sound one that says no more than this. `sector` in bytes.
    pub fn new(kind: TableKind, sector: u32, partitions: Vec<Entry>) -> Table {
        Table { kind, id: None, sector, partitions, health: Health::Sound, gpt: None, label: None }
    }

    /// What a boot sector looks like too: an MBR without partitions.
    pub fn is_blank(&self) -> bool {
        self.kind == TableKind::Mbr && self.partitions.is_empty()
    }

    /// What another reader takes for the device's table: this one, or else what is in sector 0.
    pub fn read_by(&self, reader: Reader) -> Option<&Table> {
        match &self.gpt {
            Some(gpt) if gpt.refused_by.contains(&reader) => gpt.beneath.as_deref(),
            Some(_) | None => Some(self),
        }
    }
}

/// Who reads tables besides us, and wants more of a GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    Kernel,
    Libblkid,
    Libfdisk,
}

impl TableKind {
    /// libblkid's PTTYPE and fdisk's label type.
    pub fn name(self) -> &'static str {
        match self {
            TableKind::Gpt => "gpt",
            TableKind::Mbr => "dos",
            TableKind::Bsd => "bsd",
            TableKind::Mac => "mac",
            TableKind::Sun => "sun",
            TableKind::Sgi => "sgi",
            TableKind::Atari => "atari",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpt {
    pub first_usable: u64,
    pub last_usable: u64,
    pub entries: u32,
    /// Bytes of each.
    #[serde(default)]
    pub entry_size: u32,
    /// LBA of the entries and of the backup header as the primary has it, or would have it were it whole.
    #[serde(default)]
    pub entries_start: u64,
    #[serde(default)]
    pub alternative: u64,
    pub primary: Health,
    pub backup: Health,
    /// Who does not take it for a table.
    #[serde(default)]
    pub refused_by: Vec<Reader>,
    /// And what those have in its place.
    #[serde(default)]
    pub beneath: Option<Box<Table>>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// As the kernel numbers it: 1 to 4 primary, 5 and up logical; the entry's index plus 1 in GPT.
    pub number: u32,
    /// Bytes.
    pub extent: Extent,
    /// GPT: type GUID in upper case; MBR, BSD, Sun, SGI: hex digits in lower case; Apple, Atari: hostile text.
    pub kind: String,
    /// GPT: PARTUUID in lower case; MBR: `signature-NN`.
    pub uuid: Option<String>,
    /// GPT, Apple: hostile text; BSD: the letter.
    pub name: Option<String>,
    /// GPT attribute bits; Sun: the slice's flags; MBR: the boot flag as bit 2 would mislead, so it is apart.
    pub attributes: u64,
    /// MBR: active flag.
    pub boot: bool,
    /// MBR: it holds the logical ones.
    pub extended: bool,
    /// Of a table within a partition of this one: its name, `freebsd`.
    #[serde(default)]
    pub within: Option<String>,
    /// MBR: where it starts and ends, as it stands there.
    #[serde(default)]
    pub chs: Option<[Chs; 2]>,
    /// MBR: the byte that is 80 where it is active.
    #[serde(default)]
    pub boot_byte: u8,
}

impl Entry {
    /// Of a table that says no more of a partition than this.
    pub fn new(number: u32, extent: Extent, kind: String) -> Entry {
        Entry {
            number,
            extent,
            kind,
            uuid: None,
            name: None,
            attributes: 0,
            boot: false,
            extended: false,
            within: None,
            chs: None,
            boot_byte: 0,
        }
    }
}
