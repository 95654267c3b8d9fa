//! SERVICES: what PID 1 keeps running, and how.

use crate::consoles;
use crate::supervise::Kind;
use contract::paths::BIN;
use host::Root;

/// One row, or one console of the running kernel.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub argv: Vec<String>,
    pub kind: Kind,
    /// 0 to 19: what must not delay the first login yields the processor.
    pub nice: i32,
    /// /proc/PID/oom_score_adj.
    pub oom_score: i16,
}

struct Row {
    name: &'static str,
    arguments: &'static [&'static str],
    kind: Kind,
    nice: i32,
    oom_score: i16,
}

/// Started in this order, all at once: network modules first, since the network is what the first
/// login waits for; the layers last, since the login does not wait for them.
#[rustfmt::skip]
const SERVICES: &[Row] = &[
    Row { name: "devd",   arguments: &[],         kind: Kind::Always,  nice: 0,  oom_score: -900},
    Row { name: "netd",   arguments: &[],         kind: Kind::Always,  nice: 0,  oom_score: -900},
    Row { name: "sshd",   arguments: &["listen"], kind: Kind::Always,  nice: 0,  oom_score: -900},
    Row { name: "layers", arguments: &[],         kind: Kind::OneShot, nice: 10, oom_score: -500},
];

/// The services of this machine: the table, and the consoles.
pub fn all(root: &Root) -> Vec<Service> {
    let table = SERVICES.iter().map(|row| Service {
        name: row.name.to_string(),
        argv: command(row.name, row.arguments.iter().map(|argument| argument.to_string())),
        kind: row.kind,
        nice: row.nice,
        oom_score: row.oom_score,
    });
    table.chain(consoles(root)).collect()
}

/// One for every terminal that a person may sit at.
pub fn consoles(root: &Root) -> Vec<Service> {
    let service = |console: consoles::Console| Service {
        name: format!("console-{}", console.device),
        argv: command("console", console.arguments()),
        kind: Kind::Always,
        nice: 0,
        oom_score: -500,
    };
    consoles::all(root).into_iter().map(service).collect()
}

/// What was found since: new ones come behind the known, of which each keeps its place, and is started by what was found
/// the next time. The new ones' kinds.
pub fn add(known: &mut Vec<Service>, found: Vec<Service>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for service in found {
        match known.iter_mut().find(|other| other.name == service.name) {
            Some(other) => other.argv = service.argv,
            None => {
                kinds.push(service.kind);
                known.push(service);
            }
        }
    }
    kinds
}

fn command(program: &str, arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    [format!("{BIN}/{program}")].into_iter().chain(arguments).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_a_program_of_the_image() {
        let programs = contract::paths::PROGRAMS;
        assert!(SERVICES.iter().map(|row| row.name).chain(["console"]).all(|name| programs.contains(&name)));
    }

    #[test]
    fn names_are_unique() {
        for (i, row) in SERVICES.iter().enumerate() {
            assert!(SERVICES[..i].iter().all(|earlier| earlier.name != row.name));
        }
    }

    #[test]
    fn a_console_that_is_found_later_is_added_and_one_that_is_named_later_is_restarted_as_such() {
        let console = |line: &str| Service {
            name: format!("console-{}", line.split(' ').next().unwrap()),
            argv: line.split(' ').map(str::to_string).collect(),
            kind: Kind::Always,
            nice: 0,
            oom_score: 0,
        };
        let mut known = vec![console("tty1"), console("ttyS0 115200 found-by-peer"), console("ttyS4")];
        let found = vec![console("tty1"), console("ttyS1 9600"), console("ttyS0 9600")];
        assert_eq!(add(&mut known, found.clone()), [Kind::Always]);
        let lines: Vec<String> = known.iter().map(|service| service.argv.join(" ")).collect();
        assert_eq!(lines, ["tty1", "ttyS0 9600", "ttyS4", "ttyS1 9600"]);
        assert!(add(&mut known, found).is_empty(), "each once");
    }
}
