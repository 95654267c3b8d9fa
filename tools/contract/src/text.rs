//! Text that a disk, a drive, a peer or another system chose, on its way to a terminal: every process of ours that prints,
//! logs or tells such text does it by these.

use std::fmt;

/// A byte that is no UTF-8 is this character plus the byte (`host::text`, `ondisk::bytes::utf8`; a test of `tools` holds
/// them together).
pub const RAW: u32 = 0x10_ff00;

/// The byte that a character stands for, when it is not itself.
pub fn raw_byte(c: char) -> Option<u8> {
    u32::from(c).checked_sub(RAW).and_then(|byte| u8::try_from(byte).ok()).filter(|byte| *byte >= 0x80)
}

/// Printed with everything escaped that could steer a terminal or break a line.
#[derive(Clone, Copy, Debug)]
pub struct Untrusted<'a>(pub &'a str);

impl fmt::Display for Untrusted<'_> {
    /// As util-linux does: `\x` and two hex digits for each byte of a control character.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if steers(c) {
                for byte in bytes_of(c) {
                    write!(f, "\\x{byte:02x}")?;
                }
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

/// What no terminal may see as it is: control characters, the C1 ones too; what reorders a line (UAX 9, the Arabic
/// letter mark as well) or ends it; and what stands for a byte that is no text.
pub fn steers(c: char) -> bool {
    let reorders = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || reorders || raw_byte(c).is_some()
}

/// A character as it stood on the disk: UTF-8, or the byte that was none.
pub fn bytes_of(c: char) -> impl Iterator<Item = u8> {
    let mut bytes = [0; 4];
    let length = match raw_byte(c) {
        Some(byte) => {
            bytes[0] = byte;
            1
        }
        None => c.encode_utf8(&mut bytes).len(),
    };
    bytes.into_iter().take(length)
}

/// JSON of the same value, with the characters spelt out that JSON lets stand and a terminal obeys.
pub fn spelt(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // Those for bytes that are no text are the value, and steer nothing.
        if steers(c) && c != '\n' && raw_byte(c).is_none() {
            let mut units = [0; 2];
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_steers_no_terminal() {
        let cases = [
            ("boot", "boot"),
            ("Füße", "Füße"),
            ("\x1b[2J", "\\x1b[2J"),
            ("a\nb\tc", "a\\x0ab\\x09c"),
            ("\u{202e}gpj.exe", "\\xe2\\x80\\xaegpj.exe"),
            ("\u{85}", "\\xc2\\x85"),
            ("\u{61c}x\u{2066}\u{7f}", "\\xd8\\x9cx\\xe2\\x81\\xa6\\x7f"),
            ("a\u{10ffff}", "a\\xff"),
        ];
        for (given, want) in cases {
            assert_eq!(Untrusted(given).to_string(), want);
        }
    }

    #[test]
    fn json_is_spelt_so_that_its_value_stays_and_no_terminal_obeys() {
        let value = serde_json::Value::from("\x1b[2J\u{7f}\u{9b}\u{202e}Füße\u{10ff9b}\n");
        let text = spelt(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(text, "\"\\u001b[2J\\u007f\\u009b\\u202eFüße\u{10ff9b}\\n\"");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
