//! Locked devices: LUKS, BitLocker and TrueCrypt, whether each can be opened, and by which keyslot. What cryptsetup
//! would only find out late (a slot that takes more memory than there is) or do without a word (mend a header that
//! is damaged) is decided before it is asked.

use crate::consent;
use crate::foreign::{self, Opening};
use crate::lvm::{is_volume, path, throwaway};
use crate::plan::{Input, Step, word};
use crate::storage::{Device, Id, Storage};
use crate::text::Untrusted;
use ondisk::Health;
use ondisk::volume::Volume;
use ondisk::volume::luks::{Kdf, Luks, Slot};
use std::collections::BTreeSet;

/// How device mapper's devices of cryptsetup are known.
const CRYPT_UUID: &str = "CRYPT-";
/// Digits of a header's UUID, as they stand in device mapper's.
const HEADER_UUID: usize = 32;
/// KiB of memory that cryptsetup itself and the kernel take besides a slot's cost.
const BESIDES: u64 = 16 << 10;
/// DM_NAME_LEN without the terminating NUL.
const NAME_MAX: usize = 127;

/// What a person asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    pub writable: bool,
    /// Below /dev/mapper.
    pub name: Option<&'a str>,
    /// Only this keyslot.
    pub slot: Option<u32>,
    /// `tcrypt`, of which nothing on the disk tells; else what the disk says.
    pub kind: Option<&'a str>,
    /// KiB of memory that are free; `None`: not known.
    pub free: Option<u64>,
}

/// How a device is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub name: String,
    /// What has to be done first: the consent.
    pub before: Vec<Step>,
    /// One after the other, until one takes the passphrase.
    pub tries: Vec<Step>,
    /// Slots that are not tried, with the MiB that each needs.
    pub too_large: Vec<(u32, u64)>,
    /// MiB that are free.
    pub free: u64,
    pub notes: Vec<String>,
}

/// Why a device is not opened: one line that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{path} is not locked: {what}; rescue status shows what to do with it")]
    NotLocked { path: String, what: String },
    #[error("{path}: no header of it is sound{}", detail(.reason))]
    Damaged { path: String, reason: String },
    #[error("{0} is a header kept apart from its data: {with}", with = with_data(.0))]
    Header(String),
    #[error("{0} hangs: it is not touched until it answers")]
    Hangs(String),
    #[error("{0} has no node: the kernel refused this partition; blockdev --rereadpt reads the table again")]
    NoNode(String),
    #[error("{0} is a file: losetup --read-only --find --show {0} makes a device of it")]
    File(String),
    #[error("{path} is open already, as {by}")]
    Open { path: String, by: String },
    #[error("{path} is in use by {by}")]
    InUse { path: String, by: String },
    #[error("{}; free some (rescue status shows what runs), or add swap space", needs(.slots, *.free))]
    Memory { slots: Vec<(u32, u64)>, free: u64 },
    #[error("{path} has no keyslot {slot}; there {}", are(.there))]
    NoSlot { path: String, slot: u32, there: Vec<u32> },
    #[error(
        "{0} has no keyslot left: nothing opens it any more, but a copy of its header (cryptsetup luksHeaderRestore)"
    )]
    NoSlots(String),
    #[error(
        "{path} was being encrypted anew when it stopped, and opening it goes on with that: rescue overlay {path} first, \
         or rescue open --rw {path}"
    )]
    Reencrypting { path: String },
    #[error(
        "{path} has integrity tags, and the kernel writes to their journal as it is opened: rescue overlay {path} first, \
         or rescue open --rw {path}"
    )]
    Integrity { path: String },
    #[error(
        "{path}: a header is damaged ({reason}), and cryptsetup would mend it, since this device can be written: \
         {next}"
    )]
    WouldMend { path: String, reason: String, next: String },
    #[error("{0:?} is no name for a mapped device")]
    Name(String),
    #[error("{path} is mounted: umount {}", Untrusted(.target))]
    Mounted { path: String, target: String },
    #[error("{path} is used as swap: swapoff {}", Untrusted(.target))]
    Swap { path: String, target: String },
    #[error("there is a mapped device {0} already: choose another name by --name")]
    NameTaken(String),
    #[error(transparent)]
    Consent(#[from] consent::Refusal),
}

fn detail(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {}", Untrusted(reason)) }
}

fn needs(slots: &[(u32, u64)], free: u64) -> String {
    let each: Vec<String> =
        slots.iter().map(|(slot, needs)| format!("slot {slot} needs {needs} MiB")).collect();
    format!("{}, {free} are free", each.join(", "))
}

