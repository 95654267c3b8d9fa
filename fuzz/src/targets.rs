//! TARGETS: what is fuzzed, and what an input means to it.

use crate::{dns, plans, ssh, suite};
use ondisk::read::{ReadAt, ReadError};
use ondisk::{Geometry, examine};

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that a parser looks for.
    pub words: &'static [&'static [u8]],
}

/// Sorted by name.
pub const TARGETS: &[Target] = &[
    Target { name: "borrow", run: plans::borrow, seeds: plans::borrows, words: NETWORK },
    Target { name: "cloud", run: plans::cloud, seeds: plans::clouds, words: NETWORK },
    Target { name: "cmdline", run: cmdline, seeds: cmdlines, words: WORDS },
    Target {
        name: "conout",
        run: conout,
        seeds: conouts,
        words: &[&[3, 14, 19, 0], &[1, 1, 6, 0], &[2, 1, 12, 0], &[2, 2], &[0xd0, 0x41, 1, 5], &[0x7f, 0xff, 4, 0]],
    },
    Target {
        name: "dhcp",
        run: netd::hostile::dhcp,
        seeds: offers,
        words: &[&[99, 130, 83, 99], &[53, 1, 2], &[54, 4, 10, 0, 2, 2]],
    },
    Target {
        name: "dhcp6",
        run: netd::hostile::dhcp6,
        seeds: replies,
        words: &[&[0, 3, 0, 40], &[0, 5, 0, 24], &[0, 23, 0, 16], &[0, 24], &[0, 13, 0, 2], &[0, 14, 0, 0]],
    },
    Target {
        name: "disk",
        run: disk,
        seeds: disks,
        words: &[b"EFI PART", &[0x55, 0xaa], &[0xfc, 0x4e, 0x2b, 0xa9]],
    },
    Target { name: "dracut", run: plans::dracut, seeds: plans::dracuts, words: WORDS },
    Target { name: "gpt", run: gpt, seeds: gpts, words: &[b"EFI PART"] },
    Target { name: "ifcfg", run: plans::ifcfg, seeds: plans::ifcfgs, words: NETWORK },
    Target { name: "ifupdown", run: plans::ifupdown, seeds: plans::ifupdowns, words: NETWORK },
    Target { name: "keyfile", run: plans::keyfile, seeds: plans::keyfiles, words: NETWORK },
    Target {
        name: "luks",
        run: luks,
        seeds: luks_areas,
        words: &[
            b"\"kdf\":{",
            b"\"type\":",
            b"\"memory\":",
            b"\"argon2id\"",
            b"[[",
            b"{\"0\":",
            b"18446744073709551615",
        ],
    },
    Target {
        name: "lvm",
        run: lvm,
        seeds: lvm_texts,
        words: &[
            b"segment1 {",
            b"stripes = [",
            b"\"pv0\", 0",
            b"}",
            b"type = \"",
            b"extent_count = ",
            b"VISIBLE",
        ],
    },
    Target {
        name: "names",
        run: names,
        seeds: answers,
        words: &[&[192, 12], &[0, 5, 0, 1], &[0, 1, 0, 1], &[0, 28, 0, 1]],
    },
    Target { name: "netplan", run: plans::netplan, seeds: plans::netplans, words: NETWORK },
    Target { name: "networkd", run: plans::networkd, seeds: plans::networkds, words: NETWORK },
    Target { name: "openstack", run: plans::openstack, seeds: plans::openstacks, words: NETWORK },
    Target {
        name: "router",
        run: netd::hostile::router,
        seeds: router_options,
        words: &[&[25, 3], &[31, 3], &[192, 0]],
    },
    Target { name: "ssh", run: ssh::connection, seeds: ssh::connections, words: ssh::WORDS },
    Target { name: "ssh-certificate", run: ssh::certificate, seeds: ssh::certificates, words: ssh::WORDS },
    Target { name: "ssh-cloud", run: ssh::cloud, seeds: ssh::clouds, words: ssh::CLOUD_WORDS },
    Target { name: "ssh-credentials", run: ssh::credentials, seeds: ssh::tables, words: ssh::KEY_WORDS },
    Target { name: "ssh-ironic", run: ssh::ironic, seeds: ssh::requests, words: ssh::REQUEST_WORDS },
    Target { name: "ssh-keys", run: ssh::keys, seeds: ssh::key_files, words: ssh::KEY_WORDS },
    Target { name: "ssh-proof", run: ssh::proof, seeds: ssh::proofs, words: ssh::WORDS },
    Target {
        name: "time",
        run: netd::hostile::time,
        seeds: times,
        words: &[&[36, 1], &[36, 2], &[0xed, 0, 0, 0]],
    },
    Target { name: "wicked", run: plans::wicked, seeds: plans::wickeds, words: NETWORK },
    Target { name: "yaml", run: plans::yaml, seeds: plans::yamls, words: NETWORK },
];

