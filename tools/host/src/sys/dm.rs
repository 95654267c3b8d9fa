//! Device mapper: /dev/mapper/control (linux/dm-ioctl.h).
