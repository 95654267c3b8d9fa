//! Storage of the machine at hand: the kernel's facts, and what an examiner reads from the devices that a tool
//! wants looked at. Real disks and partitions first; what is built on them afterwards, and not
//! at all above a disk that hangs.

use crate::report::without_errno;
use crate::tool::Context;
use anyhow::Context as _;
use contract::facts::{Block, Facts};
use contract::guard::Consent;
use contract::paths;
use host::Root;
use host::sysfs::Node;
use model::build::{build, refused};
use model::storage::{Observed, Storage};
use ondisk::{Extent, Geometry, ReadAt, ReadError, Section};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The sizes of a drive that does not say.
const SECTOR: u32 = 512;
/// Major number of floppy drives: without a medium, reading one takes many seconds.
const FLOPPY: u32 = 2;

/// A look at a machine: facts at first, then whatever of it is examined.
pub struct Scan {
    root: Root,
    pub facts: Facts,
    consents: Vec<Consent>,
}

/// One device to examine.
#[derive(Clone, Debug)]
pub struct Ask {
    pub name: String,
    pub path: String,
    pub geometry: Geometry,
    /// Bytes.
    pub size: u64,
    /// Windows to examine too: partitions without a node.
    pub sections: Vec<Extent>,
}

/// Whoever reads devices: this process, or workers that may be abandoned.
pub trait Examine {
    fn examine(&self, asks: &[Ask]) -> Vec<Observed>;
}

impl Scan {
    /// The kernel's facts; no device is touched.
    pub fn begin(context: &Context) -> Scan {
        Scan {
            root: context.root.clone(),
            facts: host::sysfs::facts(&context.root),
            consents: consents(&context.root),
        }
    }

    /// The kernel name of the device that a person's path means: a node, a link to one, or an image file,
    /// which is taken into the facts.
    pub fn resolve(&mut self, path: &Path) -> anyhow::Result<String> {
        let shown = path.display().to_string();
        if let Some(block) = self.facts.blocks.iter().find(|block| block.path() == shown) {
            return Ok(block.name.clone());
        }
        match host::sysfs::node(path).with_context(|| format!("cannot open {shown}"))? {
            Node::Block { major, minor } => {
                let known =
                    self.facts.blocks.iter().find(|block| (block.major, block.minor) == (major, minor));
                let block = known
                    .with_context(|| format!("{shown} is {major}:{minor}, which sysfs does not list"))?;
                Ok(block.name.clone())
            }
            Node::File { size } => {
                self.facts.blocks.push(Block { name: shown.clone(), size, ..Block::default() });
                Ok(shown)
            }
            Node::Other => anyhow::bail!("{shown} is neither a block device nor an image file"),
        }
    }

    /// Examines the devices that are wanted, and judges.
    pub fn examine(self, wanted: impl Fn(&Block) -> bool) -> Storage {
        let local = InProcess { root: &self.root };
        let mut observed = BTreeMap::new();
        for second in [false, true] {
            let hung = hung(&self.facts, &observed);
            let asks: Vec<Ask> = self
                .facts
                .blocks
                .iter()
                .filter(|block| block.is_virtual() == second && wanted(block))
                .filter_map(|block| match skipped(block, &self.facts, &hung) {
                    Some(reason) => {
                        observed.insert(block.name.clone(), Observed::Skipped { reason });
                        None
                    }
                    None => Some(ask(block)),
                })
                .collect();
            let again = |asks: &[Ask], observed: &BTreeMap<String, Observed>| -> Vec<Ask> {
                asks.iter().filter_map(|ask| with_sections(ask, &self.facts, observed)).collect()
            };
            for (ask, seen) in asks.iter().zip(local.examine(&asks)) {
                observed.insert(ask.name.clone(), seen);
            }
            let asks = again(&asks, &observed);
            for (ask, seen) in asks.iter().zip(local.examine(&asks)) {
                observed.insert(ask.name.clone(), seen);
            }
        }
        build(self.facts, &observed, &self.consents)
    }
}

fn consents(root: &Root) -> Vec<Consent> {
    let names = root.list(paths::CONSENT).unwrap_or_default();
    let consent = |name| serde_json::from_slice(&root.read(Path::new(paths::CONSENT).join(name)).ok()?).ok();
    names.iter().filter_map(consent).collect()
}

