//! LUKS 1 and 2 (cryptsetup's on-disk format documents). LUKS 2 has two headers with checksums; the second
//! is found by itself when the first is gone. What it takes to open one is read, keys are not.

use crate::bytes::{be16, be32, be64, text, utf8};
use crate::conceal::Edit;
use crate::format::{Extent, Format, Health, Magic, Signature, Usage};
use crate::read::ReadAt;
use crate::volume::Volume;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::collections::BTreeMap;

const PRIMARY: &[u8] = b"LUKS\xba\xbe";
const SECONDARY: &[u8] = b"SKUL\xba\xbe";
/// Where a second header may lie, which is how long the first one is.
const SECONDARIES: [u64; 9] =
    [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x10_0000, 0x20_0000, 0x40_0000];
const BYTES: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 448..512;
/// The longest header.
const HEADER_MAX: u64 = 4 << 20;
/// Behind the binary header of LUKS 2.
const JSON: usize = 4096;
/// LUKS2_KEYSLOTS_MAX, LUKS2_TOKENS_MAX, SEGMENTS_MAX.
const ENTRIES: usize = 32;
/// Of LUKS 1.
const SLOTS_1: usize = 8;
const SLOT_1: usize = 48;
/// LUKS_KEY_ENABLED
const ENABLED: u32 = 0x00ac_71f3;
/// What a header calls a cipher, a hash, a token: longer is cut.
const WORD_MAX: usize = 64;

pub const FORMAT: Format =
    Format { name: "crypto_LUKS", usage: Usage::Crypto, magics: &[], min_size: BYTES as u64, probe };

/// What a header says of how to open its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Luks {
    pub version: u16,
    pub uuid: Option<String>,
    /// `aes-xts-plain64`, as its data is encrypted. Hostile, as all words here.
    pub cipher: Option<String>,
    /// By number.
    pub slots: Vec<Slot>,
    pub segments: Vec<Segment>,
    /// It is kept apart from its data (`cryptsetup --header`): by its own offsets the data would lie over it.
    #[serde(default)]
    pub is_apart: bool,
    /// Their types: `systemd-tpm2`, `clevis`.
    pub tokens: Vec<String>,
    /// What a program must know to use it: `online-reencrypt-v2`.
    pub requirements: Vec<String>,
}

/// One that holds a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub number: u32,
    pub kdf: Kdf,
    /// Tried only when it is asked for (priority 0).
    pub on_demand: bool,
}

/// How a key is made of a passphrase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kdf {
    Pbkdf2 {
        hash: String,
        iterations: u64,
    },
    Argon2 {
        /// `argon2i` or `argon2id`
        kind: String,
        time: u64,
        /// KiB
        memory: u64,
        threads: u64,
    },
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// `crypt`, `linear`
    pub kind: String,
    /// Bytes.
    pub offset: u64,
    /// Bytes; `None`: to the device's end.
    pub size: Option<u64>,
    pub cipher: Option<String>,
    /// Bytes.
    pub sector: u32,
    /// Its data carries tags, which dm-integrity writes a journal for.
    pub integrity: Option<String>,
}

impl Luks {
    /// Its data was being encrypted anew when it was last used.
    pub fn is_reencrypting(&self) -> bool {
        self.requirements.iter().any(|word| word.starts_with("online-reencrypt"))
    }

    fn version_1(header: &[u8], uuid: Option<String>) -> Option<Luks> {
        let word = |offset| text(header, offset, 32).map(|word| cut(&word));
        let (cipher, mode, hash) = (word(8)?, word(40)?, word(72)?);
        let payload = be32(header, 104)?;
        let slot = |number: usize| {
            let at = 208 + number * SLOT_1;
            (be32(header, at)? == ENABLED).then_some(())?;
            let iterations = be32(header, at + 4)?.into();
            let kdf = Kdf::Pbkdf2 { hash: hash.clone(), iterations };
            Some(Slot { number: u32::try_from(number).ok()?, kdf, on_demand: false })
        };
        let cipher = Some(format!("{cipher}-{mode}"));
        let segment = Segment {
            kind: "crypt".to_string(),
            offset: u64::from(payload) * 512,
            size: None,
            cipher: cipher.clone(),
            sector: 512,
            integrity: None,
        };
        Some(Luks {
            version: 1,
            uuid,
            cipher,
            slots: (0..SLOTS_1).filter_map(slot).collect(),
            segments: vec![segment],
            // cryptsetup takes no other payload that begins below the end of the slots (LUKS_check_keyslots).
            is_apart: payload == 0,
            tokens: Vec::new(),
            requirements: Vec::new(),
        })
    }

