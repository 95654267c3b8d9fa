//! How near a mistyped word is to a known one: for parameters and for verbs.

/// Levenshtein's distance over bytes, case ignored, `-` and `_` equal as the kernel has it.
/// Words are short: what is beyond 64 bytes is not looked at.
pub fn distance(a: &str, b: &str) -> usize {
    let norm = |s: &str| -> Vec<u8> {
        s.bytes().take(64).map(|c| if c == b'-' { b'_' } else { c.to_ascii_lowercase() }).collect()
    };
    let (a, b) = (norm(a), norm(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
