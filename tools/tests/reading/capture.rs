//! `rescue capture`: what is captured is seen elsewhere as it was, and holds no keys.

use crate::layout::{lay_out, lay_out_text};
use crate::{peers, rescue, text};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Output;

/// What has to look the same.
const LOOKS: &[&str] = &[
    "status",
    "status --json",
    "status --login",
    "lsblk",
    "lsblk -f",
    "lsblk -D",
    "lsblk -J -t",
    "lsblk -m",
    "lsblk -z",
    "lsblk -o NAME,HOTPLUG,SUBSYSTEMS,MQ,ID,ID-LINK,DAX,MAJ,MIN,RAND",
    "lsblk -o NAME,FSAVAIL,FSSIZE,FSUSED,FSUSE%",
    "lsblk -J -o NAME,SIZE,TYPE,FSTYPE,LABEL,UUID,PARTUUID,PTTYPE,MODEL,SERIAL,TRAN,ROTA,RO,STATE",
    "blkid",
    "blkid -o export",
    "fdisk -l",
    "fdisk -l --json",
];

/// What statvfs(3) says where somebody can be asked.
const SPACE: &str = r#"{"/mnt/boot":{"size":1048576,"used":262144,"available":734003},
    "/srv2":{"size":10485760,"used":0,"available":10485760}}"#;

fn look(root: &Path, what: &str) -> (String, String, Option<i32>) {
    let mut words = what.split(' ');
    let verb = words.next().unwrap();
    let arguments: Vec<&str> = [verb, "--sysroot", root.to_str().unwrap()].into_iter().chain(words).collect();
    let output = rescue(&arguments, "C");
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    // The public host key is left out of a capture, and shown by --json alone.
    let said: Vec<String> =
        text(&output).lines().filter(|line| !line.contains("\"host_key\"")).map(str::to_string).collect();
    (said.join("\n"), errors, output.status.code())
}

fn capture(root: &Path, into: &Path) -> Output {
    rescue(&["capture", "--sysroot", root.to_str().unwrap(), into.to_str().unwrap()], "C")
}

fn same(root: &Path, captured: &Path) {
    for what in LOOKS {
        let (got, want) = (look(captured, what), look(root, what));
        let differing = got.0.lines().zip(want.0.lines()).find(|(got, want)| got != want);
        assert_eq!(differing, None, "{what}");
        assert_eq!(got, want, "{what}");
    }
}

fn write(root: &Path, device: &str, pieces: &[(u64, &[u8])]) {
    let file = fs::OpenOptions::new().write(true).open(root.join("dev").join(device)).unwrap();
    pieces.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
}