fn ask(block: &Block) -> Ask {
    let or = |size: u32, other: u32| if size == 0 { other } else { size };
    let logical = or(block.logical_block, SECTOR);
    let geometry = Geometry { logical, physical: or(block.physical_block, logical) };
    Ask { name: block.name.clone(), path: block.path(), geometry, size: block.size, sections: Vec::new() }
}

/// The same once more, with the partitions that the first answer named and the kernel does not have.
fn with_sections(ask: &Ask, facts: &Facts, observed: &BTreeMap<String, Observed>) -> Option<Ask> {
    let Some(Observed::Examined { report }) = observed.get(&ask.name) else { return None };
    let disk = facts.blocks.iter().find(|block| block.name == ask.name && block.partition.is_none())?;
    let entries = refused(disk, report.table.as_ref()?, &facts.blocks);
    let sections: Vec<Extent> = entries.filter(|entry| !entry.extended).map(|entry| entry.extent).collect();
    (!sections.is_empty()).then(|| Ask { sections, ..ask.clone() })
}

/// Names of devices that are not to be touched, or stand on one that is not.
fn hung(facts: &Facts, observed: &BTreeMap<String, Observed>) -> BTreeSet<String> {
    let own = |block: &Block| {
        matches!(observed.get(&block.name), Some(Observed::Hung { .. }))
            || facts.hung.iter().any(|(seq, _)| Some(*seq) == block.diskseq)
    };
    let mut names: BTreeSet<String> =
        facts.blocks.iter().filter(|block| own(block)).map(|block| block.name.clone()).collect();
    loop {
        let before = names.len();
        for block in &facts.blocks {
            let disk = block.partition.as_ref().map(|partition| &partition.disk);
            if block.slaves.iter().chain(disk).any(|below| names.contains(below)) {
                names.insert(block.name.clone());
            }
        }
        if names.len() == before {
            return names;
        }
    }
}

/// Why a device is not read, if it is not.
fn skipped(block: &Block, facts: &Facts, hung: &BTreeSet<String>) -> Option<String> {
    let below = |name: &String| facts.blocks.iter().find(|block| block.name == *name).map(Block::path);
    if block.size == 0 {
        return Some("no medium, or nothing behind it".to_string());
    }
    if block.major == FLOPPY {
        return Some("a floppy drive: reading it without a medium takes long".to_string());
    }
    if hung.contains(&block.name) {
        let culprit = block.slaves.iter().find(|name| hung.contains(*name)).and_then(below);
        return Some(
            culprit.map_or("it hangs".to_string(), |path| format!("it stands on {path}, which hangs")),
        );
    }
    None
}

/// Reads in this process: image files, and the devices of a captured machine, which are files below its root.
pub struct InProcess<'a> {
    root: &'a Root,
}

impl Examine for InProcess<'_> {
    fn examine(&self, asks: &[Ask]) -> Vec<Observed> {
        let one = |ask: &Ask| match self.open(ask) {
            Ok(image) => {
                let mut report = ondisk::examine(&image, ask.geometry);
                for extent in &ask.sections {
                    let section = Section::new(&image, extent.start, extent.length);
                    report.sections.push((extent.start, ondisk::examine(&section, ask.geometry)));
                }
                Observed::Examined { report: Box::new(report) }
            }
            Err(error) => Observed::Skipped { reason: without_errno(&format!("open {}: {error}", ask.path)) },
        };
        asks.iter().map(one).collect()
    }
}

impl InProcess<'_> {
    fn open(&self, ask: &Ask) -> std::io::Result<Image> {
        // An image file is named by its path, which is this process's and not the machine's.
        let file =
            if ask.name == ask.path { File::open(&ask.path)? } else { self.root.open_device(&ask.path)? };
        Ok(Image { file, size: ask.size })
    }
}

struct Image {
    file: File,
    size: u64,
}

impl ReadAt for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(ReadError::PastEnd { offset, length, size: self.size });
        }
        let device = |error: std::io::Error| ReadError::Device {
            offset,
            length,
            error: without_errno(&error.to_string()),
        };
        self.file.read_exact_at(buf, offset).map_err(device)
    }
}
