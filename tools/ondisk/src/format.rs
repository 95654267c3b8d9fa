//! The words in which a disk is described: signatures, their health, tables, and the report that
//! holds all that was found on one device.

use crate::bytes;
use crate::read::ReadAt;
use crate::table::Table;
use crate::volume::Volume;
use serde::{Deserialize, Serialize};
use std::fmt::LowerHex;

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

impl Health {
    /// Of a checksum, shown in as many hexadecimal digits as it has: `sum` is what the device says.
    pub fn of_checksum<T: PartialEq + LowerHex>(sum: T, should: T) -> Health {
        let digits = 2 * size_of::<T>();
        match sum == should {
            true => Health::Sound,
            false => Health::Damaged(format!("checksum {sum:0digits$x} should be {should:0digits$x}")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// Bytes from the device's start.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

impl Extent {
    /// Where what comes behind it begins.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    pub fn covers(&self, inner: &Extent) -> bool {
        self.start <= inner.start && inner.end() <= self.end()
    }

    /// What is left of it without these, which may overlap, and lie beyond it.
    pub fn without(&self, holes: &[Extent]) -> Vec<Extent> {
        let mut holes: Vec<Extent> = holes.to_vec();
        holes.sort();
        let (mut left, mut at, end) = (Vec::new(), self.start, self.end());
        for hole in holes {
            let start = hole.start.min(end);
            if start > at {
                left.push(Extent { start: at, length: start - at });
            }
            at = at.max(hole.end().min(end));
        }
        if at < end {
            left.push(Extent { start: at, length: end - at });
        }
        left
    }
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
    /// Files that were deleted, or cut short, while in use wait to be cleared away: the kernel does that at the next mount,
    /// with `ro` too and whatever is asked of the journal, unless the device's own flag is set.
    #[serde(default)]
    pub orphans: bool,
    /// Its journal or log is on another device: the UUID that one carries, empty where the format does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_on: Option<String>,
    /// Its own flags ask for a check: why, in words.
    #[serde(default)]
    pub due: Option<String>,
    /// A system that goes on with what it remembers of it is hibernated on it: it is not to be written.
    #[serde(default)]
    pub hibernated: bool,
    /// Of what lies outside or among other bytes on the device: where the format keeps its own, as far as that is known.
    #[serde(default)]
    pub own: Vec<Extent>,
    /// For a person, one line each: `mounted 3 times since the last check`, `backup superblock at 32768 used`.
    pub notes: Vec<String>,
    /// For volumes (md, LVM PV, LUKS): everything the assembler needs.
    pub volume: Option<Volume>,
    /// All that `blkid -p` prints of it, in its order, but TYPE and USAGE, which stand behind. Texts are hostile.
    #[serde(default)]
    pub tags: Vec<(String, String)>,
}

/// The setters are called in the order in which libblkid sets its values, since that is the order in which they
/// are printed. An empty value is none.
impl Signature {
    /// Nothing but a magic so far.
    pub fn new(format: &str, usage: Usage, magic_offset: u64) -> Signature {
        Signature {
            format: format.to_string(),
            usage,
            uuid: None,
            member_uuid: None,
            label: None,
            version: None,
            magic_offset,
            extent: None,
            block_size: None,
            health: Health::Unchecked,
            dirty: false,
            orphans: false,
            journal_on: None,
            due: None,
            hibernated: false,
            own: Vec::new(),
            notes: Vec::new(),
            volume: None,
            tags: Vec::new(),
        }
    }

    pub fn tag(&mut self, name: &str, value: impl Into<String>) {
        self.tags.push((name.to_string(), value.into()));
    }

    /// A label as bytes: up to the first NUL, without white space at the end.
    pub fn set_label(&mut self, bytes: &[u8]) {
        self.set_label_text(&bytes::utf8(bytes));
    }

    pub fn set_label_text(&mut self, text: &str) {
        let label = text.trim_end_matches(bytes::is_space);
        if !label.is_empty() {
            self.label = Some(label.to_string());
            self.tag("LABEL", label);
        }
    }

    /// Another name that the format keeps: without white space around it.
    pub fn set_name(&mut self, name: &str, text: &str) {
        let text = text.trim_matches(bytes::is_space);
        if !text.is_empty() {
            self.tag(name, text);
        }
    }

    /// All zeros are no UUID.
    pub fn set_uuid(&mut self, uuid: Uuid) {
        if uuid.0 != [0; 16] {
            self.set_uuid_text(uuid.to_string());
        }
    }

    pub fn set_uuid_text(&mut self, uuid: String) {
        if !uuid.is_empty() {
            self.tag("UUID", uuid.clone());
            self.uuid = Some(uuid);
        }
    }

    pub fn set_member_uuid(&mut self, uuid: Uuid) {
        if uuid.0 != [0; 16] {
            self.set_member_uuid_text(uuid.to_string());
        }
    }

    pub fn set_member_uuid_text(&mut self, uuid: String) {
        self.tag("UUID_SUB", uuid.clone());
        self.member_uuid = Some(uuid);
    }

    /// A UUID of something else: of a journal, of a log.
    pub fn set_other_uuid(&mut self, name: &str, uuid: Uuid) {
        if uuid.0 != [0; 16] {
            self.tag(name, uuid.to_string());
        }
    }

    pub fn set_version(&mut self, version: impl Into<String>) {
        let version = version.into();
        self.tag("VERSION", version.clone());
        self.version = Some(version);
    }

    /// BLOCK_SIZE: the smallest piece that the file system reads or writes.
    pub fn set_block_size(&mut self, bytes: u32) {
        self.tag("BLOCK_SIZE", bytes.to_string());
        self.block_size = Some(bytes);
    }

    /// FSBLOCKSIZE: what it allocates in.
    pub fn set_fs_block_size(&mut self, bytes: u32) {
        self.tag("FSBLOCKSIZE", bytes.to_string());
    }

    /// FSSIZE, which for some formats is less than the extent.
    pub fn set_fs_size(&mut self, bytes: u64) {
        self.tag("FSSIZE", bytes.to_string());
    }

    pub fn set_last_block(&mut self, blocks: u64) {
        self.tag("FSLASTBLOCK", blocks.to_string());
    }

    /// Whether it is the journal of that UUID, which `journal_on` of another names.
    pub fn is_journal(&self, uuid: &str) -> bool {
        let is_log = matches!(self.format.as_str(), "jbd" | "xfs_external_log");
        is_log && self.tags.iter().any(|(name, value)| name == "LOGUUID" && value.eq_ignore_ascii_case(uuid))
    }

    /// Why it wants to be checked or replayed, as far as it says so itself.
    pub fn is_due(&self) -> Option<&str> {
        if self.dirty {
            return Some("a journal or log waits to be replayed");
        }
        self.due.as_deref()
    }

    /// A flag of the format's own says that it has to be checked; the first that is found is the reason. `then` stands
    /// behind it in the note.
    pub fn check_is_due(&mut self, why: &str, then: &str) {
        self.due.get_or_insert_with(|| why.to_string());
        self.note(format!("{why}{then}"));
    }

    /// A piece of the device that holds nothing but this format's own, cut at the device's end.
    pub fn owns(&mut self, start: u64, length: u64, device: &dyn ReadAt) {
        let length = length.min(device.size().saturating_sub(start));
        if length > 0 {
            self.own.push(Extent { start, length });
        }
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// The first damage that is found is the one that is told.
    pub fn damage(&mut self, reason: impl Into<String>) {
        if !matches!(self.health, Health::Damaged(_)) {
            self.health = Health::Damaged(reason.into());
        }
    }

    /// How long it is from the device's start; longer than the device is damage.
    pub fn set_length(&mut self, length: u64, device: &dyn ReadAt) {
        self.extent = Some(Extent { start: 0, length });
        if length > device.size() {
            let missing = length - device.size();
            self.damage(format!(
                "it is {length} bytes long and its device {missing} bytes shorter: the device was cut, or grew smaller than it"
            ));
        }
    }
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
