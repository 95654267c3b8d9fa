//! The image's list of layers against what the kernel unpacked: which to mount, and what to say of
//! the others, by the reason that the kernel's log has. Pure.

use contract::layers::{Kind, Known};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The length is right; the hash is still to be compared.
    Check { sha256: String },
    /// Appended by the operator: not in the image's list, mounted as it is.
    Unlisted,
    /// Not to be mounted, and why, for a person.
    Bad(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub name: String,
    /// Bytes, as it should be; for an unlisted one, as it is.
    pub length: u64,
    pub verdict: Verdict,
}

/// Said of a layer that the kernel did not unpack whole: it stops at the first byte that it has no room for, and unpacks
/// nothing behind it (init/initramfs.c, unpack_to_rootfs).
pub const BEHIND: &str =
    "what was appended behind the image's layers, such as keys and parameters, did not come either";

/// What the kernel's log has of it (init/initramfs.c, do_populate_rootfs).
/// The second is that of a kernel which has drivers of RAM disks, if only as modules, as Debian's has.
const BEGUN: [&str; 2] = ["Unpacking initramfs", "Trying to unpack rootfs image as initramfs"];
/// What stands before the reason, and behind it; the second where those drivers are built in.
const FAILED: [(&str, &str); 2] =
    [("Initramfs unpacking failed: ", ""), ("rootfs image is not initramfs (", "); looks like an initrd")];
/// The reason where a file system has no room. Those of decompressors that had none say "memory" (lib/decompress_*.c).
const NO_ROOM: &str = "write error";

/// Why the kernel unpacked no more than it did, by its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It came to the end of what it was given.
    End,
    Memory,
    /// It met what it could not unpack, and why, in its words.
    Archive(String),
    /// The log could not be read, or no longer goes back so far.
    Unknown,
}

impl Stop {
    /// By the lines of the kernel's log.
    pub fn of(log: &[String]) -> Stop {
        match log.iter().find_map(|line| reason(line)) {
            Some(reason) if reason == NO_ROOM || reason.contains("memory") => Stop::Memory,
            Some(reason) => Stop::Archive(reason.to_string()),
            None if log.iter().any(|line| BEGUN.iter().any(|begun| line.starts_with(begun))) => Stop::End,
            None => Stop::Unknown,
        }
    }

    /// Said of a layer that did not come whole. `needed` are MiB of memory.
    fn cut(&self, needed: u64) -> String {
        match self {
            Stop::Memory => format!("this image needs about {needed} MiB of memory; {BEHIND}"),
            Stop::End | Stop::Archive(_) => format!("its download was not whole; {BEHIND}"),
            Stop::Unknown => {
                format!(
                    "this image needs about {needed} MiB of memory, or its download was not whole; {BEHIND}"
                )
            }
        }
    }

    /// Said of a layer whose bytes are others: the kernel gives a file its whole length before it fills it, so one that did
    /// not come whole has its length, too. `needed` are MiB of memory.
    pub fn damaged(&self, needed: u64) -> String {
        let why = match self {
            Stop::Memory => {
                format!("it did not fit: this image needs about {needed} MiB of memory; {BEHIND}")
            }
            Stop::End | Stop::Archive(_) => {
                format!(
                    "it was damaged on the way (check the image's SHA256SUMS); where it was cut, {BEHIND}"
                )
            }
            Stop::Unknown => format!(
                "it was damaged on the way (check the image's SHA256SUMS), or did not fit: this image needs about {needed} MiB of memory, and with less {BEHIND}"
            ),
        };
        format!("its SHA-256 is not the one in the image's list: {why}")
    }

    /// Said once of layers that did not come whole and are fetched. `needed` are MiB of memory.
    pub fn lost(&self, needed: u64) -> String {
        match self {
            Stop::Memory => {
                format!("the image did not fit (it needs about {needed} MiB of memory): {BEHIND}")
            }
            Stop::End | Stop::Archive(_) => {
                format!("the image was damaged on the way; where it was cut, {BEHIND}")
            }
            Stop::Unknown => format!(
                "the image did not fit (it needs about {needed} MiB of memory), or was damaged on the way: {BEHIND}"
            ),
        }
    }

    /// Said of a layer of the image that is not there. `is_alone`: the archives had no place for any. `is_begun`: others of
    /// the image came, and so no archive that lies before all of them is to blame. `needed` are MiB of memory.
    fn missing(&self, needed: u64, is_alone: bool, is_begun: bool) -> String {
        match self {
            Stop::Archive(reason) if !is_begun => format!("missing: {}", refused(reason)),
            Stop::End | Stop::Unknown if is_alone => {
                "not loaded: the nucleus was booted alone; rescue.layers=URL or rescue add fetches it".to_string()
            }
            Stop::End if !is_begun => "not loaded: the nucleus was booted without the image's layers, or their download was not whole; \
                 rescue.layers=URL or rescue add fetches it"
                .to_string(),
            Stop::End | Stop::Archive(_) => "missing: the image's download was not whole".to_string(),
            Stop::Memory | Stop::Unknown => format!("missing: {}", self.cut(needed)),
        }
    }
}

