//! ioctls of block devices: BLKROSET, BLKROGET, BLKRRPART, BLKFLSBUF (linux/fs.h).
