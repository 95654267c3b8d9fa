//! A volume group as its metadata describes it (LVM2: lib/format_text/import_vsn1.c). Names are LVM's own characters
//! or the group is not believed; everything is bounded, since the answer crosses a pipe once for each PV.

use super::text::{Section, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const SECTOR: u64 = 512;
/// NAME_LEN of LVM2, and longer than any.
const NAME_MAX: usize = 128;
/// A system id and a hint may be anything.
const TEXT_MAX: usize = 256;
/// What the entries of a group may cost, in bytes of JSON: half of the longest report of a worker, so that neither that nor the
/// memory for what a hostile disk with a PV in each of its partitions says grows without bound. The text of a metadata
/// area of 1 MiB, LVM's default, has at most half of that (the ring holds the old one too), and costs less here: four
/// times as many volumes are whole.
pub const BUDGET: usize = 2_000_000;
/// A group of which the entries cost no more is never cut for what others say, in bytes of JSON: some 60 volumes.
pub const SMALL: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub name: String,
    /// `abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF`
    pub uuid: String,
    /// Counted up by each change.
    pub seqno: u64,
    /// Bytes.
    pub extent: u64,
    /// Only the system of this id may use it. Hostile.
    pub system_id: Option<String>,
    /// `none`, or who locks it: `sanlock`, `dlm`.
    pub lock_type: Option<String>,
    pub exported: bool,
    pub clustered: bool,
    pub writable: bool,
    pub pvs: Vec<Physical>,
    pub lvs: Vec<Logical>,
    /// There is more than could be taken in, of volumes or of what they lie on: LVM writes hidden parts last. Nothing that is
    /// said of one of them is sure then.
    pub truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Physical {
    /// `pv0`: how segments name it.
    pub name: String,
    pub uuid: String,
    /// Where it was last seen. Hostile.
    pub device: Option<String>,
    /// Bytes; 0 where it is not said.
    pub size: u64,
    /// Where its first extent lies, bytes.
    pub pe_start: u64,
    pub pe_count: u64,
    /// The group went on without it.
    pub missing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logical {
    pub name: String,
    pub uuid: String,
    /// Not a part of another one.
    pub visible: bool,
    pub writable: bool,
    /// Activated only when asked for by a flag (`lvchange -K`).
    pub skipped: bool,
    /// Being moved by pvmove.
    pub moving: bool,
    /// In the order of their extents.
    pub segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// In extents.
    pub start: u64,
    pub length: u64,
    pub kind: Kind,
    /// What it lies on, in order.
    pub on: Vec<Area>,
    /// Bytes of memory that a VDO pool of it takes for what its size does not tell: caches, and the index of what it has seen.
    #[serde(default)]
    pub memory: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// Of which PV (`pv0`), and from which of its extents on.
    Pv(String, u64),
    Lv(String),
}

/// segtype.h
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Linear,
    Striped,
    Mirror,
    /// `raid1`, `raid5_ls`
    Raid(String),
    Snapshot {
        /// It is being merged into its origin.
        merging: bool,
    },
    ThinPool,
    Thin,
    CachePool,
    Cache,
    Writecache,
    Integrity,
    VdoPool,
    Vdo,
    Error,
    Zero,
    Other(String),
}

impl Kind {
    fn of(segment: &Section) -> Option<Kind> {
        // `cache+METADATA_FORMAT`: what an older LVM must not pass over.
        let name = segment.text("type")?.split('+').next().unwrap_or_default();
        Some(match name {
            "striped" if segment.number("stripe_count") == Some(1) => Kind::Linear,
            "linear" => Kind::Linear,
            "striped" => Kind::Striped,
            "mirror" => Kind::Mirror,
            "snapshot" => Kind::Snapshot { merging: segment.get("merging_store").is_some() },
            "thin-pool" => Kind::ThinPool,
            "thin" => Kind::Thin,
            "cache-pool" => Kind::CachePool,
            "cache" => Kind::Cache,
            "writecache" => Kind::Writecache,
            "integrity" => Kind::Integrity,
            "vdo-pool" => Kind::VdoPool,
            "vdo" => Kind::Vdo,
            "error" => Kind::Error,
            "zero" => Kind::Zero,
            name if name.starts_with("raid") => Kind::Raid(checked(name)?),
            name => Kind::Other(checked(name)?),
        })
    }

    /// In LVM's words.
    pub fn name(&self) -> &str {
        match self {
            Kind::Linear => "linear",
            Kind::Striped => "striped",
            Kind::Mirror => "mirror",
            Kind::Raid(level) => level,
            Kind::Snapshot { .. } => "snapshot",
            Kind::ThinPool => "thin-pool",
            Kind::Thin => "thin",
            Kind::CachePool => "cache-pool",
            Kind::Cache => "cache",
            Kind::Writecache => "writecache",
            Kind::Integrity => "integrity",
            Kind::VdoPool => "vdo-pool",
            Kind::Vdo => "vdo",
            Kind::Error => "error",
            Kind::Zero => "zero",
            Kind::Other(name) => name,
        }
    }
}

impl Logical {
    /// In extents.
    pub fn extents(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).fold(0, u64::saturating_add)
    }
}

