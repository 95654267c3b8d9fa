use super::*;
use crate::build::build;
use contract::facts::{Block, Dm, Facts, Hardware, Md, Partition};
use ondisk::table::{Entry, Table, TableKind};
use ondisk::volume::Volume;
use ondisk::volume::mdraid::{Level, Metadata, Superblock};
use ondisk::{Extent, Health, Signature};

const MIB: u64 = 1 << 20;

fn block(name: &str, number: u32) -> Block {
    Block {
        name: name.to_string(),
        major: 8,
        minor: number * 16,
        diskseq: Some(number.into()),
        size: 100 * MIB,
        read_only: true,
        hardware: Hardware { path: Some(format!("pci0000:00/{name}")), ..Hardware::default() },
        ..Block::default()
    }
}

fn part(disk: &Block, number: u32) -> Block {
    Block {
        name: format!("{}{number}", disk.name),
        minor: disk.minor + number,
        size: 10 * MIB,
        partition: Some(Partition { disk: disk.name.clone(), number, start: u64::from(number) * 10 * MIB }),
        ..disk.clone()
    }
}

fn made(name: &str, number: u32, slaves: &[&str]) -> Block {
    Block {
        major: 9,
        slaves: slaves.iter().map(|name| (*name).to_string()).collect(),
        hardware: Hardware { path: Some(format!("virtual/block/{name}")), ..Hardware::default() },
        ..block(name, number)
    }
}

fn sign(format: &str, usage: Usage) -> Signature {
    Signature { health: Health::Sound, ..Signature::new(format, usage, 0) }
}

fn fs(format: &str) -> Signature {
    sign(format, Usage::Filesystem)
}

fn with_uuid(signature: Signature, uuid: &str) -> Signature {
    Signature { uuid: Some(uuid.to_string()), ..signature }
}

fn report(signatures: Vec<Signature>) -> DiskReport {
    DiskReport { signatures, ..DiskReport::default() }
}

fn storage(mut blocks: Vec<Block>, seen: Vec<(&str, DiskReport)>) -> Storage {
    let below: Vec<(String, String)> = blocks
        .iter()
        .flat_map(|block| block.slaves.iter().map(|slave| (slave.clone(), block.name.clone())))
        .collect();
    for block in &mut blocks {
        let own = below.iter().filter(|(slave, _)| *slave == block.name);
        block.holders = own.map(|(_, upper)| upper.clone()).collect();
    }
    let observed = seen
        .into_iter()
        .map(|(name, report)| (name.to_string(), Observed::Examined { report: Box::new(report) }))
        .collect();
    build(Facts { blocks, ..Facts::default() }, &observed, &[])
}

/// A read-write or read-only `mount SOURCE /mnt`, as `options` say.
fn request<'a>(source: Source<'a>, options: &'a Options) -> Request<'a> {
    Request { source, target: "/mnt", types: None, options, window: None, mkdir: false, by: "mount" }
}

/// What a command would do: its steps, then its notices, a line each.
fn steps(storage: &Storage, path: &str, types: Option<&str>, options: &str) -> Result<String, String> {
    let options = Options::parse([options]).unwrap();
    let device = storage.devices.iter().find(|device| shown(device) == path).unwrap();
    let request = Request { types, ..request(Source::Device(device), &options) };
    let known = ["ext4".to_string()];
    let able = Able { known: &known, helper: &|_| false, memory: None };
    let plan = plan(storage, &able, &request).map_err(|refusal| refusal.to_string())?;
    let lines = plan.steps().iter().map(Step::text).chain(plan.notices).collect::<Vec<_>>();
    Ok(lines.join("\n"))
}

fn one_disk(signature: Signature) -> Storage {
    let sda = block("sda", 1);
    let sda1 = part(&sda, 1);
    storage(vec![sda, sda1], vec![("sda1", report(vec![signature]))])
}

#[test]
fn tables_are_sorted_and_each_word_is_there_once() {
    for pair in WORDS.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
    }
}

#[test]
fn options_are_read_as_mount_reads_them() {
    // (options, flags, data)
    let cases = [
        ("defaults", "", ""),
        ("ro,noexec", "ro,noexec", ""),
        ("ro,rw", "", ""),
        ("rw,ro", "ro", ""),
        ("noatime,relatime", "relatime", ""),
        ("nodev,dev,nosuid", "nosuid", ""),
        ("user", "nosuid,nodev,noexec", ""),
        ("users,exec", "nosuid,nodev", ""),
        ("uid=1000,ro,umask=022", "ro", "uid=1000,umask=022"),
        ("user=bob", "", "user=bob"),
        ("noauto,nofail,x-systemd.automount,comment=a,_netdev", "", ""),
        ("context=\"a:b,c:d\",noload", "", "context=\"a:b,c:d\",noload"),
        (",,ro,", "ro", ""),
        ("norecovery", "", "norecovery"),
    ];
    for (text, flags, data) in cases {
        let options = Options::parse([text]).unwrap();
        assert_eq!((options.flags.join(","), options.data.join(",")), (flags.into(), data.into()), "{text}");
    }
    let options = Options::parse(["loop,offset=1M,sizelimit=0x200000", "nofail,X-mount.mkdir"]).unwrap();
    assert_eq!(options.window, Some(Window { offset: MIB, size: Some(2 * MIB) }));
    assert!(options.nofail && options.mkdir && options.data.is_empty());
    assert_eq!(Options::parse(["rw,rbind"]).unwrap().kind, Kind::BindAll);
    assert!(Options::parse(["rw"]).unwrap().rw && !Options::parse(["rw,ro"]).unwrap().rw);
    assert!(Options::parse(["rslave"]).unwrap().only_spreads());
}

#[test]
fn what_only_the_original_knows_is_told_apart() {
    for text in ["ro=recursive", "loop=/dev/loop3", "X-mount.subdir=a", "uhelper=udisks2"] {
        assert!(Options::parse([text]).unwrap().unknown.is_some(), "{text}");
    }
    for text in ["ro", "errors=remount-ro", "x-gvfs-show", "X-mount.mkdir"] {
        assert_eq!(Options::parse([text]).unwrap().unknown, None, "{text}");
    }
    // No guard is taken off for what the original mounts read-only.
    for (text, want) in [
        ("ro=recursive", true),
        ("ro=fs", true),
        ("ro=vfs", false),
        ("ro,rw=recursive", false),
        ("rw,ro=recursive", true),
    ] {
        let options = Options::parse([text]).unwrap();
        assert_eq!((options.read_only(), options.unknown.is_some()), (want, true), "{text}");
    }
}

#[test]
fn bad_options_are_usage() {
    let errors = ["context=\"a,b", "offset=1Q", "sizelimit=-1", "offset=99999999T"];
    for text in errors {
        assert!(Options::parse([text]).is_err(), "{text}");
    }
    for (text, want) in [("4096", 4096), ("2K", 2048), ("2KiB", 2048), ("2kB", 2000), ("0x10", 16)] {
        assert_eq!(bytes(text), Ok(want), "{text}");
    }
}

#[test]
fn tags_are_told_from_paths() {
    let cases = [
        ("LABEL=root", Some((Tag::Label, "root"))),
        ("UUID=\"a-b\"", Some((Tag::Uuid, "a-b"))),
        ("PARTUUID=1", Some((Tag::PartUuid, "1"))),
        ("ID=ata-X", Some((Tag::Id, "ata-X"))),
        ("/dev/disk/by-label/a=b", None),
        ("host:/a=b", None),
        ("label=root", None),
    ];
    for (text, want) in cases {
        assert_eq!(Tag::parse(text), want, "{text}");
    }
}

#[test]
fn mounting_opens_the_device_and_nothing_else() {
    let storage = one_disk(fs("ext4"));
    let got = steps(&storage, "/dev/sda1", None, "noexec");
    assert_eq!(
        got.unwrap(),
        "rescue writable /dev/sda1\nmount -t ext4 -o noexec,errors=remount-ro /dev/sda1 /mnt"
    );
}

#[test]
fn a_read_only_array_becomes_writable_after_its_members_and_the_lowest_first() {
    let (sda, sdb) = (block("sda", 1), block("sdb", 2));
    let md = || Md { array_state: "readonly".to_string(), ..Md::default() };
    let md0 = Block { md: Some(md()), ..made("md0", 10, &["sda", "sdb"]) };
    let md1 = Block { md: Some(md()), ..made("md1", 11, &["md0"]) };
    let seen = vec![
        ("sda", report(vec![sign("linux_raid_member", Usage::Raid)])),
        ("md0", report(vec![sign("linux_raid_member", Usage::Raid)])),
        ("md1", report(vec![fs("ext4")])),
    ];
    let storage = storage(vec![sda, sdb, md0, md1], seen);
    let want = "rescue writable /dev/sda\nrescue writable /dev/sdb\nmdadm --readwrite /dev/md0\n\
                mdadm --readwrite /dev/md1\nmount -t ext4 -o errors=remount-ro /dev/md1 /mnt";
    assert_eq!(steps(&storage, "/dev/md1", None, "").unwrap(), want);
    // Read-only, all stays as it is.
    assert_eq!(
        steps(&storage, "/dev/md1", None, "ro").unwrap(),
        "mount -t ext4 -o ro,errors=remount-ro /dev/md1 /mnt"
    );
}

