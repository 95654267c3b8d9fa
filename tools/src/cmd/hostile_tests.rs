//! No terminal is steered by a disk: a machine on which every text that a disk, a drive, another system or a network
//! chose is hostile, looked at with every tool. What would be printed is checked character by character.

use crate::cmd;
use crate::report::{Output, SAID, failed, fenced, spelt};
use crate::tool::{Context, Run, Terminal};
use host::Root;
use model::text::steers;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

#[path = "../../tests/reading/crafted.rs"]
mod crafted;
#[path = "../../tests/reading/layout.rs"]
mod layout;

/// Colours, other escapes, line ends, C1 as UTF-8 and as bytes, what reorders a line, and what is no text.
const WORDS: &[&[u8]] = &[
    b"\x1b[31mred",
    b"a\nEVIL\r\nEVIL",
    "\u{202e}gpj.\u{2066}x".as_bytes(),
    "\u{9b}2J\u{85}\u{2028}EVIL".as_bytes(),
    b"\x7f\x08\t\xff\xc0\x9b",
    b"\x1b]0;t\x07$(x)`\\x1b",
    "\u{61c}\u{200f}\u{fc}\u{10ff9b}".as_bytes(),
];

/// Each text is of the next kind, so the first machine has all of them; the others have them elsewhere.
const SEEDS: usize = 3;

/// Hostile texts, one after the other, of another kind with each seed.
struct Hostile(Cell<usize>);

impl Hostile {
    /// So many bytes of it.
    fn fill(&self, length: usize) -> Vec<u8> {
        let first = self.0.replace(self.0.get() + 1);
        let words = WORDS.iter().cycle().skip(first % WORDS.len());
        words.flat_map(|word| word.iter().copied()).take(length).collect()
    }

    fn text(&self, length: usize) -> String {
        String::from_utf8_lossy(&self.fill(length)).into_owned()
    }

    /// As the kernel writes it into mountinfo.
    fn mangled(&self) -> Vec<u8> {
        let mangle = |byte: u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
            byte => vec![byte],
        };
        self.fill(40).into_iter().flat_map(mangle).collect()
    }
}

fn sum_of_crc(bytes: &[u8], seed: u32) -> u32 {
    bytes.iter().fold(seed, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

fn put(device: &mut [u8], offset: usize, bytes: &[u8]) {
    device[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// A GPT with partitions of hostile names.
fn gpt(hostile: &Hostile) -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    put(&mut disk, 446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 7]);
    put(&mut disk, 510, &[0x55, 0xaa]);
    for number in 0..4 {
        let at = 1024 + 128 * number;
        put(&mut disk, at, &[0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69]);
        disk[at + 16] = number as u8 + 1;
        disk[at + 32] = 64 + 4 * number as u8;
        disk[at + 40] = 67 + 4 * number as u8;
        let name: Vec<u8> = hostile.text(30).encode_utf16().flat_map(u16::to_le_bytes).collect();
        put(&mut disk, at + 56, &name);
    }
    let entries = !sum_of_crc(&disk[1024..1024 + 128 * 128], u32::MAX);
    put(&mut disk, 512, b"EFI PART\0\0\x01\0\x5c\0\0\0");
    put(&mut disk, 512 + 24, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff, 7]);
    put(&mut disk, 512 + 40, &[34, 0, 0, 0, 0, 0, 0, 0, 0xde, 7]);
    put(&mut disk, 512 + 72, &[2, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 128]);
    put(&mut disk, 512 + 88, &entries.to_le_bytes());
    let sum = !sum_of_crc(&disk[512..604], u32::MAX);
    put(&mut disk, 512 + 16, &sum.to_le_bytes());
    disk
}

/// Half of a mirror.
fn md(hostile: &Hostile) -> Vec<u8> {
    // Larger than a floppy, on which no members are looked for.
    let mut disk = vec![0; 2 << 20];
    let sb = &mut disk[4096..];
    put(sb, 0, &[0xfc, 0x4e, 0x2b, 0xa9, 1]);
    put(sb, 16, &[7; 16]);
    put(sb, 32, &hostile.fill(32));
    put(sb, 72, &[1]);
    put(sb, 80, &1000_u64.to_le_bytes());
    put(sb, 92, &[2]);
    put(sb, 128, &[64]);
    put(sb, 136, &1000_u64.to_le_bytes());
    put(sb, 144, &[8]);
    put(sb, 200, &[5]);
    put(sb, 208, &[0xff; 8]);
    put(sb, 220, &[2]);
    put(sb, 256, &[0, 0, 1, 0]);
    let words = sb[..260].chunks(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap())));
    let sum: u64 = words.sum();
    put(sb, 216, &(((sum & 0xffff_ffff) + (sum >> 32)) as u32).to_le_bytes());
    disk
}

