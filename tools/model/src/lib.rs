//! Judgement, pure: what the facts and the bytes mean together, and what would have to be done. No
//! files, no processes, no clock: clippy keeps them out.

#![forbid(unsafe_code)]

pub mod bcache;
pub mod build;
pub mod consent;
pub mod content;
pub mod disklabel;
pub mod foreign;
pub mod fsck;
pub mod fstype;
pub mod luks;
pub mod lvm;
pub mod md;
pub mod mount;
pub mod overlay;
pub mod parttype;
pub mod plan;
pub mod status;
pub mod storage;
pub mod text;
pub mod undo;
