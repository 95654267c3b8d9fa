//! The image's list of layers against what the kernel unpacked: which to mount, and what to say of
//! the others. Pure.

/// One line of `/lifeboat/layers.list`: `NAME LENGTH SHA256`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// Lower-case hex.
    pub sha256: String,
}

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

/// Lines that are not understood are skipped: a layer that is then missing from the list is
/// unlisted, which is said.
pub fn parse(text: &str) -> Vec<Known> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (name, length, sha256) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Known { name: name.to_string(), length: length.parse().ok()?, sha256: sha256.to_string() })
        })
        .collect()
}

/// MiB of memory with which the image is unpacked whole. As tried: the archive, what the kernel unpacks of
/// it, which may take half of the memory, and the kernel itself are in memory at once.
pub fn needed(known: &[Known]) -> u64 {
    let whole: u64 = known.iter().map(|layer| layer.length).sum();
    3 * whole.div_ceil(1 << 20) + 128
}

/// `found` are the names and lengths of the files there are. Sorted by name: later lies higher.
pub fn plan(known: &[Known], found: &[(String, u64)]) -> Vec<Layer> {
    let needed = needed(known);
    let mut layers: Vec<Layer> = known
        .iter()
        .map(|layer| {
            let actual = found.iter().find(|(name, _)| *name == layer.name).map(|(_, length)| *length);
            let verdict = match actual {
                Some(actual) if actual == layer.length => Verdict::Check { sha256: layer.sha256.clone() },
                Some(actual) => Verdict::Bad(format!(
                    "cut off at {actual} of {} bytes: this image needs about {needed} MiB of memory, or its download was not whole",
                    layer.length
                )),
                None => Verdict::Bad(format!(
                    "missing: this image needs about {needed} MiB of memory, or its download was not whole"
                )),
            };
            Layer { name: layer.name.clone(), length: layer.length, verdict }
        })
        .collect();
    let unlisted = found.iter().filter(|(name, _)| known.iter().all(|layer| layer.name != *name));
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

    fn found(files: &[(&str, u64)]) -> Vec<(String, u64)> {
        files.iter().map(|(name, length)| (name.to_string(), *length)).collect()
    }

    #[test]
    fn a_layer_is_checked_cut_missing_or_unlisted() {
        let known = parse("10-userland 1000 aa\n20-modules 500 bb\n\nnonsense\n30-more x cc\n40-gone 7 dd\n");
        assert_eq!(known.len(), 3);
        let plan = plan(&known, &found(&[("20-modules", 499), ("10-userland", 1000), ("90-mine", 5)]));
        let names: Vec<&str> = plan.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["10-userland", "20-modules", "40-gone", "90-mine"]);
        assert_eq!(plan[0].verdict, Verdict::Check { sha256: "aa".into() });
        assert!(
            matches!(&plan[1].verdict, Verdict::Bad(why) if why.starts_with("cut off at 499 of 500 bytes"))
        );
        assert!(matches!(&plan[2].verdict, Verdict::Bad(why) if why.starts_with("missing")));
        assert_eq!(plan[3].verdict, Verdict::Unlisted);
    }
}
