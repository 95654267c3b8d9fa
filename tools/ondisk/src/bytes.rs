//! Little- and big-endian fields of a byte slice, by offset.
