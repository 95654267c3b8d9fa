//! The boot parameters: the kernel command line, then what the system before handed on, then the file that an appended
//! cpio or iPXE put at `/etc/lifeboat/params`, whose words come last and so win.

use crate::Root;
use contract::cmdline::{Word, file_words, words};
use contract::paths;

/// Whether a word stands on the command line itself, which is public.
pub fn is_public(root: &Root, name: &str) -> bool {
    words(&root.read_text("/proc/cmdline").unwrap_or_default()).iter().any(|word| word.name == name)
}

pub fn read(root: &Root) -> Vec<Word> {
    let mut all = words(&root.read_text("/proc/cmdline").unwrap_or_default());
    for file in [paths::HANDED_PARAMS, paths::PARAMS_FILE] {
        all.extend(file_words(&root.read_text(file).unwrap_or_default()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_before_handed_on_stands_beside_an_archive_s_own_parameters() {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            ("proc/cmdline", "a=1 b=1"),
            ("etc/lifeboat/handed/params", "b=2\nc=2\n"),
            ("etc/lifeboat/params", "c=3\n"),
        ];
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = read(&Root::at(directory.path()).unwrap());
        let last =
            ["a", "b", "c"].map(|name| contract::cmdline::last(&found, name).unwrap_or_default().to_string());
        assert_eq!(last, ["1", "2", "3"]);
    }
}
