//! Images of formats whose makers are not at hand, as the bytes that a probe looks at.

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
    vec![
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
        ("ZFS", 64, vec![at(16 << 10, &list)]),
        ("ZFS's last label", 65, vec![at(-(240 << 10), &list)]),
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
    ]
}

/// Over what stands behind it in the label's sector.
fn lvm_sum() -> u32 {
    let mut bytes = vec![0; 492];
    bytes[0] = 32;
    bytes[4..44].copy_from_slice(b"LVM2 001abcdefghijklmnopqrstuvwxyzABCDEF");
    let mut sum = 0xf597_a6cf_u32;
    for byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    sum
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