/// A PV whose group belongs to another system and misses another PV.
fn lvm(hostile: &Hostile) -> Vec<u8> {
    let quoted = || hostile.text(40).replace('\\', "\\\\").replace('"', "\\\"");
    let id = |letter: &str| [6, 4, 4, 4, 4, 4, 6].map(|length| letter.repeat(length)).join("-");
    let pv = |name: &str, letter: &str| {
        let device = quoted();
        format!(
            "{name} {{ id = \"{}\"\ndevice = \"{device}\"\ndev_size = 2048\npe_start = 64\npe_count = 10 }}\n",
            id(letter)
        )
    };
    let text = format!(
        "vg {{ id = \"{}\"\nseqno = 3\nstatus = [\"READ\", \"WRITE\"]\nextent_size = 8\nsystem_id = \"{}\"\n\
         physical_volumes {{ {}{} }}\nlogical_volumes {{ root {{ id = \"{}\"\nstatus = [\"READ\", \"VISIBLE\"]\n\
         segment_count = 1\nsegment1 {{ start_extent = 0\nextent_count = 3\ntype = \"striped\"\nstripe_count = 1\n\
         stripes = [ \"pv1\", 0 ] }} }} }} }}\ncontents = \"Text Format Volume Group\"\nversion = 1\n",
        id("v"),
        quoted(),
        pv("pv0", "a"),
        pv("pv1", "b"),
        id("r"),
    );
    physical_volume(&text)
}

/// A disk of 2 MiB with this text in its metadata area.
pub fn physical_volume(text: &str) -> Vec<u8> {
    const SEED: u32 = 0xf597_a6cf;
    let area = (512 + text.len() as u64).next_multiple_of(16384);
    let mut disk = vec![0; 2 << 20];
    put(&mut disk, 512, b"LABELONE\x01");
    put(&mut disk, 532, &[32]);
    put(&mut disk, 536, b"LVM2 001");
    put(&mut disk, 544, &[b'a'; 32]);
    put(&mut disk, 576, &(1_u64 << 20).to_le_bytes());
    put(&mut disk, 584, &32768_u64.to_le_bytes());
    put(&mut disk, 616, &4096_u64.to_le_bytes());
    put(&mut disk, 624, &area.to_le_bytes());
    let sum = sum_of_crc(&disk[532..1024], SEED);
    put(&mut disk, 528, &sum.to_le_bytes());
    put(&mut disk, 4100, b"\x20LVM2\x20x[5A%r0N*>\x01");
    put(&mut disk, 4096 + 24, &4096_u64.to_le_bytes());
    put(&mut disk, 4096 + 32, &area.to_le_bytes());
    put(&mut disk, 4096 + 40, &512_u64.to_le_bytes());
    put(&mut disk, 4096 + 48, &(text.len() as u64).to_le_bytes());
    put(&mut disk, 4096 + 56, &sum_of_crc(text.as_bytes(), SEED).to_le_bytes());
    let sum = sum_of_crc(&disk[4100..4096 + 512], SEED);
    put(&mut disk, 4096, &sum.to_le_bytes());
    put(&mut disk, 4096 + 512, text.as_bytes());
    disk
}

