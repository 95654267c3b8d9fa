//! A pool of workers: processes that touch block devices and so may never return.
