//! Exit codes of our own verbs. `fsck` keeps fsck(8)'s bits and `mount` mount(8)'s.

pub const YES: i32 = 0;
/// No, or nothing found.
pub const NO: i32 = 1;
/// Wrong usage, or something that should have worked did not.
pub const TROUBLE: i32 = 2;
/// Some of it was done or found; the rest is named.
pub const PARTLY: i32 = 3;