/// Formats with nothing but a label in their way.
fn labelled(hostile: &Hostile) -> Vec<Vec<u8>> {
    let mut disks = vec![vec![0; 1 << 20]; 5];
    let [ext, swap, xfs, iso, luks] = &mut disks[..] else { panic!() };
    put(ext, 1024 + 0x04, &[0, 4]);
    put(ext, 1024 + 0x20, &[0, 32, 0, 0, 0, 32, 0, 0, 64]);
    put(ext, 1024 + 0x38, &[0x53, 0xef, 0, 0, 1]);
    put(ext, 1024 + 0x4c, &[1]);
    put(ext, 1024 + 0x78, &hostile.fill(16 + 64));
    put(swap, 1024, &[1, 0, 0, 0, 0xff]);
    put(swap, 1036, &[3; 16]);
    put(swap, 1052, &hostile.fill(16));
    put(swap, 0xff6, b"SWAPSPACE2");
    put(xfs, 0, b"XFSB\0\0\x10\0");
    put(xfs, 108, &hostile.fill(12));
    put(iso, 32768, b"\x01CD001\x01");
    put(iso, 32768 + 8, &hostile.fill(64));
    put(iso, 32768 + 190, &hostile.fill(600));
    put(luks, 0, b"LUKS\xba\xbe\0\x02");
    put(luks, 14, &[0x40]);
    put(luks, 24, &hostile.fill(48));
    put(luks, 168, &hostile.fill(40));
    put(luks, 208, &hostile.fill(48));
    disks
}

/// What passes the first look of a probe, over hostile bytes.
fn stamped(hostile: &Hostile, seed: usize) -> Vec<Vec<u8>> {
    let magics: Vec<_> = ondisk::formats::FORMATS.iter().flat_map(|format| format.magics).collect();
    let mut disks = Vec::new();
    for number in 0..12 {
        let mut disk = hostile.fill(160 << 10);
        for stamp in 0..3 {
            let magic = magics[(seed * 12 + number + 37 * stamp) % magics.len()];
            if let Some(place) = disk.get_mut(magic.offset as usize..) {
                let length = magic.bytes.len().min(place.len());
                place[..length].copy_from_slice(&magic.bytes[..length]);
            }
        }
        disk.resize(1 << 20, 0);
        disks.push(disk);
    }
    disks
}

/// A disk of virtio with this on it.
fn add_disk(root: &Path, number: usize, content: &[(u64, Vec<u8>)], size: u64, hostile: &Hostile) {
    let letter = |n: usize| char::from(b'a' + n as u8);
    let name = format!("vd{}{}", letter(1 + number / 26), letter(number % 26));
    let device = format!("devices/pci0000:00/0000:00:06.0/virtio{}/block/{name}", number + 10);
    let directory = root.join("sys").join(&device);
    fs::create_dir_all(directory.join("queue")).unwrap();
    fs::create_dir_all(directory.join("slaves")).unwrap();
    symlink(format!("../../{device}"), root.join("sys/class/block").join(&name)).unwrap();
    let numbers = format!("252:{}\n", 16 * (number + 4));
    let (sectors, seq) = (format!("{}\n", size / 512), format!("{}\n", 100 + number));
    for (file, text) in [("dev", &numbers), ("size", &sectors), ("diskseq", &seq)] {
        fs::write(directory.join(file), text).unwrap();
    }
    fs::write(directory.join("ro"), "1\n").unwrap();
    fs::write(directory.join("serial"), hostile.fill(20)).unwrap();
    let file = fs::File::create(root.join("dev").join(name)).unwrap();
    file.set_len(size).unwrap();
    content.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
}

