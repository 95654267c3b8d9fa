//! Licences as SPDX writes them: from Debian's copyright files (debian.org/doc/packaging-manuals/copyright-format/1.0)
//! and from what crates say of themselves. What has no name in SPDX's list keeps its text.

use std::collections::{BTreeMap, BTreeSet};

/// Of one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licence {
    /// SPDX 2.3 annex D, or `NOASSERTION`.
    pub expression: String,
    /// Those of the expression that are in no list.
    pub others: Vec<Other>,
    /// For a person; may be empty.
    pub comment: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// `LicenseRef-...`
    pub id: String,
    pub name: String,
    pub text: String,
}

impl Licence {
    pub fn unknown(why: &str) -> Licence {
        Licence { expression: "NOASSERTION".into(), others: Vec::new(), comment: why.into() }
    }
}

/// Debian's short names (copyright format 1.0, section 7.1, and what is written besides), with SPDX's.
const NAMES: &[(&str, &str)] = &[
    ("agpl-3", "AGPL-3.0-only"),
    ("agpl-3+", "AGPL-3.0-or-later"),
    ("apache-2", "Apache-2.0"),
    ("apache-2.0", "Apache-2.0"),
    ("artistic", "Artistic-1.0-Perl"),
    ("artistic-2", "Artistic-2.0"),
    ("artistic-2.0", "Artistic-2.0"),
    ("blueoak-1.0.0", "BlueOak-1.0.0"),
    ("boost-1.0", "BSL-1.0"),
    ("bsd-1-clause", "BSD-1-Clause"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-4-clause", "BSD-4-Clause"),
    ("bsd-4-clause-uc", "BSD-4-Clause-UC"),
    ("bsl-1.0", "BSL-1.0"),
    ("cc-by-3.0", "CC-BY-3.0"),
    ("cc-by-4.0", "CC-BY-4.0"),
    ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
    ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
    ("cc0", "CC0-1.0"),
    ("cc0-1.0", "CC0-1.0"),
    ("cddl-1.0", "CDDL-1.0"),
    ("curl", "curl"),
    ("epl-1.0", "EPL-1.0"),
    ("expat", "MIT"),
    ("gfdl-1.1+", "GFDL-1.1-or-later"),
    ("gfdl-1.2+", "GFDL-1.2-or-later"),
    ("gfdl-1.3", "GFDL-1.3-only"),
    ("gfdl-1.3+", "GFDL-1.3-or-later"),
    ("gfdl-niv-1.1+", "GFDL-1.1-no-invariants-or-later"),
    ("gfdl-niv-1.2+", "GFDL-1.2-no-invariants-or-later"),
    ("gfdl-niv-1.3", "GFDL-1.3-no-invariants-only"),
    ("gfdl-niv-1.3+", "GFDL-1.3-no-invariants-or-later"),
    ("gpl-1", "GPL-1.0-only"),
    ("gpl-1+", "GPL-1.0-or-later"),
    ("gpl-2", "GPL-2.0-only"),
    ("gpl-2+", "GPL-2.0-or-later"),
    ("gpl-2.0", "GPL-2.0-only"),
    ("gpl-2.0+", "GPL-2.0-or-later"),
    ("gpl-3", "GPL-3.0-only"),
    ("gpl-3+", "GPL-3.0-or-later"),
    ("gpl-3.0", "GPL-3.0-only"),
    ("gpl-3.0+", "GPL-3.0-or-later"),
    ("isc", "ISC"),
    ("lgpl-2", "LGPL-2.0-only"),
    ("lgpl-2+", "LGPL-2.0-or-later"),
    ("lgpl-2.0", "LGPL-2.0-only"),
    ("lgpl-2.0+", "LGPL-2.0-or-later"),
    ("lgpl-2.1", "LGPL-2.1-only"),
    ("lgpl-2.1+", "LGPL-2.1-or-later"),
    ("lgpl-3", "LGPL-3.0-only"),
    ("lgpl-3+", "LGPL-3.0-or-later"),
    ("lgpl-3.0", "LGPL-3.0-only"),
    ("lgpl-3.0+", "LGPL-3.0-or-later"),
    ("mit", "MIT"),
    ("mit-0", "MIT-0"),
    ("mpl-1.1", "MPL-1.1"),
    ("mpl-2.0", "MPL-2.0"),
    ("ofl-1.1", "OFL-1.1"),
    ("openssl", "OpenSSL"),
    ("psf-2", "PSF-2.0"),
    ("unlicense", "Unlicense"),
    ("vim", "Vim"),
    ("wtfpl", "WTFPL"),
    ("x11", "X11"),
    ("zlib", "Zlib"),
];

/// The longest text of a licence that is written out: whole licences are with Debian's packages.
const LONGEST: usize = 8 << 10;

/// From the text of `/usr/share/doc/PACKAGE/copyright`: all licences of all its files.
pub fn of_copyright(text: &str) -> Licence {
    let is_machine_readable = text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| {
        line.to_ascii_lowercase().starts_with("format:") && line.contains("copyright-format")
    });
    if text.trim().is_empty() {
        return Licence::unknown("its Debian package has no copyright file");
    }
    if !is_machine_readable {
        return Licence::unknown(&prose(text));
    }
    // What follows the first line of a field is the licence's text; a paragraph of its own may hold it for several.
    let (mut names, mut texts): (BTreeSet<String>, BTreeMap<String, String>) = Default::default();
    for (name, text) in fields(text) {
        if !text.is_empty() {
            texts.entry(name.clone()).or_insert(text);
        }
        names.insert(name);
    }
    let mut others: BTreeMap<String, Other> = BTreeMap::new();
    let mut terms = BTreeSet::new();
    for name in names.iter().filter(|name| !name.is_empty()) {
        terms.insert(expression(name, &texts, &mut others));
    }
    if terms.is_empty() {
        return Licence::unknown("its copyright file names no licence");
    }
    let several = terms.len() > 1;
    let wrap =
        |term: &String| if several && term.contains(" OR ") { format!("({term})") } else { term.clone() };
    Licence {
        expression: terms.iter().map(wrap).collect::<Vec<String>>().join(" AND "),
        others: others.into_values().collect(),
        comment: String::new(),
    }
}

