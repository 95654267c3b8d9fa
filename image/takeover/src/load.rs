//! Into the next kernel: kernel and initramfs as files in memory, kexec_file_load(2), and the way down.

use crate::before::{System, program};
use crate::flavour::Flavour;
use crate::initramfs;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A part of the bundle: `OFFSET:LENGTH:SHA256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub offset: u64,
    pub length: u64,
    sum: [u8; 32],
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let read = || {
            let mut fields = text.split(':');
            let (offset, length) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let digits = fields.next().filter(|digits| digits.len() == 64 && digits.is_ascii())?;
            let mut sum = [0; 32];
            for (at, byte) in sum.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
            }
            Some(Part { offset, length, sum })
        };
        read().ok_or_else(|| "not OFFSET:LENGTH:SHA256".to_string())
    }
}

/// An archive of `--extra`, which may be large: it is looked at in place, and copied once.
#[derive(Debug)]
pub struct Extra {
    path: PathBuf,
    file: File,
    /// Bytes.
    length: u64,
}

/// Those of the command line. Refuses what this kernel would boot without.
pub fn extras(paths: &[PathBuf], system: &System, kernel: Flavour) -> Result<Vec<Extra>> {
    let mut extras = Vec::new();
    for path in paths {
        // Loading takes three times its size.
        let most = system.memory("MemAvailable").map_or(u64::MAX, |free| free / 3);
        extras.push(Extra::open(path, kernel, most)?);
    }
    Ok(extras)
}

impl Extra {
    /// Of a pipe no more than `most` bytes are kept in memory.
    fn open(path: &Path, kernel: Flavour, most: u64) -> Result<Extra> {
        let open = || -> Result<Extra> {
            let kind = fs::metadata(path)?.file_type();
            // Of a device nobody knows where it ends.
            ensure!(kind.is_file() || kind.is_fifo(), "it is neither a file nor a pipe");
            let mut file = File::open(path)?;
            if kind.is_fifo() {
                file = kept(file, most)?;
            }
            let length = file.metadata()?.len();
            if let Some((at, packed)) = initramfs::look(&file, 0)? {
                ensure!(
                    packed.is_unpacked_by(kernel),
                    "at byte {at}: it is packed by {}, which Debian's kernel alone unpacks (`make kexec KERNEL=debian`): {}",
                    packed.program(),
                    initramfs::WANTED
                );
            }
            Ok(Extra { path: path.into(), file, length })
        };
        open().with_context(|| format!("--extra {}", path.display()))
    }
}

/// What comes through a pipe, as a file in memory, whose length is known.
fn kept(pipe: File, most: u64) -> Result<File> {
    let memory = rustix::fs::memfd_create("extra", MemfdFlags::CLOEXEC).context("make a file in memory")?;
    let mut file = File::from(memory);
    let length = io::copy(&mut pipe.take(most.saturating_add(1)), &mut file).context("keep it in memory")?;
    ensure!(length <= most, "it is more than the {} MiB that there is memory for", most >> 20);
    Ok(file)
}

/// Bytes of all of them.
pub fn length(extras: &[Extra]) -> u64 {
    extras.iter().map(|extra| extra.length).sum()
}

/// What follows the initramfs of the bundle.
pub struct Behind<'a> {
    pub archive: &'a [u8],
    pub extras: &'a [Extra],
}

pub fn load(
    system: &System,
    bundle: &Path,
    kernel: Part,
    initramfs: Part,
    behind: &Behind,
    command_line: &str,
) -> Result<()> {
    let mut file = File::open(bundle).with_context(|| format!("open {}", bundle.display()))?;
    let flavour = flavour(bundle, kernel);
    let kernel = part(&mut file, kernel, "vmlinuz", None)?;
    let initramfs = part(&mut file, initramfs, "initramfs", Some(behind))?;
    let line = CString::new(command_line).context("a parameter with a NUL")?;
    let refusal = match host::sys::kexec::load(kernel.as_fd(), initramfs.as_fd(), &line) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    // A kernel that was built without the call has the older one, for which the tool has to prepare everything.
    if refusal.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error())
        && let Some(kexec) = program(&["kexec"])
    {
        let place = |file: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let mut command = Command::new(kexec);
        command.args(["--load", &place(&kernel), &format!("--initrd={}", place(&initramfs))]);
        let status = command.arg(format!("--command-line={command_line}")).status().context("run kexec")?;
        ensure!(status.success(), "kexec did not load it: {status}");
        return Ok(());
    }
    bail!("{}", advice(&refusal, system.is_loading_disabled(), system.is_locked_down(), flavour))
}

/// The kernel of a bundle; one that cannot be read counts as Debian's.
pub fn flavour(bundle: &Path, kernel: Part) -> Flavour {
    // The header points at most so far (flavour.rs).
    const FAR: u64 = 128 << 10;
    let mut head = Vec::new();
    let mut read = || -> io::Result<()> {
        let mut file = File::open(bundle)?;
        file.seek(SeekFrom::Start(kernel.offset))?;
        file.take(FAR.min(kernel.length)).read_to_end(&mut head).map(drop)
    };
    // What was refused is said all the same.
    let _ = read();
    Flavour::of(&head)
}

/// What a refusal means, and what to do: one line. Under Secure Boot a kernel that nobody signed is refused as such where signatures
/// are enforced, and else by the lockdown (kernel/kexec_file.c, kimage_validate_signature).
fn advice(refusal: &io::Error, is_disabled: bool, is_locked: bool, kernel: Flavour) -> String {
    use rustix::io::Errno;
    const OTHERWISE: &str =
        "start Lifeboat another way (docs/boot.md: as an EFI program, by PXE, from virtual media)";
    let unsigned = || {
        format!(
            "Secure Boot: the running kernel takes only a kernel that its own distribution signed, and nobody signed this bundle's. On Debian take the bundle of `make kexec KERNEL=debian`; elsewhere {OTHERWISE}, or turn Secure Boot off"
        )
    };
    let errno = refusal.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::PERM) if is_disabled => format!(
            "this kernel loads no other one until it is booted anew (kernel.kexec_load_disabled is 1): {OTHERWISE}"
        ),
        Some(Errno::PERM | Errno::ACCESS) if is_locked && kernel == Flavour::Custom => unsigned(),
        Some(Errno::NODATA | Errno::KEYREJECTED | Errno::NOKEY | Errno::BADMSG | Errno::NOPKG)
            if kernel == Flavour::Custom =>
        {
            unsigned()
        }
        Some(Errno::NODATA | Errno::KEYREJECTED | Errno::NOKEY | Errno::BADMSG | Errno::NOPKG) => format!(
            "Secure Boot: the running kernel takes only a kernel signed by a key that it knows, and Debian's, which is in this bundle, is to Debian alone: {OTHERWISE}, or turn Secure Boot off"
        ),
        Some(Errno::PERM | Errno::ACCESS) if is_locked => format!(
            "the running kernel is locked down (kernel_lockdown(7)) and refuses it: {OTHERWISE}, or turn Secure Boot off"
        ),
        Some(Errno::PERM | Errno::ACCESS) => format!(
            "the running kernel refuses it (a container, or a security policy such as LoadPin or SELinux): {OTHERWISE}"
        ),
        Some(Errno::NOSYS) => format!("the running kernel has no kexec_file_load, and there is no kexec program: install kexec-tools, or {OTHERWISE}"),
        Some(Errno::NOMEM | Errno::ADDRNOTAVAIL) => "the running kernel has no memory in one piece for it: stop something, or drop caches (echo 3 > /proc/sys/vm/drop_caches), and try again".into(),
        Some(Errno::BUSY) => "somebody else is loading a kernel at this moment: try again".into(),
        _ => format!("the running kernel does not load it: {refusal}"),
    }
}

/// A file in memory that nobody has open for writing, as execve(2)'s rules ask, with what is to follow behind it.
fn part(bundle: &mut File, part: Part, name: &str, behind: Option<&Behind>) -> Result<OwnedFd> {
    let memory = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).context("make a file in memory")?;
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let mut file = File::from(memory);
    bundle.seek(SeekFrom::Start(part.offset)).context("read the bundle")?;
    let mut rest = bundle.take(part.length);
    let (mut sum, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let length = rest.read(&mut buffer).context("read the bundle")?;
        if length == 0 {
            break;
        }
        sum.update(&buffer[..length]);
        file.write_all(&buffer[..length]).context("keep the bundle in memory")?;
    }
    ensure!(sum.finalize()[..] == part.sum, "{name} in the bundle is damaged: copy the bundle again");
    if let Some(Behind { archive, extras }) = behind {
        aligned(&mut file).and_then(|()| file.write_all(archive)).context("keep the settings in memory")?;
        for Extra { path, file: from, length } in *extras {
            let mut copy = || -> io::Result<u64> {
                aligned(&mut file)?;
                let mut from = from;
                from.rewind()?;
                io::copy(&mut from.take(*length), &mut file)
            };
            let copied = copy().with_context(|| format!("keep {} in memory", path.display()))?;
            ensure!(copied == *length, "{} was cut while it was read", path.display());
        }
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let read_only = rustix::fs::open(path, flags, Mode::empty()).context("open the file in memory")?;
    drop(file);
    Ok(read_only)
}

/// The kernel looks for the next archive at a multiple of four, behind four zeros at least: LZ4's is read on until a block
/// of that length (lib/decompress_unlz4.c).
fn aligned(file: &mut File) -> io::Result<()> {
    const END: u64 = 4;
    let at = file.stream_position()?;
    let gap = (at + END).next_multiple_of(4) - at;
    file.write_all(&[0; 8][..gap as usize])
}

/// What was loaded does not start by the next reboot.
pub fn unload() -> Result<()> {
    match (host::sys::kexec::unload(), program(&["kexec"])) {
        (Err(error), Some(kexec))
            if error.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) =>
        {
            let status = Command::new(kexec).arg("--unload").status().context("run kexec")?;
            ensure!(status.success(), "kexec --unload: {status}");
            Ok(())
        }
        (result, _) => result.context("unload what was loaded"),
    }
}

/// Whether this system can be shut down in order from here.
pub fn is_orderly(system: &System) -> bool {
    system.has_systemd() && program(&["systemctl"]).is_some()
}

/// Why not.
pub const BY_HAND: &str = "this system has no systemd to shut it down in order: stop services and say --now";

/// Down with this system, and up with the other. Returns where an orderly way down was begun.
pub fn start(system: &System, now: bool) -> Result<()> {
    if !now
        && system.has_systemd()
        && let Some(systemctl) = program(&["systemctl"])
    {
        println!("starting Lifeboat: this system shuts down now, and the connection ends");
        let status = Command::new(&systemctl).arg("kexec").status().context("run systemctl")?;
        // The way down may have ended it before it could say so.
        let is_going = || {
            let state = Command::new(&systemctl).arg("is-system-running").output();
            state.is_ok_and(|state| state.stdout.trim_ascii() == b"stopping")
        };
        ensure!(status.success() || is_going(), "systemctl kexec: {status}; --now starts without it");
        return Ok(());
    }
    ensure!(now, "{BY_HAND}");
    println!("starting Lifeboat now: what is cached is written out, and this system ends within seconds");
    // Beside this session, which ends first: else the person's client waits for a machine that is gone.
    let child = Command::new("/proc/self/exe")
        .arg(AT_ONCE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.context("start what starts it")?;
    Ok(())
}

/// The word by which this program calls itself for [`at_once`].
pub const AT_ONCE: &str = "at-once";
/// For a connection that ends, and for what the kernel does in the background.
const MOMENT: Duration = Duration::from_secs(2);

/// For what waits for a disk or a server that may not answer any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// Does it beside, and goes on without it when its time is up: sync(2) on a dead NFS mount never ends.
pub fn bounded<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, ended) = mpsc::channel();
    // The other end may have gone on.
    thread::Builder::new().spawn(move || done.send(work()).ok()).ok()?;
    ended.recv_timeout(patience).ok()
}

/// Nobody reads what this process says, and the kernel's log goes to the console.
fn log(text: &str) {
    let file = File::options().append(true).open("/dev/kmsg");
    // There is no other place to say it.
    let _ = file.and_then(|mut file| file.write_all(format!("<3>lifeboat-kexec: {text}\n").as_bytes()));
}

/// The end of this system, without asking any part of it.
pub fn at_once() -> Result<()> {
    // A terminal that is closed takes its session with it. It fails for a leader, who has one of his own.
    rustix::process::setsid().ok();
    thread::sleep(MOMENT);
    if bounded(PATIENCE, rustix::fs::sync).is_none() {
        log("not all that is cached could be written out");
    }
    // Every file system read-only, however busy. Without the kernel's key the journals are what there is.
    bounded(PATIENCE, || {
        if fs::write("/proc/sysrq-trigger", "u").is_ok() {
            thread::sleep(MOMENT);
        }
        rustix::fs::sync();
    });
    let error = host::sys::process::reboot(rustix::system::RebootCommand::Kexec);
    log(&format!(
        "start the kernel that was loaded: {error}; file systems are read-only now, and a reboot is in order"
    ));
    if let Err(error) = unload() {
        log(&format!("{error:#}"));
    }
    Err(error).context("start the kernel that was loaded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_taken_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bundle");
        fs::write(&path, b"header-kernel-rest").unwrap();
        let sum: String = Sha256::digest(b"kernel").iter().map(|byte| format!("{byte:02x}")).collect();
        let whole: Part = format!("7:6:{sum}").parse().unwrap();
        let mut read = String::new();
        let extra = |text: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            Extra { path: text.into(), file, length: 5 }
        };
        let extras = [extra("extra"), extra("other")];
        let behind = Behind { archive: b"more.", extras: &extras };
        let made = part(&mut File::open(&path).unwrap(), whole, "x", Some(&behind)).unwrap();
        File::from(made).read_to_string(&mut read).unwrap();
        assert_eq!(
            (read.as_str(), length(&extras)),
            ("kernel\0\0\0\0\0\0more.\0\0\0\0\0\0\0extra\0\0\0\0\0\0\0other", 10)
        );
        let behind = Behind { archive: b"more", extras: &[extra("cut")] };
        let error = part(&mut File::open(&path).unwrap(), whole, "x", Some(&behind)).unwrap_err();
        assert!(error.to_string().contains("cut while"), "{error}");
        let cut: Part = format!("7:60:{sum}").parse().unwrap();
        let error = part(&mut File::open(&path).unwrap(), cut, "vmlinuz", None).unwrap_err();
        assert!(error.to_string().contains("copy the bundle again"));
        assert!("7:6:00".parse::<Part>().is_err() && "".parse::<Part>().is_err());
    }

    #[test]
    fn an_archive_that_the_kernel_would_boot_without_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.cpio");
        let mut archive = crate::cpio::Archive::new(Vec::new());
        archive.file("key", 0o600, &[b'k'; 5]).unwrap();
        let newc = archive.finish().unwrap();
        for (label, bytes, taken) in [
            ("plain", newc.clone(), true),
            ("two", [newc.clone(), vec![0; 512], newc.clone()].concat(), true),
            ("by gzip", b"\x1f\x8b\x08rest".to_vec(), true),
            ("by zstd", b"\x28\xb5\x2f\xfdrest".to_vec(), true),
            ("by xz with CRC32", b"\xfd7zXZ\0\0\x01".to_vec(), true),
            ("by xz as it is", b"\xfd7zXZ\0\0\x04".to_vec(), false),
            ("a tar", vec![b'r'; 512], false),
            ("cpio -o", vec![0xc7, 0x71, 0, 0], false),
            ("by lz4 -l", b"\x02\x21\x4c\x18rest".to_vec(), true),
            ("by lz4 as it is", b"\x04\x22\x4d\x18rest".to_vec(), false),
            ("by bzip2", b"BZh91AY&SY".to_vec(), false),
            ("by lzma", b"\x5d\0\0\x80\0".to_vec(), false),
            ("by lzop", b"\x89LZO\0\r\n".to_vec(), false),
            ("empty", vec![], false),
            ("cut", newc[..newc.len() - 130].to_vec(), false),
        ] {
            fs::write(&path, &bytes).unwrap();
            let opened = Extra::open(&path, Flavour::Custom, 0);
            assert_eq!(opened.is_ok(), taken, "{label}: {opened:?}");
            // Debian's is built with all of them.
            let by_debians = ["by bzip2", "by lzma", "by lzop"].contains(&label);
            assert_eq!(Extra::open(&path, Flavour::Debian, 0).is_ok(), taken || by_debians, "{label}");
            if let (true, Err(error)) = (by_debians, &opened) {
                assert!(format!("{error:#}").contains("KERNEL=debian"), "{label}: {error:#}");
            }
            match opened {
                Ok(extra) => assert_eq!(extra.length, bytes.len() as u64, "{label}"),
                Err(error) => assert!(error.to_string().contains("x.cpio"), "{label}: {error}"),
            }
        }
        let of = |path: &Path| format!("{:#}", Extra::open(path, Flavour::Custom, 0).unwrap_err());
        assert!(of(directory.path()).contains("neither") && of(&directory.path().join("no")).contains("no"));
        assert!(of(Path::new("/dev/zero")).contains("neither"), "it has no end");
    }

    #[test]
    fn an_archive_comes_through_a_pipe_as_well() {
        let mut archive = crate::cpio::Archive::new(Vec::new());
        archive.file("key", 0o600, &[b'k'; 5]).unwrap();
        let newc = archive.finish().unwrap();
        let open = |bytes: &[u8], most: u64| {
            let (reader, mut writer) = io::pipe().unwrap();
            // Less than a pipe holds.
            writer.write_all(bytes).unwrap();
            drop(writer);
            // As a shell's `<(...)`.
            let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
            Extra::open(Path::new(&path), Flavour::Custom, most)
        };
        let size = newc.len() as u64;
        let extra = open(&newc, size).unwrap();
        assert_eq!(extra.length, size);
        let mut sum = String::new();
        Sha256::digest(b"kernel").iter().for_each(|byte| sum += &format!("{byte:02x}"));
        let mut bundle = tempfile::tempfile().unwrap();
        bundle.write_all(b"kernel").unwrap();
        let behind = Behind { archive: b"", extras: &[extra] };
        let made = part(&mut bundle, format!("0:6:{sum}").parse().unwrap(), "x", Some(&behind)).unwrap();
        let mut read = Vec::new();
        File::from(made).read_to_end(&mut read).unwrap();
        assert!(read.ends_with(&newc));
        for (label, bytes, most, wanted) in [
            ("more than there is memory for", &newc[..], size - 1, "memory"),
            ("cut", &newc[..newc.len() - 130], size, "cut"),
            ("empty", b"", size, "empty"),
        ] {
            let error = format!("{:#}", open(bytes, most).unwrap_err());
            assert!(error.contains(wanted), "{label}: {error}");
        }
    }

    #[test]
    fn what_never_ends_holds_up_nothing() {
        assert!(bounded(PATIENCE, || {}).is_some());
        let (_held, wait) = mpsc::channel::<()>();
        let never = bounded(Duration::from_millis(10), move || {
            let _ = wait.recv();
        });
        assert!(never.is_none());
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        use rustix::io::Errno;
        let said = |errno: Errno, disabled, locked| {
            advice(&io::Error::from(errno), disabled, locked, Flavour::Debian)
        };
        assert!(said(Errno::PERM, true, true).contains("kexec_load_disabled"));
        assert!(said(Errno::PERM, false, true).contains("locked down"));
        assert!(said(Errno::KEYREJECTED, false, true).contains("Secure Boot"));
        assert!(said(Errno::NOSYS, false, false).contains("kexec-tools"));
        assert!(said(Errno::INVAL, false, false).contains("does not load it"));
    }

    #[test]
    fn a_kernel_that_nobody_signed_is_told_from_debians() {
        use rustix::io::Errno;
        let named = "make kexec KERNEL=debian";
        for (errno, is_locked) in [(Errno::PERM, true), (Errno::NODATA, true), (Errno::KEYREJECTED, false)] {
            let said = |kernel| advice(&io::Error::from(errno), false, is_locked, kernel);
            let ours = said(Flavour::Custom);
            assert!(ours.contains(named) && ours.contains("Secure Boot"), "{ours}");
            // Whoever has that bundle is not told to make it.
            let debians = said(Flavour::Debian);
            assert!(!debians.contains(named) && debians.contains("another way"), "{debians}");
        }
        assert!(!advice(&io::Error::from(Errno::PERM), false, false, Flavour::Custom).contains(named));
    }
}
