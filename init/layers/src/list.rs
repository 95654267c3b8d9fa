//! The image's list of layers against what the kernel unpacked: which to mount, and what to say of
//! the others. Pure.

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

/// Said of each layer that the kernel did not unpack whole: it stops at the first byte that it has no room for, and unpacks
/// nothing behind it (init/initramfs.c, unpack_to_rootfs).
pub const BEHIND: &str =
    "what was appended behind the image's layers, such as keys and parameters, did not come either";

/// MiB of memory with which the image is unpacked whole. As tried: the archive, what the kernel unpacks of
/// it, which may take half of the memory, and the kernel itself are in memory at once.
pub fn needed(known: &[Known]) -> u64 {
    let whole: u64 = known.iter().filter(|layer| layer.kind == Kind::Image).map(|layer| layer.length).sum();
    3 * whole.div_ceil(1 << 20) + 128
}

/// `found` are the names and lengths of the files there are; `None`: nothing was even begun to be unpacked. Sorted by
/// name: later lies higher. A layer that comes only where it was asked for is not missed.
pub fn plan(known: &[Known], found: Option<&[(String, u64)]>) -> Vec<Layer> {
    let needed = needed(known);
    let files = found.unwrap_or_default();
    let mut layers: Vec<Layer> = known
        .iter()
        .filter_map(|layer| {
            let actual = files.iter().find(|(name, _)| *name == layer.name).map(|(_, length)| *length);
            let verdict = match actual {
                Some(actual) if actual == layer.length => Verdict::Check { sha256: layer.sha256.clone() },
                Some(actual) => Verdict::Bad(format!(
                    "cut off at {actual} of {} bytes: this image needs about {needed} MiB of memory, or its download was not whole; {BEHIND}",
                    layer.length
                )),
                None if layer.kind != Kind::Image => return None,
                None if found.is_none() => Verdict::Bad(
                    "not loaded: the nucleus was booted alone; rescue.layers=URL or rescue add fetches it".to_string(),
                ),
                None => Verdict::Bad(format!(
                    "missing: this image needs about {needed} MiB of memory, or its download was not whole; {BEHIND}"
                )),
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
        let plan = plan(&known, Some(&files));
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
        let plan = plan(&known, Some(&found(&[("10-userland", 1 << 20), ("30-firmware", 5)])));
        let names: Vec<&str> = plan.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["10-userland", "30-firmware"]);
        assert!(matches!(&plan[1].verdict, Verdict::Bad(why) if why.starts_with("cut off at 5 of")));
    }

    #[test]
    fn a_nucleus_that_was_booted_alone_is_told_from_memory_that_was_too_short() {
        let known = parse("10-userland 1000 aa image\n30-firmware 7 bb firmware\n");
        let alone = plan(&known, None);
        assert_eq!(alone.len(), 1);
        assert!(matches!(&alone[0].verdict, Verdict::Bad(why) if why.starts_with("not loaded")), "{alone:?}");
        let short = plan(&known, Some(&[]));
        assert!(matches!(&short[0].verdict, Verdict::Bad(why) if why.starts_with("missing")), "{short:?}");
    }
}
