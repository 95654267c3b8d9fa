//! Public keys in what clouds and hypervisors hand a new machine: cloud-init's user-data and meta-data (NoCloud), and the
//! JSON of OpenStack, Vultr and Scaleway. Bytes to lines of authorized_keys; opens nothing. YAML is read as a whole by the
//! parser that reads netplan's: where it is none, no key of it is taken, as by cloud-init.

use network::yaml::{self, Node};
use serde_json::Value;

/// Most keys of one document, more than any cloud takes.
const MAX_KEYS: usize = 256;

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
    let Some(document) = document(text, &mut found) else { return found };
    for (word, node) in document.entries() {
        match word.as_str() {
            "ssh_authorized_keys" => texts(node, &mut found),
            "users" => node.items().iter().for_each(|user| of_user(user, &mut found)),
            _ => {}
        }
    }
    found
}

/// Who stands there by name alone (`default`) brings no keys.
fn of_user(user: &Node, found: &mut Found) {
    let name = user.get("name").and_then(Node::text).unwrap_or_default();
    for keys in ["ssh_authorized_keys", "ssh-authorized-keys"].iter().filter_map(|word| user.get(word)) {
        match name {
            "root" => texts(keys, found),
            _ => found.refuse(format!("keys of the user {} are not taken", name.escape_debug())),
        }
    }
}

/// `public-keys` of a NoCloud meta-data: one, a list, or by name.
pub fn meta_data(text: &str) -> Found {
    let mut found = Found::default();
    if let Some(document) = document(text, &mut found)
        && let Some(keys) = document.get("public-keys")
    {
        texts(keys, &mut found);
    }
    found
}

fn document(text: &str, found: &mut Found) -> Option<Node> {
    yaml::parse(text).map_err(|error| found.refuse(format!("{error}: its keys, if any, are not read"))).ok()
}

/// One, a list of such, or by name.
fn texts(node: &Node, found: &mut Found) {
    match node {
        Node::Scalar(text) => found.add(text),
        Node::List(nodes) => nodes.iter().for_each(|node| texts(node, found)),
        Node::Map(entries) => entries.iter().for_each(|(_, node)| texts(node, found)),
        Node::Null => {}
    }
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
    for line in text.lines().map(str::trim) {
        let line = line.strip_prefix("- ").unwrap_or(line);
        // Options before a key have quotes inside; what begins with one is quoted as a whole.
        match yaml::parse(line) {
            Ok(Node::Scalar(text)) if line.starts_with(['"', '\'']) => found.add(&text),
            _ => found.add(line),
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
            ("#cloud-config\nssh_authorized_keys: *keys\n", "line 2: "),
            ("#cloud-config\nssh_authorized_keys:\n  - \"ssh-rsa\n", "line 3: "),
            ("#cloud-config\nssh_authorized_keys: [a\nb: c\n", "line 3: "),
            (
                "#cloud-config\nusers:\n- name: bob\n  ssh_authorized_keys: [a b]\n",
                "keys of the user bob are not taken",
            ),
            ("{", "line 1: "),
        ];
        for (text, why) in cases {
            let found = user_data(text);
            assert!(found.problems.first().is_some_and(|p| p.contains(why)), "{text:?}: {found:?}");
            assert_eq!(found.keys, [""; 0], "{text:?}");
        }
    }

    #[test]
    fn every_form_of_yaml_that_cloud_init_takes_is_taken() {
        for text in [
            "#cloud-config\nk: &k [ssh-rsa AAAA me]\nssh_authorized_keys: *k\n",
            "#cloud-config\nssh_authorized_keys:\n  - >\n    ssh-rsa AAAA\n    me\n",
            "#cloud-config\nssh_authorized_keys:\n  - ssh-rsa AAAA\n    me\n",
            "#cloud-config\nssh_authorized_keys: [\n ssh-rsa AAAA me]\n",
            "#cloud-config\nssh_authorized_keys: |\n  ssh-rsa AAAA me\n",
            "#cloud-config\nusers: [{name: root, ssh-authorized-keys: ssh-rsa AAAA me}]\n",
        ] {
            assert_eq!(keys(user_data(text)), ["ssh-rsa AAAA me"], "{text:?}");
        }
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
