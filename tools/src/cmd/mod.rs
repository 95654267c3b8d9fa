//! The tools, one file each. A tool is a function of its [`crate::tool::Context`] and arguments to an
//! [`crate::report::Answer`]: it reads no global and prints nothing but notices.

pub mod add;
pub mod assemble;
pub mod blkid;
pub mod capture;
pub mod fdisk;
pub mod fsck;
pub mod lsblk;
pub mod mount;
pub mod net;
pub mod open;
pub mod overlay;
pub mod session;
pub mod status;
pub mod swapon;
pub mod umount;
pub mod undo;
pub mod volumes;
pub mod worker;
pub mod writable;

#[cfg(test)]
pub mod hostile_tests;
