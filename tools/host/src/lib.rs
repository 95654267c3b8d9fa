//! Everything the kernel says and does: files below a [`Root`], sysfs and proc as facts, children,
//! workers, and one typed function per ioctl or system call in [`sys`], which is the only unsafe
//! code of the project. Decides nothing.

pub mod act;
pub mod apart;
pub mod ask;
pub mod bcache;
pub mod blobs;
pub mod call;
pub mod capture;
pub mod conout;
pub mod consents;
pub mod device;
pub mod devices;
pub mod events;
pub mod firmware;
pub mod fstab;
pub mod holders;
pub mod installed;
pub mod kmsg;
pub mod ledger;
mod listed;
pub mod log;
pub mod machine;
pub mod md;
pub mod modules;
pub mod nic;
mod nic_names;
pub mod params;
pub mod proc;
pub mod rescue;
pub mod root;
pub mod shell;
pub mod shown;
pub mod statefile;
pub mod sys;
pub mod sysfs;
pub mod text;
pub mod volumes;
pub mod workers;
pub mod zone;

pub use act::Act;
pub use root::Root;
