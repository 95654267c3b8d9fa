//! Known traps of the real tools, each on what the real tools make: what they say is shown first, so that a trap that is gone
//! is seen, then what is made of it here. Those that need the kernel are VM tests; docs/tests.md lists all.

use crate::peers::{self, done, peer};
use crate::{rescue, text};
use model::foreign::{self, exit};
use model::fsck::{parse, verdict};
use ondisk::volume::Volume;
use ondisk::{DiskReport, Geometry};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// An image of so many MiB that commands with IMG in them made; `None` where the peers are not there.
fn made(directory: &Path, name: &str, size: u64, commands: &[&[&str]]) -> Option<PathBuf> {
    let path = directory.join(name);
    fs::File::create(&path).unwrap().set_len(size * MIB).unwrap();
    for words in commands {
        let mut program = peer(words[0])?;
        let words = words[1..].iter().map(|word| word.replace("IMG", path.to_str().unwrap()));
        done(program.args(words).current_dir(directory));
    }
    Some(path)
}

fn write(path: &Path, offset: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn probed(path: &Path) -> DiskReport {
    ondisk::examine(&fs::read(path).unwrap(), Geometry::default())
}

/// The real checker over an image, as `fsck FLAGS` asks it: its own status, and what is made of it.
fn checked(program: &str, flags: &str, image: &Path) -> Option<(i32, i32, String)> {
    let line: Vec<String> = flags.split(' ').chain(["/dev/x"]).map(str::to_string).collect();
    let wish = parse(&line).unwrap().wish;
    let checker = foreign::checker(program).unwrap();
    let before = probed(image);
    let mut command = peer(program)?;
    let output = command.args((checker.arguments)(&wish)).arg(image).output().unwrap();
    let status = output.status.code().unwrap();
    let after = probed(image);
    let asked = (status, (checker.writes)(&wish), &wish);
    let verdict = verdict(checker, asked, before.signatures.first(), after.signatures.first(), "/dev/x");
    Some((status, verdict.bits, verdict.lines.join("\n")))
}

#[test]
fn a_journal_that_waits_is_no_sound_file_system_although_e2fsck_ends_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let make: &[&[&str]] =
        &[&["mkfs.ext4", "-q", "IMG"], &["debugfs", "-w", "-R", "feature needs_recovery", "IMG"]];
    let Some(image) = made(directory.path(), "ext4", 32, make) else { return };
    let (status, bits, line) = checked("e2fsck", "-n", &image).unwrap();
    assert_eq!((status, bits), (0, exit::UNCORRECTED), "{line}");
    assert!(line.contains("waits to be replayed"), "{line}");
    let (_, bits, _) = checked("e2fsck", "-p", &image).unwrap();
    assert_eq!(bits & exit::UNCORRECTED, 0);
    assert_eq!(checked("e2fsck", "-n", &image).unwrap(), (0, exit::SOUND, String::new()));
}

#[test]
fn inodes_that_e2fsck_takes_away_are_told_although_it_ends_with_0() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), "content").unwrap();
    let debugfs = |line: &'static str| vec!["debugfs", "-w", "-R", line, "IMG"];
    let make = [
        vec!["mkfs.ext4", "-q", "-O", "^orphan_file", "IMG"],
        debugfs("write f f"),
        debugfs("set_inode_field f links_count 0"),
        debugfs("set_super_value last_orphan 12"),
        debugfs("feature needs_recovery"),
    ];
    let make: Vec<&[&str]> = make.iter().map(Vec::as_slice).collect();
    let Some(image) = made(directory.path(), "ext4", 32, &make) else { return };
    let (status, bits, line) = checked("e2fsck", "-p", &image).unwrap();
    assert_eq!((status, bits), (0, exit::SOUND), "{line}");
    assert!(line.contains("ended with 0 and changed it"), "{line}");
}

#[test]
fn a_dirty_volume_is_not_clean_although_fsck_exfat_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let Some(image) = made(directory.path(), "exfat", 32, &[&["mkfs.exfat", "-q", "IMG"]]) else { return };
    // VolumeDirty of VolumeFlags (exFAT specification, section 3.1.13).
    write(&image, 106, &[2]);
    let (status, bits, line) = checked("fsck.exfat", "-n", &image).unwrap();
    assert_eq!((status, bits), (0, exit::UNCORRECTED), "{line}");
    assert!(line.contains("not unmounted cleanly"), "{line}");
    let (_, bits, line) = checked("fsck.exfat", "-y", &image).unwrap();
    assert!(bits & exit::UNCORRECTED == 0 && line.contains("changed it"), "{bits} {line}");
}

