//! `make bench`: how large the image is and how soon a person is in, beside peers that are built here from
//! Debian's packages, kernel included, and beside Debian's installer ([`peers`]). All are booted in turn, round
//! after round, so that a busy host is unfair to none; seconds of one host mean little elsewhere, ratios do.

mod boot;
mod peers;
mod ram;
mod wire;

use anyhow::{Context as _, Result, ensure};
use boot::Figures;
use clap::Parser;
use peers::Image;
use std::path::PathBuf;
use std::process::ExitCode;

/// The goal of the project: the first login takes at most this part of the time of each peer, in their order: the dropbear
/// initramfs, the bare floor, a Debian in memory. What is behind them has no login, and no goal.
const GOALS: [f64; 3] = [0.45, 1.3, 0.2];

#[derive(Parser)]
#[command(name = "bench", about = "Boot the built image and its peers in turn, and compare")]
struct Arguments {
    /// Boots of each image
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Directory with vmlinuz and initramfs
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../out"))]
    image: PathBuf,
    /// MiB of memory of each machine
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// Boot by PXE, where the download counts, in a network of the run's own: for root
    #[arg(long)]
    pxe: bool,
    /// By PXE, the nucleus first and the layers behind it
    #[arg(long, requires = "pxe")]
    lean: bool,
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
    let images = peers::all(&arguments.image, arguments.lean, arguments.memory)?;
    // Once all has been fetched.
    if arguments.pxe {
        wire::enter()?;
    }
    let way = boot::Way { memory: arguments.memory, pxe: arguments.pxe, lean: arguments.lean };
    ensure!(arguments.rounds > 0, "measure in 0 rounds");
    let figures = measured(&images, arguments.rounds, |image| boot::measure(image, way))?;
    print!("{}", table(&images, &figures)?);
    Ok(())
}

