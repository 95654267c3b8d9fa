//! Files of `[Section]`s with `Key=value` lines: systemd's (systemd.syntax(7)) and GLib's key files.

/// Lines of one file; more is no configuration.
const MOST_LINES: usize = 16_384;

/// One section as it is written; a name may come several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub name: String,
    pairs: Vec<(String, String)>,
}

/// All sections of a text; `continued`: a line that ends in a backslash goes on in the next one. Lines before the first section
/// are no one's.
pub(crate) fn sections(text: &str, continued: bool) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut before = String::new();
    for line in text.lines().take(MOST_LINES) {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let joined = std::mem::take(&mut before) + line;
        match joined.strip_suffix('\\').filter(|_| continued) {
            Some(begun) => {
                before = format!("{begun} ");
                continue;
            }
            None => add_line(&mut sections, &joined),
        }
    }
    add_line(&mut sections, &before);
    sections
}

fn add_line(sections: &mut Vec<Section>, line: &str) {
    if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        sections.push(Section { name: name.trim().to_string(), pairs: Vec::new() });
    } else if let (Some((key, value)), Some(section)) = (line.split_once('='), sections.last_mut()) {
        section.pairs.push((key.trim().to_string(), value.trim().to_string()));
    }
}

impl Section {
    /// All values of a key since it was last set to nothing.
    pub fn all(&self, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for (own, value) in &self.pairs {
            match (own == key, value.as_str()) {
                (true, "") => values.clear(),
                (true, value) => values.push(value),
                (false, _) => {}
            }
        }
        values
    }

    /// The words of all values of a key.
    pub fn words(&self, key: &str) -> Vec<&str> {
        self.all(key).into_iter().flat_map(str::split_whitespace).collect()
    }

    pub fn last(&self, key: &str) -> Option<&str> {
        self.all(key).pop()
    }

    /// The words for yes and no of systemd and GLib; `None` for any other.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.last(key)?.to_ascii_lowercase().as_str() {
            "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
            "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
            _ => None,
        }
    }

    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// All sections of a name as one.
pub(crate) fn whole(sections: &[Section], name: &str) -> Section {
    let named = sections.iter().filter(|section| section.name == name);
    Section { name: name.to_string(), pairs: named.flat_map(|section| section.pairs.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_sorted_under_their_sections() {
        let text =
            "x=0\n[A]\n# no\na = 1\n;a=2\na=3\nb=\n[B]\nlong=one \\\n# between\n  two\n[A]\na=\na=4\n[x\n";
        let sections = sections(text, true);
        assert_eq!(sections.iter().map(|section| section.name.as_str()).collect::<Vec<_>>(), ["A", "B", "A"]);
        assert_eq!(sections[0].all("a"), ["1", "3"]);
        assert_eq!(sections[1].words("long"), ["one", "two"]);
        assert_eq!(whole(&sections, "A").all("a"), ["4"]);
        assert_eq!(whole(&sections, "A").last("b"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]=a\\\\ \n#]{0,40}") {
            sections(&text, true);
            sections(&text, false);
        }
    }
}
