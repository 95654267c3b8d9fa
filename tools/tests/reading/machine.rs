//! The tools on a captured machine.

use crate::layout::lay_out;
use crate::{peers, rescue, tests, text};
use std::fs;

/// Options of lsblk, and the file below expected/mixed that holds what util-linux 2.41.5 printed for them on
/// 2026-11-24: `lsblk --sysroot DIR OPTIONS`.
const LSBLK: &[(&str, &str, &str)] = &[
    ("", "C", "lsblk.txt"),
    ("", "C.UTF-8", "lsblk-utf8.txt"),
    ("-a", "C", "lsblk-a.txt"),
    ("-l", "C", "lsblk-l.txt"),
    ("-J", "C", "lsblk-J.txt"),
    ("-P", "C", "lsblk-P.txt"),
    ("-r", "C", "lsblk-r.txt"),
    ("-S", "C", "lsblk-S.txt"),
    ("-p -o NAME,KNAME,PKNAME,PATH,TYPE,MOUNTPOINT,START", "C", "lsblk-p-o.txt"),
    ("-dnb -o NAME,SIZE,MODEL,VENDOR,STATE,TRAN,HCTL", "C", "lsblk-dnb-o.txt"),
];

#[test]
fn lsblk_prints_what_util_linux_printed() {
    let directory = tempfile::tempdir().unwrap();
    lay_out("mixed", directory.path());
    for (options, locale, expected) in LSBLK {
        let mut arguments = vec!["lsblk", "--sysroot", directory.path().to_str().unwrap()];
        arguments.extend(options.split_whitespace());
        let ours = rescue(&arguments, locale);
        let expected = fs::read_to_string(tests().join("expected/mixed").join(expected)).unwrap();
        assert_eq!(text(&ours), expected, "lsblk {options}");
        assert_eq!(ours.status.code(), Some(0), "lsblk {options}");
    }
}

/// Without MODEL, SERIAL and ID-LINK: with --sysroot util-linux 2.41.5 does not come to an end over these.
#[test]
fn lsblk_prints_what_util_linux_prints_today() {
    let directory = tempfile::tempdir().unwrap();
    lay_out("mixed", directory.path());
    let sysroot = directory.path().to_str().unwrap();
    let of_names =
        ["", "-l", "-J", "-P", "-r", "-d", "-n", "-b -J", "-p", "-i", "-o NAME,SIZE -n", "-dno NAME"];
    let of_queues =
        ["-D", "-J -D", "-b -D", "-t", "-J -t", "-b -J -t", "-z", "-b -P -z", "-J -z", "-v", "-J -v"];
    let of_the_way = ["-o +HOTPLUG,SUBSYSTEMS,MQ", "-J -o NAME,MAJ,MIN,FSROOTS,DAX,RAND,HOTPLUG,MQ,HCTL"];
    for options in of_names.into_iter().chain(of_queues).chain(of_the_way) {
        let Some(mut lsblk) = peers::peer("lsblk") else { return };
        let theirs = peers::done(lsblk.args(["--sysroot", sysroot]).args(options.split_whitespace()));
        let arguments: Vec<&str> =
            ["lsblk", "--sysroot", sysroot].into_iter().chain(options.split_whitespace()).collect();
        assert_eq!(text(&rescue(&arguments, "C")), text(&theirs), "lsblk {options}");
    }
}

/// Not MODEL and SERIAL: over those util-linux 2.41.5 does not come to an end with --sysroot.
#[test]
fn lsblk_escapes_what_util_linux_escapes() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    lay_out("mixed", root);
    let scsi = "sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0";
    let name = "vg\x1b[31m\u{202e} \u{fc}\\x1b\\y".as_bytes();
    fs::write(root.join(scsi).join("vendor"), "a\x07\t\u{2066}\u{9b}2J\u{e9}\x7f\n").unwrap();
    fs::write(root.join("sys/devices/virtual/block/dm-1/dm/name"), [name, b"\xff\n"].concat()).unwrap();
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap();
    let (before, after) = mounts.split_once("/mnt/boot").unwrap();
    let target = b"/mnt/b\x1b[31m\\012E\\040\\134x1b \xff\xc2\x9b\xe2\x80\xae";
    let target: Vec<u8> = target.iter().copied().filter(|byte| *byte != b' ').collect();
    fs::write(root.join("proc/self/mountinfo"), [before.as_bytes(), &target, after.as_bytes()].concat())
        .unwrap();
    let sysroot = root.to_str().unwrap();
    for options in [
        "-o NAME,VENDOR,MOUNTPOINT",
        "-l -o NAME,MOUNTPOINT",
        "-P -o NAME,VENDOR,MOUNTPOINTS",
        "-r -o NAME,VENDOR,MOUNTPOINTS",
    ] {
        let Some(mut lsblk) = peers::peer("lsblk") else { return };
        let theirs = peers::done(lsblk.args(["--sysroot", sysroot]).args(options.split_whitespace()));
        let arguments: Vec<&str> =
            ["lsblk", "--sysroot", sysroot].into_iter().chain(options.split_whitespace()).collect();
        assert_eq!(text(&rescue(&arguments, "C")), text(&theirs), "lsblk {options}");
    }
}

