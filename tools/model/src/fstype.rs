//! FSTYPES: what each file system type takes: mount helper, checker, options for reading a dirty one.
