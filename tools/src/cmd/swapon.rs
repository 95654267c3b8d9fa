//! `swapon`: the original's, but not of a device under the write guard. The kernel lets swap be written to a device whose
//! read-only flag is set, and only says so in its log (bio_check_ro in block/blk-core.c).
//!
//! So the words are read here as the original reads them (util-linux: sys-utils/swapon.c, main, with getopt_long(3); the
//! specification of a device: blkid_parse_tag_string). What it would search all devices for, since no link of devd's leads
//! to it, is refused: it may find one that is guarded.

use crate::original::number;
use crate::report::Answer;
use crate::scan::{DEADLINE, settle};
use crate::tool::Context;
use anyhow::bail;
use contract::facts::Block;
use contract::udev::encoded;
use host::fstab::{self, Entry};
use model::text::Untrusted;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Tags, and where devd links them (evaluate_by_udev in libblkid).
const TAGS: &[(&str, &str)] = &[
    ("ID", "/dev/disk/by-id"),
    ("LABEL", "/dev/disk/by-label"),
    ("PARTLABEL", "/dev/disk/by-partlabel"),
    ("PARTUUID", "/dev/disk/by-partuuid"),
    ("UUID", "/dev/disk/by-uuid"),
];

/// What follows an option.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    Nothing,
    /// In the same word, or nothing.
    Maybe,
    /// In the same word, or the next one.
    Value,
}

/// Sorted. What is not here the original does not take.
const SHORT: &[(char, Takes)] = &[
    ('L', Takes::Value),
    ('T', Takes::Value),
    ('U', Takes::Value),
    ('V', Takes::Nothing),
    ('a', Takes::Nothing),
    ('d', Takes::Maybe),
    ('e', Takes::Nothing),
    ('f', Takes::Nothing),
    ('h', Takes::Nothing),
    ('o', Takes::Value),
    ('p', Takes::Value),
    ('s', Takes::Nothing),
    ('v', Takes::Nothing),
];

/// Sorted; with the letter of the same meaning, a blank where there is none. `--show` means to look, as `-s` does, and
/// `--label` and `--uuid` the original has not, but nobody who types them means something else.
const LONG: &[(&str, char, Takes)] = &[
    ("all", 'a', Takes::Nothing),
    ("annotate", ' ', Takes::Maybe),
    ("bytes", ' ', Takes::Nothing),
    ("discard", 'd', Takes::Maybe),
    ("fixpgsz", 'f', Takes::Nothing),
    ("fstab", 'T', Takes::Value),
    ("help", 'h', Takes::Nothing),
    ("ifexists", 'e', Takes::Nothing),
    ("label", 'L', Takes::Value),
    ("noheadings", ' ', Takes::Nothing),
    ("options", 'o', Takes::Maybe),
    ("output-all", ' ', Takes::Nothing),
    ("priority", 'p', Takes::Value),
    ("raw", ' ', Takes::Nothing),
    ("show", 's', Takes::Maybe),
    ("summary", 's', Takes::Nothing),
    ("uuid", 'U', Takes::Value),
    ("verbose", 'v', Takes::Nothing),
    ("version", 'V', Takes::Nothing),
];

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let wish = Wish::of(arguments);
    if !wish.looks() {
        // Until devd has looked at a drive, its flag is not set.
        settle(context, DEADLINE);
        let blocks = host::sysfs::facts(&context.root).blocks;
        // libmount's mnt_get_fstab_path.
        let file = wish.fstab.clone().or_else(|| std::env::var_os("LIBMOUNT_FSTAB"));
        let file = file.map_or_else(|| PathBuf::from("/etc/fstab"), PathBuf::from);
        if let Some(refusal) = refused(&wish, &file, &fstab::read_at, &blocks, &number) {
            bail!("{refusal}");
        }
    }
    Ok(Answer::classic(context.name, arguments))
}

/// What the words ask for.
#[derive(Debug, Default)]
struct Wish {
    /// A list, the help or the version: nothing is turned on then.
    is_look: bool,
    all: bool,
    fstab: Option<OsString>,
    specs: Vec<Spec>,
}

#[derive(Debug)]
struct Spec {
    /// As it was typed.
    text: String,
    /// Where it leads: a path, or devd's link of a tag.
    path: PathBuf,
    is_tag: bool,
}

impl Wish {
    /// As getopt_long(3) goes over them. What it would refuse turns nothing on, and is passed by.
    fn of(words: &[OsString]) -> Wish {
        let mut wish = Wish::default();
        let mut words = words.iter().map(OsString::as_os_str);
        while let Some(word) = words.next() {
            match word.as_bytes() {
                b"--" => words.by_ref().for_each(|word| wish.specs.push(Spec::of(word))),
                [b'-', b'-', long @ ..] => {
                    let (name, own) = split(long);
                    let Some((letter, takes)) = long_option(name) else { continue };
                    let value = match takes {
                        Takes::Value => own.or_else(|| words.next()),
                        Takes::Maybe | Takes::Nothing => own,
                    };
                    wish.add(letter, value);
                }
                [b'-', letters @ ..] if !letters.is_empty() => wish.add_letters(letters, &mut words),
                _ => wish.specs.push(Spec::of(word)),
            }
        }
        wish
    }

