//! finit_module(2), delete_module(2).
