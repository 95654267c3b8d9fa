//! by-id: what a drive says of itself, as udev's rules (60-persistent-storage) and helpers (ata_id,
//! scsi_id, usb_id) turn it into names. All of it is read from sysfs, where the kernel keeps what the
//! drive said when it was found: no drive is asked, so none that hangs is waited for. Not there, and
//! so without an `ata-` name: ATAPI drives.
//!
//! Pages by SPC-4 7.8 (0x80, 0x83) and SAT-3 12.4.2 (0x89), identify words by ACS-3 7.12.7.

use super::parents::{Parent, chain, find};
use contract::facts::Block;
use contract::udev::{joined, replaced};
use host::Root;

/// Names below by-id of a whole disk, in the order in which udev's rules add them.
pub fn names(root: &Root, block: &Block) -> Vec<String> {
    let Some(path) = &block.hardware.path else { return Vec::new() };
    let name = block.name.as_str();
    let starts = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    let mut names = if starts("nvme") {
        nvme(root, block, path)
    } else if starts("vd") {
        let serial = block.hardware.serial.as_deref().map(replaced);
        serial
            .filter(|serial| !serial.is_empty())
            .map(|serial| format!("virtio-{serial}"))
            .into_iter()
            .collect()
    } else if starts("sd") || starts("sr") {
        scsi(root, &chain(root, path))
    } else if starts("mmcblk") {
        mmc(&chain(root, path), root)
    } else if starts("pmem") {
        let uuid = chain(root, path).iter().skip(1).find_map(|one| one.line(root, "uuid"));
        uuid.map(|uuid| format!("pmem-{}", joined(&uuid))).into_iter().collect()
    } else {
        Vec::new()
    };
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn nvme(root: &Root, block: &Block, path: &str) -> Vec<String> {
    let hardware = &block.hardware;
    let mut names: Vec<String> =
        hardware.wwid.iter().map(|wwid| format!("nvme-{}", replaced(wwid))).collect();
    if let (Some(model), Some(serial)) = (&hardware.model, &hardware.serial) {
        let both = format!("nvme-{}", replaced(&format!("{}_{}", model.trim_end(), serial.trim_end())));
        let number = root.line(format!("/sys/devices/{path}/nsid"));
        names.extend(number.map(|number| format!("{both}_{number}")));
        names.insert(names.len().min(1), both);
    }
    names
}

fn mmc(chain: &[Parent], root: &Root) -> Vec<String> {
    let Some(card) = chain.iter().find(|one| one.subsystem == "mmc") else { return Vec::new() };
    match (card.line(root, "name"), card.line(root, "serial")) {
        (Some(name), Some(serial)) => vec![format!("mmc-{}", joined(&format!("{name}_{serial}")))],
        _ => Vec::new(),
    }
}

fn scsi(root: &Root, chain: &[Parent]) -> Vec<String> {
    let Some(device) = find(chain, "scsi", "scsi_device") else { return Vec::new() };
    let text = |attribute: &str| device.text(root, attribute).unwrap_or_default();
    let (vendor, model) = (text("vendor"), text("model"));
    let usb = find(chain, "usb", "usb_interface").is_some();
    let is_disk = text("type").trim() == "0";
    let is_fixed = chain.first().and_then(|disk| disk.line(root, "removable")).as_deref() == Some("0");
    let ata = match vendor.trim() == "ATA" || (usb && is_fixed) {
        true => device.bytes(root, "vpd_pg89").filter(|_| is_disk).and_then(|page| ata(&page)),
        false => None,
    };
    let mut names = Vec::new();
    let mut wwn = None;
    if let Some(ata) = ata {
        names.push(format!("ata-{}", ata.serial));
        wwn = ata.wwn;
    } else if !usb {
        let page = |name: &str| device.bytes(root, name).unwrap_or_default();
        if let Some(id) = scsi_id(&vendor, &model, &page("vpd_pg83"), &page("vpd_pg80")) {
            names.push(format!("scsi-{}", joined(&id.serial)));
            wwn = id.wwn;
        }
    }
    names.extend(usb_serial(root, chain, device).map(|serial| format!("usb-{serial}")));
    names.extend(device.line(root, "ieee1394_id").map(|id| format!("ieee1394-{}", joined(&id))));
    names.extend(wwn.map(|wwn| format!("wwn-0x{wwn}")));
    names
}

/// A serial as udev's helpers compose it, and a world wide name in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Id {
    serial: String,
    wwn: Option<String>,
}