/// `all`: with every crafted image, and those that only pass a first look.
fn machine(root: &Path, seed: usize, all: bool) {
    let hostile = Hostile(Cell::new(seed));
    layout::lay_out("mixed", root);
    let write = |path: &str, bytes: Vec<u8>| fs::write(root.join(path), bytes).unwrap();
    for (host, target) in [("ata1/host0", "0"), ("ata2/host1", "1"), ("ata3/host2", "2")] {
        let device = format!("sys/devices/pci0000:00/0000:00:1f.2/{host}/target{target}:0:0/{target}:0:0:0");
        for attribute in ["model", "vendor", "rev", "state"] {
            write(&format!("{device}/{attribute}"), hostile.fill(24));
        }
    }
    let nvme = "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0";
    for attribute in ["model", "serial", "firmware_rev", "state", "nvme0n1/wwid"] {
        write(&format!("{nvme}/{attribute}"), hostile.fill(24));
    }
    for attribute in ["level", "array_state", "sync_action", "metadata_version", "dev-sda1/state"] {
        write(&format!("sys/devices/virtual/block/md0/md/{attribute}"), hostile.fill(16));
    }
    for dm in 0..3 {
        let directory = format!("sys/devices/virtual/block/dm-{dm}/dm");
        write(&format!("{directory}/name"), hostile.fill(16));
        let uuid = [&b"LVM-"[..], b"CRYPT-LUKS2-", b"LIFEBOAT-OVERLAY-"][dm];
        write(&format!("{directory}/uuid"), [uuid, &hostile.fill(64)].concat());
        write(&format!("{directory}/snapshot"), hostile.fill(16));
    }
    write("sys/devices/virtual/block/loop0/loop/backing_file", hostile.fill(30));
    let mut mounts = fs::read(root.join("proc/self/mountinfo")).unwrap();
    for (id, device) in [(60, "8:1"), (61, "8:19"), (62, "252:1"), (63, "0:40")] {
        let (target, source, data) = (hostile.mangled(), hostile.mangled(), hostile.mangled());
        let head = format!("{id} 22 {device} / /mnt/").into_bytes();
        mounts.extend([&head[..], &target, b" rw - ext4 ", &source, b" rw,x=", &data, b"\n"].concat());
    }
    write("proc/self/mountinfo", mounts);
    let swap =
        [&b"Filename Type Size Used Priority\n/dev/"[..], &hostile.mangled(), b" partition 1024 0 -2\n"];
    write("proc/swaps", swap.concat());
    fs::create_dir_all(root.join("etc")).unwrap();
    let fstab = [&hostile.mangled()[..], b" /mnt/fstab ext4 ", &hostile.mangled(), b" 0 0\n"].concat();
    write("etc/fstab", fstab);
    fs::write(root.join("etc/mdadm.conf"), hostile.fill(60)).unwrap();
    states(root, &hostile);
    let mut number = 0;
    let mut add = |content: &[(u64, Vec<u8>)], size: u64| {
        add_disk(root, number, content, size, &hostile);
        number += 1;
    };
    let images = crafted::crafted(&|text| hostile.fill(text.len()));
    for (_, mib, pieces) in images.into_iter().step_by(if all { 1 } else { 8 }) {
        let size = mib << 20;
        let place = |offset: i64| u64::try_from(offset).unwrap_or_else(|_| size - offset.unsigned_abs());
        let content: Vec<_> = pieces.into_iter().map(|(offset, bytes)| (place(offset), bytes)).collect();
        add(&content, size);
    }
    let whole = [gpt(&hostile), md(&hostile), lvm(&hostile)].into_iter();
    let stamped = if all { stamped(&hostile, seed) } else { Vec::new() };
    for disk in whole.chain(labelled(&hostile)).chain(stamped) {
        let size = disk.len() as u64;
        add(&[(0, disk)], size);
    }
}