/// All in turn, round after round. With little memory a peer may not come up at all, which is an answer as well; without figures
/// of the image itself there is nothing to compare.
fn measured(
    images: &[Image],
    rounds: usize,
    mut boot: impl FnMut(&Image) -> Result<Figures>,
) -> Result<Vec<Vec<Figures>>> {
    let mut figures: Vec<Vec<Figures>> = images.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        for (at, (image, figures)) in images.iter().zip(&mut figures).enumerate() {
            // Each that never ends costs minutes.
            if round > 1 && figures.is_empty() {
                continue;
            }
            match boot(image).with_context(|| format!("measure {}", image.name)) {
                Ok(measured) => {
                    eprintln!("round {round}, {}: {measured:?}", image.name);
                    figures.push(measured);
                }
                Err(error) if at > 0 => eprintln!("round {round}: {error:#}"),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(figures)
}

/// A row's name, its digits behind the point, and how it is read off one boot, if it came so far.
type Row = (&'static str, usize, fn(&Figures) -> Option<f64>);

const ROWS: &[Row] = &[
    ("first line of the kernel, s", 2, |f| Some(f.kernel.wall)),
    ("PID 1, s", 2, |f| Some(f.init.wall)),
    ("SSH banner, s", 2, |f| f.inside.map(|i| i.banner.wall)),
    ("first `ssh host true`, s", 2, login),
    ("programs and drivers in place, s", 2, |f| f.inside.map(|i| i.whole.wall)),
    ("CPU seconds to PID 1", 2, |f| Some(f.init.cpu)),
    ("CPU seconds to the first `ssh host true`", 2, |f| f.inside.map(|i| i.login.cpu)),
    ("memory used at the prompt, MiB", 0, |f| f.inside.map(|i| i.used)),
];

fn login(figures: &Figures) -> Option<f64> {
    figures.inside.map(|inside| inside.login.wall)
}

/// Of a peer in a machine that is too small for it.
const NONE: &str = "does not come up";
/// Of a peer in which nobody can be before its questions are answered.
const ASKS: &str = "asks first";

/// Medians, with least and most; ratios are those of the medians.
fn table(images: &[Image], figures: &[Vec<Figures>]) -> Result<String> {
    let peers = images.get(1..).filter(|peers| peers.len() >= GOALS.len()).context("compare all images")?;
    let names = |prefix: &str, images: &[Image]| -> String {
        images.iter().map(|image| format!(" {prefix}{} |", image.name)).collect()
    };
    let mut text = format!("| |{}{}\n|---|", names("", images), names("of ", peers));
    text += &format!("{}\n", "---|".repeat(images.len() + peers.len()));
    let mut row = |name: &str, cells: Vec<String>, medians: Vec<f64>| {
        let ratio =
            |other: &f64| if *other > 0.0 { format!("{:.2}", medians[0] / other) } else { "-".into() };
        let ratios: Vec<String> = medians[1..].iter().map(ratio).collect();
        text += &format!("| {name} | {} | {} |\n", cells.join(" | "), ratios.join(" | "));
    };
    for (name, size) in [
        ("kernel, bytes", (|image: &Image| &image.kernel) as fn(&Image) -> &PathBuf),
        ("initramfs, bytes", |image| &image.initramfs),
    ] {
        let mut sizes = Vec::new();
        for image in images {
            sizes.push(std::fs::metadata(size(image)).context("measure a file")?.len());
        }
        row(
            name,
            sizes.iter().map(u64::to_string).collect(),
            sizes.iter().map(|&bytes| bytes as f64).collect(),
        );
    }
    let sorted = |boots: &[Figures], value: fn(&Figures) -> Option<f64>| {
        let mut values: Vec<f64> = boots.iter().filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    for (name, digits, value) in ROWS {
        let (mut cells, mut medians) = (Vec::new(), Vec::new());
        for boots in figures {
            let values = sorted(boots, *value);
            if values.is_empty() {
                cells.push(if boots.is_empty() { NONE } else { ASKS }.into());
                medians.push(0.0);
                continue;
            }
            let (least, median, most) = (values[0], middle(&values), values[values.len() - 1]);
            cells.push(format!("{median:.digits$} ({least:.digits$}-{most:.digits$})"));
            medians.push(median);
        }
        row(name, cells, medians);
    }
    let median = |boots: &[Figures]| middle(&sorted(boots, login));
    text += "\nGoal for the first login, in seconds:";
    for ((peer, boots), goal) in peers.iter().zip(&figures[1..]).zip(GOALS) {
        if boots.is_empty() {
            text += &format!(" {}: {NONE}.", peer.name);
            continue;
        }
        let ratio = median(&figures[0]) / median(boots);
        let word = if ratio <= goal { "reached" } else { "missed" };
        text += &format!(" at most {goal} of {}: {ratio:.2}, {word}.", peer.name);
    }
    text += "\n";
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
    use boot::{Inside, Moment};
    use peers::Login;

    /// Of files that are there; the last asks first.
    fn images(file: &std::path::Path) -> [Image; 5] {
        let path = || file.to_path_buf();
        ["ours", "a", "b", "c", "d"].map(|name| Image {
            name,
            kernel: path(),
            initramfs: path(),
            append: String::new(),
            layers: None,
            login: (name != "d").then(|| Login { key: path(), whole: String::new() }),
        })
    }

    /// Of a boot that ended in a login.
    fn entered() -> Figures {
        Figures { inside: Some(Inside::default()), ..Figures::default() }
    }

    #[test]
    fn the_run_goes_on_without_a_peer_that_does_not_come_up_and_not_without_the_image() {
        let images = images("/dev/null".as_ref());
        let run = |fails: &[(&str, usize)]| {
            let mut asked: Vec<&str> = Vec::new();
            let figures = measured(&images, 2, |image| {
                asked.push(image.name);
                let times = asked.iter().filter(|name| **name == image.name).count();
                ensure!(!fails.contains(&(image.name, times)), "log in");
                Ok(Figures::default())
            });
            let asked = asked.concat();
            (figures.map(|all| all.iter().map(Vec::len).collect::<Vec<_>>()).ok(), asked)
        };
        assert_eq!(run(&[]), (Some(vec![2; 5]), "oursabcdoursabcd".into()));
        assert_eq!(run(&[("b", 1)]), (Some(vec![2, 2, 0, 2, 2]), "oursabcdoursacd".into()));
        assert_eq!(run(&[("b", 2)]), (Some(vec![2, 2, 1, 2, 2]), "oursabcdoursabcd".into()));
        assert_eq!(run(&[("d", 1)]), (Some(vec![2, 2, 2, 2, 0]), "oursabcdoursabc".into()));
        assert_eq!(run(&[("ours", 1)]), (None, "ours".into()));
        assert_eq!(run(&[("ours", 2)]), (None, "oursabcdours".into()));
    }

    #[test]
    fn a_peer_that_does_not_come_up_has_sizes_and_no_figures() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let images = images(file.path());
        let boots = [vec![entered()], vec![], vec![entered()], vec![entered()], vec![]];
        let text = table(&images, &boots).unwrap();
        assert!(
            text.contains("| first `ssh host true`, s | 0.00 (0.00-0.00) | does not come up |"),
            "{text}"
        );
        assert!(text.contains(" a: does not come up. at most 1.3 of b:"), "{text}");
        let memory = text.lines().find(|line| line.contains("memory used")).unwrap();
        assert!(memory.contains("| does not come up | - |"), "{text}");
    }

    #[test]
    fn a_peer_that_asks_first_has_sizes_two_moments_and_no_figures_or_goal() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        let images = images(file.path());
        let moment = |wall, cpu| Moment { wall, cpu };
        let inside = Some(Inside { login: moment(8.0, 6.0), ..Inside::default() });
        let enters = Figures { kernel: moment(1.0, 0.5), init: moment(4.0, 2.0), inside };
        let asks = Figures { kernel: moment(2.0, 1.0), init: moment(16.0, 5.0), inside: None };
        let text = table(&images, &[enters, enters, enters, enters, asks].map(|boot| vec![boot])).unwrap();
        for (row, cell, of_it) in [
            ("", "d", "of d"),
            ("kernel, bytes", "5", "1.00"),
            ("initramfs, bytes", "5", "1.00"),
            ("first line of the kernel, s", "2.00 (2.00-2.00)", "0.50"),
            ("PID 1, s", "16.00 (16.00-16.00)", "0.25"),
            ("SSH banner, s", "asks first", "-"),
            ("first `ssh host true`, s", "asks first", "-"),
            ("programs and drivers in place, s", "asks first", "-"),
            ("CPU seconds to PID 1", "5.00 (5.00-5.00)", "0.40"),
            ("CPU seconds to the first `ssh host true`", "asks first", "-"),
            ("memory used at the prompt, MiB", "asks first", "-"),
        ] {
            let mut rows = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
            let cells = rows.find(|cells| cells.get(1) == Some(&row)).unwrap();
            // Before the first bar there is nothing.
            assert_eq!((cells[6], cells[10]), (cell, of_it), "{row}: {text}");
        }
        let goals = text.lines().last().unwrap();
        assert!(goals.ends_with(" at most 0.2 of c: 1.00, missed."), "{goals}");
        assert!(!goals.contains(" d:"), "{goals}");
    }

    #[test]
    fn the_table_goes_without_a_peer_that_is_not_to_be_had_but_not_without_one_with_a_goal() {
        let images = images("/dev/null".as_ref());
        let boots = [(); 5].map(|()| vec![entered()]);
        let text = table(&images[..4], &boots[..4]).unwrap();
        assert!(!text.contains("| d |") && !text.contains(ASKS), "{text}");
        assert!(table(&images[..3], &boots[..3]).is_err());
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_eq!(middle(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(middle(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
