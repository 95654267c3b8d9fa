//! One typed function per ioctl or system call. The only module of the project with unsafe code;
//! each file says which man page or kernel header it mirrors.

use std::os::fd::BorrowedFd;

pub mod acpi;
pub mod aio;
pub mod block;
pub mod btrfs;
pub mod dm;
pub mod kexec;
pub mod kmod;
pub mod loopdev;
pub mod memory;
pub mod mount;
pub mod nbd;
pub mod netlink;
pub mod packet;
pub mod pass;
pub mod process;
pub mod seccomp;
pub mod swap;
pub mod tty;
pub mod uevent;

/// A descriptor that whoever started this process left open by agreement (0, 1, 2, or
/// [`contract::event::DESCRIPTOR`]). Nothing in the process closes these.
pub fn inherited(number: i32) -> BorrowedFd<'static> {
    // SAFETY: the numbers used are never closed by this process; a number that is not open makes
    // calls on it fail with EBADF and nothing else.
    unsafe { BorrowedFd::borrow_raw(number) }
}
