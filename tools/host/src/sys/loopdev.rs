//! Loop devices: LOOP_CONFIGURE and friends (linux/loop.h, loop(4)).