#[test]
fn a_journal_is_left_alone_under_the_guard_and_that_is_said() {
    let said = "/dev/sda1: its journal was not replayed, so the last changes are not shown";
    let dirty = |format: &str| one_disk(Signature { dirty: true, ..fs(format) });
    let cases = [
        ("ext4", "mount -t ext4 -o ro,noload,errors=remount-ro /dev/sda1 /mnt"),
        ("ext3", "modprobe fs-ext3\nmount -t ext3 -o ro,noload,errors=remount-ro /dev/sda1 /mnt"),
        ("xfs", "modprobe fs-xfs\nmount -t xfs -o ro,norecovery /dev/sda1 /mnt"),
        ("btrfs", "modprobe fs-btrfs\nmount -t btrfs -o ro,rescue=nologreplay /dev/sda1 /mnt"),
        ("ntfs", "modprobe fs-ntfs3\nmount -t ntfs3 -o ro /dev/sda1 /mnt"),
    ];
    for (format, want) in cases {
        let got = steps(&dirty(format), "/dev/sda1", None, "ro").unwrap();
        assert_eq!(got, format!("{want}\n{said}"), "{format}");
    }
    // Asked for already.
    let got = steps(&dirty("ext4"), "/dev/sda1", None, "ro,noload").unwrap();
    assert_eq!(got, format!("mount -t ext4 -o ro,noload,errors=remount-ro /dev/sda1 /mnt\n{said}"));
    // For writing, it is replayed.
    let got = steps(&dirty("ext4"), "/dev/sda1", None, "").unwrap();
    assert_eq!(got, "rescue writable /dev/sda1\nmount -t ext4 -o errors=remount-ro /dev/sda1 /mnt");
}

#[test]
fn what_has_been_made_writable_is_mounted_as_ever() {
    let mut storage = one_disk(Signature { dirty: true, ..fs("ext4") });
    for device in &mut storage.devices {
        (device.guard, device.block.read_only) = (Some(Wanted::Writable), false);
    }
    assert_eq!(
        steps(&storage, "/dev/sda1", None, "ro").unwrap(),
        "mount -t ext4 -o ro,errors=remount-ro /dev/sda1 /mnt"
    );
}

#[test]
fn a_clean_journal_on_a_device_without_a_flag_of_its_own_is_left_alone_too() {
    let sda = block("sda", 1);
    let dm = Dm { name: "vg-root".to_string(), uuid: "LVM-1".to_string(), suspended: false };
    let dm0 = Block { dm: Some(dm), read_only: false, ..made("dm-0", 10, &["sda"]) };
    let storage = storage(vec![sda, dm0], vec![("dm-0", report(vec![fs("xfs")]))]);
    let got = steps(&storage, "/dev/mapper/vg-root", None, "ro").unwrap();
    assert_eq!(got, "modprobe fs-xfs\nmount -t xfs -o ro,norecovery /dev/mapper/vg-root /mnt");
}

#[test]
fn what_cannot_be_written_is_mounted_read_only_with_a_warning() {
    let got = steps(&one_disk(fs("iso9660")), "/dev/sda1", None, "").unwrap();
    let want = "modprobe fs-iso9660\nmount -t iso9660 -o ro /dev/sda1 /mnt\n\
                WARNING: source write-protected, mounted read-only.";
    assert_eq!(got, want);
}

#[test]
fn members_are_refused_with_what_to_do_instead() {
    let cases = [
        (
            "linux_raid_member",
            Usage::Raid,
            "/dev/sda1 is a member of a RAID array: rescue assemble starts it",
        ),
        (
            "LVM2_member",
            Usage::Raid,
            "/dev/sda1 is a physical volume of LVM: rescue assemble activates its volumes",
        ),
        (
            "crypto_LUKS",
            Usage::Crypto,
            "/dev/sda1 is encrypted (LUKS): rescue open /dev/sda1 asks for the passphrase, and opens it",
        ),
        (
            "swap",
            Usage::Other,
            "/dev/sda1 is swap space, which holds no files: for more memory, rescue writable /dev/sda1 && swapon /dev/sda1 (it writes there)",
        ),
        ("xfs_external_log", Usage::Other, "/dev/sda1 is xfs_external_log, which is no file system"),
        (
            "BitLocker",
            Usage::Crypto,
            "/dev/sda1 is encrypted (BitLocker): rescue open /dev/sda1 asks for the passphrase, and opens it",
        ),
    ];
    for (format, usage, want) in cases {
        let storage = one_disk(sign(format, usage));
        for options in ["", "ro"] {
            assert_eq!(steps(&storage, "/dev/sda1", None, options).unwrap_err(), want, "{format}");
        }
    }
}

#[test]
fn a_member_of_a_running_array_leads_to_the_array() {
    let sda = block("sda", 1);
    let md0 = made("md0", 10, &["sda"]);
    let seen = vec![("sda", report(vec![sign("linux_raid_member", Usage::Raid)]))];
    let storage = storage(vec![sda, md0], seen);
    assert_eq!(
        steps(&storage, "/dev/sda", None, "ro").unwrap_err(),
        "/dev/sda is a member of a RAID array: did you mean /dev/md0, which is built on it?"
    );
}

#[test]
fn a_member_is_looked_at_with_its_type_and_never_written_to() {
    let storage = one_disk(sign("linux_raid_member", Usage::Raid));
    let got = steps(&storage, "/dev/sda1", Some("ext4"), "ro").unwrap();
    assert_eq!(got, "mount -t ext4 -o ro,errors=remount-ro /dev/sda1 /mnt");
    assert_eq!(
        steps(&storage, "/dev/sda1", Some("ext4"), "").unwrap_err(),
        "/dev/sda1 is a member of a RAID array; writing to it alone would tear it apart: \
         mount -t ext4 -o ro /dev/sda1 to look"
    );
}

#[test]
fn an_ambiguous_device_takes_a_type_and_no_guess() {
    let sda = block("sda", 1);
    let storage = storage(vec![sda], vec![("sda", report(vec![fs("ext4"), fs("xfs")]))]);
    assert_eq!(
        steps(&storage, "/dev/sda", None, "ro").unwrap_err(),
        "/dev/sda looks like ext4 and like xfs: -t TYPE says which, and wipefs /dev/sda lists where each is"
    );
    let got = steps(&storage, "/dev/sda", Some("ext4"), "ro").unwrap();
    assert_eq!(got, "mount -t ext4 -o ro,errors=remount-ro /dev/sda /mnt");
}

#[test]
fn types_after_t_choose_and_never_override_what_was_found() {
    let storage = one_disk(fs("ext4"));
    for types in ["auto", "ext3,ext4", "noxfs,vfat"] {
        let got = steps(&storage, "/dev/sda1", Some(types), "ro").unwrap();
        assert_eq!(got, "mount -t ext4 -o ro,errors=remount-ro /dev/sda1 /mnt", "{types}");
    }
    for types in ["xfs,vfat", "noext4", "noext3,ext4"] {
        let error = steps(&storage, "/dev/sda1", Some(types), "ro").unwrap_err();
        assert_eq!(error, format!("/dev/sda1 is ext4, which is not among the types {types}"));
    }
}

#[test]
fn a_disk_with_partitions_leads_to_them() {
    let sda = block("sda", 1);
    let sda1 = part(&sda, 1);
    let extent = Extent { start: 10 * MIB, length: 10 * MIB };
    let entry = Entry {
        uuid: Some("0B1EED00-01".to_string()),
        name: Some("first".to_string()),
        ..Entry::new(1, extent, "83".to_string())
    };
    let table = Table::new(TableKind::Mbr, 512, vec![entry]);
    let seen = DiskReport { table: Some(table), ..DiskReport::default() };
    let storage = storage(vec![sda, sda1], vec![("sda", seen)]);
    assert_eq!(
        steps(&storage, "/dev/sda", None, "").unwrap_err(),
        "/dev/sda has a partition table: did you mean /dev/sda1?"
    );
    for (tag, value) in [(Tag::PartUuid, "0b1eed00-01"), (Tag::PartLabel, "first")] {
        assert_eq!(by_tag(&storage, tag, value).unwrap().path, "/dev/sda1", "{value}");
    }
}

