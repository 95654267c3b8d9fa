//! The boot parameters: the kernel command line, then the file that an appended cpio or iPXE put at
//! `/etc/lifeboat/params`, whose words come last and so win.

use crate::Root;
use contract::cmdline::{Word, file_words, words};
use contract::paths;

/// Whether a word stands on the command line itself, which is public.
pub fn is_public(root: &Root, name: &str) -> bool {
    words(&root.read_text("/proc/cmdline").unwrap_or_default()).iter().any(|word| word.name == name)
}

pub fn read(root: &Root) -> Vec<Word> {
    let mut all = words(&root.read_text("/proc/cmdline").unwrap_or_default());
    all.extend(file_words(&root.read_text(paths::PARAMS_FILE).unwrap_or_default()));
    all
}