/// 2 is trouble in what we ask of btrfs, and super-recover is not asked.
#[test]
fn btrfs_super_recover_ends_with_2_on_success_and_no_verb_asks_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some(image) = made(directory.path(), "btrfs", 128, &[&["mkfs.btrfs", "-q", "IMG"]]) else { return };
    let sound = fs::read(&image).unwrap();
    write(&image, 64 << 10, &[0; 4096]);
    let report = probed(&image);
    assert!(format!("{:?}", report.signatures).contains("btrfs"), "the mirror is found: {report:?}");
    let mut btrfs = peer("btrfs").unwrap();
    let output = btrfs.args(["rescue", "super-recover", "-y"]).arg(&image).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(fs::read(&image).unwrap()[64 << 10..68 << 10] == sound[64 << 10..68 << 10], "it was a success");
    for line in ["-n /dev/x", "-y /dev/x", "--repair /dev/x"] {
        let words: Vec<String> = line.split(' ').map(str::to_string).collect();
        let argv = (foreign::checker("btrfs").unwrap().arguments)(&parse(&words).unwrap().wish);
        assert_eq!(argv[0], "check");
    }
}

#[test]
fn a_damaged_luks2_header_is_named_and_not_mended_by_a_look() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key"), "passphrase").unwrap();
    let format: &[&str] = &[
        "cryptsetup",
        "-q",
        "luksFormat",
        "--type",
        "luks2",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "--key-file",
        "key",
        "IMG",
    ];
    let Some(image) = made(directory.path(), "luks", 32, &[format]) else { return };
    write(&image, 4096, b"{torn");
    let torn = fs::read(&image).unwrap();
    rescue(&["fdisk", "-l", image.to_str().unwrap()], "C");
    let output = rescue(&["blkid", "-p", image.to_str().unwrap()], "C");
    assert!(text(&output).contains("crypto_LUKS"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("first header"), "{output:?}");
    assert!(fs::read(&image).unwrap() == torn, "a look changes nothing");
    // What a look by cryptsetup does where no guard stands before it.
    let mut cryptsetup = peer("cryptsetup").unwrap();
    done(cryptsetup.arg("isLuks").arg(&image));
    assert!(fs::read(&image).unwrap() != torn, "the trap is gone");
}

#[test]
fn a_header_that_is_apart_from_its_data_is_no_lock() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key"), "passphrase").unwrap();
    fs::File::create(directory.path().join("data")).unwrap().set_len(32 * MIB).unwrap();
    for (kind, data) in [("luks1", "data"), ("luks2", "data"), ("luks1", "IMG"), ("luks2", "IMG")] {
        let line = format!(
            "cryptsetup -q luksFormat --type {kind} --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file key --header IMG \
             {data}"
        );
        let line = line.replace(if data == "IMG" { "--header IMG " } else { "" }, "");
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(image) = made(directory.path(), kind, 32, &[&words]) else { return };
        let report = probed(&image);
        let Some(Volume::Luks(luks)) = &report.signatures[0].volume else { panic!("{kind}: {report:?}") };
        assert_eq!(luks.is_apart, data == "data", "{line}");
        let output = rescue(&["fsck", "-n", image.to_str().unwrap()], "C");
        let told =
            String::from_utf8_lossy(&output.stderr).contains("kept apart from its data: cryptsetup open");
        assert_eq!(told, data == "data", "{output:?}");
    }
}

#[test]
fn a_gpt_behind_an_mbr_that_the_kernel_uses_is_not_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let make: &[&[&str]] = &[&["sgdisk", "--clear", "-n", "1:2048:40000", "-n", "2:40960:0", "IMG"]];
    let Some(image) = made(directory.path(), "stick", 64, make) else { return };
    // One partition of type 0x17 in place of the protective one, as isohybrid writes it.
    let sectors = [64_u32.to_le_bytes(), 8000_u32.to_le_bytes()].concat();
    write(&image, 446, &[&[0x80, 0, 0, 0, 0x17, 0xff, 0xff, 0xff], &sectors[..], &[0; 48]].concat());
    for arguments in [&["fdisk", "-l"][..], &["blkid", "-p"]] {
        let theirs = peers::peer(arguments[0]).unwrap().args(&arguments[1..]).arg(&image).output().unwrap();
        let ours = rescue(&[arguments, &[image.to_str().unwrap()]].concat(), "C");
        assert_eq!(text(&ours), text(&theirs), "{arguments:?}");
    }
    let findings = probed(&image).findings;
    assert!(
        findings.iter().any(|finding| finding.text.contains("a GPT lies behind the MBR")),
        "{findings:?}"
    );
    // With the word GPT in the MBR, as of a hybrid one, the kernel uses the GPT.
    write(&image, 446 + 16 + 4, &[0xee]);
    write(&image, 446 + 16 + 8, &[1, 0, 0, 0, 63, 0, 0, 0]);
    assert_eq!(probed(&image).table.unwrap().kind.name(), "gpt");
}