/// The mixed machine, with something on its disks: an MBR with a partition that the kernel does not have, swap, a LUKS 1
/// header with key material, and a PV whose label is torn.
fn machine(root: &Path) {
    lay_out("mixed", root);
    let swap: &[(u64, &[u8])] = &[(1024, &[1, 0, 0, 0, 0xff, 0xe]), (0xff6, b"SWAPSPACE2"), (1052, b"swap1")];
    let sector = |start: u32, sectors: u32| {
        let mut entry = vec![0, 0, 2, 0, 0x82, 0xff, 0xff, 0xff];
        entry.extend([start.to_le_bytes(), sectors.to_le_bytes()].concat());
        entry
    };
    write(root, "vda", &[(440, &[4, 3, 2, 1]), (446, &sector(2048, 65536)), (510, &[0x55, 0xaa])]);
    for (offset, bytes) in swap {
        write(root, "vda", &[((1 << 20) + offset, bytes)]);
    }
    write(root, "md1", swap);
    write(root, "sda3", &[(512, b"LABELONE\x01\0\0\0\0\0\0\0"), (536, b"LVM2 001abcdef")]);
    let luks: Vec<(u64, &[u8])> = vec![
        (0, b"LUKS\xba\xbe\0\x01aes"),
        (40, b"xts-plain64"),
        (72, b"sha256"),
        (104, &[0, 0, 0x10, 0, 0, 0, 0, 64]),
        (168, b"1a2b3c4d-0000-4000-8000-00000000abcd"),
        (208, &[0, 0xac, 0x71, 0xf3, 0, 0, 3, 0xe8]),
        (248, &[0, 0, 0, 8, 0, 0, 0x0f, 0xa0]),
    ];
    write(root, "dm-1", &luks);
    // Of the key material, where probes look for other formats: iso9660, reiserfs, btrfs.
    for at in [0x8001, 0x10000, 0x10034, 0x10040] {
        write(root, "dm-1", &[(at, b"KEY.KEY.KEY.KEY.")]);
    }
    // A file, which no probe reads.
    write(root, "dm-1", &[(3 << 20, b"contents of a file")]);
    fs::remove_file(root.join("dev/sr0")).unwrap();
    fs::write(root.join("proc/cmdline"), "quiet ssh_key=ssh-ed25519,AAAAC3 rd.luks.password=w0rd\n").unwrap();
    let run = root.join("run/lifeboat");
    for (path, content) in [
        ("state/sshd.json", r#"{"port":22,"host_key":"ssh-ed25519 AAAAC3","problems":["no key was given"]}"#),
        (
            "state/netd.json",
            r#"{"links":[{"name":"eth0","state":"bound","addresses":[{"address":"192.0.2.5","prefix":24}]}]}"#,
        ),
        ("state/devd.json", r#"{"settled":true}"#),
        ("state/init.json", r#"{"services":[{"name":"sshd","state":"running"}]}"#),
        ("sshd/host_ed25519", "AAAAC3"),
        ("space.json", SPACE),
        // Its diskseq.
        ("hung/20", "42 /dev/nvme0n1\n"),
    ] {
        let path = run.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::create_dir_all(root.join("proc/42")).unwrap();
    fs::write(root.join("proc/42/stat"), "42 (rescue) D 1 42\n").unwrap();
}

/// Every file below a directory.
fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The bytes of a sparse file that are there at all.
fn data(path: &Path) -> Vec<u8> {
    let file = File::open(path).unwrap();
    let (mut bytes, mut at) = (Vec::new(), 0);
    while let Ok(start) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(start)).unwrap();
        let mut piece = vec![0; (at - start) as usize];
        file.read_exact_at(&mut piece, start).unwrap();
        bytes.extend(piece);
    }
    bytes
}

#[test]
fn a_captured_machine_looks_the_same_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let (root, captured) = (directory.path().join("root"), directory.path().join("captured"));
    machine(&root);
    let output = capture(&root, &captured);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}{}", String::from_utf8_lossy(&output.stderr));
    same(&root, &captured);
    let status = look(&captured, "status").0;
    for part in
        ["/dev/nvme0n1 hangs", "swap1", "crypto_LUKS", "192.0.2.5/24", "no key was given", "sshd running"]
    {
        assert!(status.contains(part) || look(&captured, "blkid").0.contains(part), "{part} in\n{status}");
    }
    // Room of what was mounted, which nobody can be asked for there.
    let room = look(&captured, "lsblk -n -o NAME,FSAVAIL,FSUSE%").0;
    let cells = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    for (name, want) in [("md0", "716.8K 25%"), ("crypt", "10M 0%"), ("vg-root", "")] {
        let line = room.lines().find(|line| line.contains(name)).unwrap();
        assert!(cells(line).ends_with(want), "{name} {want} in\n{room}");
    }
    assert!(status.contains("/mnt/boot, 716.8K free"), "{status}");
    // As one text, too.
    let printed = text(&rescue(&["capture", "--text", captured.to_str().unwrap()], "C"));
    assert!(printed.len() < 64 << 10, "{} bytes", printed.len());
    let unpacked = directory.path().join("unpacked");
    lay_out_text(&printed, &unpacked);
    same(&root, &unpacked);
    // Also once more, from the capture: it is a machine like any other.
    let again = directory.path().join("again");
    assert_eq!(capture(&captured, &again).status.code(), Some(3));
    same(&root, &again);
}

#[test]
fn what_could_not_be_read_cannot_be_read_in_the_capture() {
    let directory = tempfile::tempdir().unwrap();
    let (root, captured) = (directory.path().join("root"), directory.path().join("captured"));
    machine(&root);
    capture(&root, &captured);
    let sound = look(&captured, "status");
    let place = captured.join("capture.json");
    let mut manifest: serde_json::Value = serde_json::from_str(&fs::read_to_string(&place).unwrap()).unwrap();
    let devices = manifest["devices"].as_array_mut().unwrap();
    let vda = devices.iter_mut().find(|device| device["name"] == "vda").unwrap();
    vda["failed"] = serde_json::json!([{"start": 0, "length": 65536, "error": "Input/output error"}]);
    fs::write(&place, manifest.to_string()).unwrap();
    let status = look(&captured, "status");
    assert!(
        status != sound && status.0.contains("read 69632 bytes at 0: Input/output error"),
        "{}",
        status.0
    );
    let again = directory.path().join("again");
    capture(&captured, &again);
    assert_eq!(look(&again, "status"), status);
}

#[test]
fn what_is_missing_and_what_is_left_out_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (root, captured) = (directory.path().join("root"), directory.path().join("captured"));
    machine(&root);
    let said = text(&capture(&root, &captured));
    for line in [
        "! open /dev/sr0: No such file or directory",
        "! /dev/nvme0n1 hangs: process 42 has been waiting for it",
        "left out: key slots of LUKS: /dev/dm-1",
    ] {
        assert!(said.lines().any(|said| said.trim() == line), "{line} in\n{said}");
    }
    assert_eq!(said.matches("hangs").count(), 1, "{said}");
    let manifest = fs::read_to_string(captured.join("capture.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let of = |name: &str| {
        let mut devices = manifest["devices"].as_array().unwrap().iter();
        devices.find(|device| device["name"] == name).unwrap().clone()
    };
    assert_eq!((&of("nvme0n1")["state"], &of("sr0")["state"]), (&"hung".into(), &"failed".into()));
    assert_eq!((&of("vda")["state"], &of("vda")["same"]), (&"captured".into(), &true.into()));
    assert_eq!(of("vda")["size"], 2_097_152_u64 * 512);
    assert!(!captured.join("dev/nvme0n1").exists() && !captured.join("dev/sr0").exists());
}

