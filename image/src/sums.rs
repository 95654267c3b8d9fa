//! SHA256SUMS: what this build made, and nothing else that lies beside it. `make image` begins it, each form that is made of that
//! image adds itself. A form of an earlier image is not in it any more.

use crate::packages::{alone, digest};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub const SUMS: &str = "SHA256SUMS";

/// Name, below the directory, and SHA-256 in hex.
type Sums = BTreeMap<String, String>;

/// Notes the files of an image, by their names. What was made of the very same files stays noted.
pub fn begin(out: &Path, names: &[String]) -> Result<()> {
    let _alone = alone(out)?;
    let image = digests(out, names)?;
    let before = if out.join(SUMS).exists() { read(out)? } else { Sums::new() };
    let is_same = image.iter().all(|(name, sum)| before.get(name) == Some(sum));
    let kept = before.into_iter().filter(|(name, _)| is_same && out.join(name).exists());
    write(out, &kept.chain(image).collect())
}

/// Notes more files. Where there is no list, there is nothing to add to.
pub fn add(out: &Path, names: &[String]) -> Result<()> {
    if !out.join(SUMS).exists() {
        return Ok(());
    }
    let _alone = alone(out)?;
    let mut sums = read(out)?;
    sums.extend(digests(out, names)?);
    write(out, &sums)
}

/// Files that are not what the list had them for, and are not to be noted.
pub fn forget(out: &Path, names: &[String]) -> Result<()> {
    if !out.join(SUMS).exists() {
        return Ok(());
    }
    let _alone = alone(out)?;
    let mut sums = read(out)?;
    sums.retain(|name, _| !names.contains(name));
    write(out, &sums)
}

/// As `sha256sum -c` reads it: two blanks between.
pub fn read(out: &Path) -> Result<Sums> {
    let path = out.join(SUMS);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("read {}: make image comes first", path.display()))?;
    let line = |line: &str| {
        let fields = line.split_once("  ").with_context(|| format!("{}: {line:?}", path.display()))?;
        Ok((fields.1.to_string(), fields.0.to_string()))
    };
    text.lines().map(line).collect()
}

/// Every file is what the list says, but for those that are about to be made again.
pub fn check(out: &Path, but: &[String]) -> Result<()> {
    for (name, sum) in read(out)?.into_iter().filter(|(name, _)| !but.contains(name)) {
        let path = out.join(&name);
        ensure!(digest(&path)? == sum, "{} is not what {SUMS} says: make it again", path.display());
    }
    Ok(())
}

fn digests(out: &Path, names: &[String]) -> Result<Sums> {
    names.iter().map(|name| Ok((name.clone(), digest(&out.join(name))?))).collect()
}

fn write(out: &Path, sums: &Sums) -> Result<()> {
    let path = out.join(SUMS);
    let beside = out.join(format!("{SUMS}.new{}", std::process::id()));
    let text: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    fs::write(&beside, text).with_context(|| format!("write {}", beside.display()))?;
    fs::rename(&beside, &path).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(out: &Path) -> Vec<String> {
        read(out).unwrap().into_keys().collect()
    }

    fn put(out: &Path, name: &str, text: &str) -> String {
        let path = out.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        name.to_string()
    }

    #[test]
    fn a_form_is_noted_as_long_as_the_image_is_the_one_it_was_made_of() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path();
        let image = [put(out, "vmlinuz", "1"), put(out, "initramfs", "1")];
        put(out, "key", "a secret");
        // Nothing to add to yet.
        add(out, &[put(out, "lifeboat.efi", "1")]).unwrap();
        assert!(!out.join(SUMS).exists());
        begin(out, &image).unwrap();
        assert_eq!(names(out), ["initramfs", "vmlinuz"]);
        add(out, &["lifeboat.efi".to_string(), put(out, "netboot/grub/grub.cfg", "1")]).unwrap();
        let all = ["initramfs", "lifeboat.efi", "netboot/grub/grub.cfg", "vmlinuz"];
        assert_eq!(names(out), all);
        check(out, &[]).unwrap();
        // Built again, and nothing is new; then a form is gone; then the kernel is another.
        begin(out, &image).unwrap();
        assert_eq!(names(out), all);
        fs::remove_file(out.join("lifeboat.efi")).unwrap();
        begin(out, &image).unwrap();
        assert_eq!(names(out), ["initramfs", "netboot/grub/grub.cfg", "vmlinuz"]);
        add(out, &[put(out, "lifeboat.iso", "1")]).unwrap();
        forget(out, &[put(out, "lifeboat.iso", "with a secret")]).unwrap();
        assert_eq!(names(out), ["initramfs", "netboot/grub/grub.cfg", "vmlinuz"]);
        put(out, "vmlinuz", "2");
        assert!(check(out, &[]).unwrap_err().to_string().contains("vmlinuz"));
        begin(out, &image).unwrap();
        assert_eq!(names(out), ["initramfs", "vmlinuz"]);
        check(out, &[]).unwrap();
    }

    /// As `make -j2 efi kexec` makes them.
    #[test]
    fn forms_that_are_made_at_once_are_all_noted() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path();
        begin(out, &[put(out, "vmlinuz", "1")]).unwrap();
        let forms: Vec<String> = (0..16).map(|number| put(out, &format!("form{number:02}"), "1")).collect();
        std::thread::scope(|scope| {
            for form in &forms {
                scope.spawn(move || add(out, std::slice::from_ref(form)).unwrap());
            }
        });
        assert_eq!(names(out).len(), 1 + forms.len());
    }

    #[test]
    fn sha256sum_reads_it() {
        let place = tempfile::tempdir().unwrap();
        begin(place.path(), &[put(place.path(), "layers/a b", "1")]).unwrap();
        let checked = || {
            let mut sha256sum = std::process::Command::new("sha256sum");
            sha256sum.args(["--check", "--strict", SUMS]).current_dir(place.path());
            sha256sum.output().unwrap().status.success()
        };
        assert!(checked());
        put(place.path(), "layers/a b", "2");
        assert!(!checked());
    }
}
