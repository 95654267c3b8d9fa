//! Public keys in what clouds and hypervisors hand a new machine: cloud-init's user-data and meta-data (NoCloud), and the
//! JSON of OpenStack, Vultr and Scaleway. Bytes to lines of authorized_keys; opens nothing.
//!
//! Of YAML what such files are written in: block mappings and lists, plain and quoted scalars, lists in brackets on one
//! line. Where keys stand in any other form (anchors, tags, folded text), they are refused with the line; what
//! belongs to other words is passed over by its indentation. JSON is taken too, being YAML.

use serde_json::Value;

/// Most keys of one document, more than any cloud takes.
const MAX_KEYS: usize = 256;
/// Most bytes of one scalar: `keys` refuses a longer line.
const MAX_SCALAR: usize = 8192;

/// What was found, and what was not taken and why.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// Lines of authorized_keys.
    pub keys: Vec<String>,
    pub problems: Vec<String>,
}

impl Found {
    /// Several keys may stand in one text, a line each.
    fn add(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if self.keys.len() < MAX_KEYS {
                self.keys.push(line.to_string());
            }
        }
    }

    fn refuse(&mut self, problem: impl Into<String>) {
        if self.problems.len() < 4 {
            self.problems.push(problem.into());
        }
    }
}

/// What one place had, as text that another process reads: its name, a line each for a problem and a key.
pub fn section(source: &str, found: &Found) -> String {
    let line = |text: &str| text.replace(|c: char| c.is_control(), " ");
    let problems = found.problems.iter().map(|problem| format!("! {}\n", line(problem)));
    let keys = found.keys.iter().map(|key| format!("{}\n", line(key)));
    std::iter::once(format!("# {}\n", line(source))).chain(problems).chain(keys).collect()
}

/// The sections of a text.
pub fn sections(text: &str) -> Vec<(String, Found)> {
    let mut sections: Vec<(String, Found)> = Vec::new();
    for line in text.lines() {
        if let Some(source) = line.strip_prefix("# ") {
            sections.push((source.to_string(), Found::default()));
        } else if let Some((_, found)) = sections.last_mut() {
            match line.strip_prefix("! ") {
                Some(problem) => found.problems.push(problem.to_string()),
                None => found.add(line),
            }
        }
    }
    sections
}

/// `ssh_authorized_keys` of the default user and of root, in `#cloud-config`.
pub fn user_data(text: &str) -> Found {
    let first = text.lines().next().unwrap_or_default().trim_end();
    let mut found = Found::default();
    if text.trim().is_empty() {
        return found;
    }
    if !matches!(first, "#cloud-config" | "#cloud-config-jsonp") && !text.trim_start().starts_with('{') {
        // It may have been meant for somebody else: a script, an archive of parts.
        found.refuse("is no #cloud-config: its keys, if any, are not read");
        return found;
    }
    if text.trim_start().starts_with('{') {
        let Some(value) = json(text, &mut found) else { return found };
        strings(&value["ssh_authorized_keys"], &mut found);
        for user in value["users"].as_array().into_iter().flatten().filter(|user| user["name"] == "root") {
            for word in ["ssh_authorized_keys", "ssh-authorized-keys"] {
                strings(&user[word], &mut found);
            }
        }
        return found;
    }
    let lines = lines(text);
    let top = block(&lines);
    for (word, place) in words(top, &lines) {
        match word {
            "ssh_authorized_keys" => list(&lines, place, &mut found),
            "users" => users(&lines, place, &mut found),
            _ => {}
        }
    }
    found
}

/// `public-keys` of a NoCloud meta-data: one, a list, or by name.
pub fn meta_data(text: &str) -> Found {
    let mut found = Found::default();
    if text.trim_start().starts_with('{') {
        let Some(value) = json(text, &mut found) else { return found };
        strings(&value["public-keys"], &mut found);
        return found;
    }
    let lines = lines(text);
    for (word, place) in words(block(&lines), &lines) {
        if word == "public-keys" {
            list(&lines, place, &mut found);
        }
    }
    found
}

/// OpenStack's meta_data.json (config drive and service): `public_keys`, by name.
pub fn openstack(text: &str) -> Found {
    member(text, "public_keys")
}

/// Vultr's v1.json.
pub fn vultr(text: &str) -> Found {
    member(text, "public-keys")
}

/// Scaleway's conf?format=json: a list of objects.
pub fn scaleway(text: &str) -> Found {
    let mut found = Found::default();
    let Some(value) = json(text, &mut found) else { return found };
    for key in value["ssh_public_keys"].as_array().into_iter().flatten() {
        strings(&key["key"], &mut found);
    }
    found
}

