//! Mounts, swaps and memory from /proc.
