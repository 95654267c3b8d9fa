//! Captured machines: one text file each, laid out as a directory tree for `--sysroot`.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

/// Makes the tree of `machines/NAME.machine`.
pub fn lay_out(name: &str, root: &Path) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    lay_out_text(&fs::read_to_string(tests.join(format!("machines/{name}.machine"))).unwrap(), root);
}

/// One entry a line: `dir PATH`, `link PATH TARGET`, `file PATH CONTENT`, `hex PATH BYTES`, `zeros PATH SIZE`,
/// `window PATH OFFSET BYTES` (into what `zeros` made); `rescue capture --text` prints it.
pub fn lay_out_text(list: &str, root: &Path) {
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.splitn(3, ' ');
        let (kind, path, rest) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match kind {
            "dir" => fs::create_dir_all(path).unwrap(),
            "link" => symlink(rest, path).unwrap(),
            "file" => fs::write(path, unescaped(rest)).unwrap(),
            "zeros" => fs::File::create(path).unwrap().set_len(rest.parse().unwrap()).unwrap(),
            "hex" => fs::write(path, bytes(rest)).unwrap(),
            "window" => {
                let (offset, digits) = rest.split_once(' ').unwrap();
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.write_all_at(&bytes(digits), offset.parse().unwrap()).unwrap();
            }
            _ => panic!("{line}"),
        }
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, c == '\\') {
            (_, false) => out.push(c),
            (_, true) => match characters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                other => out.extend(other),
            },
        }
    }
    out
}
