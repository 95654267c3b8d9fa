//! What was measured, and the table of it.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;

/// One run of one tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub tool: String,
    pub ours: bool,
    /// Seconds.
    pub wall: f64,
    /// Seconds of processor time of all its processes.
    pub cpu: f64,
    /// Most MiB at once.
    pub memory: f64,
}

impl Run {
    /// `lsblk -f ours`, microseconds, microseconds, bytes; between tabs.
    pub fn parse(line: &str) -> Option<Run> {
        let mut fields = line.split('\t');
        let name = fields.next()?;
        let (tool, side) = name.rsplit_once(' ')?;
        let mut number = || fields.next()?.trim().parse::<f64>().ok();
        Some(Run {
            tool: tool.to_string(),
            ours: side == "ours",
            wall: number()? / 1e6,
            cpu: number()? / 1e6,
            memory: number()? / f64::from(1 << 20),
        })
    }
}

/// Runs of one tool on one size of machine: ours, and theirs.
#[derive(Clone, Debug, Default)]
struct Pair {
    ours: Vec<Run>,
    theirs: Vec<Run>,
}

/// By tool, in the order in which they came, and by number of devices.
#[derive(Default)]
pub struct Figures(Vec<(String, BTreeMap<usize, Pair>)>);

impl Figures {
    pub fn add(&mut self, devices: usize, run: Run) {
        let at = self.0.iter().position(|(tool, _)| *tool == run.tool).unwrap_or_else(|| {
            self.0.push((run.tool.clone(), BTreeMap::new()));
            self.0.len() - 1
        });
        let pair = self.0[at].1.entry(devices).or_default();
        if run.ours { pair.ours.push(run) } else { pair.theirs.push(run) }
    }

    /// Minima, the medians of the wall clock in brackets, and ratios of the minima. `growth` is the exponent from the
    /// size before: 1 where ten times the devices take ten times the processor time.
    pub fn table(&self, what: &str) -> Result<String> {
        let mut text = format!(
            "{what}: ours / util-linux's, least of all rounds (median)\n\n\
             | tool | devices | wall, ms | ratio | CPU, ms | ratio | growth | memory, MiB | ratio |\n\
             |---|---|---|---|---|---|---|---|---|\n"
        );
        let mut slower = Vec::new();
        for (tool, sizes) in &self.0 {
            let mut before: Option<(usize, [f64; 2])> = None;
            for (devices, pair) in sizes {
                let least = |runs: &[Run], value: fn(&Run) -> f64| {
                    runs.iter().map(value).min_by(f64::total_cmp).unwrap_or(f64::NAN)
                };
                let median = |runs: &[Run]| middle(runs.iter().map(|run| run.wall).collect());
                let both = |value| [least(&pair.ours, value), least(&pair.theirs, value)];
                let (wall, cpu, memory) = (both(|run| run.wall), both(|run| run.cpu), both(|run| run.memory));
                let growth = before.map(|(fewer, then)| {
                    let times = (*devices as f64 / fewer as f64).ln();
                    [0, 1].map(|side| (cpu[side] / then[side]).ln() / times)
                });
                text += &format!(
                    "| {tool} | {devices} | {} | {} | {} | {} | {} | {} | {} |\n",
                    cells(
                        [wall[0] * 1e3, wall[1] * 1e3],
                        Some([median(&pair.ours) * 1e3, median(&pair.theirs) * 1e3])
                    ),
                    ratio(wall),
                    cells([cpu[0] * 1e3, cpu[1] * 1e3], None),
                    ratio(cpu),
                    growth.map_or_else(String::new, |growth| cells(growth, None)),
                    cells(memory, None),
                    ratio(memory),
                );
                for (name, of) in [("wall clock", wall), ("CPU", cpu), ("memory", memory)] {
                    if of[0] > of[1] {
                        slower.push(format!("{tool} at {devices}: {name} {}", ratio(of)));
                    }
                }
                before = Some((*devices, cpu));
            }
        }
        let verdict = if slower.is_empty() { "none".to_string() } else { slower.join("; ") };
        Ok(text + &format!("\nMore than util-linux: {verdict}.\n"))
    }
}

/// `ours / theirs`; nothing for a tool without a peer.
fn cells(values: [f64; 2], brackets: Option<[f64; 2]>) -> String {
    let one = |side: usize| match (values[side].is_nan(), brackets) {
        (true, _) => "-".to_string(),
        (false, None) => format!("{:.2}", values[side]),
        (false, Some(more)) => format!("{:.1} ({:.1})", values[side], more[side]),
    };
    format!("{} / {}", one(0), one(1))
}

fn ratio([ours, theirs]: [f64; 2]) -> String {
    let ratio = ours / theirs;
    if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_string() }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What busybox's `time -f '%e %U %S %M'` says of `times` runs, at the end of its standard error.
pub fn of_time(tool: &str, ours: bool, text: &str, wall: f64, times: usize) -> Result<Run> {
    let line = text.lines().last().unwrap_or_default();
    let numbers: Option<Vec<f64>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
    let numbers = numbers.with_context(|| format!("read {line:?}"))?;
    let [user, system, memory] = numbers[..] else { anyhow::bail!("read {line:?}") };
    let times = times as f64;
    Ok(Run {
        tool: tool.to_string(),
        ours,
        wall: wall / times,
        cpu: (user + system) / times,
        memory: memory / 1024.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Run {
        Run::parse(line).unwrap()
    }

    #[test]
    fn a_line_of_the_machine_is_a_run() {
        let want = Run { tool: "lsblk -f".into(), ours: true, wall: 2.5, cpu: 0.5, memory: 4.0 };
        assert_eq!(run("lsblk -f ours\t2500000\t500000\t4194304"), want);
        assert_eq!(Run::parse("lsblk ours\t25"), None);
    }

    #[test]
    fn the_table_has_ratios_of_minima_and_names_what_is_slower() {
        let mut figures = Figures::default();
        for (devices, line) in [
            (100, "lsblk ours\t3000\t1000\t1048576"),
            (100, "lsblk ours\t1000\t1000\t1048576"),
            (100, "lsblk theirs\t2000\t2000\t1048576"),
            (1000, "lsblk ours\t100000\t100000\t1048576"),
            (1000, "lsblk theirs\t20000\t20000\t2097152"),
        ] {
            figures.add(devices, run(line));
        }
        let text = figures.table("x").unwrap();
        assert!(
            text.contains(
                "| lsblk | 100 | 1.0 (3.0) / 2.0 (2.0) | 0.50 | 1.00 / 2.00 | 0.50 |  | 1.00 / 1.00 | 1.00 |"
            ),
            "{text}"
        );
        assert!(text.contains("| 5.00 | 2.00 / 1.00 | 1.00 / 2.00 | 0.50 |"), "{text}");
        assert!(
            text.ends_with(
                "More than util-linux: lsblk at 1000: wall clock 5.00; lsblk at 1000: CPU 5.00.\n"
            ),
            "{text}"
        );
    }
}