    /// From the JSON area of one header, of so many bytes.
    fn version_2(json: &[u8], size: u64, uuid: Option<String>) -> Result<Luks, String> {
        let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
        let area: Area =
            serde_json::from_slice(&json[..end]).map_err(|error| format!("its JSON area: {error}"))?;
        if [area.keyslots.len(), area.segments.len(), area.tokens.len()].iter().any(|count| *count > ENTRIES)
        {
            return Err(format!("its JSON area has more than {ENTRIES} entries of one kind"));
        }
        let number = |key: &String| key.parse::<u32>().ok();
        let mut slots: Vec<Slot> = area
            .keyslots
            .iter()
            .filter_map(|(key, slot)| {
                Some(Slot { number: number(key)?, kdf: slot.kdf(), on_demand: slot.priority == Some(0) })
            })
            .collect();
        slots.sort_by_key(|slot| slot.number);
        let mut segments: Vec<Segment> = area.segments.values().map(JsonSegment::read).collect();
        segments.sort_by_key(|segment| segment.offset);
        let keys = area.config.keyslots_size.as_ref().and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
        let end = size.saturating_mul(2).saturating_add(keys);
        let data = area.segments.values().filter(|segment| !segment.is_backup());
        // LUKS2_get_data_offset
        let data = data.filter_map(|segment| segment.offset.parse::<u64>().ok()).min();
        Ok(Luks {
            version: 2,
            uuid,
            cipher: segments.iter().find_map(|segment| segment.cipher.clone()),
            slots,
            segments,
            is_apart: data.is_some_and(|data| data < end),
            tokens: area.tokens.values().map(|token| cut(&token.kind)).collect(),
            requirements: area
                .config
                .requirements
                .mandatory
                .iter()
                .take(ENTRIES)
                .map(|word| cut(word))
                .collect(),
        })
    }
}

fn cut(word: &str) -> String {
    word.chars().take(WORD_MAX).collect()
}

/// What is read of LUKS 2's JSON; what else is there is passed over without being kept.
#[derive(Deserialize)]
struct Area {
    keyslots: BTreeMap<String, JsonSlot>,
    #[serde(default)]
    tokens: BTreeMap<String, JsonToken>,
    segments: BTreeMap<String, JsonSegment>,
    #[serde(rename = "digests")]
    _digests: IgnoredAny,
    #[serde(default)]
    config: JsonConfig,
}

#[derive(Deserialize)]
struct JsonSlot {
    #[serde(rename = "type")]
    kind: String,
    priority: Option<i64>,
    kdf: Option<JsonKdf>,
}

#[derive(Deserialize)]
struct JsonKdf {
    #[serde(rename = "type")]
    kind: String,
    hash: Option<String>,
    iterations: Option<u64>,
    time: Option<u64>,
    memory: Option<u64>,
    cpus: Option<u64>,
}

#[derive(Deserialize)]
struct JsonToken {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct JsonSegment {
    #[serde(rename = "type")]
    kind: String,
    /// Numbers of 64 bits are strings in this JSON.
    offset: String,
    size: String,
    encryption: Option<String>,
    sector_size: Option<u32>,
    integrity: Option<JsonToken>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Default, Deserialize)]
struct JsonConfig {
    #[serde(default)]
    requirements: JsonRequirements,
    /// Bytes, as a string.
    keyslots_size: Option<String>,
}

#[derive(Default, Deserialize)]
struct JsonRequirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

impl JsonSlot {
    fn kdf(&self) -> Kdf {
        let Some(kdf) = &self.kdf else { return Kdf::Other(cut(&self.kind)) };
        match (kdf.kind.as_str(), kdf.memory) {
            ("pbkdf2", _) => Kdf::Pbkdf2 {
                hash: cut(kdf.hash.as_deref().unwrap_or_default()),
                iterations: kdf.iterations.unwrap_or(0),
            },
            (kind @ ("argon2i" | "argon2id"), Some(memory)) => Kdf::Argon2 {
                kind: kind.to_string(),
                time: kdf.time.unwrap_or(0),
                memory,
                threads: kdf.cpus.unwrap_or(0),
            },
            (kind, _) => Kdf::Other(cut(kind)),
        }
    }
}

