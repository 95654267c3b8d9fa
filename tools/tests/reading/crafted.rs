//! Images of formats whose makers are not at hand, as the bytes that a probe looks at.

use sha2::Digest;

/// Formats whose makers need a block device, or are not in Debian: a size in MiB, and bytes at their offsets. A
/// negative offset counts from the end.
pub type Crafted = (&'static str, u64, Vec<(i64, Vec<u8>)>);

/// `text` is asked for each text that the maker lets a person choose, and gives another one of the same length.
pub fn crafted(text: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<Crafted> {
    let at = |offset: i64, bytes: &[u8]| (offset, bytes.to_vec());
    let words = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
    let pair = |name: &str, kind: u32, value: &[u8]| {
        let name_length = name.len().next_multiple_of(4);
        let value_length = value.len().next_multiple_of(4);
        let mut out = words(&[(20 + name_length + value_length) as u32, 0, name.len() as u32]);
        out.extend(name.bytes());
        out.resize(12 + name_length, 0);
        out.extend(words(&[kind, 1]));
        out.extend(value);
        out.resize(20 + name_length + value_length, 0);
        out
    };
    let number = |name: &str, value: u64| pair(name, 8, &value.to_be_bytes());
    let mut list = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    list.extend(number("version", 5000));
    list.extend(pair("name", 9, &[b"\0\0\0\x04", &text(b"tank")[..]].concat()));
    list.extend(
        [number("state", 0), number("txg", 4), number("pool_guid", 1 << 60), number("guid", 456)].concat(),
    );
    list.extend([pair("vdev_tree", 19, &[0; 8]), number("guid", 789), number("ashift", 12)].concat());
    // It ends with a magic and its SHA-256, which covers where it lies.
    let sealed = |place: u64| {
        let mut label = list.clone();
        label.resize(0x1c000 - 40, 0);
        label.extend([0x0210_da7a_b10c_7a11_u64, place, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
        let sum = sha2::Sha256::digest(&label);
        label.truncate(0x1c000 - 32);
        label.extend(sum.chunks(8).flat_map(|word| word.iter().rev().copied()));
        label
    };
    let mut all = vec![
        (
            "LVM",
            64,
            vec![
                at(512, b"LABELONE\x01\0\0\0\0\0\0\0"),
                at(528, &lvm_sum().to_le_bytes()),
                at(532, &[32, 0, 0, 0]),
                at(536, b"LVM2 001abcdefghijklmnopqrstuvwxyzABCDEF"),
            ],
        ),
        (
            "a suspended system",
            16,
            vec![at(1024, &[1, 0, 0, 0, 0xff, 0xf]), at(1036, &[7; 16]), at(0xff6, b"S1SUSPEND")],
        ),
        ("ZFS", 64, vec![at(16 << 10, &sealed(16 << 10))]),
        ("ZFS's last label", 65, vec![at(-(240 << 10), &sealed((65 << 20) - (240 << 10)))]),
        (
            "ReiserFS",
            1,
            vec![
                at(65536, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 18]),
                at(65536 + 44, &[0, 16]),
                at(65536 + 52, b"ReIsEr2Fs"),
                at(65536 + 84, &[5; 16]),
                at(65536 + 100, &text(b"mail ")),
            ],
        ),
        (
            "HFS+",
            2,
            vec![
                at(1024, b"H+\0\x04\0\0\x01\0"),
                at(1064, &words(&[4096, 256])),
                at(1024 + 104, &[1, 2, 3, 4, 5, 6, 7, 8]),
                at(1024 + 288, &words(&[10, 8])),
                at(40960 + 20, &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x10, 0]),
                at(45056 + 8, &[0xff, 1, 0, 1, 0, 0, 0, 10, 0, 0, 0, 1, 0, 3, 0, b'M', 0, b'a', 0, b'c']),
            ],
        ),
        (
            "HFS",
            2,
            vec![
                at(1024, b"BD"),
                at(1044, &words(&[4096])),
                at(1060, &[&[4], &text(b"Disk")[..]].concat()),
                at(1140, &[9; 8]),
            ],
        ),
        (
            "DRBD",
            16,
            vec![
                at(-4096 + 60, &words(&[0x8374_026d])),
                at(-4096 + 48, &[0, 0, 0, 0, 0, 0, 0xab, 0xcd]),
                at(-4096 + 80, &words(&[4096])),
            ],
        ),
        (
            "DDF",
            16,
            vec![at(-512, &words(&[0xde11_de11])), at(-504, &text(b"LSI     1234567890abcdef01.02.00"))],
        ),
        ("BlueStore", 16, vec![at(0, b"bluestore block device\n")]),
        ("VDO", 16, vec![at(0, b"dmvdo001"), at(40, &[6; 16])]),
        ("ReFS", 16, vec![at(3, b"ReFS\0")]),
        (
            "VMFS",
            16,
            vec![
                at(2 << 20, &[0x5e, 0xf1, 0xab, 0x2f]),
                at((2 << 20) + 8, &[5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
                at((2 << 20) + 29, &text(b"store")),
            ],
        ),
        (
            "VMFS's device",
            16,
            vec![
                at(1 << 20, &[0x0d, 0xd0, 0x01, 0xc0, 5]),
                at((1 << 20) + 130, &[3; 16]),
                at((1 << 20) + 532, &text(b"4a5b6c7d-01234567-89ab-cdef01234567")),
            ],
        ),
        (
            "bcachefs",
            16,
            vec![
                at(4096 + 16, &[4, 4]),
                at(4096 + 24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
                at(4096 + 56, &[5; 16]),
                at(4096 + 72, &text(b"big")),
                at(4096 + 104, &[8]),
                at(4096 + 120, &[8, 0, 0, 1, 8]),
                at(4096 + 257, &[5]),
                at(4096 + 752, &[8, 0, 0, 0, 1]),
                at(4096 + 760, &[6; 16]),
                at(4096 + 776, &[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]),
            ],
        ),
        ("squashfs 3", 1, vec![at(0, b"sqsh"), at(28, &[0, 3, 0, 1])]),
        (
            "BitLocker",
            16,
            vec![
                at(0, b"\xeb\x58\x90-FVE-FS-"),
                at(176, &[0, 0x40]),
                at(0x4000, b"-FVE-FS-\0\0\x02"),
                at(0x4040, &[80]),
                at(0x4050, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
                at(0x4070, &[16, 0, 7, 0, 2, 0, 0, 0, b'C', 0, b':', 0]),
            ],
        ),
        (
            "a protective MBR without a GPT",
            8,
            vec![
                at(446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0x3f]),
                at(510, &[0x55, 0xaa]),
            ],
        ),
        ("an MBR without partitions", 8, vec![at(440, &[4, 3, 2, 1]), at(510, &[0x55, 0xaa])]),
        (
            "LUKS over swap",
            16,
            vec![
                at(0, b"LUKS\xba\xbe\0\x01"),
                at(168, &text(b"1a2b3c4d-0000-4000-8000-00000000abcd")),
                at(1024, &[1, 0, 0, 0, 0xff, 0xf]),
                at(0xff6, b"SWAPSPACE2"),
            ],
        ),
        (
            "md 0.90 with swap in it",
            16,
            vec![at(-65536, &md_0()), at(1024, &[1, 0, 0, 0, 0xff, 0xe]), at(0xff6, b"SWAPSPACE2")],
        ),
        ("md 0.90", 16, vec![at(-65536, &md_0())]),
        ("FAT with a label of code page 850", 1, fat_850()),
    ];
    all.extend(rare(text));
    all
}

/// A reflected CRC with neither end inverted.
pub fn crc(polynomial: u32, seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { polynomial } else { 0 })
    })
}

pub const CRC32: u32 = 0xedb8_8320;
const CRC32C: u32 = 0x82f6_3b78;

/// Over what stands behind it in the label's sector.
fn lvm_sum() -> u32 {
    let mut bytes = vec![0; 492];
    bytes[0] = 32;
    bytes[4..44].copy_from_slice(b"LVM2 001abcdefghijklmnopqrstuvwxyzABCDEF");
    crc(CRC32, 0xf597_a6cf, &bytes)
}

/// So many bytes, with these at their places.
fn laid(length: usize, pieces: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; length];
    pieces.iter().for_each(|(at, piece)| bytes[*at..at + piece.len()].copy_from_slice(piece));
    bytes
}

/// File systems that few have, and members of firmware RAID.
fn rare(text: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<Crafted> {
    let at = |offset: i64, bytes: &[u8]| (offset, bytes.to_vec());
    let summed = |mut bytes: Vec<u8>, place: usize, sum: u32| {
        bytes[place..place + 4].copy_from_slice(&sum.to_le_bytes());
        bytes
    };
    let romfs = laid(512, &[(0, b"-rom1fs-\0\0\x04\0"), (16, &text(b"boot"))]);
    let words = romfs.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
    let rest = words.fold(0, u32::wrapping_add).wrapping_neg().to_be_bytes();
    let ubi = laid(60, &[(0, b"UBI#\x01"), (24, &[0, 0, 4, 210])]);
    let ubi_sum = crc(CRC32, u32::MAX, &ubi).to_be_bytes();
    let node = laid(
        4096,
        &[(0, &[0x31, 0x18, 0x10, 0x06]), (20, &[6]), (36, &[0, 0, 2, 0, 100]), (80, &[4]), (108, &[2; 16])],
    );
    let ubifs_sum = crc(CRC32, u32::MAX, &node[8..]);
    let mpool = laid(62, &[(0, b"mpoolDev"), (8, &text(b"mp1")), (40, &[6; 16])]);
    let mpool_sum = !crc(CRC32C, u32::MAX, &mpool);
    let scoutfs = |flags: u8| {
        let block = laid(
            4096,
            &[(4, &[0x8b, 0x42, 0x3c, 0x10]), (8, &[0xab]), (40, &[1]), (48, &[flags]), (56, &[8; 16])],
        );
        let sum = crc(CRC32C, u32::MAX, &block[4..]);
        summed(block, 0, sum)
    };
    let vault = laid(
        512,
        &[
            (4, &[0xff; 4]),
            (8, &[1, 0, 16]),
            (88, b"CS\x01"),
            (168, &[16, 0, 0, 0, 2]),
            (176, &[5; 16]),
            (304, &[3; 16]),
        ],
    );
    let vault_sum = crc(CRC32C, u32::MAX, &vault[8..]);
    let silicon = laid(318, &[(0x63, &[0x2f]), (0x108, &[1, 0, 6])]);
    let silicon_words = silicon.chunks(2).map(|word| u16::from_le_bytes(word.try_into().unwrap()));
    let silicon_sum = silicon_words.fold(0, u16::wrapping_add).wrapping_neg().to_le_bytes();
    let nvidia = laid(120, &[(0, b"NVIDIA  \x1e"), (16, &[100])]);
    let nvidia_words = nvidia.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let nvidia_sum = nvidia_words.fold(0, u32::wrapping_add).wrapping_neg();
    let ufs = |magic: &[u8]| {
        laid(
            1376,
            &[
                (52, &[0, 16]),
                (144, &[1, 2, 3, 4, 5, 6, 7, 8]),
                (209, &[1]),
                (680, &text(b"home")),
                (1372, magic),
            ],
        )
    };
    let gfs = |format: [u8; 8], block_size: u8| {
        laid(
            272,
            &[
                (0, &[1, 0x16, 0x19, 0x70, 0, 0, 0, 1]),
                (19, &[100]),
                (24, &format),
                (38, &[block_size]),
                (160, &text(b"web:files")),
                (256, &[7; 16]),
            ],
        )
    };
    let befs = laid(
        132,
        &[
            (0, &text(b"Haiku")),
            (32, b"1SFBEGIB\0\x08\0\0\x0b"),
            (49, &[4]),
            (68, &[0x31, 0x10, 0x12, 0xdd]),
            (76, &[13]),
            (112, &[0x0e, 0x83, 0xb6, 0x15]),
            (120, &[20, 0, 1]),
        ],
    );
    let folder = laid(
        2048,
        &[
            (0, &[0xd9, 0x0a, 0xbe, 0x3b]),
            (64, &[0, 8]),
            (232, b"GLLU\x0c\0\x08\0be:volume_id\0\0\0\xcd\xab"),
        ],
    );
    let exfs = laid(
        128,
        &[
            (0, b"EXFS\0\0\x10\0\0\0\0\0\0\0\x01\0"),
            (32, &[4; 16]),
            (80, &[0, 0, 0, 1, 0, 0, 0, 64, 0, 0, 0, 4]),
            (102, &[2, 0, 1, 0, 0, 16]),
            (108, &text(b"scratch")),
            (120, &[12, 9, 8, 4]),
        ],
    );
    let jmicron = u16::from_le_bytes(*b"JM").wrapping_add(0x102).wrapping_neg().to_le_bytes();
    vec![
        ("romfs", 1, vec![(0, romfs), at(12, &rest)]),
        ("UBI", 16, vec![(0, ubi), at(60, &ubi_sum)]),
        ("UBIFS", 16, vec![(0, summed(node, 4, ubifs_sum))]),
        ("mpool", 16, vec![(0, mpool), at(62, &mpool_sum.to_le_bytes())]),
        ("scoutfs's metadata", 16, vec![(65536, scoutfs(1))]),
        ("scoutfs's data", 16, vec![(65536, scoutfs(0))]),
        ("FileVault 2", 16, vec![(0, summed(vault, 0, vault_sum))]),
        ("UFS 2", 16, vec![(65536, ufs(&[0x19, 0x01, 0x54, 0x19]))]),
        ("UFS 1, big-endian", 16, vec![(8192, ufs(&[0, 1, 0x19, 0x54]))]),
        ("GFS", 64, vec![(65536, gfs([0, 0, 5, 29, 0, 0, 5, 121], 0))]),
        ("GFS2", 64, vec![(65536, gfs([0, 0, 7, 9, 0, 0, 7, 108], 16))]),
        ("BeFS", 2, vec![(512, befs), (40960, folder)]),
        ("EXFS", 1, vec![(0, exfs)]),
        (
            "HPFS",
            2,
            vec![
                at(38, b"\x28\x01\x02\x03\x04"),
                at(43, &text(b"WARP 4")),
                at(54, b"HPFS    "),
                // Code, where a table would have a flag.
                at(446, &[0x33]),
                at(510, &[0x55, 0xaa]),
                at(0x2000, &[0x49, 0xe8, 0x95, 0xf9, 0, 0, 0, 0, 2]),
                at(0x2200, &[0x49, 0x18, 0x91, 0xf9]),
            ],
        ),
        ("VxFS", 2, vec![at(1024, &[0xf5, 0xfc, 1, 0xa5, 7]), at(1056, &[0, 4, 0, 0, 0, 8])]),
        ("VxFS, big-endian", 2, vec![at(8192, &[0xa5, 1, 0xfc, 0xf5, 0, 0, 0, 7]), at(8224, &[0, 0, 4, 0])]),
        ("System V", 2, vec![at(512 + 440, &text(b"root")), at(512 + 504, &[0x20, 0x7e, 0x18, 0xfd, 2])]),
        (
            "OCFS2",
            16,
            vec![
                at(8192, b"OCFSV2"),
                at(8212, &[16]),
                at(8192 + 194, &[90]),
                at(8192 + 248, &[12, 0, 0, 0, 20]),
                at(8192 + 272, &text(b"rac 1")),
                at(8192 + 336, &[5; 16]),
            ],
        ),
        ("Oracle's ASM", 16, vec![at(32, b"ORCLDISK"), at(40, &text(b"DATA01"))]),
        ("NetWare", 16, vec![at(4096, b"SPB5\0\0\0\0\x08\0\x05"), at(4096 + 348, &[0x11; 16])]),
        ("BFS", 1, vec![at(0, &[0xce, 0xfa, 0xad, 0x1b, 0, 16, 0, 0, 0xff, 0xff, 0xf])]),
        (
            "drbdmanage",
            16,
            vec![
                at(0, b"$DRBDmgr=q=0123456789abcdef0123456789ABCDEF\n"),
                at(4096, &[0x1a, 0xdb, 0x98, 0xa2, 0, 0, 0, 3]),
            ],
        ),
        ("the log of DRBD's proxy", 16, vec![at(0, b"DRBDdlh*\x02"), at(16, &[1; 16])]),
        ("LSI", 16, vec![at(-512, b"$XIDE$")]),
        ("VIA", 16, vec![at(-512, &[0x55, 0xaa, 1, 7]), at(-462, &[7])]),
        ("Silicon Image", 16, vec![(-512, silicon), at(-194, &silicon_sum)]),
        ("NVIDIA", 16, vec![(-1024, nvidia), at(-1012, &nvidia_sum.to_le_bytes())]),
        ("Promise", 16, vec![at(-63 * 512, b"Promise Technology, Inc.")]),
        ("HighPoint 37x", 16, vec![at(4640, &[0xf0, 0x16, 0x78, 0x5a])]),
        ("HighPoint 45x", 16, vec![at(-11 * 512, &[0xf3, 0x16, 0x78, 0x5a])]),
        ("Adaptec", 16, vec![at(-512, &[0x37, 0xfc, 0x4d, 0x1e]), at(-512 + 63, &[8]), at(-256, b"DPTM")]),
        ("JMicron", 16, vec![at(-512, b"JM\x02\x01"), at(-508, &jmicron)]),
    ]
}

/// A member of a raid1 of two disks.
fn md_0() -> Vec<u8> {
    let mut words = vec![0_u32; 1024];
    words[..16].copy_from_slice(&[
        0xa92b_4efc,
        0,
        90,
        3,
        0,
        0x1111_1111,
        1,
        1,
        15_000,
        2,
        2,
        0,
        0,
        0x2222_2222,
        3,
        4,
    ]);
    let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
    words[38] = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn fat_850() -> Vec<(i64, Vec<u8>)> {
    vec![
        (0, vec![0xeb, 0x3c, 0x90]),
        (0x0b, vec![0, 2, 4, 1, 0, 2, 0, 2, 0, 8, 0xf8, 2, 0]),
        (0x26, b"\x29\x01\x02\x03\x04SCHL\x9aSSEL ".to_vec()),
        (0x36, b"FAT12   ".to_vec()),
        (0x1fe, vec![0x55, 0xaa]),
        (5 * 512, b"SCHL\x9aSSEL  \x08".to_vec()),
    ]
}
