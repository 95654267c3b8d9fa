use super::*;
use proptest::prelude::*;

const ID: &str = "abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF";
/// Where the first metadata area lies, and its ring.
const AREA: usize = 4096;
const RING: usize = 64 << 10;

fn seal(device: &mut [u8], sector: usize) {
    let label = &mut device[sector * 512..][..512];
    let sum = crc32_le(SEED, &label[20..]);
    label[16..20].copy_from_slice(&sum.to_le_bytes());
}

fn sample(sector: usize) -> Vec<u8> {
    let mut device = vec![0; 1 << 20];
    let label = &mut device[sector * 512..][..512];
    label[..8].copy_from_slice(LABEL);
    label[8] = sector as u8;
    label[20] = 32;
    label[24..32].copy_from_slice(TYPE);
    label[32..64].copy_from_slice(b"abcdefghijklmnopqrstuvwxyzABCDEF");
    label[64..72].copy_from_slice(&(1_u64 << 20).to_le_bytes());
    seal(&mut device, sector);
    device
}

/// With one metadata area that holds the text, beginning at a place in the ring.
fn with_text(text: &str, offset: usize) -> Vec<u8> {
    let mut device = sample(1);
    let mut put = |at: usize, value: u64| device[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let lists = 512 + 72;
    put(lists, 512 << 10);
    put(lists + 32, AREA as u64);
    put(lists + 40, RING as u64);
    put(lists + 64, 1 | (u64::from(USED) << 32));
    seal(&mut device, 1);
    let area = &mut device[AREA..][..RING];
    area[4..20].copy_from_slice(AREA_MAGIC);
    area[20] = 1;
    area[24..32].copy_from_slice(&(AREA as u64).to_le_bytes());
    area[32..40].copy_from_slice(&(RING as u64).to_le_bytes());
    area[40..48].copy_from_slice(&(offset as u64).to_le_bytes());
    area[48..56].copy_from_slice(&(text.len() as u64).to_le_bytes());
    area[56..60].copy_from_slice(&crc32_le(SEED, text.as_bytes()).to_le_bytes());
    for (number, byte) in text.bytes().enumerate() {
        let at = offset + number;
        area[if at < RING { at } else { at - RING + 512 }] = byte;
    }
    seal_area(&mut device);
    device
}

fn seal_area(device: &mut [u8]) {
    let sum = crc32_le(SEED, &device[AREA + 4..AREA + 512]);
    device[AREA..AREA + 4].copy_from_slice(&sum.to_le_bytes());
}

fn look(device: &dyn ReadAt) -> Option<Signature> {
    let has = |magic: &&Magic| device.bytes(magic.offset, 8).unwrap() == magic.bytes;
    FORMAT.magics.iter().filter(has).find_map(|magic| probe(device, Some(magic)))
}

fn volume(signature: &Signature) -> &PhysicalVolume {
    match &signature.volume {
        Some(Volume::Lvm(volume)) => volume,
        other => panic!("{other:?}"),
    }
}

fn reason(device: &[u8]) -> String {
    match look(&device.to_vec()).unwrap().health {
        Health::Damaged(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_label_in_any_of_the_first_four_sectors_is_found() {
    for sector in 0..4 {
        let found = look(&sample(sector)).unwrap();
        assert_eq!(found.uuid.as_deref(), Some(ID));
        assert_eq!((found.version.as_deref(), &found.health), (Some("LVM2 001"), &Health::Sound));
        let volume = volume(&found);
        assert_eq!((&volume.group, volume.used, volume.areas.len()), (&None, false, 0));
    }
    assert!(look(&sample(4)).is_none());
}

#[test]
fn one_changed_field_is_damage_with_its_reason() {
    let mut device = sample(1);
    device[512 + 40] = b'x';
    assert!(reason(&device).starts_with("the label's checksum "));
    device[512 + 8] = 2;
    assert_eq!(reason(&device), "the label in sector 1 says that it lies in sector 2");
    device[512] = 0;
    assert!(look(&device).is_none());
}

#[test]
fn the_committed_text_is_read_also_where_it_runs_over_the_rings_end() {
    let text = include_str!("kinds.txt");
    for offset in [512, RING - 700, RING - 1] {
        let found = look(&with_text(text, offset)).unwrap();
        assert_eq!(found.health, Health::Sound, "{offset}");
        let volume = volume(&found);
        assert!(volume.used);
        let group = volume.group.as_ref().unwrap();
        assert_eq!(group.name, "kinds");
        assert_eq!(volume.areas[0].state, AreaState::Sound(group.seqno));
    }
}

#[test]
fn what_is_wrong_with_an_area_is_told() {
    let text = include_str!("kinds.txt");
    type Change = fn(&mut Vec<u8>);
    let cases: &[(Change, &str)] = &[
        (|device| device[AREA + 4] = b'x', "its header is gone"),
        (|device| device[AREA + 60] = 2, "its header's checksum"),
        (|device| device[AREA + 600] ^= 1, "its text's checksum"),
        (
            |device| {
                device[AREA + 32] = 1;
                seal_area(device);
            },
            "its header is of another place or version",
        ),
        (
            |device| {
                device[AREA + 54] = 1;
                seal_area(device);
            },
            "its text of ",
        ),
    ];
    for (change, want) in cases {
        let mut device = with_text(text, 512);
        change(&mut device);
        let reason = reason(&device);
        assert!(reason.starts_with(&format!("its metadata area at 4096: {want}")), "{reason}");
    }
}

#[test]
fn an_area_that_is_ignored_or_empty_holds_no_group_and_is_no_damage() {
    for (at, value, want) in [(60, 1_u64, AreaState::Ignored), (40, 0, AreaState::Empty)] {
        let mut device = with_text(include_str!("kinds.txt"), 512);
        let length = if at == 60 { 4 } else { 8 };
        device[AREA + at..AREA + at + length].copy_from_slice(&value.to_le_bytes()[..length]);
        seal_area(&mut device);
        let found = look(&device).unwrap();
        assert_eq!((&found.health, &volume(&found).areas[0].state), (&Health::Sound, &want));
        assert_eq!(volume(&found).group, None);
    }
}

#[test]
fn every_kind_of_lv_of_a_real_group_is_named() {
    let found = look(&with_text(include_str!("kinds.txt"), 512)).unwrap();
    let group = volume(&found).group.clone().unwrap();
    let kinds = |name: &str| -> Vec<String> {
        let lv = group.lv(name).unwrap_or_else(|| panic!("{name}"));
        lv.segments.iter().map(|segment| segment.kind.name().to_string()).collect()
    };
    let cases = [
        ("linear", "linear"),
        ("striped", "striped"),
        ("raid1", "raid1"),
        ("mirror", "mirror"),
        ("origin", "linear"),
        ("thin", "thin"),
        ("pool", "thin-pool"),
        ("cached", "cache"),
        ("writecached", "writecache"),
        ("integrity", "raid1"),
        ("integrity_rimage_0", "integrity"),
        ("snapshot0", "snapshot"),
    ];
    for (name, want) in cases {
        assert_eq!(kinds(name), [want], "{name}");
    }
    assert_eq!((group.pvs.len(), group.extent, group.exported), (2, 1 << 20, false));
    let areas = |name: &str| group.lv(name).unwrap().segments[0].on.clone();
    assert!(matches!(&areas("striped")[..], [Area::Pv(a, _), Area::Pv(b, _)] if a == "pv0" && b == "pv1"));
    assert_eq!(areas("thin"), [Area::Lv("pool".to_string())]);
    let raid: Vec<String> = areas("raid1").iter().map(|area| area.name().to_string()).collect();
    assert_eq!(raid, ["raid1_rmeta_0", "raid1_rimage_0", "raid1_rmeta_1", "raid1_rimage_1"]);
    let snapshot: Vec<String> = areas("snapshot0").iter().map(|area| area.name().to_string()).collect();
    assert_eq!(snapshot, ["origin", "snap"]);
    assert!(group.lv("linear").unwrap().visible && !group.lv("pool_tmeta").unwrap().visible);
}

/// `snap` begins in extent 65 of pv0: at 66 MiB.
#[test]
fn a_snapshots_store_is_known_by_the_header_that_its_first_activation_writes() {
    let (pv0, pv1) = ("bLHjdZ-rEy5-n2rL-OCyL-iDEY-XgCT-yRDtOQ", "HhaIkp-iaag-8hdf-O3kz-RLFc-TIix-GVoSJd");
    let text = include_str!("kinds.txt");
    let sound = with_text(text, 512);
    let stores = |pv: &str, length: usize, header: &[u8]| {
        let mut device = sound.clone();
        let plain: Vec<u8> = pv.bytes().filter(|byte| *byte != b'-').collect();
        device[512 + 32..512 + 64].copy_from_slice(&plain);
        seal(&mut device, 1);
        device.resize(length, 0);
        if length > 66 << 20 {
            device[66 << 20..(66 << 20) + header.len()].copy_from_slice(header);
        }
        volume(&look(&device).unwrap()).stores.clone()
    };
    assert_eq!(stores(pv0, 67 << 20, b"SnAp\x01\0\0\0"), ["snap"]);
    let none: &[(&str, usize, &[u8])] = &[
        // LVM zeroes it; the kernel takes that for a new one.
        (pv0, 67 << 20, &[0; 8]),
        (pv0, 67 << 20, b"SnAq"),
        // It cannot be read, and is another PV's.
        (pv0, 66 << 20, b""),
        (pv1, 67 << 20, b"SnAp"),
    ];
    for (pv, length, header) in none {
        assert!(stores(pv, *length, header).is_empty(), "{pv} {length} {header:?}");
    }
}

#[test]
fn names_that_lvm_would_not_take_are_not_believed() {
    let text = include_str!("kinds.txt");
    for name in ["../../etc", "a b", "-rf", ".."] {
        let text = text.replacen("kinds {", &format!("\"{name}\" {{"), 1);
        let found = look(&with_text(&text, 512)).unwrap();
        assert_eq!(volume(&found).group, None, "{name}");
        assert!(matches!(found.health, Health::Damaged(_)), "{name}");
    }
}

/// In the words of lib/vdo/vdo.c of LVM 2.03.31.
#[test]
fn a_vdo_volume_lies_on_its_pool_and_that_on_its_data() {
    let segment = |fields: &str| format!("segment1 {{ start_extent = 0 extent_count = 4 {fields} }}");
    let lv = |name: &str, fields: &str| {
        format!(
            "{name} {{ id = \"{ID}\" status = [\"READ\", \"VISIBLE\"] segment_count = 1 {} }}\n",
            segment(fields)
        )
    };
    let lvs = [
        lv("dedup", "type = \"vdo\" vdo_pool = \"vpool\" vdo_offset = 0"),
        lv(
            "vpool",
            "type = \"vdo-pool\" data = \"vpool_vdata\" header_size = 512 virtual_extents = 4 \
             block_map_cache_size_mb = 128 index_memory_size_mb = 256",
        ),
        lv("vpool_vdata", "type = \"striped\" stripe_count = 1 stripes = [\"pv0\", 0]"),
    ];
    let text = format!(
        "vg {{ id = \"{ID}\" seqno = 1 extent_size = 8192 status = [\"READ\"] physical_volumes {{ pv0 {{ id = \"{ID}\" \
         pe_start = 2048 pe_count = 20 }} }} logical_volumes {{ {} }} }}\n\
         contents = \"Text Format Volume Group\" version = 1",
        lvs.concat()
    );
    let group = group::group(&text::parse(text.as_bytes()).unwrap()).unwrap();
    let seen: Vec<(&str, &str, &str)> = group
        .lvs
        .iter()
        .map(|lv| (lv.name.as_str(), lv.segments[0].kind.name(), lv.segments[0].on[0].name()))
        .collect();
    assert_eq!(
        seen,
        [("dedup", "vdo", "vpool"), ("vpool", "vdo-pool", "vpool_vdata"), ("vpool_vdata", "linear", "pv0")]
    );
    // 38 MB, 115 % of the map's cache, the index.
    let memory: Vec<u64> = group.lvs.iter().map(|lv| lv.segments[0].memory >> 20).collect();
    assert_eq!(memory, [0, 38 + 147 + 256, 0]);
}

#[test]
fn a_group_of_very_many_volumes_is_cut_and_says_so() {
    let lv = |n: usize| {
        format!(
            "lv{n} {{ id = \"{ID}\" status = [\"READ\"] segment1 {{ start_extent = 0 extent_count = 1 type = \"striped\" \
             stripe_count = 1 stripes = [\"pv0\", {n}] }} }}\n"
        )
    };
    let many: String = (0..20_000).map(lv).collect();
    let text = format!(
        "vg {{ id = \"{ID}\" seqno = 1 extent_size = 8192 status = [\"READ\"] physical_volumes {{ pv0 {{ id = \"{ID}\" \
         pe_start = 2048 pe_count = 20000 }} }} logical_volumes {{ {many} }} }}\n\
         contents = \"Text Format Volume Group\" version = 1"
    );
    let group = group::group(&text::parse(text.as_bytes()).unwrap()).unwrap();
    assert!(group.truncated && group.lvs.len() > 5000, "{}", group.lvs.len());
    // What is no entry takes less than 1000.
    assert!(serde_json::to_vec(&group).unwrap().len() < group::BUDGET + 1000);
}

/// A pool with so many snapshots of one volume, in the words and the order in which LVM 2.03 writes them to a disk.
fn snapshots(count: usize) -> String {
    let lv = |name: &str, status: &str, segment: &str| {
        format!(
            "{name} {{\nid = \"{ID}\"\nstatus = [\"READ\", \"WRITE\"{status}]\nflags = []\ncreation_time = 1700000000\n\
             creation_host = \"server\"\nsegment_count = 1\n\nsegment1 {{\nstart_extent = 0\nextent_count = 25\n\n{segment}\n}}\n}}\n"
        )
    };
    let thin = |name: &str, of: &str| {
        let segment =
            format!("type = \"thin\"\nthin_pool = \"pool\"\ntransaction_id = 1\ndevice_id = 2\n{of}");
        lv(name, ", \"VISIBLE\"", &segment)
    };
    let linear =
        |name: &str| lv(name, "", "type = \"striped\"\nstripe_count = 1\n\nstripes = [\n\"pv0\", 0\n]");
    let pool = "type = \"thin-pool\"\nmetadata = \"pool_tmeta\"\npool = \"pool_tdata\"\ntransaction_id = 9\n\
                chunk_size = 128\ndiscards = \"passdown\"\nzero_new_blocks = 1";
    let mut lvs = lv("pool", ", \"VISIBLE\"", pool) + &thin("root", "");
    lvs.extend((0..count).map(|n| thin(&format!("backup-2026-{n}"), "origin = \"root\"\n")));
    lvs += &["lvol0_pmspare", "pool_tmeta", "pool_tdata"].map(linear).concat();
    format!(
        "vg {{\nid = \"{ID}\"\nseqno = 1\nformat = \"lvm2\"\nstatus = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\nflags = []\n\
         extent_size = 8192\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n\nphysical_volumes {{\n\npv0 {{\nid = \"{ID}\"\n\
         device = \"/dev/sda2\"\n\nstatus = [\"ALLOCATABLE\"]\nflags = []\ndev_size = 400000\npe_start = 2048\npe_count = \
         20\n}}\n}}\n\nlogical_volumes {{\n\n{lvs}}}\n}}\n# Generated by LVM2\n\ncontents = \"Text Format Volume Group\"\nversion = 1\n"
    )
}

#[test]
fn what_fits_into_the_metadata_area_that_lvm_makes_is_whole_and_four_times_that_too() {
    // Two texts are in the ring, while one is taken for the other.
    let most = ((1 << 20) - 512) / 2;
    let each = (snapshots(2000).len() - snapshots(1000).len()) / 1000;
    for (label, bytes) in [("default", most), ("of 4 MiB", 4 * most)] {
        let text = snapshots((bytes - snapshots(0).len()) / (each + 1));
        assert!(text.len() > bytes / 10 * 9 && text.len() <= bytes, "{label}: {}", text.len());
        let group = group::group(&text::parse(text.as_bytes()).unwrap()).unwrap();
        assert!(!group.truncated && group.lv("pool_tmeta").is_some(), "{label}: {}", group.lvs.len());
        let on = &group.lv("backup-2026-7").unwrap().segments[0].on;
        assert_eq!(on, &[Area::Lv("pool".to_string())], "not on what it was made of");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_mutated_metadata_panics(changes in proptest::collection::vec((0usize..8000, any::<u8>()), 0..8), offset in 512usize..RING) {
        let mut text = include_str!("kinds.txt").as_bytes().to_vec();
        for (at, byte) in &changes {
            let length = text.len();
            text[at % length] = byte & 0x7f;
        }
        let _ = look(&with_text(&String::from_utf8(text).unwrap(), offset));
        let mut device = with_text(include_str!("kinds.txt"), offset);
        for (at, byte) in &changes {
            device[AREA + at % 64] = *byte;
            device[512 + 64 + at % 100] = *byte;
        }
        seal(&mut device, 1);
        seal_area(&mut device);
        let _ = look(&device);
    }
}