impl JsonSegment {
    /// What was, or is to be, while a re-encryption goes on (`json_segment_is_backup`).
    fn is_backup(&self) -> bool {
        self.flags.iter().any(|flag| flag.starts_with("backup-"))
    }

    fn read(&self) -> Segment {
        Segment {
            kind: cut(&self.kind),
            offset: self.offset.parse().unwrap_or(0),
            // `dynamic`
            size: self.size.parse().ok(),
            cipher: self.encryption.as_deref().map(cut),
            sector: self.sector_size.unwrap_or(512),
            integrity: self.integrity.as_ref().map(|integrity| cut(&integrity.kind)),
        }
    }
}

fn probe(device: &dyn ReadAt, _magic: Option<&Magic>) -> Option<Signature> {
    let Some(first) = Header::read(device, 0, PRIMARY) else {
        let (second, at) = second(device)?;
        let mut found = second.signature(device, at);
        found.damage(format!("its first header is gone; the second at {at} is sound (cryptsetup repair)"));
        second.describe(device, at, &mut found);
        return Some(found);
    };
    let mut found = first.signature(device, 0);
    if first.version != 2 {
        first.describe(device, 0, &mut found);
        return Some(found);
    }
    let first_fault = first.fault(device, 0).err();
    let second = Header::read(device, first.size, SECONDARY);
    let second_fault = match &second {
        Some(second) => second.fault(device, first.size).err(),
        None => Some("it is gone".to_string()),
    };
    match (first_fault, second_fault) {
        (None, None) => {
            // As cryptsetup takes it.
            match second.as_ref().filter(|second| second.sequence > first.sequence) {
                Some(newer) => newer.describe(device, first.size, &mut found),
                None => first.describe(device, 0, &mut found),
            }
            if second.is_some_and(|second| second.sequence != first.sequence) {
                found.note("its two headers are of different age; cryptsetup takes the newer one");
            }
        }
        (None, Some(reason)) => {
            first.describe(device, 0, &mut found);
            found.note(format!(
                "its second header at {} is not sound: {reason} (cryptsetup repair)",
                first.size
            ));
        }
        (Some(reason), None) => {
            if let Some(second) = &second {
                second.describe(device, first.size, &mut found);
            }
            found.damage(format!(
                "its first header: {reason}; the second at {} is sound (cryptsetup repair)",
                first.size
            ));
        }
        // The length that the first one says may be what is torn.
        (Some(reason), Some(_)) => match self::second(device) {
            Some((second, at)) => {
                second.describe(device, at, &mut found);
                found.damage(format!(
                    "its first header: {reason}; the second at {at} is sound (cryptsetup repair)"
                ));
            }
            None => found.damage(format!("its first header: {reason}; no second one is sound")),
        },
    }
    Some(found)
}

/// A second header that is sound.
fn second(device: &dyn ReadAt) -> Option<(Header, u64)> {
    SECONDARIES.into_iter().find_map(|at| {
        let header = Header::read(device, at, SECONDARY)?;
        header.fault(device, at).is_ok().then_some((header, at))
    })
}

const KEYS: &str = "key slots of LUKS";
const TOKENS: &str = "tokens of LUKS, which hold sealed passphrases";
/// From the end of both headers, where a header does not say: what cryptsetup leaves free for both.
const KEYS_END: u64 = 16 << 20;
/// Of all slots together (LUKS2_MAX_KEYSLOTS_SIZE).
const KEYS_MAX: u64 = 128 << 20;
/// Of a token, what is no secret.
const TOKEN_KEPT: [&str; 2] = ["type", "keyslots"];

/// Key material and tokens. A passphrase is tried with them; the headers without them say only how.
pub fn conceal(device: &dyn ReadAt) -> Vec<Edit> {
    let mut edits = Vec::new();
    let first = Header::read(device, 0, PRIMARY).map(|header| (0, header));
    let second = |at: u64| Some((at, Header::read(device, at, SECONDARY)?));
    for (at, header) in first.into_iter().chain(SECONDARIES.into_iter().filter_map(second)) {
        match header.version {
            1 => edits.extend(keys_1(device)),
            _ => header.conceal(device, at, &mut edits),
        }
    }
    edits
}