impl Group {
    pub fn lv(&self, name: &str) -> Option<&Logical> {
        self.lvs.iter().find(|lv| lv.name == name)
    }

    /// What the entries cost in a worker's answer, in bytes.
    pub fn cost(&self) -> usize {
        self.pvs.iter().map(cost).sum::<usize>() + self.lvs.iter().map(cost).sum::<usize>()
    }

    /// What is kept of it where all is too much: whose it is, and its PVs, unless even those are many.
    pub fn cut(&self) -> Group {
        let pvs =
            if self.pvs.iter().map(cost).sum::<usize>() > SMALL { Vec::new() } else { self.pvs.clone() };
        let (name, uuid) = (self.name.clone(), self.uuid.clone());
        let (system_id, lock_type) = (self.system_id.clone(), self.lock_type.clone());
        Group { name, uuid, system_id, lock_type, pvs, lvs: Vec::new(), truncated: true, ..*self }
    }

    /// Nearly every LV has one segment on one PV, and a list that grew has room for four.
    pub fn shrink(&mut self) {
        for lv in &mut self.lvs {
            for segment in &mut lv.segments {
                segment.on.shrink_to_fit();
            }
            lv.segments.shrink_to_fit();
        }
        self.lvs.shrink_to_fit();
        self.pvs.shrink_to_fit();
    }

    /// What snapshots keep in: dm-snapshot's stores, but of those that are being merged.
    pub fn stores(&self) -> impl Iterator<Item = &Logical> {
        let links = self.lvs.iter().flat_map(|lv| &lv.segments);
        links.filter_map(Segment::store).filter_map(|name| self.lv(name))
    }

    /// The byte of the PV of this UUID that an LV begins at, where it lies on PVs itself.
    pub fn begins(&self, lv: &Logical, pv: &str) -> Option<u64> {
        let first = lv.segments.first().filter(|segment| segment.start == 0)?;
        let (Kind::Linear | Kind::Striped, Area::Pv(name, extent)) = (&first.kind, first.on.first()?) else {
            return None;
        };
        let pv = self.pvs.iter().find(|known| known.name == *name && known.uuid == pv)?;
        pv.pe_start.checked_add(extent.checked_mul(self.extent)?)
    }
}

impl Segment {
    /// Of the link between a snapshot and its origin: the LV that it keeps in.
    pub fn store(&self) -> Option<&str> {
        let keeps = matches!(self.kind, Kind::Snapshot { merging: false });
        self.on.last().filter(|_| keeps).map(Area::name)
    }
}

/// Where a segment's section names LVs that it lies on, besides its lists.
const REFERENCES: &[&str] = &[
    "mirror_log",
    "thin_pool",
    "metadata",
    "pool",
    "data",
    "origin",
    "external_origin",
    "merge",
    "cow_store",
    "merging_store",
    "cache_pool",
    "writecache",
    "meta_dev",
    "vdo_pool",
];

/// Which group a whole metadata text is of; the reason is for a person.
pub fn group(text: &Section) -> Result<Group, String> {
    if text.text("contents") != Some("Text Format Volume Group") || text.number("version") != Some(1) {
        return Err("it is no description of a volume group, or of a later version".to_string());
    }
    let (name, vg) = text.sections().next().ok_or("it holds no volume group")?;
    read(name, vg).ok_or_else(|| "it lacks what every volume group has".to_string())
}

fn read(name: &str, vg: &Section) -> Option<Group> {
    let mut budget = BUDGET;
    let mut group = Group {
        name: checked(name)?,
        uuid: uuid(vg)?,
        seqno: vg.number("seqno")?,
        extent: vg.number("extent_size")?.checked_mul(SECTOR)?,
        system_id: text(vg, "system_id"),
        lock_type: text(vg, "lock_type"),
        exported: vg.has("status", "EXPORTED"),
        clustered: vg.has("status", "CLUSTERED") || vg.has("flags", "CLUSTERED"),
        writable: vg.has("status", "WRITE"),
        pvs: Vec::new(),
        lvs: Vec::new(),
        truncated: false,
    };
    for (name, pv) in vg.section("physical_volumes")?.sections() {
        let pv = physical(name, pv)?;
        match budget.checked_sub(cost(&pv)) {
            Some(left) => budget = left,
            None => {
                group.truncated = true;
                break;
            }
        }
        group.pvs.push(pv);
    }
    let names: BTreeSet<String> = group.pvs.iter().map(|pv| pv.name.clone()).collect();
    let empty = Section::default();
    let lvs = vg.section("logical_volumes").unwrap_or(&empty);
    for (name, lv) in lvs.sections() {
        let lv = logical(name, lv, &names)?;
        match budget.checked_sub(cost(&lv)) {
            Some(left) => budget = left,
            None => {
                group.truncated = true;
                break;
            }
        }
        group.lvs.push(lv);
    }
    Some(group)
}