fn are(slots: &[u32]) -> String {
    let numbers: Vec<String> = slots.iter().map(u32::to_string).collect();
    match slots.len() {
        0 => "is none".to_string(),
        1 => format!("is {}", numbers.join("")),
        _ => format!("are {}", numbers.join(", ")),
    }
}

/// The command that opens the data of a header that is kept apart from it: nothing on a disk tells where that is.
pub fn with_data(header: &str) -> String {
    format!("cryptsetup open --readonly --header {} DATA NAME", word(header))
}

/// What is locked, and how cryptsetup calls it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lock<'a> {
    Luks(&'a Luks),
    /// The header alone, of a lock whose data is elsewhere: opened by itself, it would be read as its own data, and overwritten.
    Header,
    /// Its header says LUKS, and no copy of it is sound.
    Torn(&'a str),
    BitLocker,
}

/// Whether a device is locked, open or not.
pub fn lock(device: &Device) -> Option<Lock<'_>> {
    let signature = device.signature()?;
    match (signature.format.as_str(), &signature.volume, &signature.health) {
        (_, Some(Volume::Luks(luks)), _) if luks.is_apart => Some(Lock::Header),
        (_, Some(Volume::Luks(luks)), _) => Some(Lock::Luks(luks)),
        ("crypto_LUKS", _, Health::Damaged(reason)) => Some(Lock::Torn(reason)),
        ("crypto_LUKS", _, _) => Some(Lock::Torn("")),
        ("BitLocker", _, _) => Some(Lock::BitLocker),
        _ => None,
    }
}

/// The mapped device through which a locked one is open.
pub fn opened<'a>(storage: &'a Storage, device: &Device) -> Option<&'a Device> {
    let upper = device.upper.iter().filter_map(|id| storage.get(id));
    upper.into_iter().find(|upper| is_opened(upper))
}

/// Whether a device is an opened one.
pub fn is_opened(device: &Device) -> bool {
    device.block.dm.as_ref().is_some_and(|dm| dm.uuid.starts_with(CRYPT_UUID))
}

/// The same, of what a key opened: maps that check what is read are made by cryptsetup's sisters.
pub fn is_unlocked(device: &Device) -> bool {
    let uuid = device.block.dm.as_ref().and_then(|dm| dm.uuid.strip_prefix(CRYPT_UUID));
    uuid.is_some_and(|uuid| !uuid.starts_with("VERITY") && !uuid.starts_with("INTEGRITY"))
}

/// The locked device that an opened one stands on.
pub fn locked<'a>(storage: &'a Storage, opened: &Device) -> Option<&'a Device> {
    opened.lower.iter().find_map(|id| storage.get(id))
}

/// Locked devices that are not open, for `rescue status`.
pub fn closed(storage: &Storage) -> Vec<&Device> {
    let is = |device: &&Device| {
        device.node
            && lock(device).is_some_and(|lock| lock != Lock::Header)
            && opened(storage, device).is_none()
            // Below an overlay it is used through that.
            && device.upper.is_empty()
    };
    storage.devices.iter().filter(is).collect()
}

/// As Debian's installer names them: `sda3_crypt`.
pub fn default_name(device: &Device) -> String {
    let base = match &device.block.dm {
        Some(dm) => dm.name.clone(),
        None => device.block.name.replace('!', "-"),
    };
    let suffix = "_crypt";
    let base: String = base.chars().take(NAME_MAX - suffix.len()).collect();
    format!("{base}{suffix}")
}