const WORDS: &[&[u8]] =
    &[b"rescue.", b"ssh_key=", b"\"", b" ", b"=", b"ip=", b"rescue.console=login", b"\\", b"#", b"\n"];

const NETWORK: &[&[u8]] = &[
    b"\n== /etc/",
    b"192.0.2.7/24",
    b"52:54:00:12:34:56",
    b"::1",
    b": {",
    b"[",
    b"\"",
    b"eth0",
    b"4294967295",
    b"default",
    b" via ",
    b"&a ",
    b"*a",
    b"<<: ",
    b"\\\n",
];

fn cmdline(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut words = contract::cmdline::words(&text);
    words.extend(contract::cmdline::file_words(&text));
    for unknown in contract::params::unknown(&words) {
        let _ = unknown.to_string(); // the text is made, and not read
    }
}

fn cmdlines() -> Vec<Vec<u8>> {
    [
        "initrd=initramfs BOOTIF=01-52-54-00-12-34-56 console=ttyS0 ssh_key=ssh-ed25519,AAAA,me",
        "ssh_key=\"ssh-ed25519 AAAA me\" rescue.writeable sshkey=x ip=dhcp nameserver=192.0.2.1",
        "# ours\nrescue.hostname=appended\nrescue.console=login\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn conout(input: &[u8]) {
    let _ = host::conout::parse(input); // any answer is one
}

/// Attributes; a port by ACPI's name, one by its place on PCI.
fn conouts() -> Vec<Vec<u8>> {
    let root = [2, 1, 12, 0, 0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0];
    let function = |device: u8, function: u8| [1, 1, 6, 0, function, device];
    let uart = [3, 14, 19, 0, 0, 0, 0, 0, 0, 0xc2, 1, 0, 0, 0, 0, 0, 8, 1, 1];
    let com = [2, 1, 12, 0, 0xd0, 0x41, 1, 5, 1, 0, 0, 0];
    let named = [2, 2, 19, 0, 0xd0, 0x41, 8, 0x0a, 2, 0, 0, 0, 0xd0, 0x41, 3, 0x0a, 0, 0, 0];
    let end = |sub: u8| [0x7f, sub, 4, 0];
    let first = [&root[..], &function(0x1f, 0), &com, &uart].concat();
    let second = [&named[..], &function(0x1c, 0), &function(0x16, 3), &uart].concat();
    vec![[&[7, 0, 0, 0][..], &first, &end(1), &second, &end(0xff)].concat()]
}

fn offers() -> Vec<Vec<u8>> {
    let end = [255];
    let basic: &[u8] =
        &[53, 1, 2, 54, 4, 10, 0, 2, 2, 51, 4, 0, 1, 0x51, 0x80, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2];
    let dns: &[u8] = &[6, 8, 10, 0, 2, 3, 10, 0, 2, 4, 15, 3, b'l', b'a', b'n', 26, 2, 5, 220, 12, 1, b'h'];
    let search: &[u8] = &[119, 9, 3, b'l', b'a', b'n', 0, 1, b'x', 192, 0];
    let routes: &[u8] = &[121, 14, 24, 192, 0, 2, 10, 0, 2, 2, 0, 10, 0, 2, 2, 0];
    vec![
        [basic, &end].concat(),
        [basic, dns, &end].concat(),
        [basic, dns, search, routes, &end].concat(),
        [&[53, 1, 6, 54, 4, 10, 0, 2, 2, 56, 2, b'n', b'o'], &end[..]].concat(),
    ]
}

/// Options of DHCPv6: an address, name servers, domains, time servers, a refusal.
fn replies() -> Vec<Vec<u8>> {
    let option = |code: u16, value: &[u8]| {
        [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
    };
    let own = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7], &[0, 0, 0, 100, 0, 0, 0, 200]].concat();
    let identity = [&[0, 0, 0, 1, 0, 0, 0, 50, 0, 0, 0, 80][..], &option(5, &own)].concat();
    let address = option(3, &identity);
    let domains = option(24, b"\x07example\x03com\x00");
    let times = option(56, &option(1, &own[..16]));
    vec![
        [&address[..], &option(23, &own[..16]), &domains].concat(),
        [&address[..], &option(14, &[]), &option(31, &own[..16]), &times].concat(),
        option(13, b"\x00\x02no"),
        option(3, &[&[0, 0, 0, 1, 0, 0, 0, 50, 0, 0, 0, 80][..], &option(13, b"\x00\x02no")].concat()),
    ]
}