/// Of version 1: all between the first slot's and the data, or else what each slot says.
fn keys_1(device: &dyn ReadAt) -> Vec<Edit> {
    let Ok(bytes) = device.bytes(0, 1024) else { return Vec::new() };
    let word = |at| u64::from(be32(&bytes, at).unwrap_or(0));
    let (payload, key) = (word(104) * 512, word(108));
    let zero = |start: u64, length: u64| Edit::Zero { what: KEYS, extent: Extent { start, length } };
    let slots = (0..SLOTS_1).map(|number| 208 + number * SLOT_1);
    slots
        .map(|at| (word(at + 40) * 512, word(at + 44).saturating_mul(key)))
        .filter(|(start, _)| *start >= BYTES as u64)
        .map(|(start, length)| zero(start, length.max(payload.saturating_sub(start)).min(KEYS_MAX)))
        .collect()
}

/// Most of a key's area that is taken for one.
const AREA_MAX: u64 = 4 << 20;

/// Where the keys of the slots in use lie, which no probe reads, and without which a header opens nothing.
pub fn key_areas(device: &dyn ReadAt) -> Vec<Extent> {
    let first = Header::read(device, 0, PRIMARY).map(|header| (0, header));
    let second = |at: u64| Some((at, Header::read(device, at, SECONDARY)?));
    let mut headers = first.into_iter().chain(SECONDARIES.into_iter().filter_map(second));
    let Some((at, header)) =
        headers.find(|(at, header)| header.fault(device, *at).is_ok() || header.version == 1)
    else {
        return Vec::new();
    };
    let areas = if header.version == 1 { areas_1(device) } else { header.areas_2(device, at) };
    areas.into_iter().map(|area| Extent { length: area.length.min(AREA_MAX), ..area }).collect()
}

fn areas_1(device: &dyn ReadAt) -> Vec<Extent> {
    let Ok(bytes) = device.bytes(0, 1024) else { return Vec::new() };
    let word = |at| be32(&bytes, at).unwrap_or(0);
    let slots = (0..SLOTS_1).map(|number| 208 + number * SLOT_1).filter(|at| word(*at) == ENABLED);
    let area = |at: usize| Extent {
        start: u64::from(word(at + 40)) * 512,
        length: u64::from(word(at + 44)).saturating_mul(word(108).into()),
    };
    slots.map(area).collect()
}

/// The JSON without what only a token's owner reads; `None` where it has none of that.
fn without_tokens(json: &[u8]) -> Option<Result<Vec<u8>, serde_json::Error>> {
    let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
    let mut area: serde_json::Value = match serde_json::from_slice(&json[..end]) {
        Ok(area) => area,
        Err(error) => return Some(Err(error)),
    };
    let tokens = area.get_mut("tokens")?.as_object_mut()?;
    let mut changed = false;
    for token in tokens.values_mut() {
        let Some(token) = token.as_object_mut() else { continue };
        let before = token.len();
        token.retain(|key, _| TOKEN_KEPT.contains(&key.as_str()));
        changed |= token.len() != before;
    }
    changed.then(|| serde_json::to_vec(&area))
}

struct Header {
    version: u16,
    size: u64,
    sequence: u64,
    label: Vec<u8>,
    checksum_kind: String,
    uuid: Vec<u8>,
    subsystem: Vec<u8>,
}

impl Header {
    fn read(device: &dyn ReadAt, at: u64, magic: &[u8]) -> Option<Header> {
        let bytes = device.bytes(at, BYTES).ok()?;
        let version = be16(&bytes, 6)?;
        let offset = be64(&bytes, 256)?;
        if bytes.get(..6)? != magic || (version == 2 && offset != at) {
            return None;
        }
        Some(Header {
            version,
            size: be64(&bytes, 8)?,
            sequence: be64(&bytes, 16)?,
            label: bytes.get(24..72)?.to_vec(),
            checksum_kind: text(&bytes, 72, 32).unwrap_or_default(),
            uuid: bytes.get(168..208)?.to_vec(),
            subsystem: bytes.get(208..256)?.to_vec(),
        })
    }

    fn fault(&self, device: &dyn ReadAt, at: u64) -> Result<(), String> {
        if self.version != 2 {
            return Err(format!("version {} has no second header", self.version));
        }
        if !SECONDARIES.contains(&self.size) || self.size > HEADER_MAX {
            return Err(format!("a header has no {} bytes", self.size));
        }
        let mut bytes = device
            .bytes(at, self.size as usize) // HEADER_MAX at most
            .map_err(|error| format!("it cannot be read: {error}"))?;
        let stored: Vec<u8> = bytes[CHECKSUM].to_vec();
        match self.sum(&mut bytes) {
            Some(sum) if !stored.starts_with(&sum) => {
                Err(format!("its {} checksum does not match", self.checksum_kind))
            }
            _ => Ok(()),
        }
    }

