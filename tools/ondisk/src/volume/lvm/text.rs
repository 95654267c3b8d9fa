//! The text in which LVM2 writes its metadata down (device_mapper/libdm-config.c): sections in braces, `key = value`,
//! numbers, strings in double quotes with `\"` and `\\`, lists in brackets, comments from `#` to the line's end.
//! Bounded: hostile text is an error, and never much memory or a deep stack.

/// A section in a section in a section: metadata has four.
const DEEPEST: usize = 8;
/// Values and sections together: ten for each LV of the largest groups.
const MOST: usize = 1 << 18;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Section(Section),
}

/// In the text's order; of two with one name the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section(pub Vec<(String, Value)>);

impl Section {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::List(_) | Value::Section(_) => None,
        }
    }

    /// Not negative.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Number(number) => u64::try_from(*number).ok(),
            Value::Text(_) | Value::List(_) | Value::Section(_) => None,
        }
    }

    /// A list's values; a single one stands for a list of itself.
    pub fn list(&self, key: &str) -> &[Value] {
        match self.get(key) {
            Some(Value::List(values)) => values,
            Some(value @ (Value::Text(_) | Value::Number(_))) => std::slice::from_ref(value),
            Some(Value::Section(_)) | None => &[],
        }
    }

    /// Whether a list of words (status, flags) has this one.
    pub fn has(&self, key: &str, word: &str) -> bool {
        self.list(key).iter().any(|value| matches!(value, Value::Text(text) if text == word))
    }

    pub fn section(&self, key: &str) -> Option<&Section> {
        match self.get(key)? {
            Value::Section(section) => Some(section),
            Value::Number(_) | Value::Text(_) | Value::List(_) => None,
        }
    }

    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.0.iter().filter_map(|(key, value)| match value {
            Value::Section(section) => Some((key.as_str(), section)),
            Value::Number(_) | Value::Text(_) | Value::List(_) => None,
        })
    }
}

/// What is wrong with the text, and at which byte of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Fault {
    pub at: usize,
    pub what: &'static str,
}

pub fn parse(text: &[u8]) -> Result<Section, Fault> {
    // It is written with the NUL that ends it in memory.
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let mut reader = Reader { text: &text[..end], at: 0, left: MOST };
    let section = reader.section(0)?;
    match reader.peek() {
        None => Ok(section),
        Some(_) => Err(reader.fault("a brace without its other half")),
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// Values that may still come.
    left: usize,
}

impl Reader<'_> {
    fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.at, what }
    }

    /// The next byte that is neither blank nor of a comment.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                }
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                _ => return Some(*byte),
            }
        }
        None
    }

    fn take(&mut self, wanted: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(wanted) {
            return Err(self.fault(what));
        }
        self.at += 1;
        Ok(())
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.left = self.left.checked_sub(1).ok_or(self.fault("too many values"))?;
        Ok(())
    }

    /// Up to the brace that closes it, or the text's end.
    fn section(&mut self, depth: usize) -> Result<Section, Fault> {
        if depth > DEEPEST {
            return Err(self.fault("too many sections in each other"));
        }
        let mut section = Section::default();
        while self.peek().is_some_and(|byte| byte != b'}') {
            self.count()?;
            let key = match self.peek() {
                Some(b'"') => self.quoted()?,
                _ => self.word()?,
            };
            let value = match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    let inner = self.section(depth + 1)?;
                    self.take(b'}', "a section without its end")?;
                    Value::Section(inner)
                }
                Some(b'=') => {
                    self.at += 1;
                    self.value()?
                }
                _ => return Err(self.fault("a name with neither value nor section")),
            };
            section.0.push((key, value));
        }
        Ok(section)
    }

    fn value(&mut self) -> Result<Value, Fault> {
        if self.peek() != Some(b'[') {
            return self.single();
        }
        self.at += 1;
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Some(b']') => break,
                // As libdm reads it: what stands between commas, and a comma before the end.
                Some(b',') => self.at += 1,
                Some(_) => {
                    self.count()?;
                    values.push(self.single()?);
                }
                None => return Err(self.fault("a list without its end")),
            }
        }
        self.at += 1;
        Ok(Value::List(values))
    }

    fn single(&mut self) -> Result<Value, Fault> {
        match self.peek() {
            Some(b'"') => Ok(Value::Text(self.quoted()?)),
            Some(_) => {
                let word = self.word()?;
                // A number with a point is read by nobody.
                Ok(word.parse().map_or(Value::Text(word), Value::Number))
            }
            None => Err(self.fault("a name without its value")),
        }
    }

    fn word(&mut self) -> Result<String, Fault> {
        let rest = &self.text[self.at..];
        let is = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+.@/:".contains(byte);
        let length = rest.iter().take_while(|byte| is(byte)).count();
        if length == 0 {
            return Err(self.fault("what is no name"));
        }
        self.at += length;
        Ok(crate::bytes::utf8(&rest[..length]))
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        let begun = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') if matches!(self.text.get(self.at + 1), Some(b'"' | b'\\')) => {
                    bytes.push(self.text[self.at + 1]); // looked at in the line above
                    self.at += 1;
                }
                Some(byte) => bytes.push(*byte),
                None => return Err(Fault { at: begun, what: "a string without its end" }),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(crate::bytes::utf8(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let text = br#"
            vg { # a comment with } and "
                id = "a\"b\\c"
                seqno = 7
                status = ["READ", "WRITE",]
                flags = []
                pv0 { stripes = [ "pv0", 0, "pv1", 16 ] }
            }
            contents = "Text Format Volume Group"
            version = 1 "#;
        let all = parse(text).unwrap();
        let vg = all.section("vg").unwrap();
        assert_eq!((vg.text("id"), vg.number("seqno")), (Some("a\"b\\c"), Some(7)));
        assert!(vg.has("status", "WRITE") && !vg.has("status", "READ,WRITE") && vg.list("flags").is_empty());
        let stripes = vg.section("pv0").unwrap().list("stripes");
        assert_eq!(stripes[2..], [Value::Text("pv1".to_string()), Value::Number(16)]);
        assert_eq!(all.number("version"), Some(1));
    }

    #[test]
    fn what_is_torn_is_told_with_its_place() {
        let cases: &[(&[u8], usize, &str)] = &[
            (b"a {", 3, "a section without its end"),
            (b"a = [1", 6, "a list without its end"),
            (b"a = \"x", 4, "a string without its end"),
            (b"a }", 2, "a name with neither value nor section"),
            (b"}", 0, "a brace without its other half"),
            (b"a =", 3, "a name without its value"),
            (b"a = \x80", 4, "what is no name"),
            (b"a{a{a{a{a{a{a{a{a{}", 18, "too many sections in each other"),
        ];
        for (text, at, what) in cases {
            assert_eq!(parse(text), Err(Fault { at: *at, what }), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_text_of_nothing_but_values_ends_at_the_cap() {
        let text = format!("a = [{}]", "1,".repeat(MOST + 1));
        assert_eq!(parse(text.as_bytes()).unwrap_err().what, "too many values");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in proptest::collection::vec(prop_oneof![
            Just(b"a".to_vec()), Just(b"{".to_vec()), Just(b"}".to_vec()), Just(b"[".to_vec()), Just(b"]".to_vec()),
            Just(b"\"".to_vec()), Just(b"\\".to_vec()), Just(b"#".to_vec()), Just(b"\n".to_vec()), Just(b" = ".to_vec()),
            Just(b",".to_vec()), Just(b"99999999999999999999".to_vec()), any::<u8>().prop_map(|byte| vec![byte]),
        ], 0..200)) {
            let _ = parse(&text.concat());
        }
    }
}