pub fn open(storage: &Storage, device: &Device, wishes: &Wishes<'_>, by: &str) -> Result<Plan, Refusal> {
    let own = path(device);
    if matches!(device.report, crate::storage::Observed::Hung { .. }) {
        return Err(Refusal::Hangs(own));
    }
    if !device.node && device.block.partition.is_none() {
        return Err(Refusal::File(own));
    }
    if !device.node {
        return Err(Refusal::NoNode(own));
    }
    if let Some(opened) = opened(storage, device) {
        return Err(Refusal::Open { path: own, by: path(opened) });
    }
    if let Some(upper) = device.upper.iter().find_map(|id| storage.get(id)) {
        return Err(Refusal::InUse { path: own, by: path(upper) });
    }
    let numbers = (device.block.major, device.block.minor);
    if let Some(mount) = storage.mounts.iter().find(|mount| (mount.major, mount.minor) == numbers) {
        return Err(Refusal::InUse { path: own, by: Untrusted(&mount.target).to_string() });
    }
    let name = wishes.name.map_or_else(|| default_name(device), str::to_string);
    let fits = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) || name.starts_with(['-', '.']) {
        return Err(Refusal::Name(name));
    }
    if storage.devices.iter().any(|device| device.block.dm.as_ref().is_some_and(|dm| dm.name == name)) {
        return Err(Refusal::NameTaken(name));
    }
    let safe = throwaway(storage, device);
    let mut notes = Vec::new();
    let (kind, slots) = match (wishes.kind, lock(device)) {
        (Some(kind), None) => (kind.to_string(), Slots::All),
        (None, None) => {
            let what =
                device.signature().map_or("nothing known on it".to_string(), |found| found.format.clone());
            return Err(Refusal::NotLocked { path: own, what });
        }
        (_, Some(Lock::Header)) => return Err(Refusal::Header(own)),
        (_, Some(Lock::BitLocker)) => ("bitlk".to_string(), Slots::All),
        (_, Some(Lock::Torn(reason))) => {
            return Err(Refusal::Damaged { path: own, reason: reason.to_string() });
        }
        (_, Some(Lock::Luks(luks))) => {
            if !wishes.writable && !safe {
                read_without_writing(device, luks, &own)?;
            }
            if let Some(Health::Damaged(reason)) = device.signature().map(|found| &found.health) {
                notes.push(format!("{own}: {reason}"));
            }
            (format!("luks{}", luks.version), chosen(luks, wishes, &own)?)
        }
    };
    let before = match wishes.writable && !safe {
        true => consent::all_writable(storage, &device.id, by)?,
        false => Vec::new(),
    };
    let (tried, too_large) = match slots {
        Slots::All => (vec![wishes.slot], Vec::new()),
        Slots::Some { fitting, too_large } => (fitting.into_iter().map(Some).collect(), too_large),
    };
    let attempt = |slot: &Option<u32>| Step::Call {
        argv: foreign::cryptsetup_open(&Opening {
            device: &own,
            name: &name,
            kind: &kind,
            slot: *slot,
            read_only: !wishes.writable && !safe,
        }),
        input: Input::Secret,
    };
    let tries = tried.iter().map(attempt).collect();
    Ok(Plan { tries, before, too_large, free: wishes.free.unwrap_or(0) >> 10, notes, name })
}

/// The steps that close an opened device: what LVM has active on it is taken away first, the uppermost at first, and what
/// cryptsetup put below it last; then the guard goes back on, where nothing else below the same disks is open for writing.
pub fn close(storage: &Storage, device: &Device, by: &str) -> Result<Vec<Step>, Refusal> {
    let mut closing = Closing { storage, steps: Vec::new(), gone: BTreeSet::new() };
    closing.take_away(device)?;
    let Closing { mut steps, gone, .. } = closing;
    let below: Vec<&Id> = consent::below(storage, &device.id).iter().map(|real| &real.id).collect();
    let is_writer = |other: &&Device| {
        other.block.is_virtual()
            && !other.block.read_only
            && !gone.contains(&other.id)
            && consent::below(storage, &other.id).iter().any(|real| below.contains(&&real.id))
    };
    if !device.block.read_only && !storage.devices.iter().any(|other| is_writer(&other)) {
        steps.extend(consent::guarded(storage, &device.id, by));
    }
    Ok(steps)
}

struct Closing<'a> {
    storage: &'a Storage,
    steps: Vec<Step>,
    /// What the steps remove.
    gone: BTreeSet<Id>,
}

impl Closing<'_> {
    /// Removes a mapped device with what LVM has on it, what is opened on that, and what cryptsetup made below for it alone.
    fn take_away(&mut self, device: &Device) -> Result<(), Refusal> {
        if self.gone.contains(&device.id) {
            return Ok(());
        }
        let (storage, own) = (self.storage, path(device));
        let numbers = (device.block.major, device.block.minor);
        if let Some(mount) = storage.mounts.iter().find(|mount| (mount.major, mount.minor) == numbers) {
            return Err(Refusal::Mounted { path: own, target: word(&mount.target) });
        }
        let is_own = |path: &str| path == own || path == device.path;
        if let Some(swap) = storage.swaps.iter().find(|swap| is_own(&swap.path)) {
            return Err(Refusal::Swap { path: own, target: word(&swap.path) });
        }
        for upper in device.upper.iter().filter_map(|id| storage.get(id)) {
            if self.gone.contains(&upper.id) {
                continue;
            }
            if !is_volume(upper) && !is_opened(upper) {
                return Err(Refusal::InUse { path: own, by: path(upper) });
            }
            self.take_away(upper)?;
        }
        // With one of them its parts went.
        if self.gone.contains(&device.id) {
            return Ok(());
        }
        self.gone.insert(device.id.clone());
        let parts = parts(storage, device);
        match removal(device, &parts) {
            Some(Removal::Map(step)) => self.steps.push(step),
            Some(Removal::All(step)) => {
                self.steps.push(step);
                self.gone.extend(parts.iter().map(|part| part.id.clone()));
            }
            None => {}
        }
        parts.into_iter().try_for_each(|part| self.take_away(part))
    }
}

