//! `rescue status --json` of every captured machine against the schema that `rescue status --schema` shows.

use crate::layout::lay_out;
use crate::{rescue, tests, text};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// What is wrong with the JSON of a machine, by the published schema.
pub fn faults(root: &Path) -> Vec<String> {
    let schema: Value = serde_json::from_str(&text(&rescue(&["status", "--schema"], "C"))).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let printed = text(&rescue(&["status", "--json", "--sysroot", root.to_str().unwrap()], "C"));
    let value: Value = serde_json::from_str(&printed).unwrap();
    validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_published_schema_is_the_one_that_is_shown() {
    let shown = rescue(&["status", "--schema"], "C");
    let published = tests().join("../../docs/status.schema.json");
    assert_eq!(text(&shown), fs::read_to_string(published).unwrap());
    assert_eq!(shown.status.code(), Some(0));
}

#[test]
fn the_json_of_every_machine_is_what_the_schema_says() {
    let machines: Vec<String> = fs::read_dir(tests().join("machines"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
        .collect();
    assert!(!machines.is_empty());
    for name in machines {
        let directory = tempfile::tempdir().unwrap();
        lay_out(&name, directory.path());
        assert_eq!(faults(directory.path()), [""; 0], "{name}");
    }
}
