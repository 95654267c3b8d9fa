//! The image's own list of its layers, in [`crate::paths::LAYER_LIST`]: the build writes it, and whatever mounts, fetches or
//! adds a layer holds the layer's bytes against it. One line a layer: `NAME LENGTH SHA256 KIND`.

/// How a layer comes to the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// In `out/initramfs`: without it something is missing.
    #[default]
    Image,
    /// Beside it: `out/boot.ipxe` loads it unless told not to.
    Firmware,
    /// Only where somebody asks for it, or appended it.
    Extra,
}

impl Kind {
    pub const ALL: &[Kind] = &[Kind::Image, Kind::Firmware, Kind::Extra];

    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Firmware => "firmware",
            Kind::Extra => "extra",
        }
    }
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// Lower-case hex.
    pub sha256: String,
    pub kind: Kind,
}

impl Known {
    pub fn line(&self) -> String {
        format!("{} {} {} {}\n", self.name, self.length, self.sha256, self.kind.as_str())
    }
}

/// Lines that are not understood are skipped: a layer that is then missing from the list is unlisted, which is
/// said. A kind that is absent or of a later version is that of the image itself.
pub fn parse(text: &str) -> Vec<Known> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (name, length, sha256) = (fields.next()?, fields.next()?, fields.next()?);
            let said = fields.next();
            let kind = Kind::ALL.iter().copied().find(|kind| Some(kind.as_str()) == said).unwrap_or_default();
            Some(Known {
                name: name.to_string(),
                length: length.parse().ok()?,
                sha256: sha256.to_string(),
                kind,
            })
        })
        .collect()
}

/// A name that is one plain word, since it becomes part of paths.
pub fn is_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'+');
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['.', '-'])
}

/// The same, for a name that stands in front of it or lies in a file's name: `50-mc` of `https://a/50-mc.squashfs?x`.
pub fn name_of(path: &str) -> Option<String> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let base = path.rsplit('/').next().unwrap_or_default();
    let name = base.strip_suffix(".squashfs").unwrap_or(base);
    // Above the image's own where nothing else is said.
    let numbered =
        name.split_once('-').is_some_and(|(number, _)| number.len() == 2 && number.parse::<u8>().is_ok());
    let name = if numbered { name.to_string() } else { format!("50-{name}") };
    (is_name(&name) && !base.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_an_absent_kind_is_the_images() {
        let known =
            parse("10-userland 7 aa\n30-firmware 8 bb firmware\n50-x 9 cc extra\n\nnonsense\n60-y z dd\n");
        let kinds: Vec<Kind> = known.iter().map(|layer| layer.kind).collect();
        assert_eq!(kinds, Kind::ALL);
        let text: String = known.iter().map(Known::line).collect();
        assert_eq!(parse(&text), known);
    }

    #[test]
    fn the_name_of_a_layer_is_that_of_its_file_and_lies_above_the_images_own() {
        for (path, want) in [
            ("https://a/b/50-mc.squashfs?token=x", Some("50-mc")),
            ("/tmp/mc.squashfs", Some("50-mc")),
            ("60-x", Some("60-x")),
            ("https://a/", None),
            ("a b", None),
        ] {
            assert_eq!(name_of(path).as_deref(), want, "{path}");
        }
        assert!(!is_name("../x") && !is_name("") && !is_name(".x") && is_name("50-mc"));
    }
}