/// Each `License:` of a copyright file: its first line, and the text that may follow.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        if let Some(continued) = line.strip_prefix([' ', '\t']) {
            if let (true, Some((_, text))) = (is_inside, found.last_mut()) {
                let continued = if continued.trim() == "." { "" } else { continued.trim_end() };
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(continued);
            }
            continue;
        }
        let head = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("license"));
        is_inside = head.is_some();
        if let Some((_, name)) = head {
            found.push((name.trim().to_string(), String::new()));
        }
    }
    found
}

/// `A or B`, `A and B`, `A, or B and C`: the comma only parts stronger than words.
fn expression(said: &str, texts: &BTreeMap<String, String>, others: &mut BTreeMap<String, Other>) -> String {
    let said = said.replace(" OR ", " or ").replace(" AND ", " and ");
    let by_comma: Vec<&str> = said.split(", ").collect();
    let or: Vec<String> = by_comma
        .iter()
        .flat_map(|part| part.trim_start_matches("or ").split(" or "))
        .map(|part| {
            let and: Vec<String> = part
                .trim_start_matches("and ")
                .split(" and ")
                .map(|name| one(name.trim().trim_end_matches(','), texts, others))
                .collect();
            and.join(" AND ")
        })
        .collect();
    let joined = if by_comma.len() > 1 && !said.contains(" or ") { " AND " } else { " OR " };
    let wrap = |part: &String| {
        if or.len() > 1 && part.contains(" AND ") { format!("({part})") } else { part.clone() }
    };
    or.iter().map(wrap).collect::<Vec<String>>().join(joined)
}

fn one(name: &str, texts: &BTreeMap<String, String>, others: &mut BTreeMap<String, Other>) -> String {
    let plain = name.to_ascii_lowercase();
    let is_it = |(debian, spdx): &&(&str, &str)| *debian == plain || spdx.eq_ignore_ascii_case(name);
    if let Some((_, spdx)) = NAMES.iter().find(is_it) {
        return spdx.to_string();
    }
    let id: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let text = texts.get(name).cloned().unwrap_or_default();
    // The same short name may stand for other words elsewhere.
    let id = match text.is_empty() {
        true => format!("LicenseRef-{id}"),
        false => format!("LicenseRef-{id}-{:08x}", sum(&text)),
    };
    let text = match text {
        text if text.is_empty() => format!("named {name} in the copyright file of its Debian package"),
        text if text.len() > LONGEST => {
            let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
            format!("{}\n[...]", &text[..end])
        }
        text => text,
    };
    others.insert(id.clone(), Other { id: id.clone(), name: name.to_string(), text });
    id
}