    /// Puts what it takes to open the device into the signature; a header that is sound and cannot be read is
    /// damage.
    fn describe(&self, device: &dyn ReadAt, at: u64, found: &mut Signature) {
        let luks = match self.version {
            1 => device.bytes(at, 1024).ok().and_then(|bytes| Luks::version_1(&bytes, found.uuid.clone())),
            2 => {
                // HEADER_MAX at most: it was found sound.
                let bytes = device.bytes(at, self.size as usize).unwrap_or_default();
                let json = bytes.get(JSON..).unwrap_or_default();
                match Luks::version_2(json, self.size, found.uuid.clone()) {
                    Ok(luks) => Some(luks),
                    Err(reason) => {
                        found.damage(reason);
                        None
                    }
                }
            }
            _ => None,
        };
        found.volume = luks.map(Volume::Luks);
    }

    /// The checksum of the header without its own field; `None` for a hash that is not checked.
    fn sum(&self, bytes: &mut [u8]) -> Option<Vec<u8>> {
        bytes.get_mut(CHECKSUM)?.fill(0);
        match self.checksum_kind.as_str() {
            "sha256" => Some(sha2::Sha256::digest(bytes).to_vec()),
            "sha512" => Some(sha2::Sha512::digest(bytes).to_vec()),
            // cryptsetup lets one choose another hash; nobody does.
            _ => None,
        }
    }

    /// `keyslots.N.area` of the JSON area.
    fn areas_2(&self, device: &dyn ReadAt, at: u64) -> Vec<Extent> {
        let bytes = device.bytes(at, self.size.min(HEADER_MAX) as usize).unwrap_or_default();
        let json = bytes.get(JSON..).unwrap_or_default();
        let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
        let area: serde_json::Value = serde_json::from_slice(&json[..end]).unwrap_or_default();
        let slots = area.get("keyslots").and_then(serde_json::Value::as_object);
        let extent = |slot: &serde_json::Value| {
            let number = |key: &str| slot.pointer(key)?.as_str()?.parse::<u64>().ok();
            Some(Extent { start: number("/area/offset")?, length: number("/area/size")? })
        };
        slots.into_iter().flat_map(|slots| slots.values()).take(ENTRIES).filter_map(extent).collect()
    }

    fn conceal(&self, device: &dyn ReadAt, at: u64, edits: &mut Vec<Edit>) {
        let is_sound = self.fault(device, at).is_ok();
        let size = if SECONDARIES.contains(&self.size) { self.size } else { SECONDARIES[0] };
        let start = size * 2;
        let mut bytes = device.bytes(at, size as usize).unwrap_or_default(); // HEADER_MAX at most
        let json = bytes.get(JSON..).unwrap_or_default();
        let length =
            serde_json::from_slice::<Area>(&json[..json.iter().position(|b| *b == 0).unwrap_or(json.len())])
                .ok()
                .and_then(|area| area.config.keyslots_size?.parse().ok())
                .unwrap_or(KEYS_END.saturating_sub(start))
                .min(KEYS_MAX);
        edits.push(Edit::Zero { what: KEYS, extent: Extent { start, length } });
        let blank = Edit::Zero {
            what: TOKENS,
            extent: Extent { start: at + JSON as u64, length: size - JSON as u64 },
        };
        match without_tokens(json).filter(|_| is_sound) {
            None if is_sound => {}
            // Its checksum is wrong before and after.
            None => edits.push(blank),
            Some(Ok(text)) if text.len() <= json.len() => {
                bytes[JSON..].fill(0);
                bytes[JSON..JSON + text.len()].copy_from_slice(&text);
                let sum = self.sum(&mut bytes);
                bytes[CHECKSUM][..sum.as_ref().map_or(0, Vec::len)].copy_from_slice(&sum.unwrap_or_default());
                let json = bytes.split_off(JSON);
                edits.push(Edit::Put {
                    what: TOKENS,
                    start: at + CHECKSUM.start as u64,
                    bytes: bytes[CHECKSUM].to_vec(),
                });
                edits.push(Edit::Put { what: TOKENS, start: at + JSON as u64, bytes: json });
            }
            Some(_) => edits.push(blank),
        }
    }

