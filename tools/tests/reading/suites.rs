//! The test images of the peers' own source packages, which `make peers` puts into the cache and which nobody
//! commits: util-linux's test scripts with our tools in the place of its own, and every image of four packages, most of
//! them damaged on purpose, to ours and to the real blkid.

use crate::{peers, rescue};
use std::collections::BTreeSet;
use std::fs::{self, File};

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// util-linux's scripts that only look, or whose images are then looked at, and how many subtests (one, where there are
/// none by name) each has, so that none is lost unseen.
const SCRIPTS: &[(&str, usize)] = &[
    ("blkid/low-probe", 131),
    ("blkid/output", 12),
    ("fdisk/bsd", 1),
    ("fdisk/gpt", 8),
    ("fdisk/id", 2),
    ("fdisk/mbr-dos-mode", 11),
    ("fdisk/mbr-nondos-mode", 13),
    ("fdisk/mbr-sort", 4),
    ("fdisk/resize", 1),
    ("fdisk/sunlabel", 7),
    ("lsblk/lsblk", 14),
];

/// Subtests in which ours does not print what util-linux expects, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("blkid/low-probe-befs", CUT),
    ("blkid/low-probe-ddf-raid", CUT),
    ("blkid/low-probe-ext4", CUT),
    ("blkid/low-probe-fat16_noheads", CUT),
    ("blkid/low-probe-luks2", CUT),
    ("blkid/low-probe-udf-hdd-mkudffs-1.0.0-2", STEERS),
    ("blkid/output-value-cache", STEERS),
    ("blkid/output-value-probe", STEERS),
];
/// Then what is printed is equal, and a line on stderr is more.
const CUT: &str = "the image ends before what is in it does, and ours says so";
const STEERS: &str = "a control character in a label is not let onto a terminal";

/// Calls that ours hands over to util-linux's own program, in the image as here, by a word of each.
const HANDED_OVER: &[(&str, &str)] = &[
    ("-u=cylinders", "listing in cylinders, of a geometry that is given"),
    ("--hint", "a session of a disc that was written in several: nothing that a server's disks have"),
];

/// The scripts want a build tree with the programs: ours in it, handing over as in the image. `$LOG` says what was
/// handed over, and of every table that fdisk makes whether ours lists it in the same words.
const PROGRAM: &str = r#"#!/bin/sh
over() { echo "handed over: NAME $*" >> LOG; exec PEERS/NAME "$@"; }
case "NAME $* " in
fdisk*' -l '*|fdisk*' -x '*)
    for last; do :; done
    for listing in -l -x; do
        RESCUE fdisk $listing "$last" > LOG.ours 2> LOG.said
        PEERS/fdisk $listing "$last" > LOG.theirs 2> LOG.they
        if grep -q "is the original's" LOG.said; then echo "left to fdisk: $listing $last" >> LOG
        elif cmp -s LOG.ours LOG.theirs; then echo "equal: $listing $last" >> LOG
        else { echo "differs: $listing $last"; diff LOG.ours LOG.theirs; } >> LOG; fi
    done ;;
fdisk*) exec PEERS/NAME "$@" ;; # it edits
lsblk*)
    # Only a part of sysfs was captured, and not this.
    if [ ! -e "$2/sys/class/block" ]; then
        mkdir -p "$2/sys/class/block"
        for link in "$2"/sys/dev/block/*; do
            target=$(readlink "$link")
            ln -s "../../${target#../../}" "$2/sys/class/block/${target##*/}"
        done
    fi ;;
esac
RESCUE NAME "$@" > LOG.out 2> LOG.err
status=$?
grep -q "this use of NAME is the original's" LOG.err && over "$@"
cat LOG.out
cat LOG.err >&2
exit $status
"#;

