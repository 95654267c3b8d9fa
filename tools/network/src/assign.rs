//! Files that a shell sources and that are assignments alone, as below /etc/sysconfig. Quotes are taken off as a shell does
//! it; nothing is expanded, and a value that would have to be is left out.

use crate::source::{self, File, shown};
use crate::{MOST_PER_LINK, Plan};

/// Lines of one file; more is no configuration.
const MOST_LINES: usize = 4096;

/// Names and values, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignments(Vec<(String, String)>);

impl Assignments {
    pub fn read(file: &File, plan: &mut Plan) -> Assignments {
        let mut pairs = Vec::new();
        let at = &mut source::at(plan, &file.path, "");
        for line in lines(&file.text) {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let is_name = |name: &&str| {
                !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-@".contains(&c))
            };
            match line.split_once('=').filter(|(name, _)| is_name(name)) {
                Some((name, rest)) => match word(rest) {
                    Some(value) => pairs.push((name.to_string(), value)),
                    None => at.tell(&format!("{} is not read: it would have to be expanded", shown(name))),
                },
                None => at.tell(&format!("\"{}\" is not run", shown(line))),
            }
        }
        Assignments(pairs)
    }

    /// The last value of a name that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let last = self.0.iter().rev().find(|(own, _)| own == name)?;
        Some(last.1.trim()).filter(|value| !value.is_empty())
    }

    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)?.to_ascii_lowercase().as_str() {
            "yes" | "true" | "y" | "t" | "on" | "1" => Some(true),
            "no" | "false" | "n" | "f" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    /// What follows a name (`IPADDR`, `IPADDR_1`), and the value: all that begin with it and go on in digits, or after a `_`.
    pub fn suffixed(&self, name: &str) -> Vec<(&str, &str)> {
        let is_suffix = |suffix: &str| suffix.starts_with('_') || suffix.bytes().all(|c| c.is_ascii_digit());
        let own = |(own, _): &(String, String)| own.strip_prefix(name).is_some_and(is_suffix);
        let mut found: Vec<(&str, &str)> = Vec::new();
        for (key, _) in self.0.iter().filter(|pair| own(pair)) {
            if let (Some(value), Some(suffix)) = (self.get(key), key.strip_prefix(name))
                && found.len() < MOST_PER_LINK
                && !found.iter().any(|(known, _)| *known == suffix)
            {
                found.push((suffix, value));
            }
        }
        found
    }

    pub fn words(&self, name: &str) -> Vec<&str> {
        self.get(name).unwrap_or_default().split_whitespace().take(MOST_PER_LINK).collect()
    }
}

/// Lines as a shell puts them together: a backslash at the end joins the next one, and so does a quote that is open, if it is
/// closed soon after.
fn lines(text: &str) -> Vec<String> {
    const FURTHEST: usize = 16;
    let mut whole = Vec::new();
    let mut rest: Vec<&str> = text.lines().take(MOST_LINES).collect();
    rest.reverse();
    while let Some(line) = rest.pop() {
        let mut line = line.to_string();
        while !line.trim_start().starts_with('#') && line.ends_with('\\') {
            let Some(next) = rest.pop() else { break };
            line.pop();
            line += next;
        }
        if is_open(&line) {
            let more = rest.iter().rev().take(FURTHEST);
            let mut longer = line.clone();
            let mut joined = more.map(|next| {
                longer = format!("{longer}\n{}", next.trim_end_matches('\\'));
                longer.clone()
            });
            if let Some(at) = joined.position(|longer| !is_open(&longer)) {
                line = longer;
                rest.truncate(rest.len() - at - 1);
            }
        }
        whole.push(line);
    }
    whole
}

/// Whether a quote is open at the end.
fn is_open(line: &str) -> bool {
    let (mut open, mut before) = (None, ' ');
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (c, open) {
            // What stands behind it is no one's.
            ('#', None) if before.is_whitespace() => return false,
            ('\\', None | Some('"')) => drop(rest.next()),
            ('"' | '\'', None) => open = Some(c),
            (c, Some(quote)) if c == quote => open = None,
            _ => {}
        }
        before = c;
    }
    open.is_some()
}

/// The first word, without its quotes; `None` where a shell would expand something.
fn word(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' => loop {
                match rest.next() {
                    Some('\'') | None => break,
                    Some(c) => value.push(c),
                }
            },
            '"' => loop {
                match rest.next() {
                    Some('"') | None => break,
                    Some('\\') => match rest.next() {
                        Some(c @ ('"' | '\\' | '$' | '`')) => value.push(c),
                        Some(c) => value.extend(['\\', c]),
                        None => break,
                    },
                    Some('$' | '`') => return None,
                    Some(c) => value.push(c),
                }
            },
            // $'...' is how NetworkManager writes what is not plain.
            '$' if rest.peek() == Some(&'\'') => {
                rest.next();
                loop {
                    match rest.next() {
                        Some('\'') | None => break,
                        Some('\\') => value.extend(rest.next().map(|c| match c {
                            'n' => '\n',
                            't' => '\t',
                            c => c,
                        })),
                        Some(c) => value.push(c),
                    }
                }
            }
            '$' | '`' => return None,
            '\\' => value.extend(rest.next()),
            ';' | '&' | '|' => break,
            c if c.is_whitespace() => break,
            c => value.push(c),
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_are_taken_off_as_a_shell_does_it() {
        for (text, want) in [
            ("eth0", Some("eth0")),
            ("eth0 # the first", Some("eth0")),
            ("\"mode=4 miimon=100\"", Some("mode=4 miimon=100")),
            ("'it'\"'s\" x", Some("it's")),
            ("a\\ b", Some("a b")),
            ("\"a\\\"b\\c\"", Some("a\"b\\c")),
            ("$'a\\'b\\n'", Some("a'b\n")),
            ("", Some("")),
            ("\"unclosed", Some("unclosed")),
            ("$HOME", None),
            ("\"`id`\"", None),
            ("\"$(id)\"", None),
        ] {
            assert_eq!(word(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_value_goes_on_in_the_next_line_as_a_shell_has_it() {
        let mut plan = Plan::default();
        let text = "A=\"1 \\\n 2\"\nB='x\n\ny'\n# it's a comment \\\nC=\"open\nD=4 # don't\nE=5\n";
        let all = Assignments::read(&File::new("x", text), &mut plan);
        let words = |name: &str| all.words(name).join(" ");
        assert_eq!(["A", "B", "C", "D", "E"].map(words), ["1 2", "x y", "open", "4", "5"]);
        assert_eq!(plan.problems, [""; 0]);
    }

    #[test]
    fn what_is_no_assignment_is_told() {
        let mut plan = Plan::default();
        let file = File::new(
            "ifcfg-eth0",
            "# ours\nexport A=1\nA=2 B=3\nIPADDR0=a\nIPADDR_x=b\nIPADDRESS=c\nC=\n. /etc/x\nD=$A\n",
        );
        let all = Assignments::read(&file, &mut plan);
        assert_eq!(
            (all.get("A"), all.get("C"), all.suffixed("IPADDR")),
            (Some("2"), None, vec![("0", "a"), ("_x", "b")])
        );
        assert_eq!(
            plan.problems,
            [
                "ifcfg-eth0: \". /etc/x\" is not run",
                "ifcfg-eth0: D is not read: it would have to be expanded"
            ]
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[A='\"\\\\$` \n#;]{0,40}") {
            Assignments::read(&File::new("x", &text), &mut Plan::default());
        }
    }
}