/// A list as some services give it: JSON, or a line each, which may begin with YAML's dash.
pub fn listing(text: &str) -> Found {
    let mut found = Found::default();
    if text.trim_start().starts_with('[') {
        if let Some(value) = json(text, &mut found) {
            strings(&value, &mut found);
        }
        return found;
    }
    for line in text.lines() {
        let line = line.trim();
        match scalar(line.strip_prefix("- ").unwrap_or(line)) {
            Ok(text) => found.add(&text),
            Err(reason) => found.refuse(reason),
        }
    }
    found
}

fn member(text: &str, name: &str) -> Found {
    let mut found = Found::default();
    if let Some(value) = json(text, &mut found) {
        strings(&value[name], &mut found);
    }
    found
}

/// serde_json bounds the depth.
fn json(text: &str, found: &mut Found) -> Option<Value> {
    let value = serde_json::from_str(text);
    value.map_err(|error| found.refuse(format!("is no JSON: line {}", error.line()))).ok()
}

/// One, a list of such, or by name.
fn strings(value: &Value, found: &mut Found) {
    match value {
        Value::String(text) => found.add(text),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(values) => values.values().for_each(|value| strings(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A line of YAML that holds something.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    text.lines()
        .enumerate()
        .map(|(index, line)| Line { number: index + 1, indent: indent(line), text: line.trim() })
        .filter(|line| !line.text.is_empty() && !line.text.starts_with('#'))
        // The beginning of the document; a second one is nobody's.
        .skip_while(|line| line.text == "---" || line.text.starts_with('%'))
        .take_while(|line| !(line.indent == 0 && matches!(line.text, "---" | "...")))
        .collect()
}

/// A mapping's place: from which line on, and at which indentation its words stand.
#[derive(Clone, Copy)]
struct Block {
    from: usize,
    to: usize,
    indent: usize,
}

fn block(lines: &[Line<'_>]) -> Block {
    Block { from: 0, to: lines.len(), indent: 0 }
}

/// What stands after a word's colon, and the lines below it.
#[derive(Clone, Copy)]
struct Place<'a> {
    number: usize,
    /// On the line of the word.
    rest: &'a str,
    from: usize,
    to: usize,
}

/// The words of a mapping. What is indented deeper belongs to the word before it, and so does a list whose dashes
/// stand below the word.
fn words<'a>(block: Block, lines: &[Line<'a>]) -> Vec<(&'a str, Place<'a>)> {
    let mut words: Vec<(&str, Place<'_>)> = Vec::new();
    for (index, line) in lines.iter().enumerate().take(block.to).skip(block.from) {
        let is_item = line.text == "-" || line.text.starts_with("- ");
        if line.indent != block.indent || is_item {
            continue;
        }
        if let Some((_, place)) = words.last_mut() {
            place.to = index;
        }
        let Some((word, rest)) = entry(line.text) else { continue };
        words.push((word, Place { number: line.number, rest, from: index + 1, to: block.to }));
    }
    words
}

/// `word: rest`, or `"word": rest`.
fn entry(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = match text.split_once(": ") {
        Some((word, rest)) => (word, uncommented(rest.trim())),
        None => (text.strip_suffix(':').or_else(|| text.split_once(": #").map(|(word, _)| word))?, ""),
    };
    Some((word.trim().trim_matches(['"', '\'']), rest))
}

/// A comment begins at the start or after a blank.
fn uncommented(text: &str) -> &str {
    if text.starts_with('#') { "" } else { text }
}

/// Keys: one, in brackets, a list, or by name.
fn list(lines: &[Line<'_>], place: Place<'_>, found: &mut Found) {
    if !place.rest.is_empty() {
        match inline(place.rest) {
            Ok(texts) => texts.iter().for_each(|text| found.add(text)),
            Err(reason) => found.refuse(format!("line {}: {reason}: its keys are not taken", place.number)),
        }
        return;
    }
    let Some(first) = lines[place.from..place.to].first() else { return };
    for line in &lines[place.from..place.to] {
        if line.indent != first.indent {
            found.refuse(format!("line {}: is continued or nested: it is not taken", line.number));
            continue;
        }
        let item = match line.text.strip_prefix('-').filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
            Some(item) => Some(item.trim()),
            // By name, as in the meta-data that OpenStack and others write.
            None => entry(line.text).map(|(_, rest)| rest),
        };
        match item.ok_or("is no item of a list".to_string()).and_then(inline) {
            Ok(texts) => texts.iter().for_each(|text| found.add(text)),
            Err(reason) => found.refuse(format!("line {}: {reason}: it is not taken", line.number)),
        }
    }
}

/// Each item of a list of users is a mapping, whose first word stands behind the dash.
fn users(lines: &[Line<'_>], place: Place<'_>, found: &mut Found) {
    let lines = &lines[place.from..place.to];
    let Some(indent) = lines.first().map(|line| line.indent) else { return };
    let starts: Vec<usize> =
        (0..lines.len()).filter(|n| lines[*n].indent == indent && lines[*n].text.starts_with('-')).collect();
    for (number, start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(lines.len());
        let mut own = lines[*start..end].to_vec();
        let rest = own[0].text[1..].trim_start_matches(' ');
        own[0].indent += own[0].text.len() - rest.len();
        own[0].text = rest;
        let words = words(Block { from: 0, to: own.len(), indent: own[0].indent }, &own);
        let of = |name: &str| words.iter().find(|(word, _)| *word == name).map(|(_, place)| *place);
        let is_root = of("name").is_some_and(|name| scalar(name.rest).is_ok_and(|name| name == "root"));
        for word in ["ssh_authorized_keys", "ssh-authorized-keys"] {
            match of(word) {
                Some(place) if is_root => list(&own, place, found),
                Some(place) => found
                    .refuse(format!("line {}: keys of another user than root are not taken", place.number)),
                None => {}
            }
        }
    }
}

/// A scalar, or several in brackets.
fn inline(text: &str) -> Result<Vec<String>, String> {
    let Some(inner) = text.strip_prefix('[') else { return scalar(text).map(|text| vec![text]) };
    let mut texts = Vec::new();
    let mut rest = inner.trim_start();
    while !rest.starts_with(']') {
        let end = flow_end(rest).ok_or("a list in brackets has to end on its line")?;
        texts.push(scalar(rest[..end].trim())?);
        rest = rest[end..].trim_start();
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
        if texts.len() > MAX_KEYS {
            return Err("is too long a list".to_string());
        }
    }
    Ok(texts)
}

/// Where the next comma or bracket stands outside of quotes. What is quoted is quoted from its start.
fn flow_end(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let from = match quote {
        Some(quote) => closing(text, quote)? + 1,
        None => 0,
    };
    text[from..].find([',', ']']).map(|end| from + end)
}

/// The place of the quote that ends what the first character begins.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((place, c)) = characters.next() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => {
                // Two single quotes are one.
                if quote == '\'' && characters.peek().is_some_and(|(_, next)| *next == '\'') {
                    characters.next();
                } else {
                    return Some(place);
                }
            }
            _ => {}
        }
    }
    None
}

