//! The facts below /sys/class/block, as `contract::facts`.
