//! mount(2) and umount2(2).

use super::Made;
use host::Root;

pub fn mount(
    _root: &Root,
    source: &str,
    target: &str,
    _fstype: &str,
    _flags: &[String],
    _data: &str,
) -> anyhow::Result<Made> {
    anyhow::bail!("mount {source} at {target}")
}

pub fn umount(target: &str, _lazy: bool, _force: bool) -> anyhow::Result<Made> {
    anyhow::bail!("unmount {target}")
}