/// FNV-1a: tells texts apart, and guards nothing.
fn sum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A copyright file in prose: the licences that it leads to.
fn prose(text: &str) -> String {
    let names: BTreeSet<&str> = text
        .split("/usr/share/common-licenses/")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !(c.is_ascii_alphanumeric() || ".-".contains(c))).next())
        .map(|name| name.trim_end_matches('.'))
        .filter(|name| !name.is_empty())
        .collect();
    match names.is_empty() {
        true => "its copyright file is prose: usr/share/doc of its Debian package".into(),
        false => format!(
            "its copyright file is prose (usr/share/doc of its Debian package), and leads to {}",
            names.into_iter().collect::<Vec<&str>>().join(", ")
        ),
    }
}

/// A crate's own words are SPDX's, but for the slash of old manifests, which means `OR`.
pub fn of_crate(said: &str) -> Licence {
    let expression = said.replace(" / ", " OR ").replace('/', " OR ");
    Licence { expression, others: Vec::new(), comment: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n";

    fn read(text: &str) -> Licence {
        of_copyright(&format!("{HEAD}{text}"))
    }

    #[test]
    fn debians_names_become_spdxs() {
        for (said, want) in [
            ("GPL-2+", "GPL-2.0-or-later"),
            ("Expat", "MIT"),
            ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
            ("GPL-2 and BSD-3-clause", "GPL-2.0-only AND BSD-3-Clause"),
            ("GPL-2+ and BSD-3-clause or Expat", "(GPL-2.0-or-later AND BSD-3-Clause) OR MIT"),
            ("GPL-2, BSD-3-clause, Expat", "GPL-2.0-only AND BSD-3-Clause AND MIT"),
            ("GPL-2.0-only OR bsd-2-Clause", "GPL-2.0-only OR BSD-2-Clause"),
            ("LGPL-2.1+, or GPL-3", "LGPL-2.1-or-later OR GPL-3.0-only"),
        ] {
            assert_eq!(read(&format!("Files: *\nLicense: {said}\n")).expression, want, "{said}");
        }
    }

    #[test]
    fn all_licences_of_all_files_hold_at_once() {
        let licence =
            read("Files: *\nLicense: GPL-2\n\nFiles: a\nLicense: Expat or ISC\n\nLicense: GPL-2\n text\n");
        assert_eq!(licence.expression, "GPL-2.0-only AND (MIT OR ISC)");
        assert!(licence.others.is_empty());
    }

    #[test]
    fn a_licence_without_a_name_keeps_its_text() {
        let licence = read("Files: *\nLicense: own-terms\n\nLicense: own-terms\n Do as\n .\n you like.\n");
        assert_eq!(licence.others.len(), 1);
        assert_eq!(licence.others[0].text, "Do as\n\nyou like.");
        assert_eq!(licence.expression, licence.others[0].id);
        assert!(licence.expression.starts_with("LicenseRef-own-terms-"), "{}", licence.expression);
    }

    #[test]
    fn a_file_in_prose_says_where_it_leads() {
        let licence = of_copyright("Written by A.\nSee /usr/share/common-licenses/GPL-2.\n");
        assert_eq!(licence.expression, "NOASSERTION");
        assert!(licence.comment.ends_with("leads to GPL-2"), "{}", licence.comment);
        assert_eq!(of_copyright("").expression, "NOASSERTION");
    }

    #[test]
    fn the_slash_of_old_manifests_is_a_choice() {
        assert_eq!(of_crate("MIT/Apache-2.0").expression, "MIT OR Apache-2.0");
        assert_eq!(of_crate("MIT OR Apache-2.0").expression, "MIT OR Apache-2.0");
    }

    #[test]
    fn names_are_sorted_and_in_lower_case() {
        assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(NAMES.iter().all(|(name, _)| *name == name.to_ascii_lowercase()));
    }
}