/// Bytes of the longest run of zeros that is not written.
const BLOCK: usize = 64 << 10;
/// Every look at an image is over by then.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn util_linux_s_own_scripts_pass_with_our_tools() {
    let directory = tempfile::tempdir().unwrap();
    let patterns = ["*/tests/*.sh", "*/tests/ts/*", "*/tests/expected/*"];
    let Some(suite) = peers::released("util-linux", &patterns, directory.path()) else { return };
    let (mut failed, mut log, mut wrong) = (BTreeSet::new(), String::new(), Vec::new());
    for (script, subtests) in SCRIPTS {
        let build = directory.path().join(script.replace('/', "-"));
        build_tree(&build);
        let mut bash = Command::new("bash");
        bash.arg(suite.join("tests/ts").join(script)).env("PATH", peers::path()).current_dir(&build);
        bash.arg(format!("--srcdir={}", suite.display())).arg(format!("--builddir={}", build.display()));
        let told = String::from_utf8_lossy(&bash.output().unwrap().stdout).into_owned();
        // A script with subtests says OK or FAILED of each and once more of itself.
        let verdicts = |word: &str| told.lines().filter(|line| line.contains(word)).count();
        let ran = verdicts("... OK") + verdicts("... FAILED");
        if ran != subtests + usize::from(*subtests > 1) {
            wrong.push(format!("{script}: {subtests} subtests were expected:\n{told}"));
        }
        for diff in entries(&build.join("tests/diff").join(script.split('/').next().unwrap())) {
            let name = diff.file_name().unwrap().to_string_lossy().into_owned();
            failed.insert((format!("{}/{name}", script.split('/').next().unwrap()), diff));
        }
        log += &fs::read_to_string(build.join("log")).unwrap_or_default();
    }
    for (name, diff) in &failed {
        let beside = name.strip_suffix(".err");
        let known = EXCEPTIONS.iter().any(|(image, why)| match *why == CUT {
            true => beside == Some(*image),
            false => name == image,
        });
        if !known {
            wrong.push(fs::read_to_string(diff).unwrap());
        }
    }
    let is_needed = |image: &str| failed.iter().any(|(name, _)| name.trim_end_matches(".err") == image);
    let idle = EXCEPTIONS.iter().filter(|(image, _)| !is_needed(image));
    wrong.extend(idle.map(|(image, _)| format!("{image} passes and stands in EXCEPTIONS")));
    let is_told =
        |line: &str| HANDED_OVER.iter().any(|(word, _)| line.split(' ').any(|own| own.contains(word)));
    wrong.extend(
        log.lines().filter(|line| line.starts_with("handed over") && !is_told(line)).map(String::from),
    );
    let begins = |word: &str| log.lines().filter(|line| line.starts_with(word)).count();
    let left = log.lines().filter(|line| line.starts_with("left to fdisk"));
    wrong.extend(left.map(String::from));
    if begins("differs") > 0 {
        wrong.push(log.clone());
    }
    let subtests: usize = SCRIPTS.iter().map(|(_, subtests)| subtests).sum();
    eprintln!(
        "util-linux's scripts: {} of {subtests} subtests pass, {} are exceptions; {} calls handed over; fdisk -l and -x equal {} times",
        subtests - EXCEPTIONS.len(),
        EXCEPTIONS.len(),
        begins("handed over"),
        begins("equal")
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Programs as the scripts look for them, and what of the suite's own has to be compiled, in other words.
fn build_tree(build: &Path) {
    fs::create_dir_all(build).unwrap();
    let log = build.join("log");
    let directory = peers::directory().expect("released() found it");
    let put = |name: &str, text: &str| {
        let path = build.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    for name in ["blkid", "fdisk", "lsblk"] {
        let text = PROGRAM
            .replace("NAME", name)
            .replace("PEERS", directory.to_str().unwrap())
            .replace("RESCUE", env!("CARGO_BIN_EXE_rescue"))
            .replace("LOG", log.to_str().unwrap());
        put(name, &text);
    }
    put("test_md5", "#!/bin/sh\nmd5sum | cut -d' ' -f1\n");
    put("test_sysinfo", "#!/bin/sh\necho LE\n");
    put("hexdump", &format!("#!/bin/sh\nexec {}/busybox hexdump \"$@\"\n", directory.display()));
}

/// What util-linux's helper prints of a table, by its expected files, and what the real fdisk lists.
#[test]
fn tables_of_util_linux_s_suite_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let patterns = ["*/tests/ts/blkid/images-pt/*", "*/tests/expected/blkid/lowprobe-pt-*"];
    let Some(suite) = peers::released("util-linux", &patterns, directory.path()) else { return };
    let images = entries(&suite.join("tests/ts/blkid/images-pt"));
    assert_eq!(images.len(), 7, "{images:?}");
    for packed in images {
        let name = packed.file_name().unwrap().to_string_lossy().replace(".img.xz", "");
        let image = directory.path().join(&name);
        unpack(&packed, &image);
        let bytes = fs::read(&image).unwrap();
        let report = ondisk::examine(&bytes, ondisk::Geometry::default());
        let expected = suite.join("tests/expected/blkid").join(format!("lowprobe-pt-{name}"));
        let expected = fs::read_to_string(expected).unwrap();
        assert_eq!(listed(bytes.len(), report.table.as_ref().unwrap()), expected, "{name}");
        for listing in ["-l", "-x"] {
            let theirs = peers::done(peers::peer("fdisk").unwrap().arg(listing).arg(&image)).stdout;
            let ours = rescue(&["fdisk", listing, image.to_str().unwrap()], "C").stdout;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&ours), text(&theirs), "fdisk {listing} {name}");
        }
    }
}