enum Removal {
    /// Its parts are left.
    Map(Step),
    All(Step),
}

fn removal(device: &Device, parts: &[&Device]) -> Option<Removal> {
    let dm = device.block.dm.as_ref()?;
    Some(match is_cryptsetups_to_close(&dm.uuid, parts) {
        true => Removal::All(Step::Call { argv: foreign::cryptsetup_close(&dm.name), input: Input::Nothing }),
        false => Removal::Map(Step::DmRemove { name: dm.name.clone() }),
    })
}

/// The steps that remove an opened device on which nothing stands, and its parts, which go with it.
pub fn removed<'a>(storage: &'a Storage, device: &'a Device) -> Option<(Vec<Step>, Vec<&'a Device>)> {
    let parts = parts(storage, device);
    let steps = match removal(device, &parts).filter(|_| is_opened(device))? {
        Removal::All(step) => vec![step],
        Removal::Map(step) => {
            let names = parts.iter().filter_map(|part| part.block.dm.as_ref());
            [step].into_iter().chain(names.map(|dm| Step::DmRemove { name: dm.name.clone() })).collect()
        }
    };
    Some((steps, parts))
}

/// Mapped devices that cryptsetup made below an opened one and removes with it, the uppermost at first: the tags of LUKS 2
/// (NAME_dif), the other ciphers of a TrueCrypt cascade (NAME_1, NAME_2), the helpers of a re-encryption. Another lock that
/// it was opened in is none of them.
fn parts<'a>(storage: &'a Storage, top: &'a Device) -> Vec<&'a Device> {
    let (mut parts, mut at): (Vec<&Device>, usize) = (Vec::new(), 0);
    let mut next = Some(top);
    while let Some(device) = next {
        for lower in device.lower.iter().filter_map(|id| storage.get(id)) {
            if is_part(top, lower) && !parts.iter().any(|part| part.id == lower.id) {
                parts.push(lower);
            }
        }
        next = parts.get(at).copied();
        at += 1;
    }
    parts
}

/// By the UUIDs that cryptsetup gives (`dm_prepare_uuid` in lib/libdevmapper.c): the header's stands in those of LUKS 2 and of
/// what belongs to it (`LUKS2_deactivate`); of TrueCrypt the names tell (`TCRYPT_deactivate`). Before 2.8 of cryptsetup
/// the parts have the types INTEGRITY and TCRYPT, then SUBDEV.
fn is_part(top: &Device, lower: &Device) -> bool {
    let (Some(top), Some(lower)) = (&top.block.dm, &lower.block.dm) else { return false };
    let after = |text: &str, kinds: [&str; 2]| {
        let rest = text.strip_prefix(CRYPT_UUID)?;
        kinds.iter().find_map(|kind| rest.strip_prefix(kind)).map(str::to_string)
    };
    if let Some(own) = after(&top.uuid, ["LUKS2-OPAL-", "LUKS2-"]) {
        let header = own.get(..HEADER_UUID).filter(|uuid| uuid.chars().all(|c| c.is_ascii_hexdigit()));
        let of = after(&lower.uuid, ["SUBDEV-", "INTEGRITY-"]);
        return header.zip(of).is_some_and(|(header, of)| of.starts_with(&format!("{header}-")));
    }
    if let Some(own) = after(&top.uuid, ["TCRYPT-", "TCRYPT-"]) {
        let named = ["_1", "_2"].iter().any(|suffix| lower.name == format!("{}{suffix}", top.name));
        return named && after(&lower.uuid, ["SUBDEV-", "TCRYPT-"]).is_some_and(|of| of.starts_with(&own));
    }
    false
}

