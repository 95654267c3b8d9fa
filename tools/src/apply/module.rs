//! Modules, which devd loads: it knows the indices, and what waits for a layer.

use super::Made;
use anyhow::{Context as _, bail};
use contract::wire::{DevdRequest, Reply};
use host::Act;
use std::time::Duration;

/// A module may stand in a layer that is being mounted.
const DEADLINE: Duration = Duration::from_secs(60);

pub fn load(_act: &Act, name: &str) -> anyhow::Result<Made> {
    let request = DevdRequest::Module { name: name.to_string() };
    match host::ask::ask("devd", &request, DEADLINE).with_context(|| format!("ask devd for {name}"))? {
        Reply::Done | Reply::Value { .. } => Ok(Made::Done),
        Reply::Failed { error } => bail!("load the module {name}: {error}"),
    }
}