    fn add_letters<'a>(&mut self, letters: &'a [u8], words: &mut impl Iterator<Item = &'a OsStr>) {
        for (index, byte) in letters.iter().enumerate() {
            let rest = letters.get(index + 1..).filter(|rest| !rest.is_empty()).map(OsStr::from_bytes);
            let letter = char::from(*byte);
            match SHORT.iter().find(|(known, _)| *known == letter).map(|(_, takes)| *takes) {
                Some(Takes::Nothing) => self.add(letter, None),
                Some(Takes::Maybe) => return self.add(letter, rest),
                Some(Takes::Value) => return self.add(letter, rest.or_else(|| words.next())),
                None => {}
            }
        }
    }

    fn add(&mut self, letter: char, value: Option<&OsStr>) {
        match (letter, value) {
            ('a', _) => self.all = true,
            ('h' | 's' | 'V', _) => self.is_look = true,
            ('L', Some(label)) => self.specs.push(Spec::tag("LABEL", label)),
            ('U', Some(uuid)) => self.specs.push(Spec::tag("UUID", uuid)),
            ('T', Some(file)) => self.fstab = Some(file.to_os_string()),
            _ => {}
        }
    }

    fn looks(&self) -> bool {
        self.is_look || (!self.all && self.specs.is_empty())
    }
}

/// `NAME=VALUE`
fn split(word: &[u8]) -> (&[u8], Option<&OsStr>) {
    match word.iter().position(|byte| *byte == b'=') {
        Some(at) => (&word[..at], Some(OsStr::from_bytes(&word[at + 1..]))),
        None => (word, None),
    }
}

/// By its name, or by a beginning of it that no other has.
fn long_option(name: &[u8]) -> Option<(char, Takes)> {
    let exact = LONG.iter().find(|(known, _, _)| known.as_bytes() == name);
    let mut begun = LONG.iter().filter(|(known, _, _)| known.as_bytes().starts_with(name));
    let (_, letter, takes) = exact.or_else(|| begun.next().filter(|_| begun.next().is_none()))?;
    Some((*letter, *takes))
}

impl Spec {
    /// A word, or the first column of fstab: a tag, whose value may stand in quotes, or a path.
    fn of(word: &OsStr) -> Spec {
        let (name, value) = split(word.as_bytes());
        let value = value.and_then(|value| unquoted(value.as_bytes()));
        let tag = TAGS.iter().find(|(known, _)| known.as_bytes() == name);
        match (tag, value) {
            (Some((name, _)), Some(value)) => Spec::tag(name, OsStr::from_bytes(value)),
            _ => Spec { text: host::text::text(word.as_bytes()), path: PathBuf::from(word), is_tag: false },
        }
    }

    fn tag(name: &str, value: &OsStr) -> Spec {
        let value = host::text::text(value.as_bytes());
        let directory = TAGS.iter().find(|(known, _)| *known == name).map_or("", |(_, directory)| directory);
        let path = Path::new(directory).join(encoded(&value));
        Spec { text: format!("{name}={value}"), path, is_tag: true }
    }
}

/// Up to the last quote, where it begins with one; `None`: there is no last one, or nothing in it.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let value = match value {
        [quote @ (b'"' | b'\''), rest @ ..] => &rest[..rest.iter().rposition(|byte| byte == quote)?],
        _ => value,
    };
    (!value.is_empty()).then_some(value)
}

/// Why it is not handed to the original.
#[derive(Debug, PartialEq)]
enum Refusal {
    Guarded(String),
    /// It stands on the second.
    Above(String, String),
    /// No link of devd's is it.
    Unknown(String),
    /// An fstab, and why.
    Unread(String, String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Guarded(path) => write!(
                f,
                "{0} is read-only, and swap would be written to it all the same: rescue writable {0} first",
                Untrusted(path)
            ),
            Refusal::Above(path, below) => write!(
                f,
                "{0} is on {1}, which is read-only, and swap would be written to it all the same: rescue writable {0} first",
                Untrusted(path),
                Untrusted(below)
            ),
            Refusal::Unknown(text) => write!(
                f,
                "{} is not below /dev/disk, and what a search for it finds may be read-only: name the device by its path (blkid -t TYPE=swap lists them)",
                Untrusted(text)
            ),
            Refusal::Unread(file, why) => write!(
                f,
                "what {} names is not known ({why}), and may be read-only: name the device by its path",
                Untrusted(file)
            ),
        }
    }
}