/// RDNSS and DNSSL (RFC 8106).
fn router_options() -> Vec<Vec<u8>> {
    let server = [&[25, 3, 0, 0, 0, 0, 0x0e, 0x10, 0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[0x53]].concat();
    vec![server, b"\x1f\x03\0\0\0\0\0\x3c\x07example\x03com\0\0\0\0".to_vec()]
}

/// A name server's answer, behind what makes it one to the question that was asked; and resolv.conf and hosts.
fn names(input: &[u8]) {
    const ASKED: &[u8] = b"\x04boot\x07example\x03net\0";
    for kind in [1_u16, 28] {
        // One question, as many answers as there may be.
        let head = [0, 7, 0x81, 0x80, 0, 1, 0, 64, 0, 0, 0, 0];
        let question = [&head[..], ASKED, &kind.to_be_bytes(), &[0, 1]].concat();
        let _ = dns::answer(&[&question, input].concat(), 7, "boot.example.net", kind);
    }
    let _ = dns::answer(input, 0, "", 1);
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = dns::Names::new(text, text);
    }
}

/// Behind the question: `CNAME web.example.net` (whose tail is at byte 17), and addresses of both kinds.
fn answers() -> Vec<Vec<u8>> {
    let alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 6, 3, b'w', b'e', b'b', 0xc0, 17];
    let four = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
    let six = [&[0xc0, 46, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 0x20, 1][..], &[0; 13], &[7]].concat();
    let texts = b"127.0.0.1 localhost\nnameserver 192.0.2.53\nsearch lan. example.net\noptions x # y\n";
    vec![four.to_vec(), [&alias[..], &six].concat(), texts.to_vec()]
}

/// A server's answer (RFC 5905 section 7.3): stratum 1, at one moment.
fn times() -> Vec<Vec<u8>> {
    let stamp = [0xed, 0xcc, 0x51, 0x80, 0, 0, 0, 0];
    let head = [&[36, 1, 6, 0xec][..], &[0; 12], &stamp, &[7; 8]].concat();
    vec![[&head[..], &stamp, &stamp].concat()]
}