#[test]
fn an_empty_device_is_not_tried_as_anything() {
    let sda = block("sda", 1);
    let storage = storage(vec![sda], vec![("sda", DiskReport::default())]);
    assert_eq!(
        steps(&storage, "/dev/sda", None, "").unwrap_err(),
        "no file system was found on /dev/sda (100M): blkid -p /dev/sda looks again, \
         -t TYPE mounts without a look"
    );
}

#[test]
fn a_uuid_that_two_devices_carry_is_refused_with_both_names() {
    let (sda, sdb, sdc) = (block("sda", 1), block("sdb", 2), block("sdc", 3));
    let ext4 = || report(vec![with_uuid(fs("ext4"), "aa-01")]);
    let other = report(vec![Signature { label: Some("home".to_string()), ..with_uuid(fs("ext4"), "bb") }]);
    let storage = storage(vec![sda, sdb, sdc], vec![("sda", ext4()), ("sdb", ext4()), ("sdc", other)]);
    let error = by_tag(&storage, Tag::Uuid, "AA-01").unwrap_err();
    assert_eq!(error.to_string(), "UUID=AA-01 is on /dev/sda and /dev/sdb: name the one that is meant");
    assert_eq!(error.exit(), exit::FAILED);
    assert_eq!(by_tag(&storage, Tag::Label, "home").unwrap().path, "/dev/sdc");
    let absent = by_tag(&storage, Tag::Label, "away").unwrap_err();
    assert_eq!(absent.to_string(), "can't find LABEL=away: blkid lists what there is");
    assert_eq!(absent.exit(), exit::USAGE);
}

#[test]
fn members_and_multipath_legs_do_not_carry_the_tag() {
    let (sda, sdb) = (block("sda", 1), block("sdb", 2));
    let dm = Dm { name: "mpatha".to_string(), uuid: "mpath-1".to_string(), suspended: false };
    let dm0 = Block { dm: Some(dm), ..made("dm-0", 10, &["sda", "sdb"]) };
    let ext4 = || report(vec![with_uuid(fs("ext4"), "aa")]);
    let seen = vec![("sda", ext4()), ("sdb", ext4()), ("dm-0", ext4())];
    let storage = storage(vec![sda, sdb, dm0], seen);
    assert_eq!(by_tag(&storage, Tag::Uuid, "aa").unwrap().path, "/dev/dm-0");
    assert_eq!(
        steps(&storage, "/dev/sda", None, "ro").unwrap_err(),
        "/dev/sda is used by /dev/mapper/mpatha: did you mean /dev/mapper/mpatha?"
    );
}

/// A mirror of two whole disks with its superblocks at their ends: of the table in it, the kernel made sda1 and sdb1, and
/// md0p1 once it runs. `array`: bytes of it. `beside`: what is on sdc.
fn mirror(runs: bool, array: u64, inside: &Signature, beside: Option<Signature>) -> Storage {
    let (sda, sdb) = (block("sda", 1), block("sdb", 2));
    let superblock = Superblock {
        raid_disks: 2,
        component_size: array,
        ..Superblock::blank(Metadata::V1_0, Level::Raid1)
    };
    let member = Signature { volume: Some(Volume::Md(superblock)), ..sign("linux_raid_member", Usage::Raid) };
    let entry = Entry::new(1, Extent { start: 10 * MIB, length: 10 * MIB }, "83".to_string());
    let table = Table::new(TableKind::Mbr, 512, vec![entry]);
    let of_disk = |signatures| DiskReport { table: Some(table.clone()), ..report(signatures) };
    let whole = || of_disk(vec![member.clone()]);
    let part_of =
        |disk: &Block, name: &str| Block { name: name.to_string(), slaves: vec![], ..part(disk, 1) };
    let mut blocks = vec![sda.clone(), part(&sda, 1), sdb.clone(), part(&sdb, 1), block("sdc", 3)];
    let mut seen = vec![("sda", whole()), ("sdb", whole()), ("sdc", report(beside.into_iter().collect()))];
    seen.extend(["sda1", "sdb1"].map(|name| (name, report(vec![inside.clone()]))));
    if runs {
        let md0 = made("md0", 9, &["sda", "sdb"]);
        let md0p1 = part_of(&md0, "md0p1");
        let md = Some(Md { array_state: "clean".to_string(), ..Md::default() });
        blocks.extend([Block { md, ..md0 }, md0p1]);
        seen.extend([("md0", of_disk(vec![])), ("md0p1", report(vec![inside.clone()]))]);
    }
    storage(blocks, seen)
}

#[test]
fn a_partition_that_a_mirror_shows_on_its_members_is_the_mirrors() {
    let ext4 = with_uuid(fs("ext4"), "aa");
    let (stopped, running) = (mirror(false, 90 * MIB, &ext4, None), mirror(true, 90 * MIB, &ext4, None));
    let is_told = |refusal: String, next: &str| {
        assert!(
            refusal.starts_with("/dev/sda1 is in the table of the RAID array that /dev/sda is"),
            "{refusal}"
        );
        assert!(refusal.contains(next) && !refusal.contains('\n'), "{refusal}");
    };
    for (storage, next) in [(&stopped, ": rescue assemble starts it"), (&running, "did you mean /dev/md0p1?")]
    {
        for (types, options) in [(None, ""), (None, "ro"), (Some("ext4"), "")] {
            is_told(steps(storage, "/dev/sda1", types, options).unwrap_err(), next);
        }
        // As a member can be.
        assert!(steps(storage, "/dev/sda1", Some("ext4"), "ro").is_ok());
        for name in ["/dev/sda1", "/dev/sdb1"] {
            let id = &storage.by_path(name).unwrap().id;
            let refusal = consent::writable(storage, id, "rescue writable").unwrap_err().to_string();
            assert!(refusal.starts_with(name), "{refusal}");
        }
        assert_eq!(
            consent::writable(storage, &storage.by_path("/dev/sda").unwrap().id, "dd").unwrap().len(),
            1
        );
    }
    is_told(by_tag(&stopped, Tag::Uuid, "aa").unwrap_err().to_string(), ": rescue assemble starts it");
    assert_eq!(by_tag(&running, Tag::Uuid, "aa").unwrap().path, "/dev/md0p1");
    let opened = steps(&running, "/dev/md0p1", None, "").unwrap();
    assert!(opened.starts_with("rescue writable /dev/sda\nrescue writable /dev/sdb\n"), "{opened}");
}

#[test]
fn a_btrfs_on_a_mirror_and_a_disk_is_not_also_on_the_members() {
    let btrfs = |own: &str| Signature { member_uuid: Some(own.to_string()), ..with_uuid(fs("btrfs"), "aa") };
    let running = mirror(true, 90 * MIB, &btrfs("first"), Some(btrfs("second")));
    let others = siblings(&running, running.by_path("/dev/md0p1").unwrap()).unwrap();
    assert_eq!(others.iter().map(|other| &other.path).collect::<Vec<_>>(), ["/dev/sdc"]);
}

/// The disks were members once, and divided anew since.
#[test]
fn a_table_that_divides_more_than_the_array_has_is_the_disks_own() {
    let storage = mirror(false, 15 * MIB, &with_uuid(fs("ext4"), "aa"), None);
    assert!(steps(&storage, "/dev/sda1", None, "").unwrap().starts_with("rescue writable /dev/sda1\n"));
}

#[test]
fn a_btrfs_of_two_devices_is_mounted_with_both_and_opens_both() {
    let (sda, sdb) = (block("sda", 1), block("sdb", 2));
    let btrfs = |own: &str| {
        report(vec![Signature { member_uuid: Some(own.to_string()), ..with_uuid(fs("btrfs"), "aa") }])
    };
    let two = storage(vec![sda.clone(), sdb.clone()], vec![("sda", btrfs("1")), ("sdb", btrfs("2"))]);
    assert_eq!(by_tag(&two, Tag::Uuid, "aa").unwrap().path, "/dev/sda");
    assert_eq!(
        steps(&two, "/dev/sda", None, "").unwrap(),
        "rescue writable /dev/sda\nrescue writable /dev/sdb\nmodprobe fs-btrfs\n\
         mount -t btrfs -o device=/dev/sdb /dev/sda /mnt"
    );
    // A copy of one disk: the person's choice counts, a tag does not.
    let copies = storage(vec![sda, sdb], vec![("sda", btrfs("1")), ("sdb", btrfs("1"))]);
    assert!(by_tag(&copies, Tag::Uuid, "aa").is_err());
    assert_eq!(
        steps(&copies, "/dev/sda", None, "ro").unwrap(),
        "modprobe fs-btrfs\nmount -t btrfs -o ro /dev/sda /mnt"
    );
}

