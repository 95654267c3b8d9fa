//! `rescue status`: the whole picture on one screen. Problems come first, the next command last.

mod lockdown;

use crate::report::{Answer, Output};
use crate::scan::{DEADLINE, Scan, settle, space};
use crate::tool::{Context, apart, verb};
use contract::exit;
use contract::state::{Devd, Init, Layers, Netd, Sshd};
use lockdown::Lockdown;
use model::status::{Fitness, Guard, Line, Status, status};
use model::text::{Column, Untrusted, size, table};
use ondisk::Severity;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// A login waits less for a disk that is slow or hangs; `rescue status` shows the rest.
const LOGIN: Duration = Duration::from_secs(3);

/// The whole picture on one screen: problems, disks and what is on them, arrays,
/// services, network, and the command to type next. Reads only, and waits at most
/// 10 seconds for a disk that does not answer. Exits with 1 when there are problems.
///
///     # rescue status
///     2 disks, guarded: nothing can write to them; 1 array to start
///     ...
///     Next: rescue assemble  (starts the arrays that were found, read-only)
#[derive(clap::Parser)]
#[command(name = "rescue status", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// As JSON, schema 1
    #[arg(long)]
    json: bool,
    /// What --json prints, as a JSON Schema (2020-12)
    #[arg(long, conflicts_with_all = ["json", "login", "sysroot"])]
    schema: bool,
    /// A few lines, for the login
    #[arg(long, conflicts_with = "json")]
    login: bool,
    /// The machine captured in this directory
    #[arg(long)]
    sysroot: Option<PathBuf>,
}

/// Of [`Picture`]. Strict, so that a key that nobody described fails a test.
const SCHEMA: &str = include_str!("../../../docs/status.schema.json");

/// Storage and the services, as `--json` shows them.
#[derive(Serialize)]
struct Picture {
    version: Option<String>,
    /// SHA-256 of what it is made of.
    image: Option<String>,
    lockdown: Option<Lockdown>,
    #[serde(flatten)]
    storage: Status,
    services: Init,
    network: Netd,
    layers: Layers,
    sshd: Sshd,
    devd: Devd,
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    if args.schema {
        return Ok(Answer { output: Output::Json(SCHEMA.to_string()), exit: exit::YES });
    }
    let context = context.at(args.sysroot.as_deref())?;
    let deadline = if args.login { LOGIN } else { DEADLINE };
    settle(&context, deadline);
    apart(&context, &[], |context| show(context, &args, deadline))
}

fn show(context: &Context, args: &Args, deadline: Duration) -> anyhow::Result<Answer> {
    let mut storage = Scan::begin(context).within(deadline).examine(|_| true);
    storage.space = space(&context.root, &storage);
    let picture = Picture {
        version: context.root.line(contract::paths::VERSION),
        image: context.root.line(contract::paths::IMAGE),
        lockdown: lockdown::read(&context.root),
        storage: status(&storage),
        services: state(context, "init"),
        network: state(context, "netd"),
        layers: state(context, "layers"),
        sshd: state(context, "sshd"),
        devd: state(context, "devd"),
    };
    let exit = if troubles(&picture).is_empty() { exit::YES } else { exit::NO };
    if args.json {
        return Answer::json(1, &picture, exit);
    }
    let colour = Colour(context.terminal.colour);
    let text =
        if args.login { login(&picture, colour) } else { screen(&picture, colour, context.terminal.utf8) };
    Ok(Answer::text(text, if args.login { exit::YES } else { exit }))
}

