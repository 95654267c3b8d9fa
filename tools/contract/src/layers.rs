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
}
