//! A QR code (ISO/IEC 18004) in characters: two modules high each, light on the dark of a console, with
//! the quiet zone that scanners need.

use fast_qr::{ECL, QRBuilder, QRCode};

/// The standard asks for four modules; two are enough beside the dark of a screen, and let the code of
/// a host key stand on 24 lines.
const QUIET: usize = 2;

/// Lines that a code may have on a screen of 24, with two records for DNS and the cursor.
const LINES: usize = 21;

/// The line of `known_hosts`; of an alias that makes the code too tall, the key alone.
pub fn of_host(alias: &str, key: &str) -> String {
    let whole = text(&format!("{alias} {key}")).filter(|code| code.lines().count() <= LINES);
    whole.or_else(|| text(key)).unwrap_or_default()
}

/// `None` for a text that is too long.
fn text(content: &str) -> Option<String> {
    let code = QRBuilder::new(content).ecl(ECL::L).build().ok()?;
    let side = code.size + 2 * QUIET;
    let lines = (0..side).step_by(2).map(|row| {
        let half = |column| match (light(&code, row, column), light(&code, row + 1, column)) {
            (true, true) => '\u{2588}',
            (true, false) => '\u{2580}',
            (false, true) => '\u{2584}',
            (false, false) => ' ',
        };
        (0..side).map(half).collect::<String>()
    });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// Outside of the code all is light, but for the half line below the last one.
fn light(code: &QRCode, row: usize, column: usize) -> bool {
    match (row.checked_sub(QUIET), column.checked_sub(QUIET)) {
        (Some(row), Some(column)) if row < code.size && column < code.size => !code[row][column].value(),
        _ => row < code.size + 2 * QUIET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_host_key_stands_on_a_console() {
        let key = format!("ssh-ed25519 {}", "A".repeat(68));
        let code = of_host("lifeboat-0123456789", &key);
        assert_ne!(Some(&code), text(&key).as_ref(), "the alias is in it");
        assert_eq!(
            Some(of_host(&format!("lifeboat-{}", "S".repeat(64)), &key)),
            text(&key),
            "too tall with it"
        );
        let lines: Vec<&str> = code.lines().collect();
        assert!(lines.len() <= LINES, "{} lines", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()));
        assert!(lines[0].chars().count() < 80);
        // A finder pattern: seven dark modules in a row, at the corner behind the quiet zone.
        assert_eq!(
            lines[1].chars().take(10).collect::<String>(),
            "\u{2588}\u{2588} \u{2584}\u{2584}\u{2584}\u{2584}\u{2584} \u{2588}"
        );
        assert!(text(&"x".repeat(10_000)).is_none());
    }
}
