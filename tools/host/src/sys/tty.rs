//! Terminals and pseudo-terminals.