/// The first reason, in the original's order.
fn refused(
    wish: &Wish,
    file: &Path,
    read: &dyn Fn(&Path) -> io::Result<Vec<Entry>>,
    blocks: &[Block],
    node: &dyn Fn(&Path) -> Option<(u32, u32)>,
) -> Option<Refusal> {
    // Nothing is guarded, so that it does not matter what is meant.
    if !blocks.iter().any(|block| block.read_only) {
        return None;
    }
    let mut specs = Vec::new();
    if wish.all {
        match read(file) {
            Ok(entries) => specs.extend(entries.iter().filter_map(swap)),
            // The original has nothing to turn on either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Some(Refusal::Unread(file.display().to_string(), error.to_string())),
        }
    }
    specs.iter().chain(&wish.specs).find_map(|spec| match node(&spec.path) {
        Some(number) => guarded(blocks, number),
        // No device, and so no matter of the guard: a file, or nothing.
        None => spec.is_tag.then(|| Refusal::Unknown(spec.text.clone())),
    })
}

/// Of fstab's lines those that `-a` takes (swapon_all).
fn swap(entry: &Entry) -> Option<Spec> {
    let is_swap = entry.fstype == "swap" && !entry.options.split(',').any(|word| word == "noauto");
    is_swap.then(|| Spec::of(host::proc::path(&entry.source).as_os_str()))
}