/// In the answer, with the comma behind it.
fn cost(entry: &impl Serialize) -> usize {
    // Of numbers and texts alone: it cannot fail.
    serde_json::to_vec(entry).map_or(usize::MAX, |json| json.len() + 1)
}

impl Area {
    pub fn name(&self) -> &str {
        match self {
            Area::Pv(name, _) | Area::Lv(name) => name,
        }
    }
}

fn physical(name: &str, pv: &Section) -> Option<Physical> {
    Some(Physical {
        name: checked(name)?,
        uuid: uuid(pv)?,
        device: text(pv, "device"),
        size: pv.number("dev_size").unwrap_or(0).checked_mul(SECTOR)?,
        pe_start: pv.number("pe_start")?.checked_mul(SECTOR)?,
        pe_count: pv.number("pe_count")?,
        missing: pv.has("flags", "MISSING") || pv.has("status", "MISSING"),
    })
}

fn logical(name: &str, lv: &Section, pvs: &BTreeSet<String>) -> Option<Logical> {
    let mut segments = lv
        .sections()
        .filter(|(key, _)| key.starts_with("segment"))
        .map(|(_, segment)| self::segment(segment, pvs))
        .collect::<Option<Vec<Segment>>>()?;
    segments.sort_by_key(|segment| segment.start);
    Some(Logical {
        name: checked(name)?,
        uuid: uuid(lv)?,
        visible: lv.has("status", "VISIBLE"),
        writable: lv.has("status", "WRITE"),
        skipped: lv.has("flags", "ACTIVATION_SKIP"),
        moving: lv.has("status", "PVMOVE") || lv.has("flags", "PVMOVE"),
        segments,
    })
}

fn segment(segment: &Section, pvs: &BTreeSet<String>) -> Option<Segment> {
    let mut on = Vec::new();
    for key in ["stripes", "mirrors", "raids", "raid0_lvs"] {
        let mut values = segment.list(key).iter().peekable();
        while let Some(value) = values.next() {
            let Value::Text(name) = value else { return None };
            // An extent follows a PV always, and an LV where it is a mirror's.
            let extent = match values.peek() {
                Some(Value::Number(extent)) => {
                    let extent = u64::try_from(*extent).ok()?;
                    values.next();
                    extent
                }
                Some(Value::Text(_) | Value::List(_) | Value::Section(_)) | None => 0,
            };
            let name = checked(name)?;
            on.push(if pvs.contains(&name) { Area::Pv(name, extent) } else { Area::Lv(name) });
        }
    }
    let kind = Kind::of(segment)?;
    // It tells what a thin snapshot was made of, and not what it lies on: chains of those may be as long as there were backups.
    let is_history = |key: &str| kind == Kind::Thin && key == "origin";
    for key in REFERENCES.iter().filter(|key| !is_history(key)) {
        if let Some(name) = segment.text(key) {
            on.push(Area::Lv(checked(name)?));
        }
    }
    Some(Segment {
        start: segment.number("start_extent")?,
        length: segment.number("extent_count")?,
        kind,
        on,
        memory: vdo_memory(segment),
    })
}

/// As the kernel counts it (admin-guide/device-mapper/vdo.rst, "Memory Requirements"): 38 MB, the map's cache and 15 % more, and
/// the index.
fn vdo_memory(segment: &Section) -> u64 {
    const MIB: u64 = 1 << 20;
    let (Some(map), Some(index)) =
        (segment.number("block_map_cache_size_mb"), segment.number("index_memory_size_mb"))
    else {
        return 0;
    };
    map.saturating_mul(MIB).saturating_mul(115) / 100 + index.saturating_mul(MIB).saturating_add(38 * MIB)
}

/// A name of the characters that LVM lets one choose (lib/misc/lvm-string.c), which are as good in a shell.
fn checked(name: &str) -> Option<String> {
    let is = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let good = !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(is) && !name.starts_with('-');
    (good && name != "." && name != "..").then(|| name.to_string())
}

fn uuid(section: &Section) -> Option<String> {
    let id = section.text("id")?;
    let is = |c: char| c.is_ascii_alphanumeric() || "-!#".contains(c);
    (id.len() == 38 && id.chars().all(is)).then(|| id.to_string())
}

fn text(section: &Section, key: &str) -> Option<String> {
    let text = section.text(key).filter(|text| !text.is_empty())?;
    Some(text.chars().take(TEXT_MAX).collect())
}