#[test]
fn a_file_goes_through_a_loop_device() {
    let report = report(vec![Signature { dirty: true, ..fs("ext4") }]);
    let (known, able) = (["ext4".to_string()], |_: &str| false);
    let able = Able { known: &known, helper: &able, memory: None };
    let text = |text: &str| {
        let options = Options::parse([text]).unwrap();
        let request = Request {
            mkdir: true,
            ..request(Source::File { path: "/root/a b.img", report: &report, size: MIB }, &options)
        };
        let plan = plan(&Storage::default(), &able, &request).unwrap();
        plan.steps().iter().map(Step::text).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        text(""),
        "mkdir -p /mnt\nlosetup --find --show '/root/a b.img'\nmount -t ext4 -o errors=remount-ro '{made}' /mnt"
    );
    assert_eq!(
        text("loop,ro,offset=512,sizelimit=1024"),
        "mkdir -p /mnt\nlosetup --find --show --read-only --offset 512 --sizelimit 1024 '/root/a b.img'\n\
         mount -t ext4 -o ro,noload,errors=remount-ro '{made}' /mnt"
    );
}

#[test]
fn servers_and_words_are_mounted_without_a_look() {
    let known: Vec<String> = ["tmpfs", "proc"].map(str::to_string).to_vec();
    let text = |word: &str, types: Option<&str>, options: &str| {
        let options = Options::parse([options]).unwrap();
        let request = Request { types, ..request(Source::Word(word), &options) };
        let able = Able { known: &known, helper: &|name| name == "fuse.sshfs", memory: None };
        let plan = plan(&Storage::default(), &able, &request).unwrap();
        plan.steps().iter().map(Step::text).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(text("tmpfs", Some("tmpfs"), "size=1M,nodev"), "mount -t tmpfs -o nodev,size=1M tmpfs /mnt");
    assert_eq!(text("nas:/srv", None, "ro,vers=4"), "/sbin/mount.nfs nas:/srv /mnt -o ro,vers=4");
    assert_eq!(text("//nas/a b", None, "user=me"), "/sbin/mount.cifs '//nas/a b' /mnt -o user=me");
    assert_eq!(text("me@host:", Some("fuse.sshfs"), ""), "/sbin/mount.fuse me@host: /mnt");
    assert_eq!(
        text("o", Some("overlay"), "lowerdir=/a:/b"),
        "modprobe fs-overlay\nmount -t overlay -o lowerdir=/a:/b o /mnt"
    );
    assert!(is_network("nas:/srv") && !is_network("/dev/disk/by-path/pci-0:/x") && !is_network("sda"));
}

#[test]
fn a_bind_gets_its_flags_by_a_second_call_and_its_spread_by_a_third() {
    let options = Options::parse(["rbind,ro,nosuid,rslave"]).unwrap();
    let steps = rebind("/a", "/b", &options, false);
    let text: Vec<String> = steps.iter().map(Step::text).collect();
    assert_eq!(
        text,
        ["mount -o rbind /a /b", "mount -o remount,bind,ro,nosuid /a /b", "mount -o rslave none /b"]
    );
    // Taken back by one umount, not three.
    assert_eq!(steps.iter().filter(|step| step.inverse().is_some()).count(), 1);
    assert_eq!(
        rebind("/a", "/b", &Options::parse(["move"]).unwrap(), false)[0].text(),
        "mount -o move /a /b"
    );
}

fn mounted(options: &str, super_options: &str) -> Mount {
    Mount {
        major: 8,
        minor: 17,
        target: "/mnt".to_string(),
        source: "/dev/sda1".to_string(),
        fstype: "ext4".to_string(),
        options: options.to_string(),
        super_options: super_options.to_string(),
        ..Mount::default()
    }
}

#[test]
fn a_remount_keeps_what_it_does_not_name_and_opens_the_device_for_writing() {
    let storage = one_disk(fs("ext4"));
    let text = |mount: &Mount, options: &str, dir_alone: bool| {
        let options = Options::parse([options]).unwrap();
        let plan = remount(&storage, mount, &options, dir_alone, "mount").map_err(|no| no.to_string())?;
        Ok::<_, String>(plan.steps().iter().map(Step::text).collect::<Vec<_>>().join("\n"))
    };
    let mount = mounted("ro,nosuid,relatime", "ro,errors=continue");
    let open = "rescue writable /dev/sda1\n";
    let cases = [
        ("remount,rw", true, format!("{open}mount -o remount,nosuid,relatime /dev/sda1 /mnt")),
        ("remount,rw", false, format!("{open}mount -o remount /dev/sda1 /mnt")),
        ("remount,noexec", true, "mount -o remount,ro,nosuid,relatime,noexec /dev/sda1 /mnt".to_string()),
        ("remount,bind,suid,rw", true, "mount -o remount,bind,relatime /dev/sda1 /mnt".to_string()),
        ("remount,ro,commit=5", false, "mount -o remount,ro,commit=5 /dev/sda1 /mnt".to_string()),
    ];
    for (options, dir_alone, want) in cases {
        assert_eq!(text(&mount, options, dir_alone).unwrap(), want, "{options} {dir_alone}");
    }
    let as_disk_says = mounted("rw,relatime", "rw");
    let cases = [
        ("remount,noexec", "remount,relatime,noexec,errors=remount-ro"),
        ("remount,noexec,errors=panic", "remount,relatime,noexec,errors=panic"),
        ("remount,bind,noexec", "remount,bind,relatime,noexec"),
    ];
    for (options, want) in cases {
        let got = text(&as_disk_says, options, true).unwrap();
        assert_eq!(got.lines().last(), Some(&*format!("mount -o {want} /dev/sda1 /mnt")), "{options}");
    }
    let unreplayed = mounted("ro,relatime", "ro,norecovery");
    assert_eq!(
        text(&unreplayed, "remount,rw", true).unwrap_err(),
        "it is mounted without its journal, so it cannot become writable: \
         umount /mnt && mount /dev/sda1 /mnt"
    );
}

#[test]
fn the_list_reads_as_that_of_mount() {
    // (mount, file system, what mount(8) of util-linux 2.38 prints)
    let cases = [
        ("rw,relatime", "rw,errors=remount-ro", "rw,relatime,errors=remount-ro"),
        ("ro,nosuid", "rw", "ro,nosuid"),
        ("rw,relatime", "ro,norecovery", "ro,relatime,norecovery"),
        ("rw", "rw", "rw"),
        ("rw,nosuid", "", "rw,nosuid"),
    ];
    for (of_mount, of_super, want) in cases {
        assert_eq!(merged(of_mount, of_super), want, "{of_mount} {of_super}");
    }
    let mount = Mount { target: "/mnt\n".to_string(), ..mounted("rw,relatime", "rw") };
    let labels = BTreeMap::from([("/dev/sda1".to_string(), "root".to_string())]);
    let name = |source: &str| source.to_string();
    let got = listing(std::slice::from_ref(&mount), None, &name, &labels);
    assert_eq!(got, "/dev/sda1 on /mnt\\x0a type ext4 (rw,relatime) [root]\n");
    assert_eq!(listing(&[mount], Some("xfs,vfat"), &name, &labels), "");
}

#[test]
fn a_failure_says_why_in_the_words_of_mount_and_what_to_do_next() {
    let log = ["EXT4-fs (sda1): VFS: Can't find ext4 filesystem".to_string()];
    let text = |errno: i32, read_only: bool, rw: bool, log: &[String], mounts: &[Mount]| {
        let failed = Failed {
            errno,
            words: "Argument list too long",
            source: "/dev/sda1",
            fstype: "ext4",
            read_only,
            rw,
            remount: false,
            log,
        };
        failure(&failed, mounts, &|_| true)
    };
    let ro = mounted("ro", "ro");
    let cases = [
        (
            text(errno::INVAL, false, false, &log, &[]),
            "wrong fs type, bad option or bad superblock on /dev/sda1: EXT4-fs (sda1): VFS: Can't find ext4 \
             filesystem; fsck -n /dev/sda1 looks what is wrong",
        ),
        (text(errno::NODEV, false, false, &[], &[]), "unknown filesystem type 'ext4'"),
        (
            text(errno::BUSY, false, false, &[], std::slice::from_ref(&ro)),
            "/dev/sda1 already mounted read-only on /mnt: mount -o remount,rw /mnt",
        ),
        (text(errno::BUSY, true, false, &[], std::slice::from_ref(&ro)), "/dev/sda1 already mounted on /mnt"),
        (
            text(errno::BUSY, true, false, &[], &[mounted("rw", "rw")]),
            "/dev/sda1 already mounted for writing on /mnt: mount --bind -o ro /mnt DIRECTORY shows it a \
             second time",
        ),
        (text(errno::BUSY, true, false, &[], &[]), "/dev/sda1 already mounted or mount point busy"),
        (text(errno::ROFS, true, false, &[], &[]), "cannot mount /dev/sda1 read-only"),
        (
            text(errno::ROFS, false, true, &[], &[]),
            "/dev/sda1 is write-protected but explicit read-write mode requested",
        ),
        (text(errno::NOMEDIUM, false, false, &[], &[]), "no medium found on /dev/sda1"),
        (text(7, false, false, &[], &[]), "mount(2) system call failed: Argument list too long"),
    ];
    for (got, want) in cases {
        assert_eq!(got, want);
    }
}

#[test]
fn a_btrfs_that_lacks_a_device_is_answered_with_the_option_for_that() {
    let log = [
        "BTRFS error (device sdc): devid 2 uuid 1 is missing",
        "BTRFS error (device sdc): open_ctree failed",
    ];
    let failed = Failed {
        errno: errno::NOENT,
        words: "No such file or directory",
        source: "/dev/sdc",
        fstype: "btrfs",
        read_only: true,
        rw: false,
        remount: false,
        log: &log.map(str::to_string),
    };
    assert_eq!(
        failure(&failed, &[], &|_| false),
        "mount(2) system call failed: No such file or directory: BTRFS error (device sdc): open_ctree failed; \
         mount -o ro,degraded /dev/sdc goes without the device that is missing"
    );
}

#[test]
fn a_busy_mount_names_who_holds_it_and_how_to_go_on() {
    let holder = |pid, command: &str, how: &str| Holder {
        pid,
        command: command.to_string(),
        how: how.to_string(),
        in_way: false,
    };
    let bash = holder(812, "bash", "works in /mnt/etc");
    assert_eq!(
        busy("/mnt", std::slice::from_ref(&bash), &[]),
        "target is busy: bash (process 812) works in /mnt/etc; end what it does, or kill 812"
    );
    let own = Holder { in_way: true, ..bash.clone() };
    assert_eq!(
        busy("/mnt", std::slice::from_ref(&own), &[]),
        "target is busy: bash (process 812) works in /mnt/etc, which is your own shell: cd / first"
    );
    assert_eq!(
        busy("/mnt", &[own, holder(9, "tail", "has /mnt/log open")], &[]),
        "target is busy: bash (process 812) works in /mnt/etc, tail (process 9) has /mnt/log open; cd / first, then end the others, or kill 9"
    );
    let more = ["/mnt/boot is mounted below it (umount -R /mnt)".to_string()];
    assert_eq!(busy("/mnt", &[], &more), "target is busy: /mnt/boot is mounted below it (umount -R /mnt)");
    let all: Vec<Holder> = (1..=5).map(|pid| holder(pid, "a\x1b[2J", "has /mnt/x open")).collect();
    let text = busy("/mnt", &all, &[]);
    assert!(text.contains("and 2 more; end what they do, or kill 1 2 3 4 5"), "{text}");
    assert!(text.contains("a\\x1b[2J (process 1)"), "{text}");
    assert_eq!(
        busy("/mnt", &[], &[]),
        "target is busy: umount -l /mnt detaches it now and lets it go when it can"
    );
}

#[test]
fn no_superblock_of_ext_brings_the_machine_down_unless_a_person_asks_for_it() {
    let open = "rescue writable /dev/sda1\n";
    let cases = [
        ("ext2", "", format!("{open}mount -t ext2 -o errors=remount-ro /dev/sda1 /mnt")),
        ("ext3", "noatime", format!("{open}mount -t ext3 -o noatime,errors=remount-ro /dev/sda1 /mnt")),
        ("ext4", "", format!("{open}mount -t ext4 -o errors=remount-ro /dev/sda1 /mnt")),
        ("ext4", "errors=panic", format!("{open}mount -t ext4 -o errors=panic /dev/sda1 /mnt")),
        ("ext4", "errors=continue,ro", "mount -t ext4 -o ro,errors=continue /dev/sda1 /mnt".to_string()),
        ("ext4", "ro", "mount -t ext4 -o ro,errors=remount-ro /dev/sda1 /mnt".to_string()),
        ("xfs", "", format!("{open}mount -t xfs /dev/sda1 /mnt")),
    ];
    for (fstype, options, want) in cases {
        let got = steps(&one_disk(fs(fstype)), "/dev/sda1", None, options).unwrap();
        let got: Vec<&str> = got.lines().filter(|line| !line.starts_with("modprobe")).collect();
        assert_eq!(got.join("\n"), want, "{fstype} {options}");
    }
}

#[test]
fn a_dirty_journal_under_the_guard_is_replayed_in_memory_unless_it_is_left_alone() {
    let dirty = |format: &str| Signature { dirty: true, ..fs(format) };
    let with = |signature: Signature, options: &str, memory: u64| {
        let storage = one_disk(signature);
        let options = Options::parse([options]).unwrap();
        let device = storage.by_path("/dev/sda1").unwrap();
        let request = request(Source::Device(device), &options);
        let known = ["ext4", "xfs", "f2fs", "ntfs3", "vfat"].map(str::to_string);
        let able = Able { known: &known, helper: &|_| false, memory: Some(memory) };
        let plan = plan(&storage, &able, &request).unwrap();
        (plan.mounts.last().unwrap().text(), plan.notices.join("\n"))
    };
    let through = "/dev/mapper/over-sda1 /mnt";
    let (gib, direct) = (1 << 30, "/dev/sda1 /mnt");
    let cases = [
        (
            dirty("ext4"),
            "ro",
            gib,
            format!("mount -t ext4 -o ro,errors=remount-ro {through}"),
            "replayed in memory",
        ),
        (
            dirty("ext4"),
            "ro,errors=continue",
            gib,
            format!("mount -t ext4 -o ro,errors=continue {through}"),
            "replayed in memory",
        ),
        (dirty("xfs"), "ro", gib, format!("mount -t xfs -o ro {through}"), "-o norecovery shows that"),
        // Read-only, f2fs hides even what was fsynced.
        (dirty("f2fs"), "ro", gib, format!("mount -t f2fs -o ro {through}"), "replayed in memory"),
        (
            dirty("ext4"),
            "ro,noload",
            gib,
            format!("mount -t ext4 -o ro,noload,errors=remount-ro {direct}"),
            "not shown",
        ),
        (
            dirty("ext4"),
            "ro",
            1 << 20,
            format!("mount -t ext4 -o ro,noload,errors=remount-ro {direct}"),
            "no overlay shows them: 1M of memory",
        ),
        (fs("ext4"), "ro", gib, format!("mount -t ext4 -o ro,errors=remount-ro {direct}"), ""),
        (dirty("ntfs"), "ro", gib, format!("mount -t ntfs3 -o ro {direct}"), "not shown"),
        (dirty("vfat"), "ro", gib, format!("mount -t vfat -o ro {direct}"), ""),
    ];
    for (signature, options, memory, want, notice) in cases {
        let label = format!("{} {options} {memory}", signature.format);
        let (last, notices) = with(signature, options, memory);
        assert_eq!(last, want, "{label}");
        assert!(notices.contains(notice) && notice.is_empty() == notices.is_empty(), "{label}: {notices}");
    }
}

#[test]
fn what_an_overlay_is_of_is_not_made_writable_for_it() {
    let disk = block("sda", 1);
    let md = Md { array_state: "readonly".to_string(), ..Md::default() };
    let array = Block { md: Some(md), ..made("md0", 2, &["sda"]) };
    let uuid = format!("{}seq:2", contract::facts::OVERLAY_UUID);
    let dm = Dm { name: "over-md0".to_string(), uuid, ..Dm::default() };
    let over = Block { dm: Some(dm), read_only: false, ..made("dm-0", 3, &["md0"]) };
    let storage = storage(vec![disk, array, over], vec![]);
    let opened = |path| opens(&storage, &storage.by_path(path).unwrap().id, "fsck");
    assert_eq!(opened("/dev/dm-0"), Ok(vec![]));
    assert!(opened("/dev/md0").is_err(), "its overlay stands on it");
}

/// Of an overlay that a person made, it is the wish; of one that mount -o ro made for itself, a person means the disk.
#[test]
fn what_reading_put_in_memory_does_not_become_writable_unasked() {
    for (mark, is_refused) in [("MOUNT-", true), ("", false)] {
        let uuid = format!("{}{mark}seq:1", contract::facts::OVERLAY_UUID);
        let disk = block("sda", 1);
        let dm = Dm { name: "over-sda".to_string(), uuid, ..Dm::default() };
        let over = Block { dm: Some(dm), read_only: false, ..made("dm-0", 3, &["sda"]) };
        let storage = storage(vec![disk, over], vec![]);
        let mount =
            Mount { major: 9, minor: 3, source: "/dev/mapper/over-sda".to_string(), ..mounted("ro", "ro") };
        let options = Options::parse(["remount,rw"]).unwrap();
        let outcome = remount(&storage, &mount, &options, true, "mount");
        let told = outcome.as_ref().err().map(|refusal| refusal.to_string()).unwrap_or_default();
        assert_eq!(outcome.is_err(), is_refused, "{mark}: {outcome:?}");
        assert_eq!(told.contains("copy in memory (/dev/mapper/over-sda)"), is_refused, "{told}");
        assert_eq!(told.contains("umount /mnt && mount /dev/sda /mnt"), is_refused, "{told}");
    }
}

#[test]
fn a_hibernated_windows_is_read_and_never_written() {
    let storage = one_disk(Signature { hibernated: true, ..fs("ntfs") });
    for (types, options, is_refused) in [
        (None, "", true),
        (Some("ntfs3"), "noatime", true),
        (None, "ro", false),
        (Some("ntfs-3g"), "remove_hiberfile", false),
    ] {
        let outcome = steps(&storage, "/dev/sda1", types, options);
        let told = outcome.as_ref().err().map(|refusal| refusal.to_string()).unwrap_or_default();
        assert_eq!(
            told.contains("Windows is hibernated on /dev/sda1"),
            is_refused,
            "{types:?} {options}: {outcome:?}"
        );
        assert_eq!(outcome.is_err(), is_refused, "{types:?} {options}: {outcome:?}");
    }
    let mount = Mount { fstype: "ntfs3".to_string(), ..mounted("ro,relatime", "ro") };
    for (options, is_refused) in [("remount,rw", true), ("remount,noexec", false)] {
        let options = Options::parse([options]).unwrap();
        assert_eq!(remount(&storage, &mount, &options, true, "mount").is_err(), is_refused);
    }
}

/// The last step of a mount where overlays can be made, and the notices.
fn last(storage: &Storage, path: &str, options: &str, memory: u64) -> Result<(String, String), String> {
    let options = Options::parse([options]).unwrap();
    let device = storage.devices.iter().find(|device| shown(device) == path).unwrap();
    let request = request(Source::Device(device), &options);
    let able = Able { known: &[], helper: &|_| false, memory: Some(memory) };
    let plan = plan(storage, &able, &request).map_err(|refusal| refusal.to_string())?;
    Ok((plan.mounts.last().unwrap().text(), plan.notices.join("\n")))
}

/// On a volume that device-mapper made, and so without a flag of its own.
fn one_volume(signature: Signature) -> Storage {
    let dm = Dm { name: "vg-root".to_string(), uuid: "LVM-1".to_string(), suspended: false };
    let dm0 = Block { dm: Some(dm), read_only: false, ..made("dm-0", 10, &["sda"]) };
    storage(vec![block("sda", 1), dm0], vec![("dm-0", report(vec![signature]))])
}

#[test]
fn a_driver_that_writes_to_its_journal_whatever_it_is_told_gets_an_overlay_or_nothing() {
    let clean = || fs("reiserfs");
    let dirty = || Signature { dirty: true, ..clean() };
    let (disk, volume) = ("/dev/sda1", "/dev/mapper/vg-root");
    let cases = [
        ("dirty disk", one_disk(dirty()), disk, "/dev/mapper/over-sda1", "is replayed in memory"),
        ("clean disk", one_disk(clean()), disk, disk, ""),
        ("dirty volume", one_volume(dirty()), volume, "/dev/mapper/over-vg-root", "is replayed in memory"),
        ("clean volume", one_volume(clean()), volume, "/dev/mapper/over-vg-root", "goes to memory"),
    ];
    for (label, storage, path, source, notice) in &cases {
        let (step, notices) = last(storage, path, "ro", 1 << 30).unwrap();
        assert_eq!(step, format!("mount -t reiserfs -o ro {source} /mnt"), "{label}");
        assert!(notices.contains(notice) && notice.is_empty() == notices.is_empty(), "{label}: {notices}");
        assert!(!notices.contains("shows that"), "{label}: no option does: {notices}");
        let without = last(storage, path, "ro", 1 << 20);
        match notice.is_empty() {
            true => assert_eq!(without.unwrap().0, step, "{label}"),
            false => assert!(
                without.as_ref().is_err_and(|told| told.contains("through an overlay alone: 1M of memory")),
                "{label}: {without:?}"
            ),
        }
    }
    let mut open = one_disk(dirty());
    for device in &mut open.devices {
        (device.guard, device.block.read_only) = (Some(Wanted::Writable), false);
    }
    assert_eq!(last(&open, disk, "ro", 1 << 30).unwrap().0, "mount -t reiserfs -o ro /dev/sda1 /mnt");
    let report = report(vec![dirty()]);
    let options = Options::parse(["ro"]).unwrap();
    let request = request(Source::File { path: "/root/a.img", report: &report, size: MIB }, &options);
    let able = Able { known: &[], helper: &|_| false, memory: Some(1 << 30) };
    let told = plan(&Storage::default(), &able, &request).unwrap_err().to_string();
    assert!(told.contains("losetup -r -f --show makes a device of it"), "{told}");
}

#[test]
fn bcachefs_writes_nothing_to_what_has_no_flag_of_its_own() {
    let (step, notices) = last(&one_volume(fs("bcachefs")), "/dev/mapper/vg-root", "ro", 1 << 30).unwrap();
    assert_eq!((&*step, &*notices), ("mount -t bcachefs -o ro,nochanges /dev/mapper/vg-root /mnt", ""));
    // Flagged, its driver takes that option by itself.
    let (step, _) = last(&one_disk(fs("bcachefs")), "/dev/sda1", "ro", 1 << 30).unwrap();
    assert_eq!(step, "mount -t bcachefs -o ro /dev/sda1 /mnt");
}

/// Only the flag of the device itself keeps the driver from orphans, and an overlay keeps them from the disk.
#[test]
fn what_clears_orphans_away_although_it_is_mounted_ro_does_so_in_memory_or_not_at_all() {
    let orphans = |dirty: bool, format: &str| Signature { dirty, orphans: true, ..fs(format) };
    let opened = |signature: Signature| {
        let mut storage = one_disk(signature);
        open_up(&mut storage, &["/dev/sda", "/dev/sda1"]);
        storage
    };
    let (disk, volume) = ("/dev/sda1", "/dev/mapper/vg-root");
    let (cleared, replayed) = ("cleared away in memory alone", "is replayed in memory");
    // Where, of what state, with which options, and what is said: nothing where the device itself is mounted.
    let cases = [
        ("a disk without its guard", opened(orphans(false, "ext4")), disk, "ro", cleared),
        ("a disk without its guard", opened(orphans(true, "ext4")), disk, "ro,noload", cleared),
        ("a disk without its guard", opened(orphans(true, "ext4")), disk, "ro", replayed),
        ("no journal", opened(orphans(false, "ext2")), disk, "ro", cleared),
        ("f2fs", opened(orphans(true, "f2fs")), disk, "ro,norecovery", cleared),
        ("a volume over a guarded disk", one_volume(orphans(false, "ext4")), volume, "ro", cleared),
        ("a volume over a guarded disk", one_volume(orphans(true, "ext4")), volume, "ro,noload", cleared),
        ("a volume over a guarded disk", one_volume(orphans(true, "ext3")), volume, "ro", replayed),
        ("a guarded disk", one_disk(orphans(false, "ext4")), disk, "ro", ""),
        ("a guarded disk", one_disk(orphans(false, "ext4")), disk, "ro,noload", ""),
        // Its driver knows none.
        ("another type", opened(orphans(false, "vfat")), disk, "ro", ""),
        ("none", opened(Signature { dirty: true, ..fs("ext4") }), disk, "ro,noload", ""),
    ];
    for (label, storage, path, options, notice) in &cases {
        let label = format!("{label}, {options}");
        let (step, notices) = last(storage, path, options, 1 << 30).unwrap();
        let over = format!("/dev/mapper/over-{}", path.rsplit('/').next().unwrap());
        assert_eq!(step.contains(&format!(" {over} /mnt")), !notice.is_empty(), "{label}: {step}");
        assert!(notices.contains(notice) && notice.is_empty() == notices.is_empty(), "{label}: {notices}");
        assert_eq!(step.contains("noload"), options.contains("noload"), "{label}: {step}");
        let without = last(storage, path, options, 1 << 20);
        match notice.is_empty() {
            true => assert_eq!(without.unwrap().0, step, "{label}"),
            false => {
                let told = without.unwrap_err();
                assert!(told.contains("clears away with ro as well"), "{label}: {told}");
                assert!(told.contains(": 1M of memory"), "{label}: {told}");
            }
        }
    }
}

/// The kernel shares the file system that it has, or says EBUSY, and clears nothing; what else would read the device sees
/// a tree that changes. Only the number tells: of a disk that was pulled out, mountinfo keeps the name.
#[test]
fn what_is_mounted_is_mounted_a_second_time_without_fear_of_orphans() {
    let gone = Mount { minor: 33, ..mounted("rw", "rw") };
    // (what is mounted there, options, whether mount(2) is called on the device)
    let cases = [
        (mounted("rw", "rw"), "ro", true),
        (mounted("rw", "rw"), "ro,noload", true),
        (mounted("ro", "ro,norecovery"), "ro", true),
        (gone, "ro", false),
    ];
    for (mount, options, is_direct) in cases {
        let label = format!("{mount:?}, {options}");
        let mut storage = one_disk(Signature { dirty: true, orphans: true, ..fs("ext4") });
        open_up(&mut storage, &["/dev/sda", "/dev/sda1"]);
        storage.mounts.push(mount);
        let outcome = last(&storage, "/dev/sda1", options, 1 << 30);
        let want = format!("mount -t ext4 -o {options},errors=remount-ro /dev/sda1 /mnt");
        assert_eq!(outcome == Ok((want, String::new())), is_direct, "{label}: {outcome:?}");
    }
}

/// The original gets the arguments as they were typed, and would mount the device itself.
#[test]
fn an_option_that_only_the_original_knows_does_not_go_round_an_overlay() {
    let dirty = || Signature { dirty: true, orphans: true, ..fs("ext4") };
    let opened = |signature: Signature| {
        let mut storage = one_disk(signature);
        open_up(&mut storage, &["/dev/sda", "/dev/sda1"]);
        storage
    };
    let overlaid = || {
        let uuid = format!("{}seq:1", contract::facts::OVERLAY_UUID);
        let dm = Dm { name: "over-sda".to_string(), uuid, suspended: false };
        let over = Block { dm: Some(dm), read_only: false, ..made("dm-0", 3, &["sda"]) };
        storage(
            vec![block("sda", 1), over],
            vec![("sda", report(vec![dirty()])), ("dm-0", report(vec![dirty()]))],
        )
    };
    let (disk, volume) = ("/dev/sda1", "/dev/mapper/vg-root");
    let make = |path: &str| format!("or rescue overlay {path}, and mount with it what that makes");
    // (label, storage, path, options, what is to be done instead; nothing: it is handed over)
    let cases = [
        ("orphans", opened(dirty()), disk, "ro,noload,", make(disk)),
        ("orphans", opened(dirty()), disk, "ro,", make(disk)),
        ("a dirty journal", one_disk(dirty()), disk, "ro,", make(disk)),
        ("a volume over a guarded disk", one_volume(dirty()), volume, "ro,", make(volume)),
        ("what is read-only by its value", opened(dirty()), disk, "ro=recursive,", make(disk)),
        ("it has one", overlaid(), "/dev/sda", "ro,", "or mount /dev/mapper/over-sda with it".to_string()),
        ("the overlay itself", overlaid(), "/dev/mapper/over-sda", "ro,", String::new()),
        ("for writing", opened(dirty()), disk, "", String::new()),
        ("clean", one_disk(fs("ext4")), disk, "ro,", String::new()),
    ];
    for (label, storage, path, options, next) in &cases {
        let unknown = [
            ("X-mount.subdir=etc", "X-mount.subdir"),
            ("X-mount.owner=1", "X-mount.owner"),
            ("loop=/dev/loop3", "loop=/dev/loop3"),
            ("uhelper=udisks2", "uhelper"),
        ];
        for (option, name) in unknown {
            let outcome = last(storage, path, &format!("{options}{option}"), 1 << 30);
            match &outcome {
                Ok(_) => assert!(next.is_empty(), "{label}, {option}: {outcome:?}"),
                Err(told) => {
                    assert!(!next.is_empty() && told.ends_with(&**next), "{label}, {option}: {told}");
                    assert!(told.contains(&format!(": mount without {name}, ")), "{label}, {option}: {told}");
                }
            }
        }
    }
}

/// What a plan adds keeps the disk as it is; without it the original would replay a journal, or write for a verb that looks.
#[test]
fn the_original_is_told_what_a_plan_adds() {
    let dirty = || Signature { dirty: true, ..fs("ext4") };
    let open_journal = || {
        let mut storage = with_journal(true, &["sdb"]);
        open_up(&mut storage, &["/dev/sda", "/dev/sda1", "/dev/sdb"]);
        storage
    };
    let (disk, volume) = ("/dev/sda1", "/dev/mapper/vg-root");
    // (label, storage, path, what was typed, what the verb adds to that, what the original is told beside)
    let cases = [
        ("no room for an overlay", one_volume(dirty()), volume, "ro", None, "noload,errors=remount-ro"),
        ("a journal on another disk", open_journal(), disk, "ro", None, "noload,errors=remount-ro"),
        ("it was typed", one_volume(dirty()), volume, "ro,noload", None, "errors=remount-ro"),
        ("all was typed", one_disk(fs("ext4")), disk, "ro,errors=continue", None, ""),
        ("a verb", one_disk(fs("ext4")), disk, "noatime", Some("ro"), "ro,errors=remount-ro"),
    ];
    for (label, storage, path, typed, verb, want) in &cases {
        let given = Options::parse([*typed, "X-mount.subdir=etc"]).unwrap();
        let mut options = given.clone();
        verb.iter().for_each(|word| options.add(word).unwrap());
        let device = storage.devices.iter().find(|device| shown(device) == *path).unwrap();
        let request = request(Source::Device(device), &options);
        let able = Able { known: &[], helper: &|_| false, memory: Some(1 << 20) };
        let plan = plan(storage, &able, &request).unwrap();
        assert_eq!(plan.beside(&given).join(","), *want, "{label}");
    }
}

/// The journal would be emptied where it is.
#[test]
fn orphans_are_cleared_in_memory_without_a_journal_that_is_on_another_device() {
    let mut storage = with_journal(true, &["sdb"]);
    open_up(&mut storage, &["/dev/sda", "/dev/sda1", "/dev/sdb"]);
    for device in &mut storage.devices {
        if let Observed::Examined { report } = &mut device.report {
            report.signatures.iter_mut().for_each(|found| found.orphans = found.format == "ext4");
        }
    }
    let (step, notices) = last(&storage, "/dev/sda1", "ro", 1 << 30).unwrap();
    assert_eq!(step, "mount -t ext4 -o ro,noload,errors=remount-ro /dev/mapper/over-sda1 /mnt");
    assert!(
        notices.contains("cleared away in memory alone") && notices.contains("not replayed"),
        "{notices}"
    );
}

/// An overlay takes what is written to it, and what cannot be read may hold any.
#[test]
fn orphans_are_no_matter_in_memory_and_are_feared_where_nothing_could_be_read() {
    let uuid = format!("{}seq:1", contract::facts::OVERLAY_UUID);
    let dm = Dm { name: "over-sda".to_string(), uuid, suspended: false };
    let over = Block { dm: Some(dm), read_only: false, ..made("dm-0", 3, &["sda"]) };
    let orphans = || report(vec![Signature { orphans: true, ..fs("ext4") }]);
    let storage = storage(vec![block("sda", 1), over], vec![("sda", orphans()), ("dm-0", orphans())]);
    let want = "mount -t ext4 -o ro,errors=remount-ro /dev/mapper/over-sda /mnt";
    assert_eq!(steps(&storage, "/dev/mapper/over-sda", None, "ro").unwrap(), want);

    let mut unread = one_volume(fs("ext4"));
    for device in &mut unread.devices {
        device.report = Observed::Failed { reason: "it is torn".to_string() };
    }
    let told = steps(&unread, "/dev/mapper/vg-root", Some("ext4"), "ro").unwrap_err();
    assert!(told.contains("may have, files that were deleted while in use"), "{told}");
}

fn journal(uuid: &str) -> Signature {
    let mut found = sign("jbd", Usage::Other);
    found.tag("LOGUUID", uuid);
    found
}

/// ext4 on sda1 with its journal on sdb, and the same journal once more on these disks.
fn with_journal(dirty: bool, copies: &[&str]) -> Storage {
    let sda = block("sda", 1);
    let sda1 = part(&sda, 1);
    let numbers = [("sdb", 2), ("sdc", 3)];
    let blocks = numbers.iter().map(|(name, number)| block(name, *number));
    let ext4 = Signature { dirty, journal_on: Some("aa".to_string()), ..fs("ext4") };
    let mut seen = vec![("sda1", report(vec![ext4]))];
    seen.extend(copies.iter().map(|name| (*name, report(vec![journal("AA")]))));
    storage([sda, sda1].into_iter().chain(blocks).collect(), seen)
}

fn open_up(storage: &mut Storage, paths: &[&str]) {
    for device in storage.devices.iter_mut().filter(|device| paths.contains(&&*device.path)) {
        (device.guard, device.block.read_only) = (Some(Wanted::Writable), false);
    }
}

/// jbd2 empties the journal where it is; with what was replayed in memory dropped, its transactions would be nowhere.
#[test]
fn a_journal_on_another_device_is_never_replayed_by_reading() {
    let cases: [&[&str]; 4] =
        [&[], &["/dev/sdb"], &["/dev/sda", "/dev/sda1"], &["/dev/sda", "/dev/sda1", "/dev/sdb"]];
    for dirty in [true, false] {
        for open in cases {
            let mut storage = with_journal(dirty, &["sdb"]);
            open_up(&mut storage, open);
            let (step, notices) = last(&storage, "/dev/sda1", "ro", 1 << 30).unwrap();
            let want = "mount -t ext4 -o ro,noload,errors=remount-ro /dev/sda1 /mnt";
            assert_eq!(step, want, "{dirty} {open:?}");
            let told = notices
                == "/dev/sda1: its journal (on another device) was not replayed, so the last changes are not shown";
            assert!(if dirty { told } else { notices.is_empty() }, "{dirty} {open:?}: {notices}");
        }
    }
}

#[test]
fn writing_opens_the_journal_that_is_on_another_device_and_names_it_to_the_driver() {
    let text = |storage: &Storage, options: &str| steps(storage, "/dev/sda1", None, options);
    let open = "rescue writable /dev/sda1\nrescue writable";
    assert_eq!(
        text(&with_journal(true, &["sdb"]), "").unwrap(),
        format!("{open} /dev/sdb\nmount -t ext4 -o journal_path=/dev/sdb,errors=remount-ro /dev/sda1 /mnt")
    );
    assert_eq!(
        text(&with_journal(true, &[]), "").unwrap_err(),
        "/dev/sda1 has its journal on another device with UUID aa, which was not found: \
         mount -o ro /dev/sda1 shows it without that"
    );
    let two = with_journal(true, &["sdb", "sdc"]);
    let told = text(&two, "").unwrap_err();
    assert_eq!(told, "the journal aa is on /dev/sdb and /dev/sdc: name the one that is meant");
    assert_eq!(
        text(&two, "journal_path=/dev/sdc").unwrap(),
        format!("{open} /dev/sdc\nmount -t ext4 -o journal_path=/dev/sdc,errors=remount-ro /dev/sda1 /mnt")
    );
    assert_eq!(
        text(&two, "journal_path=/dev/sdx").unwrap_err(),
        "journal_path=/dev/sdx names no device that is there: blkid lists what is"
    );
    let mount = Mount { minor: 17, ..mounted("ro", "ro") };
    let options = Options::parse(["remount,rw"]).unwrap();
    let plan = remount(&with_journal(false, &["sdb"]), &mount, &options, true, "mount").unwrap();
    let texts: Vec<String> = plan.opens.iter().map(Step::text).collect();
    assert_eq!(texts.join("\n"), format!("{open} /dev/sdb\nrescue undo --save /dev/sdb"));
}

#[test]
fn a_copy_in_memory_whose_journal_is_on_a_disk_is_not_written() {
    let uuid = format!("{}seq:1", contract::facts::OVERLAY_UUID);
    let dm = Dm { name: "over-sda".to_string(), uuid, suspended: false };
    let over = Block { dm: Some(dm), read_only: false, ..made("dm-0", 3, &["sda"]) };
    let ext4 = || report(vec![Signature { journal_on: Some("aa".to_string()), ..fs("ext4") }]);
    let seen = vec![("sda", ext4()), ("dm-0", ext4()), ("sdb", report(vec![journal("aa")]))];
    let storage = storage(vec![block("sda", 1), block("sdb", 2), over], seen);
    for options in ["", "journal_path=/dev/sdb"] {
        let told = steps(&storage, "/dev/mapper/over-sda", None, options).unwrap_err();
        assert!(
            told.starts_with("/dev/mapper/over-sda is a copy in memory, and its journal is not: /dev/sdb"),
            "{told}"
        );
    }
    // Read, it is not replayed.
    assert_eq!(
        steps(&storage, "/dev/mapper/over-sda", None, "ro").unwrap().lines().next().unwrap(),
        "mount -t ext4 -o ro,noload,errors=remount-ro /dev/mapper/over-sda /mnt"
    );
}

/// mount(2) would end in EACCES, and the disks would be writable for nothing.
#[test]
fn what_is_mapped_for_reading_is_mounted_so_with_its_reason_and_opens_no_disk() {
    let dm = Dm { name: "vg-root".to_string(), uuid: "LVM-1".to_string(), suspended: false };
    let dm0 = Block { dm: Some(dm), ..made("dm-0", 10, &["sda"]) };
    let storage = storage(vec![block("sda", 1), dm0], vec![("dm-0", report(vec![fs("ext4")]))]);
    let why =
        "/dev/mapper/vg-root is open for reading only: rescue assemble --stop vg && rescue assemble --rw vg";
    let read = "mount -t ext4 -o ro,errors=remount-ro /dev/mapper/vg-root /mnt";
    let text = |options: &str| steps(&storage, "/dev/mapper/vg-root", None, options);
    assert_eq!(
        text("").unwrap(),
        format!("{read}\nWARNING: source write-protected, mounted read-only: {why}")
    );
    assert_eq!(text("ro").unwrap(), read);
    assert_eq!(text("rw").unwrap_err(), why);
    let mount = Mount { major: 9, minor: 160, ..mounted("ro", "ro") };
    let options = Options::parse(["remount,rw"]).unwrap();
    assert_eq!(remount(&storage, &mount, &options, true, "mount").unwrap_err().to_string(), why);
}

/// The kernel opens the log for writing with ro as well, and gives EACCES where it is guarded.
#[test]
fn an_xfs_is_read_together_with_the_log_and_the_realtime_part_that_have_disks_of_their_own() {
    let log = |uuid: &str| {
        let mut found = sign("xfs_external_log", Usage::Other);
        found.tag("LOGUUID", uuid);
        report(vec![found])
    };
    let xfs = || report(vec![Signature { journal_on: Some("aa".to_string()), ..fs("xfs") }]);
    let machine = |found: &str| {
        let blocks = [("sda", 1), ("sdb", 2), ("sdc", 3)].map(|(name, number)| block(name, number));
        storage(blocks.to_vec(), vec![("sda", xfs()), ("sdb", log(found))])
    };
    let over = "/dev/mapper/over";
    let cases = [
        ("aa", "ro", format!("ro,logdev={over}-sdb {over}-sda")),
        ("aa", "ro,rtdev=/dev/sdc", format!("ro,logdev={over}-sdb,rtdev={over}-sdc {over}-sda")),
        ("bb", "ro,norecovery,logdev=/dev/sdc", format!("ro,norecovery,logdev={over}-sdc {over}-sda")),
    ];
    for open in [&[][..], &["/dev/sdb"], &["/dev/sda"]] {
        for (uuid, options, want) in &cases {
            let mut storage = machine(uuid);
            open_up(&mut storage, open);
            let (step, notices) = last(&storage, "/dev/sda", options, 1 << 30).unwrap();
            assert_eq!(step, format!("mount -t xfs -o {want} /mnt"), "{options} {open:?}");
            assert!(notices.contains("the disks stay as they are"), "{options} {open:?}: {notices}");
        }
    }
    let told = last(&machine("aa"), "/dev/sda", "ro", 1 << 20).unwrap_err();
    assert!(
        told.starts_with("/dev/sda is on /dev/sdb as well, which the kernel opens for writing"),
        "{told}"
    );
    let told = last(&machine("bb"), "/dev/sda", "ro", 1 << 30).unwrap_err();
    assert!(told.ends_with("which was not found: -o logdev=DEVICE names it"), "{told}");
    let mut open = machine("aa");
    open_up(&mut open, &["/dev/sda", "/dev/sdb"]);
    let (step, _) = last(&open, "/dev/sda", "ro", 1 << 30).unwrap();
    assert_eq!(step, "mount -t xfs -o ro,logdev=/dev/sdb,norecovery /dev/sda /mnt");
    // For writing, each is asked for.
    assert_eq!(
        steps(&machine("aa"), "/dev/sda", None, "rtdev=/dev/sdc").unwrap(),
        "rescue writable /dev/sda\nrescue writable /dev/sdb\nrescue writable /dev/sdc\nmodprobe fs-xfs\n\
         mount -t xfs -o rtdev=/dev/sdc,logdev=/dev/sdb /dev/sda /mnt"
    );
    let mount = mounted("rw", "rw,attr2,logdev=/dev/sdb,rtdev=/dev/sdc,noquota");
    assert_eq!(beside_of(&mount).collect::<Vec<_>>(), ["/dev/sdb", "/dev/sdc"]);
}
