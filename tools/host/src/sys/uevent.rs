//! Kernel uevents (NETLINK_KOBJECT_UEVENT).
