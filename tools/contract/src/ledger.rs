//! The ledger: every changing step, written down before it is made and marked after. Undo, status
//! and leave read it and check it against the kernel, which wins.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    Begun,
    Done,
    Failed,
    Undone,
}

/// One JSON line of the ledger. A later line with the same `id` replaces an earlier one's mark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub id: u64,
    /// Seconds since boot.
    pub at: f64,
    /// The command as typed: `rescue assemble --rw`.
    pub verb: String,
    /// The step as the plain command that would do it.
    pub text: String,
    /// The step itself, a `model::plan::Step`.
    pub step: serde_json::Value,
    /// The step that takes it back, if there is one.
    pub inverse: Option<serde_json::Value>,
    pub mark: Mark,
    /// For `Failed`.
    pub error: Option<String>,
}