/// What the services wrote down; netd's is what a DHCP server said.
fn states(root: &Path, hostile: &Hostile) {
    let text = || serde_json::Value::from(hostile.text(30)).to_string();
    let directory = root.join("run/lifeboat/state");
    fs::create_dir_all(&directory).unwrap();
    let (a, b, c, d) = (text(), text(), text(), text());
    let link = format!(r#"{{"name": {a}, "state": {b}, "addresses": [{{"address": {c}, "prefix": 24}}]}}"#);
    let service = format!(r#"{{"name": {a}, "state": "failed", "last_exit": {b}}}"#);
    let files = [
        ("netd", format!(r#"{{"hostname": {a}, "links": [{link}], "problems": [{d}]}}"#)),
        ("layers", format!(r#"{{"layers": [{{"name": {a}, "bytes": 1, "error": {b}}}]}}"#)),
        ("init", format!(r#"{{"services": [{service}], "warnings": [{c}]}}"#)),
        ("sshd", format!(r#"{{"keys": [{a}], "problems": [{b}]}}"#)),
        ("devd", format!(r#"{{"settled": true, "problems": [{b}]}}"#)),
    ];
    for (name, text) in files {
        fs::write(directory.join(format!("{name}.json")), text).unwrap();
    }
}

/// Each tool, whether as a verb, and its arguments.
const CALLS: &[(&str, Run, bool, &str)] = &[
    ("status", cmd::status::run, true, ""),
    ("status", cmd::status::run, true, "--login"),
    ("status", cmd::status::run, true, "--json"),
    ("lsblk", cmd::lsblk::run, false, ""),
    ("lsblk", cmd::lsblk::run, false, "-f"),
    ("lsblk", cmd::lsblk::run, false, "-l -p"),
    ("lsblk", cmd::lsblk::run, false, "-S"),
    ("lsblk", cmd::lsblk::run, false, "-o COLUMNS"),
    ("lsblk", cmd::lsblk::run, false, "-r -o COLUMNS"),
    ("lsblk", cmd::lsblk::run, false, "-P -o COLUMNS"),
    ("lsblk", cmd::lsblk::run, false, "-J -o COLUMNS"),
    ("blkid", cmd::blkid::run, false, ""),
    ("blkid", cmd::blkid::run, false, "-d"),
    ("blkid", cmd::blkid::run, false, "-o value"),
    ("blkid", cmd::blkid::run, false, "-o export"),
    ("blkid", cmd::blkid::run, false, "-o device"),
    ("blkid", cmd::blkid::run, false, "-o json"),
    ("fdisk", cmd::fdisk::run, false, "-l"),
    ("fdisk", cmd::fdisk::run, false, "-l --json"),
    ("fdisk", cmd::fdisk::run, false, "-l -o Device,Name,Type-UUID,UUID,Type /dev/GPT"),
    ("assemble", cmd::assemble::run, true, "--dry-run"),
    ("assemble", cmd::assemble::run, true, "--dry-run --rw"),
    ("assemble", cmd::assemble::run, true, "--dry-run --json"),
    ("assemble", cmd::assemble::run, true, "--stop --dry-run"),
    ("overlay", cmd::overlay::run, true, ""),
    ("overlay", cmd::overlay::run, true, "--all --dry-run"),
    ("mount", cmd::mount::run, false, ""),
    ("mount", cmd::mount::run, false, "-l"),
    ("mount", cmd::mount::run, true, "--dry-run /mnt/fstab"),
];

/// With every disk, and with a word of a person (or of a script that read it from a disk).
const EACH: &[(&str, Run, bool, &str)] = &[
    ("blkid", cmd::blkid::run, false, "-p WORD"),
    ("blkid", cmd::blkid::run, false, "-p -o export WORD"),
    ("blkid", cmd::blkid::run, false, "-L WORD"),
    ("fdisk", cmd::fdisk::run, false, "-l WORD"),
    ("lsblk", cmd::lsblk::run, false, "WORD"),
    ("open", cmd::open::open, true, "--dry-run WORD"),
    ("open", cmd::open::open, true, "--dry-run --rw --name WORD WORD"),
    ("open", cmd::open::close, true, "--dry-run WORD"),
    ("mount", cmd::mount::run, false, "--dry-run WORD /tmp"),
    ("mount", cmd::mount::run, true, "--dry-run --rw -o x=WORD WORD /tmp"),
    ("mount", cmd::mount::run, false, "--dry-run -L WORD /tmp"),
    ("mount", cmd::mount::run, false, "--dry-run -t WORD WORD WORD"),
    ("fsck", cmd::fsck::run, false, "-N WORD"),
    ("fsck", cmd::fsck::run, false, "-N LABEL=WORD"),
    ("umount", cmd::umount::run, false, "WORD"),
    ("assemble", cmd::assemble::run, true, "--dry-run WORD"),
    ("assemble", cmd::assemble::run, true, "--dry-run --with WORD"),
    ("overlay", cmd::overlay::run, true, "--dry-run WORD"),
    ("overlay", cmd::overlay::run, true, "--drop --dry-run WORD"),
    ("writable", cmd::writable::run, true, "WORD"),
    ("protect", cmd::writable::protect, true, "WORD"),
    ("capture", cmd::capture::run, true, "--text WORD"),
    ("status", cmd::status::run, true, "--WORD"),
];

const COLUMNS: &str = "NAME,KNAME,FSTYPE,FSVER,LABEL,UUID,PARTLABEL,PARTUUID,PARTTYPENAME,PTTYPE,PTUUID,MODEL,VENDOR,\
                       SERIAL,REV,WWN,STATE,TRAN,HCTL,TYPE,MOUNTPOINT,MOUNTPOINTS";

fn faults(text: &str, words: &str) -> Vec<String> {
    let mut faults: Vec<String> = text
        .chars()
        .filter(|c| *c != '\n' && steers(*c) && ondisk::bytes::raw_byte(*c).is_none())
        .map(|c| format!("{c:?}"))
        .collect();
    faults.dedup();
    // A line that a text of the disk began by itself; of -o value each is one.
    let lines = if words.contains("-o value") { "" } else { text };
    let begun = lines.lines().filter(|line| line.trim_start().starts_with("EVIL")).map(str::to_string);
    faults.extend(begun);
    faults
}

/// What a call prints and says that it must not.
fn call(
    root: &Root,
    utf8: bool,
    (name, run, verb, words): (&'static str, Run, bool, &str),
    word: &str,
) -> Vec<String> {
    let environment = BTreeMap::from([("PATH".into(), "/bin".into())]);
    let terminal = Terminal { interactive: false, columns: None, colour: false, utf8 };
    let context = Context { name, verb, root: root.clone(), environment, terminal, beat: None };
    let arguments: Vec<OsString> = words
        .split_whitespace()
        .map(|one| one.replace("COLUMNS", COLUMNS).replace("WORD", word).into())
        .collect();
    SAID.take();
    let (kind, printed) = match run(&context, &arguments) {
        Ok(answer) => match answer.output {
            Output::Text(text) => ("text", fenced(&text).into_owned()),
            Output::Json(text) => ("JSON", spelt(&text)),
            Output::HandOver(_) | Output::Nothing => ("nothing", String::new()),
        },
        Err(error) => {
            failed(name, &error);
            ("an error", String::new())
        }
    };
    // In JSON a byte that is no text is a character by itself; on a terminal it would be one that nobody has.
    let unknown = kind == "text" && printed.chars().any(|c| ondisk::bytes::raw_byte(c).is_some());
    let said = SAID.take();
    let shown = format!("{name} {words} ({word:?}, {kind}):");
    let printed = faults(&printed, words).into_iter().chain(unknown.then(|| "a raw byte".to_string()));
    let said = faults(&said, words).into_iter().map(|fault| format!("said {fault}"));
    printed.chain(said).map(|fault| format!("{shown} {fault}")).collect()
}

fn gpt_disk(root: &Root) -> String {
    let has_gpt = |name: &OsString| {
        let bytes = root.open_device(format!("/dev/{}", name.to_string_lossy())).ok().and_then(|file| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, 512).ok().map(|()| bytes)
        });
        bytes.as_ref().is_some_and(|bytes| bytes == b"EFI PART")
    };
    let names = root.list("/dev").unwrap();
    format!("/dev/{}", names.iter().find(|name| has_gpt(name)).unwrap().to_string_lossy())
}

#[test]
fn no_text_of_a_disk_or_a_drive_steers_a_terminal() {
    let mut faults = Vec::new();
    for seed in 0..SEEDS {
        let directory = tempfile::tempdir().unwrap();
        machine(directory.path(), seed, seed == 0);
        let root = Root::at(directory.path()).unwrap();
        let gpt = gpt_disk(&root);
        for (name, run, verb, words) in CALLS {
            let words = words.replace("/dev/GPT", &gpt);
            faults.extend(call(&root, seed % 2 == 0, (name, *run, *verb, &words), ""));
        }
    }
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn no_word_and_no_name_of_a_device_steers_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    machine(directory.path(), 0, false);
    let root = Root::at(directory.path()).unwrap();
    let names = root.list("/dev").unwrap();
    let disks = names.iter().map(|name| format!("/dev/{}", name.to_string_lossy())).step_by(6);
    let words = WORDS.iter().map(|word| OsString::from_vec(word.to_vec()).to_string_lossy().into_owned());
    let mut faults = Vec::new();
    for word in words.chain(disks).chain(["/dev/dm-1".to_string()]) {
        for each in EACH {
            faults.extend(call(&root, true, *each, &word));
        }
    }
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
}

/// Else this test tests nothing: the texts are there, and are shown.
#[test]
fn the_hostile_machine_shows_its_texts() {
    let directory = tempfile::tempdir().unwrap();
    machine(directory.path(), 0, true);
    let root = Root::at(directory.path()).unwrap();
    let terminal = Terminal { interactive: false, columns: None, colour: false, utf8: true };
    let context =
        Context { name: "lsblk", verb: false, root, environment: BTreeMap::new(), terminal, beat: None };
    let options: Vec<OsString> = ["-lno", "FSTYPE,LABEL"].map(Into::into).to_vec();
    let Output::Text(text) = cmd::lsblk::run(&context, &options).unwrap().output else { panic!() };
    let mut with_label: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("\\x"))
        .map(|line| line.split(' ').next().unwrap_or_default())
        .collect();
    with_label.sort_unstable();
    with_label.dedup();
    for format in ["ext2", "swap", "iso9660", "zfs_member", "VMFS", "hfs", "reiserfs", "bcachefs"] {
        assert!(with_label.contains(&format), "{format} in {with_label:?}");
    }
    let Output::Text(text) =
        cmd::status::run(&Context { name: "status", verb: true, ..context }, &[]).unwrap().output
    else {
        panic!()
    };
    for part in
        ["\nArrays not running\n", "\nVolume groups\n", "\\x1b[31mred", "\\x0aEVIL", "\\xe2\\x80\\xae"]
    {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn what_the_kernel_says_and_what_a_probe_reads_are_one_text() {
    for word in WORDS {
        assert_eq!(host::text::text(word), ondisk::bytes::utf8(word));
        for c in ondisk::bytes::utf8(word).chars() {
            assert_eq!(contract::text::raw_byte(c), ondisk::bytes::raw_byte(c));
        }
    }
}

/// Arrays that do not run, groups, overlays, and every text hostile.
#[test]
fn the_json_of_the_hostile_machine_is_what_the_schema_says() {
    let directory = tempfile::tempdir().unwrap();
    machine(directory.path(), 0, false);
    let root = Root::at(directory.path()).unwrap();
    let terminal = Terminal { interactive: false, columns: None, colour: false, utf8: true };
    let context =
        Context { name: "status", verb: true, root, environment: BTreeMap::new(), terminal, beat: None };
    let [schema, value] = ["--schema", "--json"].map(|option| {
        let Output::Json(text) = cmd::status::run(&context, &[option.into()]).unwrap().output else {
            panic!()
        };
        serde_json::from_str::<serde_json::Value>(&spelt(&text)).unwrap()
    });
    for part in ["stopped", "groups", "overlays", "problems"] {
        assert!(!value[part].as_array().unwrap().is_empty(), "{part}");
    }
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let faults: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert_eq!(faults, [""; 0]);
}