/// The same table with entries of 256 bytes, at both ends.
fn widened(image: &Path) {
    let mut disk = fs::read(image).unwrap();
    let crc = |bytes: &[u8]| (!crate::crafted::crc(crate::crafted::CRC32, !0, bytes)).to_le_bytes();
    let entries: Vec<u8> =
        disk[1024..1024 + 128 * 128].chunks(128).flat_map(|entry| [entry, &[0; 128]].concat()).collect();
    let last = disk.len() / 512 - 1;
    let behind = last - 64;
    for (lba, at) in [(1, 2), (last, behind)] {
        disk[at * 512..(at + 64) * 512].copy_from_slice(&entries);
        let header = &mut disk[lba * 512..lba * 512 + 92];
        header[40..48].copy_from_slice(&66_u64.to_le_bytes());
        header[48..56].copy_from_slice(&(behind as u64 - 1).to_le_bytes());
        header[72..80].copy_from_slice(&(at as u64).to_le_bytes());
        header[84..88].copy_from_slice(&256_u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc(&entries));
        header[16..20].fill(0);
        let sum = crc(header);
        header[16..20].copy_from_slice(&sum);
    }
    fs::write(image, disk).unwrap();
}

/// What util-linux says of them, and whether what the finding names mends them.
#[test]
fn a_gpt_that_the_kernel_refuses_is_to_fdisk_and_blkid_what_it_is_to_util_linux() {
    let directory = tempfile::tempdir().unwrap();
    let make: &[&[&str]] = &[&["sgdisk", "--clear", "-n", "1:2048:40000", "IMG"]];
    let shorten = |image: &Path| {
        fs::OpenOptions::new().write(true).open(image).unwrap().set_len(60 << 20).unwrap();
    };
    let protect = Some(("gdisk", "", "x\nn\nw\ny\n"));
    let choose = Some(("gdisk", "", "2\nx\nn\nw\ny\n"));
    /// What it is called, what makes it, and what mends it: program, flag, input.
    type Case<'a> = (&'a str, &'a dyn Fn(&Path), Option<(&'a str, &'a str, &'a str)>);
    let cases: [Case<'_>; 6] = [
        ("sound", &|_| (), None),
        ("a copy on a smaller disk", &shorten, Some(("sgdisk", "-e", ""))),
        ("larger entries", &widened, None),
        ("sector 0 is zeroed", &|image| write(image, 0, &[0; 512]), protect),
        ("its entry in sector 0 is gone", &|image| write(image, 446, &[0; 16]), choose),
        ("its entry starts elsewhere", &|image| write(image, 454, &[2]), protect),
    ];
    for (label, change, mend) in cases {
        let Some(image) = made(directory.path(), "refused", 64, make) else { return };
        change(&image);
        for arguments in [&["fdisk", "-l"][..], &["blkid", "-p"]] {
            let theirs =
                peers::peer(arguments[0]).unwrap().args(&arguments[1..]).arg(&image).output().unwrap();
            let ours = rescue(&[arguments, &[image.to_str().unwrap()]].concat(), "C");
            // libfdisk lists the entry as it would write it, ours as it stands there.
            let listed = text(&theirs).replace("122879  122879  60M ee", "131071  131071  64M ee");
            assert_eq!((text(&ours), ours.status), (listed, theirs.status), "{label}: {arguments:?}");
        }
        let refused = |image: &Path| {
            let report = probed(image);
            assert_eq!(report.table.unwrap().partitions.len(), 1, "{label}");
            report.findings.iter().any(|finding| finding.text.contains("the kernel shows no partition"))
        };
        assert_eq!(refused(&image), label != "sound", "{label}");
        if let Some((program, flag, typed)) = mend {
            let input = directory.path().join("typed");
            fs::write(&input, typed).unwrap();
            let mut program = peer(program).unwrap();
            program.args([flag].iter().filter(|flag| !flag.is_empty())).arg(&image);
            done(program.stdin(fs::File::open(&input).unwrap()));
            assert!(!refused(&image), "{label}: it is not mended");
        }
        fs::remove_file(&image).unwrap();
    }
}

#[test]
fn a_hibernated_windows_is_known_where_ntfs3_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let make: &[&[&str]] = &[&["mkntfs", "-q", "-F", "-f", "IMG"]];
    let header = |magic: &[u8]| [magic, &vec![0; 8192][..]].concat();
    let cases: [(&str, &[u8], usize, bool); 4] = [
        ("a system that is asleep", &header(b"hibr"), 0, true),
        ("one that is awake", &header(b"wake"), 0, false),
        ("a volume besides its own", b"hibr", 0, true),
        ("in a directory that does not fit into its record", &header(b"HIBR"), 200, true),
    ];
    for (label, content, others, want) in cases {
        let Some(image) = made(directory.path(), "ntfs", 32, make) else { return };
        let file = directory.path().join("content");
        fs::write(&file, content).unwrap();
        let names = (0..others).map(|number| format!("file {number}"));
        for name in names.chain(["hiberfil.sys".to_string()]) {
            done(peer("ntfscp").unwrap().args(["-q", "-f"]).arg(&image).arg(&file).arg(name));
        }
        let report = probed(&image);
        let told = report.signatures[0].hibernated;
        assert_eq!(told, want, "{label}: {report:?}");
    }
}
