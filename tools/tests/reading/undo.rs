//! What a command saves before it writes, on images of the real tools, by the worker that reads and writes devices: whatever
//! these do to a table or a header is undone by it, and no other byte changes.

use crate::peers::{done, peer};
use contract::guard;
use contract::wire::WorkerRequest;
use host::Root;
use host::sys::loopdev::{AUTOCLEAR, attach};
use host::workers::{Job, Outcome, Pool};
use model::undo::{Kind, layout};
use ondisk::{DiskReport, Extent};
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SIZE: u64 = 32 << 20;
const SECTOR: u64 = 512;

#[derive(Deserialize)]
struct Kept {
    report: DiskReport,
    windows: Vec<Extent>,
    beyond: u64,
}

fn ask<T: serde::de::DeserializeOwned>(path: &Path, request: WorkerRequest) -> Outcome<T> {
    let job = Job { diskseq: None, path: path.display().to_string(), request };
    let mut pool = Pool::of(Root::live().unwrap(), &[env!("CARGO_BIN_EXE_rescue"), "worker"]);
    pool.run(&[job], Duration::from_secs(60)).pop().unwrap()
}

fn save(image: &Path, into: &Path, limit: u64) -> Outcome<Kept> {
    let [path, into] = [image, into].map(|path| path.display().to_string());
    ask(image, WorkerRequest::Save { path, logical_block: 512, size: SIZE, windows: Vec::new(), limit, into })
}

fn put_back(image: &Path, from: &Path, window: Extent) -> Outcome<()> {
    let [path, from] = [image, from].map(|path| path.display().to_string());
    let window = guard::Extent { start: window.start, length: window.length };
    ask(image, WorkerRequest::PutBack { path, size: SIZE, from, window })
}

fn tool(line: &str, image: &Path) -> Option<Command> {
    let mut words = line.split(' ');
    let mut command = peer(words.next().unwrap())?;
    for word in words {
        match word {
            "IMG" => command.arg(image),
            "KEY" => command.arg(image.with_file_name("key")),
            word => command.arg(word),
        };
    }
    Some(command)
}