/// A disk of zeros but for what the input puts on it: its first byte is the geometry; then come pieces, each an
/// offset (4 bytes, in units of 2 from whichever end), a length (1 byte) and so many bytes.
struct Sparse {
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Sparse {
    fn read(input: &[u8]) -> (Sparse, Geometry) {
        let (first, mut rest) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
        let logical = if first & 1 == 0 { 512 } else { 4096 };
        let size =
            [0, 511, 4096, 64 << 10, 1 << 20, 64 << 20, 3 << 40, u64::MAX >> 1][usize::from(first >> 1 & 7)];
        let mut pieces = Vec::new();
        while let [a, b, c, d, length, more @ ..] = rest {
            let at = u64::from(u32::from_le_bytes([*a, *b, *c, *d & 0x7f])) * 2;
            let at = if d & 0x80 == 0 { at } else { size.saturating_sub(at) };
            let (piece, more) = more.split_at(usize::from(*length).min(more.len()));
            pieces.push((at, piece.to_vec()));
            rest = more;
        }
        (Sparse { size, pieces }, Geometry { logical, physical: logical })
    }

    /// An image of another size: what lies in its last part stays as far from the end.
    fn of(image: &suite::Image) -> Vec<u8> {
        let mut bytes = vec![10]; // 64 MiB
        for (at, piece) in &image.pieces {
            let from_end = image.size - at;
            let is_last = from_end <= LAST && *at > LAST;
            let (units, flag) = if is_last { (from_end / 2, 0x80) } else { (at / 2, 0) };
            let Ok(units) = u32::try_from(units) else { continue };
            let mut place = units.to_le_bytes();
            place[3] |= flag;
            bytes.extend(place);
            bytes.push(piece.len() as u8); // 254 at most
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    fn write(first: u8, pieces: &[(u32, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![first];
        for (at, piece) in pieces {
            for (number, part) in piece.chunks(255).enumerate() {
                bytes.extend(((at + number as u32 * 255) / 2).to_le_bytes());
                bytes.push(part.len() as u8);
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        assert!(length <= 64 << 20, "a parser reads {length} bytes at once");
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(ReadError::PastEnd { offset, length, size: self.size });
        }
        buf.fill(0);
        for (at, piece) in &self.pieces {
            for (number, byte) in piece.iter().enumerate() {
                let place = at.saturating_add(number as u64).checked_sub(offset).map(usize::try_from);
                if let Some(Ok(place)) = place
                    && let Some(target) = buf.get_mut(place)
                {
                    *target = *byte;
                }
            }
        }
        Ok(())
    }
}

/// Superblocks that count from the end lie within.
const LAST: u64 = 512 << 10;

fn disk(input: &[u8]) {
    let (disk, geometry) = Sparse::read(input);
    let _ = examine(&disk, geometry); // any report is one
}

/// One seed for each place and magic of FORMATS, an MBR with an extended partition, md's superblocks, and the images
/// of util-linux's suite.
fn disks() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = ondisk::formats::FORMATS
        .iter()
        .flat_map(|format| format.magics)
        .map(|magic| Sparse::write(10, &[(magic.offset as u32, magic.bytes)]))
        .collect();
    let mut mbr = [0u8; 512];
    mbr[446..462].copy_from_slice(&[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
    mbr[462..478].copy_from_slice(&[0, 0, 0, 0, 5, 0, 0, 0, 0, 16, 0, 0, 0, 64, 0, 0]);
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut ebr = mbr;
    ebr[462..478].copy_from_slice(&[0, 0, 0, 0, 5, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
    seeds.push(Sparse::write(10, &[(0, &mbr), (4096 * 512, &ebr), (6144 * 512, &ebr)]));
    // Version 1.2 at 4 KiB: magic, major version, then level, layout, size and so on as they may come.
    let mut md = [0u8; 256];
    md[..8].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]);
    md[72..76].copy_from_slice(&1i32.to_le_bytes());
    md[92..96].copy_from_slice(&2u32.to_le_bytes());
    md[144..152].copy_from_slice(&8u64.to_le_bytes());
    seeds.push(Sparse::write(10, &[(4096, &md)]));
    seeds.push(Sparse::write(10, &[(0, &md)]));
    match suite::images() {
        Ok(images) => seeds.extend(images.iter().map(Sparse::of)),
        Err(why) => eprintln!("disk: without real superblocks: {why}"),
    }
    seeds
}

/// A GPT whose checksums are put right after the input was laid on it, or nothing behind them would be looked
/// at. The first byte as for a disk; then the header's fields from its length on, then entries.
fn gpt(input: &[u8]) {
    let (first, fields) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
    let (mut disk, geometry) = Sparse::read(&[first]);
    let sector = u64::from(geometry.logical);
    let (fields, entries) = fields.split_at(fields.len().min(512 - 12));
    let mut header = [&b"EFI PART\0\0\x01\0"[..], fields].concat();
    header.resize(512, 0);
    let number = |header: &[u8], at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    // The table is where the header says, in so many bytes as it says, the rest of them zero.
    let size = u64::from(number(&header, 80)) * u64::from(number(&header, 84));
    if size <= 1 << 20 {
        let mut table = entries.to_vec();
        table.resize(size as usize, 0);
        header[88..92].copy_from_slice(&crc32fast::hash(&table).to_le_bytes());
    }
    let length = (number(&header, 12) as usize).min(512);
    header[16..20].fill(0);
    let checksum = crc32fast::hash(&header[..length]).to_le_bytes();
    header[16..20].copy_from_slice(&checksum);
    let table = u64::from_le_bytes([72, 73, 74, 75, 76, 77, 78, 79].map(|at: usize| header[at]));
    let mut mbr = vec![0u8; 512];
    mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.pieces = vec![(0, mbr), (sector, header), (table.saturating_mul(sector), entries.to_vec())];
    let _ = examine(&disk, geometry); // any report is one
}

fn gpts() -> Vec<Vec<u8>> {
    [(10u8, 512u64), (11, 4096)]
        .map(|(first, sector)| {
            let last = (64 << 20) / sector - 1;
            let mut bytes = vec![first];
            bytes.extend(92u32.to_le_bytes());
            bytes.extend([0; 8]);
            for place in [1, last, 34, last - 33] {
                bytes.extend(place.to_le_bytes());
            }
            bytes.extend([0x11; 16]);
            bytes.extend(2u64.to_le_bytes());
            bytes.extend(128u32.to_le_bytes());
            bytes.extend(128u32.to_le_bytes());
            bytes.resize(1 + 512 - 12, 0);
            for partition in 0..2u64 {
                bytes.extend([0xaf; 16]);
                bytes.extend([partition as u8 + 1; 16]);
                bytes.extend((2048 + partition * 64).to_le_bytes());
                bytes.extend((2048 + partition * 64 + 63).to_le_bytes());
                bytes.extend([0; 8]);
                bytes.extend([b'n', 0].repeat(36));
            }
            bytes
        })
        .into()
}

/// The input is the JSON area of both headers, whose checksum nobody checks, since its kind is none that is known.
fn luks(input: &[u8]) {
    let header = |at: u64, magic: &[u8]| {
        let mut header = vec![0u8; 512];
        header[..6].copy_from_slice(magic);
        header[7] = 2;
        header[8..16].copy_from_slice(&0x4000u64.to_be_bytes());
        header[72..76].copy_from_slice(b"none");
        header[256..264].copy_from_slice(&at.to_be_bytes());
        header
    };
    let json = input[..input.len().min(0x3000)].to_vec();
    let pieces = vec![
        (0, header(0, b"LUKS\xba\xbe")),
        (4096, json.clone()),
        (0x4000, header(0x4000, b"SKUL\xba\xbe")),
        (0x5000, json),
    ];
    let _ = examine(&Sparse { size: 1 << 20, pieces }, Geometry::default()); // any report is one
}

fn luks_areas() -> Vec<Vec<u8>> {
    [
        r#"{"keyslots":{"0":{"type":"luks2","key_size":64,"kdf":{"type":"argon2id","time":4,"memory":32768,"cpus":1}}},
           "tokens":{"0":{"type":"clevis"}},"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic",
           "encryption":"aes-xts-plain64","sector_size":512}},"digests":{},"config":{"requirements":{"mandatory":["x"]}}}"#,
        r#"{"keyslots":{"1":{"type":"luks2","priority":0,"kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000}},
           "2":{"type":"reencrypt"}},"segments":{},"digests":0}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// The text of a metadata area: whatever is parsed is judged as a group too.
fn lvm(input: &[u8]) {
    if let Ok(text) = ondisk::volume::lvm::text::parse(input) {
        let _ = ondisk::volume::lvm::group::group(&text); // any answer is one
    }
}

fn lvm_texts() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../tools/ondisk/src/volume/lvm/kinds.txt").to_vec()]
}
