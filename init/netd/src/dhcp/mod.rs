//! DHCPv4 by RFC 2131 and 2132: `message` is bytes, `machine` decides. Both are pure.

pub mod machine;
pub mod message;
