//! What a mount command means: options to flags, the device by path, LABEL= or UUID=, the probed type.