/// What device mapper alone cannot take back: a drive that encrypts by itself (OPAL) stays unlocked when the map is gone, and
/// the helpers of a re-encryption may be in the hands of a cryptsetup that runs, which its lock tells.
fn is_cryptsetups_to_close(uuid: &str, parts: &[&Device]) -> bool {
    let type_is =
        |uuid: &str, kind: &str| uuid.strip_prefix(CRYPT_UUID).is_some_and(|rest| rest.starts_with(kind));
    let is_helper = |part: &&Device| {
        part.block.dm.as_ref().is_some_and(|dm| type_is(&dm.uuid, "SUBDEV-") && !dm.uuid.ends_with("_dif"))
    };
    type_is(uuid, "LUKS2-OPAL-") || type_is(uuid, "LUKS2-") && parts.iter().any(is_helper)
}

/// What would be written although it is opened for reading.
fn read_without_writing(device: &Device, luks: &Luks, own: &str) -> Result<(), Refusal> {
    if luks.is_reencrypting() {
        return Err(Refusal::Reencrypting { path: own.to_string() });
    }
    if luks.segments.iter().any(|segment| segment.integrity.is_some()) {
        return Err(Refusal::Integrity { path: own.to_string() });
    }
    let damaged = device.signature().and_then(|found| match (&found.health, &found.notes[..]) {
        (Health::Damaged(reason), _) => Some(reason.clone()),
        (_, [note, ..]) => Some(note.clone()),
        (Health::Sound | Health::Unchecked, []) => None,
    });
    match damaged {
        Some(reason) if !device.block.read_only => {
            let next = match device.guard {
                Some(_) => format!("rescue protect {own} first, or rescue open --rw {own}"),
                None => format!("rescue overlay {own} first, or rescue open --rw {own}"),
            };
            Err(Refusal::WouldMend { path: own.to_string(), reason, next })
        }
        _ => Ok(()),
    }
}

enum Slots {
    /// cryptsetup looks for the right one by itself.
    All,
    Some {
        fitting: Vec<u32>,
        too_large: Vec<(u32, u64)>,
    },
}

/// The slots that can be tried with the memory that there is.
fn chosen(luks: &Luks, wishes: &Wishes<'_>, own: &str) -> Result<Slots, Refusal> {
    let keys = luks.slots.iter().filter(|slot| has_key(slot));
    let all: Vec<u32> = keys.clone().map(|slot| slot.number).collect();
    if let Some(slot) = wishes.slot
        && !all.contains(&slot)
    {
        return Err(Refusal::NoSlot { path: own.to_string(), slot, there: all });
    }
    if all.is_empty() {
        return Err(Refusal::NoSlots(own.to_string()));
    }
    let free = wishes.free.unwrap_or(u64::MAX);
    let asked = keys.filter(|slot| wishes.slot.is_none_or(|wanted| wanted == slot.number));
    let (fitting, large): (Vec<&Slot>, Vec<&Slot>) =
        asked.partition(|slot| memory(slot).saturating_add(BESIDES) <= free);
    let too_large: Vec<(u32, u64)> =
        large.iter().map(|slot| (slot.number, memory(slot).div_ceil(1024))).collect();
    if fitting.is_empty() {
        return Err(Refusal::Memory { slots: too_large, free: free >> 10 });
    }
    if too_large.is_empty() {
        return Ok(Slots::All);
    }
    Ok(Slots::Some { fitting: fitting.iter().map(|slot| slot.number).collect(), too_large })
}

fn has_key(slot: &Slot) -> bool {
    match &slot.kdf {
        Kdf::Pbkdf2 { .. } | Kdf::Argon2 { .. } => true,
        // The area of a re-encryption has none.
        Kdf::Other(kind) => kind != "reencrypt",
    }
}

/// KiB
fn memory(slot: &Slot) -> u64 {
    match &slot.kdf {
        Kdf::Argon2 { memory, .. } => *memory,
        Kdf::Pbkdf2 { .. } | Kdf::Other(_) => 0,
    }
}

/// `argon2id, 1024 MiB`, for `rescue status`: what the costliest slot takes.
pub fn cost(luks: &Luks) -> Option<String> {
    let slot = luks.slots.iter().filter(|slot| has_key(slot)).max_by_key(|slot| memory(slot))?;
    match &slot.kdf {
        Kdf::Argon2 { kind, memory, .. } => Some(format!("{kind}, {} MiB", memory.div_ceil(1024))),
        Kdf::Pbkdf2 { .. } => Some("pbkdf2".to_string()),
        Kdf::Other(_) => None,
    }
}

#[cfg(test)]
#[path = "luks_tests.rs"]
mod tests;