/// A service's state file; the default when it has not written one.
fn state<T: DeserializeOwned + Default>(context: &Context, service: &str) -> T {
    let read = context.root.read(contract::paths::state(service)).ok();
    read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Restrained: problems, and what can be written.
#[derive(Clone, Copy)]
struct Colour(bool);

impl Colour {
    fn red(self, text: &str) -> String {
        if self.0 { format!("\x1b[31m{text}\x1b[0m") } else { text.to_string() }
    }

    fn bold(self, text: &str) -> String {
        if self.0 { format!("\x1b[1m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// Most problems in the login summary; the rest is counted.
const FEW: usize = 3;

/// Digits of the image's hash that a person compares with what the builder printed.
const DIGITS: usize = 16;

/// Which image this is; nothing where none says so.
fn greeting(picture: &Picture) -> String {
    let Some(version) = &picture.version else { return String::new() };
    let image = picture.image.as_deref().and_then(|hash| hash.get(..DIGITS));
    let image = image.map(|hash| format!(", image {}", Untrusted(hash))).unwrap_or_default();
    format!("Lifeboat {}{image}\n", Untrusted(version))
}

fn login(picture: &Picture, colour: Colour) -> String {
    let mut out = greeting(picture) + &colour.bold(&conclusion(picture)) + "\n";
    let troubles = troubles(picture);
    for text in troubles.iter().take(FEW) {
        out += &format!("  {} {text}\n", colour.red("!"));
    }
    if troubles.len() > FEW {
        out += &format!("  and {} more: rescue status\n", troubles.len() - FEW);
    }
    out + &next(picture, colour)
}

fn screen(picture: &Picture, colour: Colour, utf8: bool) -> String {
    let mut out = colour.bold(&conclusion(picture)) + "\n";
    for text in troubles(picture) {
        out += &format!("  {} {text}\n", colour.red("!"));
    }
    let storage = &picture.storage;
    out += &section("Disks", &storage.drives, utf8);
    out += &section("Volumes", &storage.volumes, utf8);
    if !storage.stopped.is_empty() {
        out += "\nArrays not running\n";
        for array in &storage.stopped {
            out += &format!(
                "  {} {}, {} of {} members: {}\n",
                Untrusted(&array.name),
                array.level,
                array.present,
                array.wanted,
                Untrusted(&array.members.join(" "))
            );
            for left in &array.left_out {
                out += &format!("    not used: {}\n", Untrusted(left));
            }
            if let Some(copy) = array.copy.as_ref().filter(|_| array.refusal.is_none()) {
                out += &format!("    to be read as a copy in memory: {copy}\n");
            }
            if let Some(refusal) = &array.refusal {
                out += &format!("    cannot be started: {}\n", Untrusted(refusal));
            }
        }
    }
    out += &groups(storage);
    if let Some(store) = storage.overlay_store {
        out += &format!(
            "\nOverlays: {}, {} of the {} of memory that they may take; rescue overlay shows what differs\n",
            storage.overlays.len(),
            size(store.used),
            size(store.limit)
        );
    }
    out += &coming(picture);
    out += "\n";
    out += &network(picture);
    out += &services(picture);
    out += &picture.lockdown.as_ref().map(Lockdown::line).unwrap_or_default();
    out + &next(picture, colour)
}

/// Layers that are on their way.
fn coming(picture: &Picture) -> String {
    let line = |layer: &contract::state::Coming| {
        let trouble = if layer.trouble.is_empty() { String::new() } else { format!("; {}", layer.trouble) };
        let text = format!(
            "{}: {} of {} from {}{trouble}",
            layer.name,
            size(layer.got),
            size(layer.bytes),
            layer.from
        );
        format!("  {}\n", Untrusted(&text))
    };
    let lines: String = picture.layers.coming.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\nLayers on their way\n{lines}") }
}

/// Volume groups: what of them is not active, and why.
fn groups(storage: &Status) -> String {
    let mut out = String::new();
    for group in &storage.groups {
        let name = if group.name.is_empty() { &group.uuid } else { &group.name };
        let active = group.volumes.iter().filter(|volume| volume.active).count();
        out += &format!(
            "  {}, {} of {} PVs: {}; {active} of {} volumes active\n",
            Untrusted(name),
            group.present,
            group.wanted,
            Untrusted(&group.members.join(" ")),
            group.volumes.len()
        );
        for missing in &group.missing {
            out += &format!("    missing: {}\n", Untrusted(missing));
        }
        for left in &group.left_out {
            out += &format!("    not used: {}\n", Untrusted(left));
        }
        for note in &group.notes {
            out += &format!("    {}\n", Untrusted(note));
        }
        if let Some(refusal) = &group.refusal {
            let advice = group.advice.as_ref().map(|advice| format!(": {advice}")).unwrap_or_default();
            out += &format!("    cannot be activated: {}{}\n", Untrusted(refusal), Untrusted(&advice));
        }
        for volume in group.volumes.iter().filter(|volume| !volume.active) {
            let refusal = volume.refusal.as_ref().map(|refusal| format!("; {refusal}"));
            let copy = volume.copy.as_ref().map(|why| format!("; to be read as a copy in memory: {why}"));
            let refusal = refusal.or(copy).unwrap_or_default();
            out += &format!(
                "    {} {} {}, not active{}\n",
                Untrusted(&volume.name),
                size(volume.size),
                Untrusted(&volume.kind),
                Untrusted(&refusal)
            );
        }
    }
    if out.is_empty() { out } else { format!("\nVolume groups\n{out}") }
}

fn next(picture: &Picture, colour: Colour) -> String {
    let next = &picture.storage.next;
    format!("Next: {}  ({})\n", colour.bold(&Untrusted(&next.command).to_string()), next.why)
}

/// `2 disks, guarded; 1 array to start; 3 problems`
fn conclusion(picture: &Picture) -> String {
    let storage = &picture.storage;
    let mut parts = vec![match (storage.disks, &storage.writable[..]) {
        (0, _) => "no disks".to_string(),
        (n, []) => format!("{}, guarded: nothing can write to them", counted(n, "disk")),
        (n, writable) => format!("{}, writable: {}", counted(n, "disk"), Untrusted(&writable.join(" "))),
    }];
    let (refused, startable): (Vec<_>, Vec<_>) =
        storage.stopped.iter().partition(|array| array.refusal.is_some());
    if !startable.is_empty() {
        parts.push(format!("{} to start", counted(startable.len(), "array")));
    }
    if !refused.is_empty() {
        parts.push(format!("{} that cannot be started as it is", counted(refused.len(), "array")));
    }
    match troubles(picture).len() {
        0 => {}
        n => parts.push(counted(n, "problem")),
    }
    match picture.layers.coming.len() {
        0 => {}
        n => parts.push(format!("{} on their way", counted(n, "layer"))),
    }
    let settled = picture.devd.settled || picture.services.services.is_empty();
    if !settled {
        parts.push("still looking for devices".to_string());
    }
    parts.join("; ")
}

fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// What is wrong anywhere, the disks' first. Every line is harmless to print.
fn troubles(picture: &Picture) -> Vec<String> {
    let disks = picture.storage.problems.iter();
    let disks = disks.filter(|problem| problem.severity > Severity::Info).map(|problem| problem.text.clone());
    let layers = picture
        .layers
        .layers
        .iter()
        .filter_map(|layer| Some(format!("layer {}: {}", layer.name, layer.error.as_ref()?)));
    let failed = picture
        .services
        .services
        .iter()
        .filter(|service| matches!(service.state.as_str(), "failed" | "backoff"));
    let failed = failed.map(|service| {
        let last = service.last_exit.as_deref().unwrap_or("no reason known");
        format!("{} is not running ({last}): less {}", service.name, contract::paths::log(&service.name))
    });
    let told = [
        &picture.services.warnings,
        &picture.devd.problems,
        &picture.network.problems,
        &picture.sshd.problems,
    ];
    let told = told.into_iter().flatten().cloned();
    disks.chain(layers).chain(failed).chain(told).map(|text| Untrusted(&text).to_string()).collect()
}

fn section(title: &str, lines: &[Line], utf8: bool) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let left = |title| Column { title, right: false, width: 0 };
    let columns = [
        left(title),
        Column { title: "Size", right: true, width: 5 },
        left("Guard"),
        left("Content"),
        left("Used by"),
    ];
    let last_of_disk = |i: usize| lines.get(i + 1).is_none_or(|next| next.depth == 0);
    let row = |(i, line): (usize, &Line)| {
        let branch = match (line.depth, last_of_disk(i), utf8) {
            (0, _, _) => "",
            (_, false, true) => "├─",
            (_, true, true) => "└─",
            (_, false, false) => "|-",
            (_, true, false) => "`-",
        };
        let guard = match line.guard {
            Guard::Guarded => "guarded",
            Guard::Writable => "WRITABLE",
            Guard::ReadOnly => "read-only",
            Guard::ReadWrite => "read-write",
        };
        let mark = match line.health {
            Fitness::Damaged | Fitness::Hung => "! ",
            Fitness::Good | Fitness::Dirty | Fitness::Unknown => "",
        };
        vec![
            format!("{branch}{}", Untrusted(&line.name)),
            size(line.size),
            guard.to_string(),
            format!("{mark}{}", Untrusted(&line.what)),
            Untrusted(&used_by(line)).to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = lines.iter().enumerate().map(row).collect();
    let text = table(&columns, &rows, true);
    // A last column that is empty leaves blanks behind the one before it.
    let trimmed: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("\n{}\n", trimmed.join("\n"))
}

/// `/mnt, 59.2M free`
fn used_by(line: &Line) -> String {
    let names = line.used_by.join(" ");
    line.space.map_or_else(|| names.clone(), |space| format!("{names}, {} free", size(space.available)))
}

fn network(picture: &Picture) -> String {
    let network = &picture.network;
    if network.links.is_empty() {
        return "Network: no link known\n".to_string();
    }
    let link = |link: &contract::state::Link| {
        let addresses: Vec<String> =
            link.addresses.iter().map(|address| format!("{}/{}", address.address, address.prefix)).collect();
        match &addresses[..] {
            [] => format!("{} {}", link.name, link.state),
            addresses => format!("{} {}", link.name, addresses.join(" ")),
        }
    };
    let links: Vec<String> = network.links.iter().map(link).collect();
    let origin = match network.origin.as_str() {
        "" => String::new(),
        origin => format!(", by {origin}"),
    };
    format!("Network: {}\n", Untrusted(&(links.join(", ") + &origin)))
}

fn services(picture: &Picture) -> String {
    let services = &picture.services.services;
    if services.is_empty() {
        return String::new();
    }
    let word = |service: &contract::state::Service| match service.restarts {
        0 => format!("{} {}", service.name, service.state),
        n => format!("{} {} (restarted {n} times)", service.name, service.state),
    };
    let words: Vec<String> = services.iter().map(word).collect();
    format!("Services: {}\n", Untrusted(&words.join(", ")))
}

#[cfg(test)]
mod tests;
