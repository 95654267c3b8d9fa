//! md arrays (linux/raid/md_u.h, drivers/md/md.c).
