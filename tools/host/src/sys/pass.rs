//! Passing descriptors over a Unix socket: SCM_RIGHTS (unix(7)).