    fn signature(&self, device: &dyn ReadAt, at: u64) -> Signature {
        let mut found = Signature::new("crypto_LUKS", Usage::Crypto, at);
        if self.version == 2 && self.fault(device, at).is_ok() {
            found.health = Health::Sound;
        }
        found.set_version(self.version.to_string());
        if matches!(self.version, 1 | 2) {
            found.set_uuid_text(utf8(&self.uuid).trim_end_matches(crate::bytes::is_space).to_string());
        }
        if self.version == 2 {
            found.set_label(&self.label);
            found.set_name("SUBSYSTEM", &utf8(&self.subsystem));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
        device[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn seal(device: &mut [u8], at: usize) {
        device[at..][CHECKSUM].fill(0);
        let sum = sha2::Sha256::digest(&device[at..at + 0x4000]);
        put(device, at + CHECKSUM.start, &sum);
    }

    /// Of cryptsetup 2.7.5: `luksFormat --pbkdf argon2id --pbkdf-force-iterations 4 --pbkdf-memory 32768`, with one
    /// slot for pbkdf2 and a token added, and keys and salts taken out.
    const SAMPLE: &[u8] = br#"{"keyslots":{"0":{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":4000,
        "hash":"sha256"},"area":{"type":"raw","offset":"32768","size":"258048","encryption":"aes-xts-plain64",
        "key_size":64},"kdf":{"type":"argon2id","time":4,"memory":32768,"cpus":1,"salt":"AA=="}},"2":{"type":"luks2",
        "priority":0,"key_size":64,"kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000,"salt":"AA=="}}},
        "tokens":{"0":{"type":"systemd-tpm2","keyslots":["2"]}},"segments":{"0":{"type":"crypt","offset":"16777216",
        "size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512}},"digests":{"0":{"type":
        "pbkdf2"}},"config":{"json_size":"12288","keyslots_size":"16744448"}}"#;

    fn sample() -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        for (at, magic) in [(0, PRIMARY), (0x4000, SECONDARY)] {
            put(&mut device, at, magic);
            put(&mut device, at + 6, &[0, 2]);
            put(&mut device, at + 8, &0x4000_u64.to_be_bytes());
            put(&mut device, at + 16, &3_u64.to_be_bytes());
            put(&mut device, at + 24, b"vault");
            put(&mut device, at + 72, b"sha256");
            put(&mut device, at + 168, b"1a2b3c4d-0000-4000-8000-00000000abcd");
            put(&mut device, at + 256, &(at as u64).to_be_bytes());
            put(&mut device, at + JSON, SAMPLE);
            seal(&mut device, at);
        }
        device
    }