#[test]
fn status_shows_every_drive_and_volume_and_ends_with_the_next_command() {
    let directory = tempfile::tempdir().unwrap();
    lay_out("mixed", directory.path());
    let status = text(&rescue(&["status", "--sysroot", directory.path().to_str().unwrap()], "C"));
    for name in ["sda", "|-sda1", "`-sdb3", "nvme0n1", "md0", "vg-root", "crypt"] {
        assert!(status.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in\n{status}");
    }
    assert!(status.starts_with("4 disks, guarded"), "{status}");
    assert!(status.lines().last().unwrap().starts_with("Next: "), "{status}");
    assert!(!status.contains("loop0"), "the image's own layer in\n{status}");
}

#[test]
fn a_disk_without_an_answer_is_named_and_what_stands_on_it_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    lay_out("mixed", directory.path());
    let hung = directory.path().join("run/lifeboat/hung");
    fs::create_dir_all(&hung).unwrap();
    // sda has diskseq 1; process 42 lives.
    fs::write(hung.join("1"), "42 /dev/sda\n").unwrap();
    fs::create_dir_all(directory.path().join("proc/42")).unwrap();
    fs::write(directory.path().join("proc/42/stat"), "42 (rescue) D 1 42\n").unwrap();
    let status = text(&rescue(&["status", "--sysroot", directory.path().to_str().unwrap()], "C"));
    let problem =
        "  ! /dev/sda hangs: process 42 has been waiting for it; this disk is not touched until it answers";
    assert!(status.lines().any(|line| line == problem), "{status}");
    let md0 = status.lines().find(|line| line.starts_with("md0 ")).unwrap();
    assert!(md0.contains("it stands on /dev/sda1, which hangs"), "{status}");
    fs::write(directory.path().join("proc/42/stat"), "42 (rescue) Z 1 42\n").unwrap();
    let status = text(&rescue(&["status", "--sysroot", directory.path().to_str().unwrap()], "C"));
    assert!(!status.contains("hangs"), "{status}");
}

/// Only what a column shows is read of each device.
#[test]
fn a_column_alone_shows_what_it_shows_among_all() {
    const COLUMNS: &str = "ALIGNMENT DISK-SEQ FSTYPE FSVER HCTL KNAME LABEL LOG-SEC MAJ:MIN MIN-IO MODEL MOUNTPOINT NAME \
        OPT-IO PARTUUID PATH PHY-SEC PKNAME PTTYPE REV RM RO ROTA SERIAL SIZE START STATE TRAN TYPE UUID VENDOR WWN";
    let directory = tempfile::tempdir().unwrap();
    lay_out("mixed", directory.path());
    let sysroot = directory.path().to_str().unwrap();
    let list = |columns: &str| text(&rescue(&["lsblk", "--sysroot", sysroot, "-P", "-o", columns], "C"));
    let all: Vec<&str> = COLUMNS.split_whitespace().collect();
    let whole = list(&all.join(","));
    for column in all {
        // No value has quotes.
        let key = format!("{column}=\"");
        let cell = |line: &str| {
            let start =
                line.find(&format!(" {key}")).map(|at| at + 1).or(line.starts_with(&key).then_some(0));
            let rest = &line[start.unwrap_or_else(|| panic!("{key} in {line}")) + key.len()..];
            rest[..rest.find('"').unwrap()].to_string()
        };
        let among_all: Vec<String> = whole.lines().map(cell).collect();
        let alone: Vec<String> = list(column).lines().map(cell).collect();
        assert_eq!(alone, among_all, "{column}");
        let told = ["HCTL", "MODEL", "RM", "RO", "ROTA", "STATE", "TRAN", "TYPE", "VENDOR"].contains(&column);
        assert!(!told || alone.iter().any(|cell| !cell.is_empty()), "{column} is empty");
    }
}
