//! Which kernel an image has (docs/kernel.md): Debian's own, or ours, which is built from the same source.

use anyhow::{Result, bail};

/// A kernel's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// As Debian builds and signs it.
    Debian,
    /// Built from Debian's source with kernel-config/custom.
    Custom,
}

impl Flavour {
    /// What make was told by `KERNEL`. Nothing: ours, or Debian's on a host that cannot build ours.
    pub fn read(said: Option<&str>) -> Result<Option<Flavour>> {
        match said {
            None | Some("") => Ok(None),
            Some("custom") => Ok(Some(Flavour::Custom)),
            Some("debian") => Ok(Some(Flavour::Debian)),
            Some(other) => bail!("KERNEL={other}: it is custom (as without it) or debian"),
        }
    }

    /// Where the image that was wanted is built, below the project's root.
    pub fn out(wanted: Option<Flavour>) -> &'static str {
        match wanted {
            None | Some(Flavour::Custom) => "out",
            Some(Flavour::Debian) => "out-debian",
        }
    }

    /// That of a kernel's file.
    pub fn of(kernel: &[u8]) -> Flavour {
        match release(kernel).is_some_and(|release| release.ends_with(LOCAL)) {
            true => Flavour::Custom,
            false => Flavour::Debian,
        }
    }
}

/// The end of our kernel's release (CONFIG_LOCALVERSION): `6.12.118-lifeboat`.
const LOCAL: &str = "-lifeboat";

/// What `uname -r` says of a kernel's file. Linux's boot protocol (Documentation/arch/x86/boot.rst): `kernel_version` points
/// at the text, 0x200 before it.
pub fn release(kernel: &[u8]) -> Option<String> {
    let start = usize::from(u16::from_le_bytes(*kernel.get(0x20e..)?.first_chunk()?)) + 0x200;
    let text = kernel.get(start..)?.split(|byte| matches!(byte, 0 | b' ')).next()?;
    Some(std::str::from_utf8(text).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_which_it_is() {
        for (release, flavour) in
            [("6.12.118-lifeboat", Flavour::Custom), ("6.12.118+deb13-amd64", Flavour::Debian)]
        {
            let mut kernel = vec![0; 0x20e];
            kernel.extend(0x100_u16.to_le_bytes());
            kernel.resize(0x300, 0);
            kernel.extend(format!("{release} (lifeboat@lifeboat) #1\0").into_bytes());
            assert_eq!(super::release(&kernel).as_deref(), Some(release));
            assert_eq!(Flavour::of(&kernel), flavour);
        }
        assert_eq!(Flavour::of(b"cut"), Flavour::Debian);
    }

    #[test]
    fn a_word_that_is_no_flavour_is_refused() {
        assert_eq!(Flavour::read(None).unwrap(), None);
        assert_eq!(Flavour::read(Some("custom")).unwrap(), Some(Flavour::Custom));
        assert_eq!(Flavour::read(Some("debian")).unwrap(), Some(Flavour::Debian));
        assert!(Flavour::read(Some("Custom")).unwrap_err().to_string().contains("KERNEL=Custom"));
    }
}