/// By its own flag, or by that of what it stands on: a volume that other tools activated has none of its own. What is
/// written to an overlay reaches no disk.
fn guarded(blocks: &[Block], number: (u32, u32)) -> Option<Refusal> {
    let block = blocks.iter().find(|block| (block.major, block.minor) == number)?;
    if block.read_only {
        return Some(Refusal::Guarded(block.path()));
    }
    let (mut open, mut seen) = (vec![block], Vec::new());
    while let Some(one) = open.pop() {
        if one.is_overlay() || seen.contains(&&one.name) {
            continue;
        }
        if one.read_only {
            return Some(Refusal::Above(block.path(), one.path()));
        }
        seen.push(&one.name);
        open.extend(one.below().filter_map(|name| blocks.iter().find(|block| block.name == *name)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::facts::{Dm, OVERLAY_UUID, Partition};

    fn block(name: &str, minor: u32, read_only: bool) -> Block {
        Block { name: name.to_string(), major: 8, minor, size: 1 << 20, read_only, ..Block::default() }
    }

    /// sda1 is guarded, and sda2 is not.
    fn blocks() -> Vec<Block> {
        vec![block("sda1", 1, true), block("sda2", 2, false)]
    }

    fn node(path: &Path) -> Option<(u32, u32)> {
        match path.to_str()? {
            "/dev/sda1" | "/dev/disk/by-uuid/aa" | "/dev/disk/by-label/swap" => Some((8, 1)),
            "/dev/disk/by-label/my\\x20swap" | "/dev/disk/by-partlabel/a\\x2fb" => Some((8, 1)),
            "/dev/disk/by-id/ata-1-part1" => Some((8, 1)),
            "/dev/sda2" | "/dev/disk/by-uuid/bb" | "/dev/disk/by-label/open" => Some((8, 2)),
            _ => None,
        }
    }

    fn files(path: &Path) -> io::Result<Vec<Entry>> {
        let text = match path.to_str().unwrap() {
            "/etc/fstab" => "",
            "/mnt/etc/fstab" => "UUID=bb none swap sw 0 0\n/dev/sda1 none swap sw 0 0\n",
            "/tmp/label" => "LABEL=my\\040swap none swap sw,nofail\n",
            "/tmp/quoted" => "LABEL=\"swap\" none swap\n",
            "/tmp/lost" => "UUID=cc none swap nofail\n",
            "/tmp/good" => {
                "# UUID=aa none swap\nUUID=aa none swap sw,noauto\n/dev/sda1 / ext4 ro\nUUID=bb none swap\n/swap none swap\n"
            }
            "/tmp/directory" => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(fstab::parse(text))
    }

    fn refusal(words: &[&str]) -> Option<Refusal> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let wish = Wish::of(&words);
        let file = PathBuf::from(wish.fstab.clone().unwrap_or_else(|| "/etc/fstab".into()));
        let refusal = refused(&wish, &file, &files, &blocks(), &node);
        refusal.filter(|_| !wish.looks())
    }

    #[test]
    fn a_guarded_device_is_found_however_it_is_named_and_a_writable_one_is_none() {
        let cases: &[(&[&str], bool)] = &[
            (&["/dev/sda1"], true),
            (&["-p", "5", "/dev/sda2", "/dev/sda1"], true),
            (&["UUID=aa"], true),
            (&["-U", "aa"], true),
            (&["-L", "swap"], true),
            (&["LABEL=swap"], true),
            (&["LABEL=\"swap\""], true),
            (&["LABEL='swap'"], true),
            (&["LABEL=my swap"], true),
            (&["LABEL=\"my swap\""], true),
            (&["-L", "my swap"], true),
            (&["PARTLABEL=a/b"], true),
            (&["ID=ata-1-part1"], true),
            (&["-Lswap"], true),
            (&["-Uaa"], true),
            (&["-vL", "swap"], true),
            (&["-vfUaa"], true),
            (&["--label=swap"], true),
            (&["--verb", "--pri", "5", "/dev/sda1"], true),
            (&["--discard", "/dev/sda1"], true),
            (&["-d", "/dev/sda1"], true),
            (&["-donce", "/dev/sda1"], true),
            (&["--options", "/dev/sda1"], true),
            (&["--options=pri=1", "/dev/sda1"], true),
            (&["-L", "-s", "/dev/sda1"], true),
            (&["-o", "-h", "/dev/sda1"], true),
            (&["--", "-s", "/dev/sda1"], true),
            (&["-a", "-T", "/mnt/etc/fstab"], true),
            (&["-aT/mnt/etc/fstab"], true),
            (&["--all", "--fstab=/mnt/etc/fstab"], true),
            (&["-a", "--fst", "/tmp/label"], true),
            (&["-a", "-T", "/tmp/quoted"], true),
            (&["-a", "/dev/sda1"], true),
            (&["/dev/sda2"], false),
            (&["UUID=bb"], false),
            (&["-L", "open"], false),
            (&["-p", "/dev/sda1", "/dev/sda2"], false),
            (&["-o", "/dev/sda1", "/dev/sda2"], false),
            (&["/swapfile"], false),
            (&["-a"], false),
            (&["-a", "-T", "/tmp/good"], false),
            (&["-a", "-T", "/tmp/absent"], false),
            (&["-T", "/mnt/etc/fstab"], false),
            // Nothing is turned on.
            (&[], false),
            (&["-s"], false),
            (&["-vs", "/dev/sda1"], false),
            (&["--show"], false),
            (&["--sho=NAME", "/dev/sda1"], false),
            (&["--help", "/dev/sda1"], false),
        ];
        for (words, want) in cases {
            match (refusal(words), want) {
                (Some(Refusal::Guarded(path)), true) => assert_eq!(path, "/dev/sda1", "{words:?}"),
                // `-s` is a label here.
                (Some(Refusal::Unknown(text)), true) => assert_eq!(text, "LABEL=-s", "{words:?}"),
                (None, false) => {}
                (other, _) => panic!("{words:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_searched_for_by_the_original() {
        let unknown = |text: &str| Some(Refusal::Unknown(text.to_string()));
        assert_eq!(refusal(&["UUID=cc"]), unknown("UUID=cc"));
        assert_eq!(refusal(&["-L", "none"]), unknown("LABEL=none"));
        assert_eq!(refusal(&["-a", "-T", "/tmp/lost"]), unknown("UUID=cc"));
        let told = refusal(&["-a", "-T", "/tmp/directory"]).unwrap().to_string();
        assert!(told.contains("what /tmp/directory names is not known"), "{told}");
        // Where nothing is guarded, it may.
        let wish = Wish::of(&["UUID=cc".into()]);
        let open = [block("sda1", 1, false)];
        assert_eq!(refused(&wish, Path::new("/etc/fstab"), &files, &open, &node), None);
    }

    #[test]
    fn what_stands_on_a_guarded_device_is_guarded_and_an_overlay_of_it_is_not() {
        let mapped = |minor: u32, uuid: &str| Block {
            dm: Some(Dm { name: "vg-swap".to_string(), uuid: uuid.to_string(), suspended: false }),
            slaves: vec!["sda1".to_string()],
            ..block(&format!("dm-{minor}"), minor, false)
        };
        let partition = Partition { disk: "md0".to_string(), ..Partition::default() };
        let array = Block { slaves: vec!["dm-5".to_string()], ..block("md0", 7, false) };
        let part = Block { partition: Some(partition), ..block("md0p1", 8, false) };
        let all =
            [blocks(), vec![mapped(5, "LVM-1"), mapped(6, &format!("{OVERLAY_UUID}seq:1")), array, part]]
                .concat();
        let above = |path: &str| Some(Refusal::Above(path.to_string(), "/dev/sda1".to_string()));
        for (minor, want) in
            [(2, None), (5, above("/dev/dm-5")), (6, None), (7, above("/dev/md0")), (8, above("/dev/md0p1"))]
        {
            assert_eq!(guarded(&all, (8, minor)), want, "{minor}");
        }
    }

    #[test]
    fn options_are_sorted_and_each_is_there_once() {
        assert!(SHORT.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(LONG.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