/// From the ATA information page: the drive's IDENTIFY data, 512 bytes after 60 of the page's own.
fn ata(page: &[u8]) -> Option<Id> {
    let identify = page.get(60..572).filter(|identify| identify.iter().any(|byte| *byte != 0))?;
    let word = |number: usize| u16::from_le_bytes([identify[2 * number], identify[2 * number + 1]]); // < 256
    let text = |first: usize, words: usize| {
        let bytes: Vec<u8> = (first..first + words).flat_map(|number| word(number).to_be_bytes()).collect();
        joined(&String::from_utf8_lossy(&bytes))
    };
    let (serial, model) = (text(10, 10), text(27, 20));
    // Words 108 to 111: a name by the IEEE begins with 5.
    let wwn = (word(108) >> 12 == 5)
        .then(|| format!("{:04x}{:04x}{:04x}{:04x}", word(108), word(109), word(110), word(111)));
    let serial = if serial.is_empty() { model } else { format!("{model}_{serial}") };
    (!serial.is_empty()).then_some(Id { serial, wwn })
}

/// Designator types of page 0x83 as they are preferred: (type, NAA kind if it matters). For each, a
/// binary one before an ASCII one.
const PREFERRED: &[(u8, Option<u8>)] =
    &[(3, Some(6)), (3, Some(5)), (3, None), (2, None), (1, None), (0, None)];

/// What a SCSI device is called by the pages it has: its designator with the type's digit in front,
/// else its unit serial number behind an `S`.
fn scsi_id(vendor: &str, model: &str, page83: &[u8], page80: &[u8]) -> Option<Id> {
    let named = format!("{vendor:<8.8}{model:<16.16}");
    let designators = designators(page83);
    for (kind, naa) in PREFERRED {
        for code_set in [1, 2] {
            let wanted = |one: &&Designator<'_>| {
                one.kind == *kind
                    && one.code_set == code_set
                    && naa.is_none_or(|naa| one.bytes.first().is_some_and(|byte| byte >> 4 == naa))
            };
            let Some(found) = designators.iter().find(wanted) else { continue };
            let text = match code_set {
                1 => found.bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => String::from_utf8_lossy(found.bytes).trim_end_matches('\0').to_string(),
            };
            // Sixteen digits of name, up to sixteen more of the vendor's extension.
            let wwn = (*kind == 3).then(|| text.chars().take(32).collect());
            let between = if *kind == 0 { named.as_str() } else { "" };
            return Some(Id { serial: format!("{kind}{between}{text}"), wwn });
        }
    }
    let length = usize::from(*page80.get(3)?);
    let serial = String::from_utf8_lossy(page80.get(4..4 + length)?).into_owned();
    (page80[1] == 0x80 && !serial.trim_matches(['\0', ' ']).is_empty())
        .then(|| Id { serial: format!("S{named}{serial}"), wwn: None })
}

struct Designator<'a> {
    kind: u8,
    code_set: u8,
    bytes: &'a [u8],
}

/// Those of page 0x83 that name the device itself.
fn designators(page: &[u8]) -> Vec<Designator<'_>> {
    let mut found = Vec::new();
    let length = match page {
        [_, 0x83, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => return found,
    };
    let mut rest = page.get(4..page.len().min(4 + length)).unwrap_or_default();
    while let [code_set, kind, _, length, body @ ..] = rest {
        let Some(bytes) = body.get(..usize::from(*length)) else { break };
        let association = kind & 0x30;
        if association == 0 && !bytes.is_empty() {
            found.push(Designator { kind: kind & 15, code_set: code_set & 15, bytes });
        }
        rest = &body[usize::from(*length)..];
    }
    found
}