fn listed(size: usize, table: &ondisk::table::Table) -> String {
    use ondisk::table::TableKind::{Atari, Bsd, Gpt, Mac, Mbr, Sgi, Sun};
    let offset = match table.kind {
        Gpt | Bsd => 512,
        Mbr => 446,
        Sun | Sgi | Mac | Atari => 0,
    };
    let id = table.id.as_deref().map(|id| id.trim_start_matches("0x").to_lowercase());
    let mut out = format!(
        "size: {size}, sector size: {}, PT: {}, offset: {offset}, id={}\n---\n",
        table.sector,
        table.kind.name(),
        id.as_deref().unwrap_or("(null)")
    );
    // libblkid leaves out the slice that is the whole of a Sun disk, and numbers the BSD's without gaps.
    let shown = table.partitions.iter().filter(|entry| table.kind != Sun || entry.kind != "5");
    for (index, entry) in shown.enumerate() {
        let number = if table.kind == Bsd { index as u32 + 1 } else { entry.number };
        let (kind, text) = match table.kind {
            Gpt | Mac | Atari => ("0", Some(entry.kind.to_string())),
            Mbr | Bsd | Sun | Sgi => (entry.kind.as_str(), None),
        };
        let text = text.map(|text| if table.kind == Gpt { text.to_lowercase() } else { text });
        out +=
            &format!("#{number}: {:10} {:10}  0x{kind}", entry.extent.start / 512, entry.extent.length / 512);
        if let Some(within) = &entry.within {
            out += &format!(" ({within})");
        }
        for (name, value) in [
            ("name", entry.name.as_deref().filter(|_| table.kind != Bsd)),
            ("uuid", entry.uuid.as_deref()),
            ("type", text.as_deref()),
        ] {
            out += &value.map(|value| format!(" {name}='{value}'")).unwrap_or_default();
        }
        out.push('\n');
    }
    out
}

/// Packages, the patterns of their images' paths, and how many there are.
const IMAGES: &[(&str, &[&str], usize)] = &[
    ("btrfs-progs", &["*/tests/*/*.xz", "*/tests/*/*.img"], 138),
    ("dosfstools", &["*/tests/*.xxd"], 39),
    ("e2fsprogs", &["*/tests/*/*.gz", "*/tests/*/*.bz2"], 233),
    ("util-linux", &["*/tests/ts/*.img.xz", "*/tests/ts/*.img", "*/tests/ts/*.iso.gz"], 141),
];

/// Images in which ours sees what the real blkid gives up on. It says so, and what is wrong.
const MORE: &[(&str, &str)] = &[
    ("e2fsprogs/tests/f_super_bad_csum/image.bz2", "damaged ext4: primary superblock: checksum"),
    (
        "btrfs-progs/tests/fuzz-tests/images/bko-96971-btrfs-image.raw.xz",
        "damaged btrfs: primary superblock: checksum",
    ),
];

