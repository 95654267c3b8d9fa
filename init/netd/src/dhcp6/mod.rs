//! DHCPv6 by RFC 8415: `message` is bytes, `machine` decides. Both are pure.

pub mod machine;
pub mod message;