/// The kernel's reason, of the line of its log that has it.
fn reason(line: &str) -> Option<&str> {
    FAILED.iter().find_map(|(before, behind)| line.strip_prefix(before)?.strip_suffix(behind))
}

/// Said where the kernel met an archive that it could not unpack, wherever it lay.
pub fn refused(reason: &str) -> String {
    format!(
        "the kernel could not unpack an archive of yours (lifeboat.cpio, EXTRA= or another): {reason}; nothing behind it came; \
         pack it by cpio -o -H newc, plain or with gzip, zstd or xz --check=crc32"
    )
}

/// MiB of memory with which the image is unpacked whole. As tried: the archive, what the kernel unpacks of
/// it, which may take half of the memory, and the kernel itself are in memory at once.
pub fn needed(known: &[Known]) -> u64 {
    let whole: u64 = known.iter().filter(|layer| layer.kind == Kind::Image).map(|layer| layer.length).sum();
    3 * whole.div_ceil(1 << 20) + 128
}

/// `found` are the names and lengths of the files there are; `None`: nothing was even begun to be unpacked. Sorted by
/// name: later lies higher. A layer that comes only where it was asked for is not missed.
pub fn plan(known: &[Known], found: Option<&[(String, u64)]>, stop: &Stop) -> Vec<Layer> {
    let needed = needed(known);
    let files = found.unwrap_or_default();
    let is_begun = known
        .iter()
        .any(|layer| layer.kind == Kind::Image && files.iter().any(|(name, _)| *name == layer.name));
    let mut layers: Vec<Layer> = known
        .iter()
        .filter_map(|layer| {
            let actual = files.iter().find(|(name, _)| *name == layer.name).map(|(_, length)| *length);
            let verdict = match actual {
                Some(actual) if actual == layer.length => Verdict::Check { sha256: layer.sha256.clone() },
                Some(actual) => Verdict::Bad(format!(
                    "cut off at {actual} of {} bytes: {}",
                    layer.length,
                    stop.cut(needed)
                )),
                None if layer.kind != Kind::Image => return None,
                None => Verdict::Bad(stop.missing(needed, found.is_none(), is_begun)),
            };
            Some(Layer { name: layer.name.clone(), length: layer.length, verdict })
        })
        .collect();
    let unlisted = files.iter().filter(|(name, _)| known.iter().all(|layer| layer.name != *name));
    layers.extend(unlisted.map(|(name, length)| Layer {
        name: name.clone(),
        length: *length,
        verdict: Verdict::Unlisted,
    }));
    layers.sort_by(|a, b| a.name.cmp(&b.name));
    layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::layers::parse;

    fn found(files: &[(&str, u64)]) -> Vec<(String, u64)> {
        files.iter().map(|(name, length)| (name.to_string(), *length)).collect()
    }

    #[test]
    fn a_layer_is_checked_cut_missing_or_unlisted() {
        let known = parse("10-userland 1000 aa\n20-modules 500 bb\n\nnonsense\n30-more x cc\n40-gone 7 dd\n");
        assert_eq!(known.len(), 3);
        let files = found(&[("20-modules", 499), ("10-userland", 1000), ("90-mine", 5)]);
        let plan = plan(&known, Some(&files), &Stop::Memory);
        let names: Vec<&str> = plan.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["10-userland", "20-modules", "40-gone", "90-mine"]);
        assert_eq!(plan[0].verdict, Verdict::Check { sha256: "aa".into() });
        assert!(
            matches!(&plan[1].verdict, Verdict::Bad(why) if why.starts_with("cut off at 499 of 500 bytes") && why.ends_with(BEHIND))
        );
        assert!(
            matches!(&plan[2].verdict, Verdict::Bad(why) if why.starts_with("missing") && why.ends_with(BEHIND))
        );
        assert_eq!(plan[3].verdict, Verdict::Unlisted);
    }

    #[test]
    fn a_layer_beside_the_image_is_checked_where_it_came_and_not_missed_where_it_did_not() {
        let known =
            parse("10-userland 1048576 aa image\n30-firmware 1048576 bb firmware\n50-x 1048576 cc extra\n");
        assert_eq!(needed(&known), 3 + 128, "the memory that the image needs is that of its own layers");
        let plan = plan(&known, Some(&found(&[("10-userland", 1 << 20), ("30-firmware", 5)])), &Stop::End);
        let names: Vec<&str> = plan.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["10-userland", "30-firmware"]);
        assert!(matches!(&plan[1].verdict, Verdict::Bad(why) if why.starts_with("cut off at 5 of")));
    }

    #[test]
    fn a_nucleus_that_was_booted_alone_is_told_from_memory_that_was_too_short() {
        let known = parse("10-userland 1000 aa image\n30-firmware 7 bb firmware\n");
        let alone = plan(&known, None, &Stop::End);
        assert_eq!(alone.len(), 1);
        assert!(matches!(&alone[0].verdict, Verdict::Bad(why) if why.starts_with("not loaded")), "{alone:?}");
        let short = plan(&known, Some(&[]), &Stop::Memory);
        assert!(matches!(&short[0].verdict, Verdict::Bad(why) if why.starts_with("missing")), "{short:?}");
    }

    fn log(reason: Option<&str>) -> Vec<String> {
        let reason = reason.map(|reason| format!("Initramfs unpacking failed: {reason}"));
        let lines = ["Linux version 6.12".to_string(), "Unpacking initramfs...".to_string()];
        lines.into_iter().chain(reason).chain(["Freeing initrd memory: 90000K".to_string()]).collect()
    }

    #[test]
    fn the_kernel_s_log_says_why_it_stopped() {
        let archive = |reason: &str| Stop::Archive(reason.to_string());
        for (reason, want) in [
            (None, Stop::End),
            (Some("write error"), Stop::Memory),
            (Some("XZ decoder ran out of memory"), Stop::Memory),
            (Some("junk within compressed archive"), archive("junk within compressed archive")),
            (Some("no cpio magic"), archive("no cpio magic")),
            (Some("broken padding"), archive("broken padding")),
            (Some("decompressor failed"), archive("decompressor failed")),
            (Some("compression method lzo not configured"), archive("compression method lzo not configured")),
        ] {
            assert_eq!(Stop::of(&log(reason)), want, "{reason:?}");
        }
        let of = |lines: &[&str]| Stop::of(&lines.iter().map(|line| line.to_string()).collect::<Vec<_>>());
        let begun = "Trying to unpack rootfs image as initramfs...";
        assert_eq!(of(&[begun, "Freeing initrd memory: 90000K"]), Stop::End, "Debian's kernel");
        assert_eq!(of(&[begun, "Initramfs unpacking failed: broken padding"]), archive("broken padding"));
        let disks = "rootfs image is not initramfs (no cpio magic); looks like an initrd";
        assert_eq!(of(&[begun, disks]), archive("no cpio magic"), "RAM disks built in");
        assert_eq!(of(&["a line that was said later"]), Stop::Unknown);
        assert_eq!(Stop::of(&[]), Stop::Unknown);
    }

    #[test]
    fn memory_is_blamed_where_the_kernel_had_none_and_an_archive_where_it_stopped_in_one() {
        let known = parse("10-userland 1000 aa image\n20-modules 500 bb image\n");
        let (of_nobody, own) = (found(&[]), found(&[("50-x", 9)]));
        let (first, half) = (found(&[("10-userland", 1000)]), found(&[("10-userland", 999)]));
        let (memory, refused, fetch, download) =
            ("MiB of memory", "an archive of yours", "rescue.layers=URL", "download was not whole");
        let all = [memory, refused, fetch, download, BEHIND];
        let padding = Stop::Archive("broken padding".to_string());
        for (label, files, stop, layer, said) in [
            ("a bad one beside the medium", Some(&of_nobody), &padding, "10-userland", &[refused][..]),
            ("a bad one behind a bare nucleus", None, &padding, "10-userland", &[refused]),
            ("a bad one behind a layer of one's own", Some(&own), &padding, "20-modules", &[refused]),
            ("no room", Some(&of_nobody), &Stop::Memory, "10-userland", &[memory, BEHIND]),
            ("no room for the next", Some(&first), &Stop::Memory, "20-modules", &[memory, BEHIND]),
            ("no room for one's own", None, &Stop::Memory, "10-userland", &[memory, BEHIND]),
            ("a bare nucleus", None, &Stop::End, "10-userland", &[fetch]),
            ("a layer of one's own alone", Some(&own), &Stop::End, "10-userland", &[fetch, download]),
            ("one did not come", Some(&first), &Stop::End, "20-modules", &[download]),
            // What was appended was taken for the end of a layer, and its middle for an archive.
            ("one was cut, with a key behind it", Some(&first), &padding, "20-modules", &[download]),
            ("cut", Some(&half), &Stop::End, "10-userland", &[download, BEHIND]),
            ("cut by memory", Some(&half), &Stop::Memory, "10-userland", &[memory, BEHIND]),
            ("no log", Some(&of_nobody), &Stop::Unknown, "10-userland", &[memory, download, BEHIND]),
            ("a bare nucleus, no log", None, &Stop::Unknown, "10-userland", &[fetch]),
        ] {
            let plan = plan(&known, files.map(Vec::as_slice), stop);
            let verdict = &plan.iter().find(|found| found.name == layer).unwrap().verdict;
            let Verdict::Bad(why) = verdict else { panic!("{label}: {verdict:?}") };
            for part in all {
                assert_eq!(why.contains(part), said.contains(&part), "{label}: {part}: {why}");
            }
            assert_eq!(why.contains("broken padding"), said.contains(&refused), "{label}: {why}");
        }
    }
}