#[test]
fn a_capture_holds_no_secret_and_little_else() {
    let directory = tempfile::tempdir().unwrap();
    let (root, captured) = (directory.path().join("root"), directory.path().join("captured"));
    machine(&root);
    capture(&root, &captured);
    let mut all = Vec::new();
    files(&captured, &mut all);
    let mut taken = 0;
    for path in all {
        let metadata = fs::metadata(&path).unwrap();
        taken += metadata.blocks() * 512;
        assert_eq!(metadata.mode() & 0o077, 0, "{}", path.display());
        let bytes = data(&path);
        for secret in [&b"KEY."[..], b"AAAAC3", b"w0rd", b"contents of a file"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} in {}", String::from_utf8_lossy(secret), path.display());
        }
    }
    assert!(taken < 4 << 20, "it takes {taken} bytes");
    assert_eq!(fs::metadata(captured.join("dev/vda")).unwrap().len(), 2_097_152 * 512);
}

#[test]
fn a_directory_that_is_not_empty_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (root, captured) = (directory.path().join("root"), directory.path().join("captured"));
    machine(&root);
    fs::create_dir(&captured).unwrap();
    fs::write(captured.join("mine"), "kept").unwrap();
    let output = capture(&root, &captured);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not empty: name a new directory"));
    assert_eq!(fs::read_dir(&captured).unwrap().count(), 1);
    fs::remove_file(captured.join("mine")).unwrap();
    assert_eq!(capture(&root, &captured).status.code(), Some(3));
    assert!(captured.join("capture.json").exists());
}

/// With what the real tools make: a GPT, file systems on md, LVM on LUKS.
#[test]
fn what_real_tools_made_looks_the_same_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let (root, captured) = (directory.path().join("root"), directory.path().join("captured"));
    lay_out("mixed", &root);
    let device = |name: &str| root.join("dev").join(name).to_str().unwrap().to_string();
    let key = directory.path().join("key");
    fs::write(&key, "passphrase").unwrap();
    let sda = device("sda");
    // As long as sysfs says.
    let sized = |name: &str, sectors: u64| {
        fs::OpenOptions::new().write(true).open(device(name)).unwrap().set_len(sectors * 512).unwrap();
    };
    sized("sda", 20_971_520);
    sized("sda3", 16_777_216);
    for (program, arguments) in [
        ("sgdisk", vec!["-n", "1:2048:1050623", "-n", "2:1050624:3147775", "-n", "3:3147776:19924991", &sda]),
        ("mkfs.ext4", vec!["-q", "-L", "boot", &device("md0"), "400M"]),
        ("mkfs.btrfs", vec!["-q", "-L", "pool", "-b", "900M", &device("dm-2")]),
        ("mkfs.xfs", vec!["-q", "-f", "-d", "size=400m", &device("dm-0")]),
        (
            "cryptsetup",
            vec![
                "luksFormat",
                "-q",
                "--type",
                "luks2",
                "--label",
                "vault",
                "--pbkdf",
                "pbkdf2",
                "--pbkdf-force-iterations",
                "1000",
                &device("sda3"),
                key.to_str().unwrap(),
            ],
        ),
        (
            "cryptsetup",
            vec!["token", "add", "--key-slot", "0", "--key-description", "SEALED-BY-ME", &device("sda3")],
        ),
    ] {
        let Some(mut command) = peers::peer(program) else { return };
        peers::done(command.args(arguments));
    }
    // The disk holds what its partition does, as disks do.
    let header = fs::File::open(device("sda3")).unwrap();
    let mut start = vec![0; 4 << 20];
    header.read_exact_at(&mut start, 0).unwrap();
    let slots: Vec<u8> = start[0x8000..0x8000 + 64].to_vec();
    write(&root, "sda", &[(3_147_776 * 512, &start)]);
    assert_eq!(capture(&root, &captured).status.code(), Some(0));
    same(&root, &captured);
    let blkid = look(&captured, "blkid").0;
    for part in ["LABEL=\"boot\"", "LABEL=\"pool\"", "TYPE=\"xfs\"", "LABEL=\"vault\""] {
        assert!(blkid.contains(part), "{part} in\n{blkid}");
    }
    let mut all = Vec::new();
    files(&captured.join("dev"), &mut all);
    for path in all {
        let bytes = data(&path);
        for secret in [&slots[..], b"SEALED-BY-ME"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
    }
}
