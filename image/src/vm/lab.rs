//! One test's bench: its directory, the image that it boots, its login key, and what is printed
//! when it fails.

use super::machine::{Boot, Machine, Nic};
use super::programs;
use crate::forms;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

pub struct Lab {
    pub name: String,
    /// Disks, keys and logs; removed when the test has passed.
    pub dir: PathBuf,
    /// The directory with `vmlinuz` and `initramfs`.
    pub image: PathBuf,
    reports: Mutex<Vec<String>>,
}

impl Lab {
    pub fn new(name: &str, image: &Path) -> Result<Lab> {
        let dir = programs::cache()?.join("vm/run").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Lab { name: name.into(), dir, image: image.into(), reports: Mutex::default() })
    }

    /// The built image by `-kernel`, with one NIC, its events on the second serial line, and the
    /// lab's key.
    pub fn machine(&self) -> Result<Machine> {
        let key = self.public_key()?;
        let boot = Boot::Kernel {
            kernel: self.image.join("vmlinuz"),
            initrd: self.image.join("initramfs"),
            append: format!("{} ssh_key=\"{key}\"", self.words()),
        };
        Ok(Machine::new(boot).nic(Nic::virtio("10.0.2")))
    }

    /// The same without a key: the way in is a password on the console.
    pub fn machine_without_key(&self) -> Result<Machine> {
        let boot = Boot::Kernel {
            kernel: self.image.join("vmlinuz"),
            initrd: self.image.join("initramfs"),
            append: self.words(),
        };
        Ok(Machine::new(boot).nic(Nic::virtio("10.0.2")))
    }

    /// A panic ends QEMU at once instead of waiting for the deadline.
    fn words(&self) -> String {
        "console=ttyS0 panic=-1 rescue.events=ttyS1".into()
    }

    /// The private key; made when first asked for.
    pub fn key(&self) -> Result<PathBuf> {
        self.key_named("key")
    }

    pub fn key_named(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if !path.exists() {
            let status = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"])
                .arg(&path)
                .stdin(Stdio::null())
                .status()
                .context("run ssh-keygen of openssh-client")?;
            ensure!(status.success(), "ssh-keygen made no key: {status}");
        }
        Ok(path)
    }

    /// Its line, as `authorized_keys` has it.
    pub fn public_key(&self) -> Result<String> {
        let path = self.key()?.with_extension("pub");
        Ok(fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?.trim().to_string())
    }

    /// An archive of these files (path without its first slash, content), as an operator would append it.
    pub fn archive_with(&self, files: &[(&str, &str)]) -> Result<PathBuf> {
        let (stage, archive) = (self.path("append"), self.path("append.cpio"));
        for (name, content) in files {
            let path = stage.join(name);
            fs::create_dir_all(path.parent().context("name a directory")?).context("create a directory")?;
            fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        }
        programs::cpio(&stage, &archive)?;
        Ok(archive)
    }

    /// The image's initramfs with them in it, as docs/boot.md says: one more cpio behind the nucleus, and then the layers.
    pub fn initramfs_with(&self, files: &[(&str, &str)]) -> Result<PathBuf> {
        let (archive, whole) = (self.archive_with(files)?, self.path("initramfs"));
        self.insert(&archive, &whole)?;
        Ok(whole)
    }

    /// The same with an archive that is there.
    pub fn insert(&self, archive: &Path, whole: &Path) -> Result<()> {
        let [mut bytes, layers] = forms::split(&self.image)?;
        forms::append(&mut bytes, &fs::read(archive).context("read the archive")?);
        forms::append(&mut bytes, &layers);
        fs::write(whole, bytes).with_context(|| format!("write {}", whole.display()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What a machine leaves behind when it ends.
    pub(super) fn report(&self, text: String) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// All that is known about a failure.
    pub fn reports(&self) -> String {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}
