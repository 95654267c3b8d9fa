//! `make bench`: how large the image is and how soon a person is in, beside two peers that are built here from
//! Debian's packages with the same kernel ([`peers`]). All are booted in turn, round after round, so that a
//! busy host is unfair to none; seconds of one host mean little elsewhere, ratios do.

mod boot;
mod peers;

use anyhow::{Context as _, Result, ensure};
use boot::Figures;
use clap::Parser;
use peers::Image;
use std::path::PathBuf;
use std::process::ExitCode;

/// The goal of the project: the first login takes at most this part of the dropbear initramfs' time ...
const OF_DROPBEAR: f64 = 0.45;
/// ... and of the bare floor's.
const OF_FLOOR: f64 = 1.3;

#[derive(Parser)]
#[command(name = "bench", about = "Boot the built image and its peers in turn, and compare")]
struct Arguments {
    /// Boots of each image
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Directory with vmlinuz and initramfs
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../out"))]
    image: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let images = peers::all(&arguments.image)?;
    let mut figures: Vec<Vec<Figures>> = images.iter().map(|_| Vec::new()).collect();
    for round in 1..=arguments.rounds {
        for (image, figures) in images.iter().zip(&mut figures) {
            let measured = boot::measure(image).with_context(|| format!("measure {}", image.name))?;
            eprintln!("round {round}, {}: {measured:?}", image.name);
            figures.push(measured);
        }
    }
    ensure!(arguments.rounds > 0, "measure in 0 rounds");
    print!("{}", table(&images, &figures)?);
    Ok(())
}

/// A row's name, its digits behind the point, and how it is read off one boot.
type Row = (&'static str, usize, fn(&Figures) -> f64);

const ROWS: &[Row] = &[
    ("first line of the kernel, s", 2, |f| f.kernel.wall),
    ("PID 1, s", 2, |f| f.init.wall),
    ("SSH banner, s", 2, |f| f.banner.wall),
    ("first `ssh host true`, s", 2, |f| f.login.wall),
    ("CPU seconds to PID 1", 2, |f| f.init.cpu),
    ("CPU seconds to the first `ssh host true`", 2, |f| f.login.cpu),
    ("memory used at the prompt, MiB", 0, |f| f.used),
];

/// Medians, with least and most; ratios are those of the medians.
fn table(images: &[Image], figures: &[Vec<Figures>]) -> Result<String> {
    let [own, dropbear, floor] = images else { anyhow::bail!("compare {} images", images.len()) };
    let mut text = format!(
        "| | {} | {} | {} | of {} | of {} |\n|---|---|---|---|---|---|\n",
        own.name, dropbear.name, floor.name, dropbear.name, floor.name
    );
    let mut row = |name: &str, cells: [String; 3], medians: [f64; 3]| {
        let [own, dropbear, floor] = medians;
        let ratio = |other: f64| if other > 0.0 { format!("{:.2}", own / other) } else { "-".into() };
        text += &format!("| {name} | {} | {} | {} |\n", cells.join(" | "), ratio(dropbear), ratio(floor));
    };
    for (name, size) in [
        ("kernel, bytes", (|image: &Image| &image.kernel) as fn(&Image) -> &PathBuf),
        ("initramfs, bytes", |image| &image.initramfs),
    ] {
        let mut sizes = [0; 3];
        for (size_of, image) in sizes.iter_mut().zip(images) {
            *size_of = std::fs::metadata(size(image)).context("measure a file")?.len();
        }
        row(name, sizes.map(|bytes| bytes.to_string()), sizes.map(|bytes| bytes as f64));
    }
    for (name, digits, value) in ROWS {
        let mut cells: [String; 3] = Default::default();
        let mut medians = [0.0; 3];
        for ((cell, median), boots) in cells.iter_mut().zip(&mut medians).zip(figures) {
            let mut values: Vec<f64> = boots.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            let (least, most) = (values[0], values[values.len() - 1]);
            *median = middle(&values);
            *cell = format!("{:.digits$} ({least:.digits$}-{most:.digits$})", *median);
        }
        row(name, cells, medians);
    }
    let login = |boots: &[Figures]| {
        let mut values: Vec<f64> = boots.iter().map(|f| f.login.wall).collect();
        values.sort_by(f64::total_cmp);
        middle(&values)
    };
    let (of_dropbear, of_floor) =
        (login(&figures[0]) / login(&figures[1]), login(&figures[0]) / login(&figures[2]));
    let reached = |ratio: f64, goal: f64| if ratio <= goal { "reached" } else { "missed" };
    text += &format!(
        "\nGoal for the first login, in seconds: at most {OF_DROPBEAR} of {}: {of_dropbear:.2}, {}; \
         at most {OF_FLOOR} of {}: {of_floor:.2}, {}.\n",
        dropbear.name,
        reached(of_dropbear, OF_DROPBEAR),
        floor.name,
        reached(of_floor, OF_FLOOR)
    );
    Ok(text)
}

/// Of sorted values, at least one.
fn middle(values: &[f64]) -> f64 {
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_eq!(middle(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(middle(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
