//! A virtual machine as a value: what it is made of, what it says, and how it is spoken to.
