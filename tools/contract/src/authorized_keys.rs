//! A line of authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT), which the build looks at before the rescue does.

/// The options and what follows: they end at the first blank outside of double quotes. As in OpenSSH, a backslash is one of
/// them unless a quote follows. `None` where nothing follows.
pub fn after_options(line: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escapes) = (false, false);
    for (index, c) in line.char_indices() {
        let escaped = std::mem::replace(&mut escapes, c == '\\');
        match c {
            '"' if escaped => {}
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Some((&line[..index], line[index..].trim_start())),
            _ => {}
        }
    }
    None
}
