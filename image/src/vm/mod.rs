//! Virtual machines as values: what one is made of ([`machine`]), the running one ([`qemu`]), what
//! it says on its serial lines ([`transcript`], [`events`]), how it is steered ([`qmp`]) and how a
//! person reaches it ([`ssh`]). Everything waits on something that happens, with a deadline; nothing
//! sleeps. What a failing test prints is collected in its [`lab::Lab`].
//!
//! Tests always emulate (`-accel tcg`), so that they mean the same on every host; a person at `make run`
//! ([`person`]) may choose.

pub mod appliance;
pub mod builder;
pub mod debian;
pub mod disks;
pub mod events;
pub mod http;
pub mod https;
pub mod lab;
pub mod machine;
pub mod person;
pub mod programs;
pub mod qemu;
pub mod qmp;
pub mod server;
pub mod ssh;
pub mod transcript;

pub use disks::{Bus, Disk};
pub use lab::Lab;
pub use machine::{Machine, Nic};
pub use qemu::Vm;
pub use server::Server;
pub use ssh::Ssh;
