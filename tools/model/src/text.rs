//! Text for a person: sizes as util-linux prints them, columns as libsmartcols lays them out, and
//! hostile text made harmless.

pub use contract::text::{Untrusted, bytes_of, steers};

/// For JSON in a peer's form: what stands for a byte that is no text as `\x` and two hex digits.
pub fn without_raw_bytes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match ondisk::bytes::raw_byte(c) {
            Some(byte) => out.push_str(&format!("\\x{byte:02x}")),
            None => out.push(c),
        }
    }
    out
}

/// `512B`, `1023.5K`, `58M`: one digit after the point, where it is not 0.
pub fn size(bytes: u64) -> String {
    let (whole, fraction, letter) = scaled(bytes, 10);
    match fraction {
        0 => format!("{whole}{letter}"),
        tenths => format!("{whole}.{tenths}{letter}"),
    }
}

/// `512 B`, `1.18 MiB`, `232.89 GiB`: two digits after the point, as the headings of `fdisk -l`.
pub fn size_long(bytes: u64) -> String {
    let (whole, fraction, letter) = scaled(bytes, 100);
    let unit = if letter == 'B' { "B".to_string() } else { format!("{letter}iB") };
    match fraction {
        0 => format!("{whole} {unit}"),
        hundredths if hundredths % 10 == 0 => format!("{whole}.{} {unit}", hundredths / 10),
        hundredths => format!("{whole}.{hundredths:02} {unit}"),
    }
}

/// Whole part, fraction in `parts` and unit. util-linux cuts to thousandths, then rounds half up; a
/// fraction that rounds to one carries into the whole part, which may then be 1024.
fn scaled(bytes: u64, parts: u128) -> (u64, u128, char) {
    let power = bytes.max(1).ilog2() / 10;
    let unit = 1u64 << (10 * power);
    let thousandths = u128::from(bytes % unit) * 1000 / u128::from(unit);
    let step = 1000 / parts;
    let fraction = (thousandths + step / 2) / step;
    let carry = u64::from(fraction == parts);
    let letter = ['B', 'K', 'M', 'G', 'T', 'P', 'E'][power as usize]; // ilog2 of a u64 is 63 at most
    (bytes / unit + carry, fraction % parts, letter)
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    pub title: &'a str,
    /// Numbers are, words are not.
    pub right: bool,
    /// Characters, at least, where a cell is as wide as the title.
    pub width: usize,
}

/// Lines of cells under their titles, one blank between columns. A cell of several lines makes its row as high;
/// the last column is not padded. `titles` off leaves them out, and their width.
pub fn table(columns: &[Column<'_>], rows: &[Vec<String>], titles: bool) -> String {
    let heading: Vec<String> = columns.iter().map(|column| column.title.to_string()).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(i, column)| width(column, rows.iter().map(|row| &row[i]), titles))
        .collect();
    let mut out = String::new();
    for row in titles.then_some(&heading).into_iter().chain(rows) {
        let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or(0).max(1);
        for line in 0..height {
            for (i, (column, cell)) in columns.iter().zip(row).enumerate() {
                let text = cell.lines().nth(line).unwrap_or_default();
                let blanks = " ".repeat(widths[i].saturating_sub(columns_of(text)));
                let last = i + 1 == columns.len();
                match (column.right, last) {
                    (true, true) if text.is_empty() => {}
                    (true, _) => out.extend([&blanks, text]),
                    (false, true) => out.push_str(text),
                    (false, false) => out.extend([text, &blanks]),
                }
                if !last {
                    out.push(' ');
                }
            }
            out.push('\n');
        }
    }
    out
}

/// As libsmartcols: a column whose cells are narrower than its title is as wide as that.
fn width<'a>(column: &Column<'_>, cells: impl Iterator<Item = &'a String>, titles: bool) -> usize {
    let widest = cells.flat_map(|cell| cell.lines()).map(columns_of).max().unwrap_or(0);
    let title = if titles { columns_of(column.title) } else { usize::from(widest > 0) };
    if widest < title || widest == 0 { title } else { widest.max(column.width) }
}

/// Characters, for columns: wide ones of East Asia are not counted twice.
fn columns_of(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_util_linux() {
        // From `truncate -s N f; fdisk -l f` of util-linux 2.41.5, and its partitions' Size column.
        let long = [
            (512, "512 B"),
            (1_024, "1 KiB"),
            (9_728, "9.5 KiB"),
            (1_048_064, "1023.5 KiB"),
            (1_099_776, "1.05 MiB"),
            (1_153_024, "1.1 MiB"),
            (1_073_741_312, "1024 MiB"),
            (1_100_000_000_000, "1 TiB"),
            (250_059_350_016, "232.89 GiB"),
            (4_000_787_030_016, "3.64 TiB"),
            (12_345_678_848, "11.5 GiB"),
        ];
        for (bytes, want) in long {
            assert_eq!(size_long(bytes), want, "{bytes}");
        }
        for (bytes, want) in
            [(0, "0B"), (512, "512B"), (1_048_064, "1023.5K"), (60_817_408, "58M"), (1_536, "1.5K")]
        {
            assert_eq!(size(bytes), want, "{bytes}");
        }
        assert_eq!(size(u64::MAX), "16E");
    }

    #[test]
    fn a_column_has_its_least_width_only_when_its_title_does_not_decide() {
        let columns = |width| {
            [Column { title: "UUID", right: true, width }, Column { title: "X", right: false, width: 0 }]
        };
        let row = |text: &str| vec![vec![text.to_string(), String::new()]];
        assert_eq!(table(&columns(6), &row("abc"), true), "UUID X\n abc \n");
        assert_eq!(table(&columns(6), &row("abcd"), true), "  UUID X\n  abcd \n");
        assert_eq!(table(&columns(6), &row(""), false), " \n");
        assert_eq!(table(&columns(6)[..1], &row(""), true), "UUID\n\n");
    }

    #[test]
    fn columns_are_aligned_and_the_last_is_not_padded() {
        let columns = [
            Column { title: "NAME", right: false, width: 0 },
            Column { title: "SIZE", right: true, width: 0 },
            Column { title: "MOUNTPOINTS", right: false, width: 0 },
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_string).to_vec();
        let rows = [row(["sda", "1.5G", "/\n/mnt"]), row(["sdb", "10G", ""])];
        let want = "NAME SIZE MOUNTPOINTS\nsda  1.5G /\n          /mnt\nsdb   10G \n";
        assert_eq!(table(&columns, &rows, true), want);
        assert_eq!(table(&columns, &rows[1..], false), "sdb 10G \n");
    }
}
