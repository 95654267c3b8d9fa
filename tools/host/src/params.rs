//! The boot parameters: the kernel command line, then the file that an appended cpio or iPXE put at
//! `/etc/lifeboat/params`, whose words come last and so win.

use crate::Root;
use contract::cmdline::{Word, file_words, words};
use contract::paths;

pub fn read(root: &Root) -> Vec<Word> {
    let mut all = words(&root.read_text("/proc/cmdline").unwrap_or_default());
    all.extend(file_words(&root.read_text(paths::PARAMS_FILE).unwrap_or_default()));
    all
}
