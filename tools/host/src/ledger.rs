//! The ledger, `/run/lifeboat/ledger`: one JSON line per mark of a step, appended in one write, so
//! that a line is whole or absent.

use crate::{Act, Root};
use contract::ledger::{Mark, Record};
use contract::paths;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Every step with its last mark, in the order in which they were begun. Lines that are not
/// understood are left out.
pub fn read(root: &Root) -> Vec<Record> {
    latest(&root.read_text(paths::LEDGER).unwrap_or_default())
}

fn latest(text: &str) -> Vec<Record> {
    let mut records: BTreeMap<u64, Record> = BTreeMap::new();
    for record in text.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok()) {
        records.insert(record.id, record);
    }
    records.into_values().collect()
}

/// The id of the next step.
pub fn next(records: &[Record]) -> u64 {
    records.last().map_or(1, |record| record.id.saturating_add(1))
}

pub fn append(_act: &Act, record: &Record) -> io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(paths::LEDGER)?;
    file.write_all(&line)
}

/// A step that was undone by hand, or of which the kernel knows nothing any more.
pub fn is_open(record: &Record) -> bool {
    matches!(record.mark, Mark::Begun | Mark::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mark_of_a_step_is_the_one_that_holds() {
        let record = |id, mark| Record {
            id,
            at: 1.0,
            verb: "rescue writable /dev/sda1".to_string(),
            text: "blockdev --setrw /dev/sda1".to_string(),
            step: serde_json::Value::Null,
            inverse: None,
            mark,
            error: None,
        };
        let text: String = [record(1, Mark::Begun), record(2, Mark::Begun), record(1, Mark::Done)]
            .iter()
            .map(|record| serde_json::to_string(record).unwrap() + "\n")
            .chain(["{\"torn".to_string()])
            .collect();
        let records = latest(&text);
        assert_eq!(
            records.iter().map(|r| (r.id, r.mark)).collect::<Vec<_>>(),
            [(1, Mark::Done), (2, Mark::Begun)]
        );
        assert_eq!(next(&records), 3);
        assert_eq!(next(&[]), 1);
    }
}