/// A label, how an image is made, what is done to it, what tells that it is whole, and what it is saved as.
type Case = (&'static str, &'static [&'static str], &'static str, &'static str, Kind);

const CASES: &[Case] = &[
    (
        "a GPT that is zapped",
        &["sgdisk --clear -n 1:2048:40000 -n 2:40960:0 -c 2:data IMG"],
        "sgdisk --zap-all IMG",
        "sgdisk --verify IMG",
        Kind::Table,
    ),
    (
        "a GPT that becomes another one",
        &["sgdisk --clear -n 1:2048:40000 IMG"],
        "sgdisk --clear -n 1:4096:8192 -n 5:10240:0 IMG",
        "sgdisk --print IMG",
        Kind::Table,
    ),
    (
        "LUKS 2 whose keys are erased",
        &[
            "cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file KEY IMG",
        ],
        "cryptsetup -q luksErase IMG",
        "cryptsetup open --test-passphrase --key-file KEY IMG",
        Kind::Header,
    ),
    (
        "LUKS 1 of which a slot is killed",
        &[
            "cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 --key-file KEY IMG",
            "cryptsetup -q luksAddKey --pbkdf-force-iterations 1000 --key-file KEY IMG KEY",
        ],
        "cryptsetup -q luksErase IMG",
        "cryptsetup open --test-passphrase --key-slot 1 --key-file KEY IMG",
        Kind::Header,
    ),
    (
        "an ext4 whose signature is wiped",
        &["mkfs.ext4 -q -L root IMG"],
        "wipefs -a IMG",
        "e2fsck -fn IMG",
        Kind::FileSystem,
    ),
];

#[test]
fn what_the_real_tools_destroy_is_put_back_byte_by_byte() {
    for (label, make, destroy, check, kind) in CASES {
        let directory = tempfile::tempdir().unwrap();
        let (image, kept) = (directory.path().join("image"), directory.path().join("kept"));
        fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
        fs::write(directory.path().join("key"), "passphrase").unwrap();
        for line in *make {
            let Some(mut command) = tool(line, &image) else { return };
            done(&mut command);
        }
        let before = fs::read(&image).unwrap();
        let Outcome::Done(saved) = save(&image, &kept, 16 << 20) else { panic!("{label}") };
        assert_eq!(saved.beyond, 0, "{label}");
        assert_eq!(fs::metadata(&kept).unwrap().len(), SIZE, "{label}");
        assert!(fs::read(&image).unwrap() == before, "{label}: saving changes nothing");

        done(&mut tool(destroy, &image).unwrap());
        let destroyed = fs::read(&image).unwrap();
        assert!(destroyed != before, "{label}: {destroy} did nothing");
        let own = layout(&saved.report, SIZE, 512).cut(&saved.windows, 512);
        for (window, of) in own.iter().filter(|(_, of)| *of != Kind::Content) {
            assert_eq!(of, kind, "{label}");
            assert_eq!(put_back(&image, &kept, *window), Outcome::Done(()), "{label}");
        }
        let after = fs::read(&image).unwrap();
        let differing: Vec<u64> = after
            .chunks(SECTOR as usize)
            .zip(before.chunks(SECTOR as usize))
            .enumerate()
            .filter_map(|(number, (after, before))| (after != before).then_some(number as u64 * SECTOR))
            .collect();
        let is_saved = |at: &&u64| {
            saved.windows.iter().any(|window| (window.start..window.start + window.length).contains(at))
        };
        assert_eq!(differing.iter().find(is_saved), None, "{label}: what was saved is as it was");
        // luksErase wipes the areas of slots that are not in use, too.
        assert!(differing.is_empty() || *kind == Kind::Header, "{label}: {differing:?}");
        let output = tool(check, &image).unwrap().output().unwrap();
        assert!(output.status.success(), "{label}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Needs a loop device, which is root's to make.
#[test]
fn what_the_kernel_uses_is_named_and_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let (image, kept) = (directory.path().join("image"), directory.path().join("kept"));
    fs::write(&image, vec![7; SIZE as usize]).unwrap();
    let backing = fs::File::options().read(true).write(true).open(&image).unwrap();
    let Ok((path, _open)) = attach(&backing, 0, 0, AUTOCLEAR, "undo") else { return };
    let path = Path::new(&path);
    let Outcome::Done(_) = save(path, &kept, 8192) else { panic!("save it") };
    let claim = || ask::<()>(path, WorkerRequest::Claim { path: path.display().to_string() });
    let window = Extent { start: 0, length: 512 };
    assert_eq!((claim(), put_back(path, &kept, window)), (Outcome::Done(()), Outcome::Done(())));
    // As mount(2), swapon(2) and maps hold it.
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    let held = rustix::fs::open(path, flags, Mode::empty()).unwrap();
    for outcome in [claim(), put_back(path, &kept, window)] {
        let Outcome::Failed(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.starts_with(&format!("{} is in use: ", path.display())), "{why}");
    }
    drop(held);
    assert_eq!(claim(), Outcome::Done(()));
}

#[test]
fn no_more_is_saved_than_the_limit_and_nothing_is_written_past_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (image, kept) = (directory.path().join("image"), directory.path().join("kept"));
    fs::write(&image, vec![7; SIZE as usize]).unwrap();
    let Outcome::Done(saved) = save(&image, &kept, 8192) else { panic!("save it") };
    assert!(saved.windows.iter().map(|window| window.length).sum::<u64>() <= 8192 && saved.beyond > 0);
    assert!(saved.windows.iter().all(|window| window.start % 512 == 0 && window.length % 512 == 0));
    for window in [Extent { start: SIZE - 512, length: 1024 }, Extent { start: u64::MAX, length: 512 }] {
        assert!(matches!(put_back(&image, &kept, window), Outcome::Failed(_)), "{window:?}");
    }
    assert_eq!(fs::metadata(&image).unwrap().len(), SIZE);
}
