//! md arrays by the kernel's own interface.

use super::Made;
use host::{Act, Root};
use model::plan::MdStart;

pub fn start(_act: &Act, _root: &Root, start: &MdStart) -> anyhow::Result<Made> {
    anyhow::bail!("start {}", start.device)
}

pub fn stop(_act: &Act, _root: &Root, device: &str) -> anyhow::Result<Made> {
    anyhow::bail!("stop {device}")
}

pub fn set_read_only(_act: &Act, _root: &Root, device: &str, _read_only: bool) -> anyhow::Result<Made> {
    anyhow::bail!("set {device}")
}
