//! Known traps of the real tools, each on what the real tools make: what they say is shown first, so that a trap that is gone
//! is seen, then what is made of it here. Those that need the kernel are VM tests; docs/tests.md lists all.

use crate::peers::{self, done, peer};
use crate::{rescue, text};
use model::foreign::{self, exit};
use model::fsck::{parse, verdict};
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