/// `VENDOR_MODEL_SERIAL-TARGET:LUN`. Mass storage has SCSI's vendor and model, the rest USB's.
fn usb_serial(root: &Root, chain: &[Parent], scsi: &Parent) -> Option<String> {
    let interface = find(chain, "usb", "usb_interface")?;
    let device = find(chain, "usb", "usb_device")?;
    let is_storage = interface.line(root, "bInterfaceClass").as_deref() == Some("08");
    let speaks_scsi = interface
        .line(root, "bInterfaceSubClass")
        .is_some_and(|class| matches!(u8::from_str_radix(&class, 16), Ok(2 | 6)));
    let (mut vendor, mut model, mut instance) = (String::new(), String::new(), String::new());
    if is_storage && speaks_scsi {
        vendor = joined(&scsi.text(root, "vendor")?);
        model = joined(&scsi.text(root, "model")?);
        let place: Vec<&str> = scsi.name.split(':').skip(2).collect();
        instance = format!("-{}", place.join(":"));
    }
    let of_usb = |text: &str, number: &str| {
        joined(&device.text(root, text).or_else(|| device.text(root, number)).unwrap_or_default())
    };
    if vendor.is_empty() {
        vendor = of_usb("manufacturer", "idVendor");
    }
    if model.is_empty() {
        model = of_usb("product", "idProduct");
    }
    // The rules of Microsoft's logo programme, by which drives are made.
    let is_serial = |text: &String| text.bytes().all(|byte| (0x20..0x80).contains(&byte) && byte != b',');
    let serial = device.text(root, "serial").filter(is_serial).map(|text| joined(&text));
    let serial = serial.filter(|serial| !serial.is_empty()).map(|serial| format!("_{serial}"));
    Some(format!("{vendor}_{model}{}{instance}", serial.unwrap_or_default()))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ATA information page of a drive with this model, serial and name.
    pub fn page89(serial: &str, model: &str, wwn: u64) -> Vec<u8> {
        let mut page = vec![0; 572];
        let mut put = |first: usize, words: usize, text: &str| {
            let padded = format!("{text:<width$}", width = 2 * words);
            for (i, pair) in padded.as_bytes().chunks(2).enumerate() {
                page[60 + 2 * (first + i)..][..2].copy_from_slice(&[pair[1], pair[0]]);
            }
        };
        put(10, 10, serial);
        put(27, 20, model);
        for (i, word) in wwn.to_be_bytes().chunks(2).enumerate() {
            page[60 + 2 * (108 + i)..][..2].copy_from_slice(&[word[1], word[0]]);
        }
        page
    }

    #[test]
    fn an_ata_drive_is_called_by_its_whole_model_and_serial() {
        let id = ata(&page89("     WD-WCC7K0123456", "WDC WD40EFRX-68N32N0", 0x5001_4ee2_1234_5678)).unwrap();
        assert_eq!(id.serial, "WDC_WD40EFRX-68N32N0_WD-WCC7K0123456");
        assert_eq!(id.wwn.as_deref(), Some("50014ee212345678"));
        // QEMU's drives have no world wide name.
        assert_eq!(ata(&page89("QM00001", "QEMU HARDDISK", 0)).unwrap().wwn, None);
        assert_eq!(ata(&[0; 572]), None);
        assert_eq!(ata(&[1; 571]), None);
    }

    fn page83(designators: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (code_set, kind, bytes) in designators {
            body.extend_from_slice(&[*code_set, *kind, 0, bytes.len() as u8]);
            body.extend_from_slice(bytes);
        }
        let mut page = vec![0, 0x83];
        page.extend_from_slice(&(body.len() as u16).to_be_bytes());
        page.extend(body);
        page
    }

    #[test]
    fn a_scsi_device_is_called_by_its_best_designator() {
        let id = |page83: &[u8], page80: &[u8]| {
            scsi_id("QEMU    ", "QEMU HARDDISK   ", page83, page80).map(|id| (joined(&id.serial), id.wwn))
        };
        let naa5: &[u8] = &[0x50, 0, 0xc5, 0, 0xa1, 0xb2, 0xc3, 0xd4];
        let naa6: &[u8] = &[0x60, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
        let both = page83(&[(2, 0, b"S-1"), (1, 0x13, naa5), (1, 3, naa5), (1, 3, naa6)]);
        let (name, wwn) = id(&both, &[]).unwrap();
        assert_eq!(name, "360000000000000010000000000000002");
        assert_eq!(wwn.as_deref(), Some("60000000000000010000000000000002"));
        let (name, wwn) = id(&page83(&[(1, 3, naa5)]), &[]).unwrap();
        assert_eq!((name.as_str(), wwn.as_deref()), ("35000c500a1b2c3d4", Some("5000c500a1b2c3d4")));
        // As QEMU's scsi-hd with serial=RANDOM-0 is called.
        assert_eq!(id(&page83(&[(2, 0, b"RANDOM-0")]), &[]).unwrap().0, "0QEMU_QEMU_HARDDISK_RANDOM-0");
        assert_eq!(id(&[], b"\x00\x80\x00\x03abc").unwrap().0, "SQEMU_QEMU_HARDDISK_abc");
        // A target port's name is not the disk's.
        assert_eq!(id(&page83(&[(1, 0x13, naa5)]), &[]), None);
    }

    proptest! {
        #[test]
        fn no_page_panics(page in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut named = page.clone();
            if named.len() > 1 {
                named[1] = 0x83;
            }
            let _ = scsi_id("v", "m", &named, &page);
            let _ = ata(&page);
        }
    }
}
