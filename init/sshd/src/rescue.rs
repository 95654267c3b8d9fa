//! `rescue`, called as a child, for the roles that look at disks: it has the guard, the lock and the ledger, so that these
//! roles open no device and mount nothing themselves.

use anyhow::{Context, Result, bail};
use contract::state;
use host::sys::process::{self, Ended, Spawn};
use host::sys::{inherited, mount};
use rustix::mount::MountPropagationFlags;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

/// Most bytes of what it tells.
const MAX_TOLD: u64 = 4 << 20;

/// What is mounted from here on is seen by this process and its children alone, and gone with them.
pub fn alone() -> Result<()> {
    mount::own_namespace().context("make a mount namespace")?;
    mount::spread("/".as_ref(), MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("keep mounts to this process")
}

/// The disks are there and named, and the layers with their tools and drivers.
pub fn is_ready() -> bool {
    let (devd, layers): (state::Devd, state::Layers) =
        (host::statefile::read("devd"), host::statefile::read("layers"));
    devd.settled && layers.done
}

/// One call; what it told on stdout.
pub fn call(words: &[&str]) -> Result<Vec<u8>> {
    let what = words.join(" ");
    let (reader, writer) = io::pipe().context("pipe")?;
    let program = crate::program()?.with_file_name("rescue");
    let argv: Vec<&OsStr> =
        std::iter::once(program.as_os_str()).chain(words.iter().map(|word| OsStr::new(*word))).collect();
    let environment = [("PATH".into(), crate::program::PATH.into()), ("HOME".into(), "/root".into())];
    let mut child = Spawn::new(&argv, &environment);
    child.stdout = Some(File::from(OwnedFd::from(writer)));
    child.stderr = Some(File::from(inherited(2).try_clone_to_owned().context("stderr")?));
    let pid = process::spawn(child).with_context(|| format!("start rescue {what}"))?;
    let mut told = Vec::new();
    File::from(OwnedFd::from(reader)).take(MAX_TOLD).read_to_end(&mut told).context("read")?;
    match process::wait_for(pid).context("wait")? {
        // 3: partly.
        Ended::Status(0 | 3) => Ok(told),
        Ended::Status(status) => bail!("rescue {what} ended with status {status}"),
        Ended::Signal(signal) => bail!("rescue {what} was ended by signal {signal}"),
    }
}