    fn reason(signature: &Signature) -> &str {
        match &signature.health {
            Health::Damaged(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_headers_are_verified() {
        let found = probe(&sample(), None).unwrap();
        assert_eq!((&found.health, &found.notes), (&Health::Sound, &Vec::new()));
        assert_eq!((found.version.as_deref(), found.label.as_deref()), (Some("2"), Some("vault")));
        assert_eq!(found.uuid.as_deref(), Some("1a2b3c4d-0000-4000-8000-00000000abcd"));
        let mut device = sample();
        device[5000] = 1;
        assert_eq!(
            reason(&probe(&device, None).unwrap()),
            "its first header: its sha256 checksum does not match; the second at 16384 is sound (cryptsetup repair)"
        );
        device[0x4000 + 5000] = 1;
        assert!(reason(&probe(&device, None).unwrap()).ends_with("no second one is sound"));
        let mut device = sample();
        device[0x4000 + 5000] = 1;
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, found.notes.len()), (&Health::Sound, 1));
    }

    #[test]
    fn a_first_header_that_is_gone_leaves_the_second() {
        let mut device = sample();
        device[..4096].fill(0);
        let found = probe(&device, None).unwrap();
        assert_eq!(
            reason(&found),
            "its first header is gone; the second at 16384 is sound (cryptsetup repair)"
        );
        assert_eq!((found.label.as_deref(), found.magic_offset), (Some("vault"), 0x4000));
        put(&mut device, 0x4000 + 256, &5_u64.to_be_bytes());
        assert!(probe(&device, None).is_none());
    }

    #[test]
    fn headers_of_different_age_are_said() {
        let mut device = sample();
        put(&mut device, 16, &4_u64.to_be_bytes());
        seal(&mut device, 0);
        assert_eq!(probe(&device, None).unwrap().notes.len(), 1);
    }

    #[test]
    fn version_1_has_a_uuid_and_no_checksum() {
        let mut device = vec![0; 1 << 20];
        put(&mut device, 0, PRIMARY);
        put(&mut device, 6, &[0, 1]);
        put(&mut device, 168, b"1a2b3c4d-0000-4000-8000-00000000abcd");
        let found = probe(&device, None).unwrap();
        assert_eq!((found.version.as_deref(), &found.health), (Some("1"), &Health::Unchecked));
        assert_eq!(found.uuid.as_deref(), Some("1a2b3c4d-0000-4000-8000-00000000abcd"));
    }

    fn luks(signature: &Signature) -> &Luks {
        match &signature.volume {
            Some(Volume::Luks(luks)) => luks,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_opening_takes_is_read_from_whichever_header_is_sound() {
        let found = probe(&sample(), None).unwrap();
        let whole = luks(&found).clone();
        assert_eq!(whole.cipher.as_deref(), Some("aes-xts-plain64"));
        let argon = Kdf::Argon2 { kind: "argon2id".to_string(), time: 4, memory: 32768, threads: 1 };
        assert_eq!(whole.slots[0], Slot { number: 0, kdf: argon, on_demand: false });
        let pbkdf2 = Kdf::Pbkdf2 { hash: "sha256".to_string(), iterations: 1000 };
        assert_eq!(whole.slots[1..], [Slot { number: 2, kdf: pbkdf2, on_demand: true }]);
        assert_eq!((whole.segments[0].offset, whole.segments[0].size), (16 << 20, None));
        assert_eq!((&whole.tokens[..], whole.is_reencrypting()), (&["systemd-tpm2".to_string()][..], false));
        let mut device = sample();
        device[5000] = 1;
        assert_eq!(luks(&probe(&device, None).unwrap()), &whole);
        device[..4096].fill(0);
        assert_eq!(luks(&probe(&device, None).unwrap()), &whole);
    }

    /// The sample, with another text of JSON in both of its headers.
    fn with_json(json: &[u8]) -> Vec<u8> {
        let mut device = sample();
        for at in [0, 0x4000] {
            device[at + JSON..at + 0x4000].fill(0);
            put(&mut device, at + JSON, json);
            seal(&mut device, at);
        }
        device
    }

    /// A header of version 1 without slots; the data begins at `payload`, in sectors.
    fn version_1(payload: u32) -> Vec<u8> {
        let mut device = vec![0; 1 << 20];
        put(&mut device, 0, PRIMARY);
        put(&mut device, 6, &[0, 1]);
        for (at, word) in [(8, "aes"), (40, "xts-plain64"), (72, "sha256")] {
            put(&mut device, at, word.as_bytes());
        }
        put(&mut device, 104, &payload.to_be_bytes());
        device
    }

    #[test]
    fn a_header_that_is_kept_apart_from_its_data_is_known() {
        let json = String::from_utf8(SAMPLE.to_vec()).unwrap();
        let data = "\"offset\":\"16777216\"";
        let json = json.split_whitespace().collect::<String>();
        let offset = |bytes: u64| json.replace(data, &format!("\"offset\":\"{bytes}\""));
        // In the middle of an encryption in place: what the device was before begins at 0.
        let before =
            r#""segments":{"1":{"type":"linear","offset":"0","size":"dynamic","flags":["backup-previous"]},"#;
        let cases = [
            ("with its data", json.clone(), false),
            ("apart", offset(0), true),
            ("over its keys", offset(16_777_215), true),
            ("being encrypted", json.replace("\"segments\":{", before), false),
        ];
        for (label, json, want) in cases {
            let found = probe(&with_json(json.as_bytes()), None).unwrap();
            assert_eq!((&found.health, luks(&found).is_apart), (&Health::Sound, want), "{label}");
        }
        for (payload, want) in [(4096_u32, false), (0, true)] {
            let device = version_1(payload);
            assert_eq!(luks(&probe(&device, None).unwrap()).is_apart, want, "version 1, {payload}");
        }
    }

    #[test]
    fn an_area_that_is_no_json_or_has_too_much_is_damage() {
        let many: Vec<String> = (0..33).map(|n| format!("\"{n}\":{{\"type\":\"x\"}}")).collect();
        let many = format!("{{\"keyslots\":{{{}}},\"segments\":{{}},\"digests\":{{}}}}", many.join(","));
        for (json, want) in
            [("{\"keyslots\":[", "its JSON area: "), (many.as_str(), "its JSON area has more than 32")]
        {
            let found = probe(&with_json(json.as_bytes()), None).unwrap();
            assert!(reason(&found).starts_with(want), "{}", reason(&found));
            assert_eq!(found.volume, None);
        }
    }

    #[test]
    fn the_slots_of_version_1_are_those_that_are_enabled() {
        let mut device = version_1(4096);
        for number in 0..SLOTS_1 {
            let active: u32 = if number == 3 { ENABLED } else { 0xdead };
            put(&mut device, 208 + number * SLOT_1, &active.to_be_bytes());
            put(&mut device, 208 + number * SLOT_1 + 4, &1000_u32.to_be_bytes());
        }
        let found = probe(&device, None).unwrap();
        let luks = luks(&found);
        assert_eq!((luks.cipher.as_deref(), luks.segments[0].offset), (Some("aes-xts-plain64"), 2 << 20));
        let numbers: Vec<u32> = luks.slots.iter().map(|slot| slot.number).collect();
        assert_eq!(numbers, [3]);
    }

    /// Everything of a device, after what a capture does to it.
    fn concealed(device: &[u8]) -> Vec<u8> {
        let mut windows = crate::Windows::new(device.len() as u64, u64::MAX);
        windows.note(0, device);
        for edit in conceal(&windows.clone()) {
            match edit {
                Edit::Zero { extent, .. } => windows.zero(extent),
                Edit::Put { start, bytes, .. } => windows.put(start, &bytes),
            }
        }
        windows.bytes(0, device.len()).unwrap()
    }

    #[test]
    fn keys_and_sealed_passphrases_are_concealed_and_the_rest_is_read_as_before() {
        let clevis = r#""tokens":{"0":{"type":"clevis","keyslots":["0"],"jwe":{"ciphertext":"SEALED"}}}"#;
        let json = String::from_utf8(SAMPLE.to_vec()).unwrap();
        let json = json.replace(r#""tokens":{"0":{"type":"systemd-tpm2","keyslots":["2"]}}"#, clevis);
        let mut device = with_json(json.as_bytes());
        device[0x8000..0x9_0000].fill(0xaa);
        let find = |device: &[u8], what: &[u8]| device.windows(what.len()).any(|bytes| bytes == what);
        assert!(find(&device, b"SEALED"));
        let found = probe(&device, None).unwrap();
        assert_eq!((&found.health, &luks(&found).tokens[..]), (&Health::Sound, &["clevis".to_string()][..]));
        let left = concealed(&device);
        assert_eq!(probe(&left, None).unwrap(), found);
        assert!(!find(&left, b"SEALED") && !find(&left, &[0xaa; 8]));
        // Torn headers hide nothing less.
        for at in [4097, 0x4000 + 4097] {
            device[at] ^= 1;
            let found = probe(&device, None).unwrap();
            let left = concealed(&device);
            assert_eq!(probe(&left, None).unwrap(), found);
            assert!(!find(&left, b"SEALED") && !find(&left, &[0xaa; 8]));
        }
    }

    #[test]
    fn key_slots_of_version_1_are_concealed() {
        let mut device = vec![0xaa; 4 << 20];
        device[..1024].fill(0);
        put(&mut device, 0, PRIMARY);
        put(&mut device, 6, &[0, 1]);
        put(&mut device, 104, &4096_u32.to_be_bytes());
        put(&mut device, 108, &64_u32.to_be_bytes());
        for number in 0..SLOTS_1 {
            put(&mut device, 208 + number * SLOT_1 + 40, &(8 + 504 * number as u32).to_be_bytes());
            put(&mut device, 208 + number * SLOT_1 + 44, &4000_u32.to_be_bytes());
        }
        let left = concealed(&device);
        assert_eq!(left[..4096], device[..4096]);
        assert!(left[4096..2 << 20].iter().all(|byte| *byte == 0));
        assert_eq!(left[2 << 20..], device[2 << 20..]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_mutated_header_panics(changes in proptest::collection::vec((6usize..512, any::<u8>()), 0..12)) {
            let mut device = sample();
            for (offset, byte) in changes {
                device[offset] = byte;
            }
            let _ = probe(&device, None);
            let _ = conceal(&device);
        }
    }
}