/// A plain or quoted scalar of one line.
fn scalar(text: &str) -> Result<String, String> {
    if text.len() > MAX_SCALAR {
        return Err("is too long".to_string());
    }
    let Some(first) = text.chars().next() else { return Ok(String::new()) };
    match first {
        '"' | '\'' => {
            let end = closing(text, first).ok_or("a quoted text has to end on its line")?;
            let after = text[end + 1..].trim_start();
            if !after.is_empty() && !after.starts_with('#') {
                return Err("has something behind a quoted text".to_string());
            }
            let inner = &text[1..end];
            if first == '\'' { Ok(inner.replace("''", "'")) } else { unescaped(inner) }
        }
        '&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' | '{' | '[' => {
            Err(format!("a value that begins with {first} is not understood here"))
        }
        _ => Ok(text.split(" #").next().unwrap_or_default().trim_end().to_string()),
    }
}

/// Of the escapes of double quotes those that options before a key may need.
fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        out.push(match (c, if c == '\\' { characters.next() } else { None }) {
            ('\\', Some(escaped @ ('"' | '\\' | '/'))) => escaped,
            ('\\', Some('n')) => '\n',
            ('\\', Some('t')) => '\t',
            ('\\', _) => return Err("has an escape that is not understood here".to_string()),
            (plain, _) => plain,
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(found: Found) -> Vec<String> {
        assert_eq!(found.problems, [""; 0]);
        found.keys
    }

    /// As cloud-init's own documentation and virt-install, cloud-localds and Proxmox write it.
    const USER_DATA: &str = "#cloud-config
# comment
hostname: db1
users:
  - default
  - name: root
    lock_passwd: true
    ssh_authorized_keys:
      - ssh-ed25519 AAAAroot me@home
  - {name: x}
write_files:
  - path: /etc/motd
    content: |
      ssh_authorized_keys:
        - ssh-ed25519 AAAAnot a key
ssh_authorized_keys:
- ssh-rsa AAAAone me # here
- \"ssh-rsa AAAAtwo me\"
- 'command=\"it''s\" ssh-rsa AAAAthree'
runcmd: [ls]
";

    #[test]
    fn keys_of_root_and_of_the_default_user_are_found() {
        let want = [
            "ssh-ed25519 AAAAroot me@home",
            "ssh-rsa AAAAone me",
            "ssh-rsa AAAAtwo me",
            "command=\"it's\" ssh-rsa AAAAthree",
        ];
        assert_eq!(keys(user_data(USER_DATA)), want);
        let json = r#"{"ssh_authorized_keys":["a b"],"users":["default",{"name":"root","ssh-authorized-keys":["c d"]}]}"#;
        assert_eq!(keys(user_data(json)), ["a b", "c d"]);
        let brackets = "#cloud-config\nssh_authorized_keys: [ 'a b', \"c, d\", e f ]\n";
        assert_eq!(keys(user_data(brackets)), ["a b", "c, d", "e f"]);
        assert_eq!(user_data(""), Found::default());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        let cases = [
            ("#!/bin/sh\necho ssh_authorized_keys:\n", "is no #cloud-config"),
            ("#cloud-config\nssh_authorized_keys: *keys\n", "line 2: a value that begins with *"),
            (
                "#cloud-config\nssh_authorized_keys:\n  - >\n    ssh-rsa\n",
                "line 3: a value that begins with >",
            ),
            ("#cloud-config\nssh_authorized_keys:\n  - ssh-rsa AAAA\n    me\n", "line 4: is continued"),
            ("#cloud-config\nssh_authorized_keys:\n  - \"ssh-rsa\n", "line 3: a quoted text has to end"),
            ("#cloud-config\nssh_authorized_keys: [a,\n b]\n", "line 2: a list in brackets"),
            (
                "#cloud-config\nusers:\n- name: bob\n  ssh_authorized_keys: [a b]\n",
                "line 4: keys of another user",
            ),
            ("{", "is no JSON"),
        ];
        for (text, why) in cases {
            let found = user_data(text);
            assert!(found.problems.first().is_some_and(|p| p.contains(why)), "{text:?}: {found:?}");
        }
        // The one beside it is taken all the same.
        let found = user_data("#cloud-config\nssh_authorized_keys:\n  - *a\n  - ssh-rsa AAAA\n");
        assert_eq!((found.keys.len(), found.problems.len()), (1, 1));
    }

    #[test]
    fn meta_data_has_keys_as_one_as_a_list_and_by_name() {
        for (text, want) in [
            ("instance-id: i-1\npublic-keys: ssh-rsa AAAA me\n", vec!["ssh-rsa AAAA me"]),
            (
                "public-keys:\n  - ssh-rsa A\n  - ssh-rsa B\nlocal-hostname: x\n",
                vec!["ssh-rsa A", "ssh-rsa B"],
            ),
            ("public-keys:\n  mykey: \"ssh-rsa A\"\n", vec!["ssh-rsa A"]),
            (r#"{"public-keys":{"a":"ssh-rsa A\nssh-rsa B"}}"#, vec!["ssh-rsa A", "ssh-rsa B"]),
            ("instance-id: i-1\n", vec![]),
        ] {
            assert_eq!(keys(meta_data(text)), want, "{text:?}");
        }
    }

    #[test]
    fn each_service_s_json_is_understood() {
        let openstack =
            r#"{"uuid":"u","public_keys":{"mine":"ssh-rsa A me\n"},"keys":[{"data":"ssh-rsa B"}]}"#;
        assert_eq!(keys(super::openstack(openstack)), ["ssh-rsa A me"]);
        assert_eq!(keys(vultr(r#"{"public-keys":["ssh-rsa A"]}"#)), ["ssh-rsa A"]);
        assert_eq!(
            keys(scaleway(r#"{"ssh_public_keys":[{"key":"ssh-rsa A","ip":null}],"tags":[]}"#)),
            ["ssh-rsa A"]
        );
        assert_eq!(keys(listing("ssh-rsa A\nssh-rsa B\n")), ["ssh-rsa A", "ssh-rsa B"]);
        assert_eq!(keys(listing("- ssh-rsa A\n- 'ssh-rsa B'\n")), ["ssh-rsa A", "ssh-rsa B"]);
        assert_eq!(keys(listing(r#"["ssh-rsa A"]"#)), ["ssh-rsa A"]);
        assert_eq!(super::openstack("<html>").problems.len(), 1);
    }

    #[test]
    fn no_text_breaks_the_parsers_and_none_gives_more_than_it_may() {
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        for length in 0..USER_DATA.len() {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let mut bytes = USER_DATA.as_bytes()[..length].to_vec();
            if let Some(place) = (noise as usize).checked_rem(length) {
                let pieces = b"\"'[]-:{ \n#*";
                bytes[place] = pieces[(noise >> 32) as usize % pieces.len()];
            }
            let text = String::from_utf8_lossy(&bytes);
            for read in [user_data, meta_data, openstack, vultr, scaleway, listing] {
                read(&text);
            }
        }
        let many = format!("#cloud-config\nssh_authorized_keys:\n{}", "- a b\n".repeat(10_000));
        assert_eq!(user_data(&many).keys.len(), MAX_KEYS);
    }
}
