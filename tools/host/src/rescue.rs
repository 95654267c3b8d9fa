//! `rescue`, called as a child by whoever looks at disks without a person: it has the guard, the lock and the ledger, so
//! that its callers open no device and mount nothing themselves.

use crate::Root;
use crate::sys::process::{self, Ended, Spawn};
use crate::sys::{inherited, mount};
use contract::facts::Mount;
use contract::{paths, state};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

/// What the programs that it starts are found by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// In the environment of what is called here: no person typed it.
const UNATTENDED: &str = "LIFEBOAT_UNATTENDED";
/// Most bytes of what it tells.
const MAX_TOLD: u64 = 4 << 20;

/// What is mounted from here on is seen by this process and its children alone, and gone with them.
pub fn alone() -> io::Result<()> {
    let told =
        |what: &'static str| move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    mount::own_namespace().map_err(told("make a mount namespace"))?;
    mount::spread("/".as_ref(), MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(told("keep mounts to this process"))?;
    // Else what a person unmounts meanwhile would stay mounted here, and neither be written out nor be free.
    let mounts = Root::live().map(|root| crate::proc::mounts(&root)).unwrap_or_default();
    for target in mounts.iter().rev().filter(|mount| is_of_a_disk(mount)).map(|mount| &mount.target) {
        if let Err(error) = mount::umount(&crate::proc::path(target), UnmountFlags::DETACH) {
            crate::log!("leave {target} alone: {error}");
        }
    }
    Ok(())
}

/// As opposed to the image's own layers.
fn is_of_a_disk(mount: &Mount) -> bool {
    mount.source.starts_with("/dev/") && !Path::new(&mount.target).starts_with(paths::STACK)
}

/// Of a `rescue`: a service called it, and no person.
pub fn is_unattended() -> bool {
    std::env::var_os(UNATTENDED).is_some()
}

/// The disks are there and named, and the layers with their tools and drivers.
pub fn is_ready() -> bool {
    let (devd, layers): (state::Devd, state::Layers) =
        (crate::statefile::read("devd"), crate::statefile::read("layers"));
    devd.settled && layers.done
}

/// A call that was begun. What it tells on stdout comes by the pipe; its stderr is this process's.
pub fn begin(words: &[&str]) -> io::Result<(i32, File)> {
    let (reader, writer) = io::pipe()?;
    let program = OsString::from(format!("{}/rescue", paths::BIN));
    let argv: Vec<&OsStr> =
        std::iter::once(program.as_os_str()).chain(words.iter().map(|word| OsStr::new(*word))).collect();
    let environment =
        [("PATH".into(), PATH.into()), ("HOME".into(), "/root".into()), (UNATTENDED.into(), "1".into())];
    let mut child = Spawn::new(&argv, &environment);
    child.stdout = Some(File::from(OwnedFd::from(writer)));
    child.stderr = Some(File::from(inherited(2).try_clone_to_owned()?));
    let pid = process::spawn(child)?;
    Ok((pid, File::from(OwnedFd::from(reader))))
}

/// One call; what it told on stdout.
pub fn call(words: &[&str]) -> io::Result<Vec<u8>> {
    let failed = |why: String| io::Error::other(format!("rescue {} {why}", words.join(" ")));
    let (pid, pipe) = begin(words).map_err(|error| failed(format!("cannot be started: {error}")))?;
    let mut told = Vec::new();
    let read = pipe.take(MAX_TOLD).read_to_end(&mut told);
    match process::wait_for(pid)? {
        // 3: partly.
        Ended::Status(0 | 3) => read.map(|_| told),
        Ended::Status(status) => Err(failed(format!("ended with status {status}"))),
        Ended::Signal(signal) => Err(failed(format!("was ended by signal {signal}"))),
    }
}