#[test]
fn every_image_of_the_suites_is_known_as_the_real_blkid_knows_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for (package, patterns, count) in IMAGES {
        let Some(root) = peers::released(package, patterns, directory.path()) else { return };
        let found = below(&root);
        assert_eq!(found.len(), *count, "images of {package}");
        images.extend(found);
    }
    let (next, wrong, known) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (images, directory, next, wrong, known) = (&images, directory.path(), &next, &wrong, &known);
            scope.spawn(move || {
                let image = directory.join(format!("image{thread}"));
                while let Some(packed) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = packed.strip_prefix(directory).unwrap().to_str().unwrap();
                    unpack(packed, &image);
                    match looked_at(&image, name) {
                        Ok(is_known) => drop(known.fetch_add(usize::from(is_known), Ordering::Relaxed)),
                        Err(differences) => wrong.lock().unwrap().push(differences),
                    }
                    fs::remove_file(&image).unwrap();
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    eprintln!(
        "images: {} seen, {} with something on them, equal but for {} of which ours knows more",
        images.len(),
        known.into_inner(),
        MORE.len()
    );
    assert!(
        wrong.is_empty(),
        "{} of {} differ, ours, then theirs:\n{}",
        wrong.len(),
        images.len(),
        wrong.join("\n")
    );
}

/// Whether there is something on the image, or how ours and theirs differ.
fn looked_at(image: &Path, name: &str) -> Result<bool, String> {
    let mut is_known = false;
    for options in ["-p -o udev", ""] {
        let mut theirs = peers::peer("blkid").expect("released() found it");
        if options.is_empty() {
            theirs.args(["-c", "/dev/null"]);
        }
        let theirs = theirs.args(options.split_whitespace()).arg(image).output().unwrap();
        let arguments: Vec<&str> =
            ["blkid"].into_iter().chain(options.split_whitespace()).chain(image.to_str()).collect();
        let begun = Instant::now();
        let ours = rescue(&arguments, "C");
        let told = String::from_utf8_lossy(&ours.stderr);
        if begun.elapsed() > PATIENCE {
            return Err(format!("{name}: blkid {options} takes {:?}", begun.elapsed()));
        }
        is_known |= ours.status.code() == Some(0);
        let more = MORE.iter().find(|(image, _)| *image == name);
        let is_right = match more {
            Some((_, what)) => theirs.stdout.is_empty() && is_known && told.contains(what),
            None => harmless(&ours) == harmless(&theirs),
        };
        if !is_right {
            let (ours, theirs) = (harmless(&ours), harmless(&theirs));
            return Err(format!("{name}: blkid {options}\n  {ours:?} {told:?}\n  {theirs:?}"));
        }
    }
    Ok(is_known)
}

/// As ours prints it: what steers a terminal is escaped.
fn harmless(output: &Output) -> (String, Option<i32>) {
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let lines: Vec<String> =
        lines.map(|line| model::text::Untrusted(&ondisk::bytes::utf8(line)).to_string()).collect();
    (lines.join("\n"), output.status.code())
}

/// Of a directory, sorted; none where there is no such directory.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// All images below a directory: archives of several files are none.
fn below(directory: &Path) -> Vec<PathBuf> {
    let inside = |path: PathBuf| if path.is_dir() { below(&path) } else { vec![path] };
    let all = entries(directory).into_iter().flat_map(inside);
    all.filter(|path| !path.to_string_lossy().contains(".tar.")).collect()
}

/// Unpacks an image into a sparse file.
fn unpack(packed: &Path, image: &Path) {
    let file = File::create(image).unwrap();
    let with = |program: &str, arguments: &[&str]| {
        let mut command = peers::peer(program).expect("released() found others");
        command.args(arguments).stdin(File::open(packed).unwrap());
        command
    };
    let bytes = match packed.extension().and_then(|extension| extension.to_str()).unwrap() {
        // It leaves holes by itself.
        "xz" => {
            let status = with("xz", &["-dc"]).stdout(file).status().unwrap();
            assert!(status.success(), "{}", packed.display());
            return;
        }
        "gz" => peers::done(&mut with("gzip", &["-dc"])).stdout,
        "bz2" => peers::done(&mut with("busybox", &["bunzip2", "-c"])).stdout,
        "xxd" => from_dump(&fs::read_to_string(packed).unwrap()),
        _ => fs::read(packed).unwrap(),
    };
    file.set_len(bytes.len() as u64).unwrap();
    let zeros = vec![0; BLOCK];
    for (index, block) in bytes.chunks(BLOCK).enumerate().filter(|(_, block)| *block != &zeros[..block.len()])
    {
        file.write_all_at(block, (index * BLOCK) as u64).unwrap();
    }
}

/// What xxd made a dump of: lines of `OFFSET: HEX HEX ...  TEXT`.
fn from_dump(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A `*` stands for more lines of zeros.
    for line in text.lines().filter(|line| *line != "*") {
        let (offset, rest) = line.split_once(": ").unwrap();
        let digits: String = rest.split("  ").next().unwrap().split(' ').collect();
        bytes.resize(usize::from_str_radix(offset, 16).unwrap(), 0);
        bytes.extend(
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()),
        );
    }
    bytes
}
