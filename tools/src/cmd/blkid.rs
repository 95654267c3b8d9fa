//! `blkid`: what is on each device, in util-linux's words. Always from the devices themselves: there is no cache
//! that could be stale.

use crate::report::{Answer, notice};
use crate::scan::Scan;
use crate::tool::{Context, apart, classic};
use host::sysfs::Parts;
use model::build::ambiguous;
use model::storage::{Device, Observed, Problem, Storage, by_device};
use model::text::{Untrusted, without_raw_bytes};
use ondisk::bytes::raw_byte;
use ondisk::table::{Reader, Table, TableKind};
use ondisk::{Health, Usage};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

mod udev;

/// blkid(8): nothing was found.
const NOTHING: i32 = 2;
/// blkid(8), -p: more than one thing was found.
const AMBIVALENT: i32 = 8;
const RAM_DISK: u32 = 1;

/// Tell what is on the devices or image files given, else on all: type, UUID, label.
/// Reads them each time (there is no cache), and waits at most 10 seconds for one
/// that does not answer. With any option that is not here, the original blkid runs.
/// Exits with 2 when nothing was found.
///
///     # blkid /dev/sda1
///     /dev/sda1: LABEL="root" UUID="0c0ffee0-..." BLOCK_SIZE="4096" TYPE="ext4"
#[derive(clap::Parser)]
#[command(name = "blkid", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// Accepted and not needed: there is no cache
    #[arg(short = 'c', long, hide = true)]
    cache_file: Option<PathBuf>,
    /// full (the default), value, export, udev, device or json
    #[arg(short = 'o', long, default_value = "full")]
    output: Output,
    /// Show only this tag; repeatable
    #[arg(short = 's', long)]
    match_tag: Vec<String>,
    /// Show devices with this NAME=value
    #[arg(short = 't', long)]
    match_token: Option<String>,
    /// With -t, the first one alone
    #[arg(short = 'l', long)]
    list_one: bool,
    /// The device with this label
    #[arg(short = 'L', long, conflicts_with_all = ["uuid", "match_token", "devices"])]
    label: Option<String>,
    /// The device with this UUID
    #[arg(short = 'U', long, conflicts_with_all = ["match_token", "devices"])]
    uuid: Option<String>,
    /// Low-level: everything that is known, and more than one finding is an error
    #[arg(short = 'p', long, requires = "devices")]
    probe: bool,
    /// With -p, nothing of the partition table that the device is in
    #[arg(short = 'D', long)]
    no_part_details: bool,
    /// Characters beyond ASCII as they are
    #[arg(short = 'd', long)]
    no_encoding: bool,
    /// The machine captured in this directory
    #[arg(long)]
    sysroot: Option<PathBuf>,
    devices: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Full,
    Value,
    Export,
    Udev,
    Device,
    Json,
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match classic(context, arguments) {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let token = match (&args.match_token, &args.label, &args.uuid) {
        (Some(token), _, _) => match token.split_once('=') {
            Some((name, value)) => Some((name.to_string(), value.trim_matches(['"', '\'']).to_string())),
            None => return Ok(Answer::classic(context.name, arguments)),
        },
        (None, Some(label), _) => Some(("LABEL".to_string(), label.clone())),
        (None, None, Some(uuid)) => Some(("UUID".to_string(), uuid.clone())),
        (None, None, None) => None,
    };
    if args.list_one && token.is_none() {
        return Ok(Answer::classic(context.name, arguments));
    }
    apart(&context.at(args.sysroot.as_deref())?, &args.devices, |context| {
        Ok(list(context, &args, token.as_ref()))
    })
}

fn list(context: &Context, args: &Args, token: Option<&(String, String)>) -> Answer {
    let parts = Parts { logical: !Scan::asks(context), ..Parts::NONE };
    let mut scan = Scan::begin_with(context, parts);
    let mut found = Found { texts: String::new(), status: NOTHING, is_complete: false };
    if args.devices.is_empty() {
        let partitions = scan.facts.blocks.iter().filter_map(|block| block.partition.as_ref());
        let divided: BTreeSet<String> = partitions.map(|partition| partition.disk.clone()).collect();
        let listed = |storage: &Storage| {
            let devices = storage.devices.iter().filter(|device| is_listed(device, &divided));
            let devices: Vec<(&Device, String)> = devices.map(|device| (device, path(device))).collect();
            found.add(context, args, storage, &devices, token);
        };
        scan.examine_in_turn(|block| block.major != RAM_DISK, listed);
        return Answer::text(found.texts, found.status);
    }
    let mut names = Vec::new();
    for path in &args.devices {
        match scan.resolve(path) {
            Ok(name) => names.push((name, path.display().to_string())),
            Err(error) => notice(context.name, &format!("{error:#}")),
        }
    }
    let given: BTreeSet<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    let partitions = scan.facts.blocks.iter().filter(|block| given.contains(block.name.as_str()));
    // Its table says a partition's UUID and name.
    let disks: BTreeSet<String> =
        partitions.filter_map(|block| Some(block.partition.as_ref()?.disk.clone())).collect();
    let storage = scan.examine(|block| given.contains(block.name.as_str()) || disks.contains(&block.name));
    let by_name: BTreeMap<&str, &Device> =
        storage.devices.iter().map(|device| (device.block.name.as_str(), device)).collect();
    let device = |(name, shown): &(String, String)| Some((*by_name.get(name.as_str())?, shown.clone()));
    let devices: Vec<(&Device, String)> = names.iter().filter_map(device).collect();
    found.add(context, args, &storage, &devices, token);
    Answer::text(found.texts, found.status)
}

/// Whatever can hold something: not a disk that has partitions, nor an extended partition's two sectors.
fn is_listed(device: &Device, divided: &BTreeSet<String>) -> bool {
    let block = &device.block;
    let is_node = device.node && !block.hidden;
    is_node && block.size > 1024 && block.major != RAM_DISK && !divided.contains(&block.name)
}

fn path(device: &Device) -> String {
    let mapped = device.block.dm.as_ref().map(|dm| format!("/dev/mapper/{}", dm.name));
    mapped.unwrap_or_else(|| device.path.clone())
}

/// What is to be printed, gathered device by device.
struct Found {
    texts: String,
    status: i32,
    /// Nothing more is wanted.
    is_complete: bool,
}

impl Found {
    fn complete(&mut self, status: i32) {
        (self.status, self.is_complete) = (status, true);
    }

    /// `devices`: each with the path to show.
    fn add(
        &mut self,
        context: &Context,
        args: &Args,
        storage: &Storage,
        devices: &[(&Device, String)],
        token: Option<&(String, String)>,
    ) {
        let lookup = args.label.is_some() || args.uuid.is_some();
        let output = if lookup { Output::Device } else { args.output };
        let all_problems = by_device(storage);
        for (device, shown) in devices {
            if self.is_complete {
                return;
            }
            let report = match &device.report {
                Observed::Examined { report } => report,
                Observed::Hung { reason } | Observed::Failed { reason } => {
                    notice(context.name, &format!("{shown}: {reason}"));
                    continue;
                }
                Observed::Skipped { reason } if !args.devices.is_empty() => {
                    notice(context.name, &format!("{shown}: {reason}"));
                    continue;
                }
                Observed::Skipped { .. } => continue,
            };
            if device.listed().is_none() {
                match args.probe {
                    true => return self.complete(NOTHING),
                    false => continue,
                }
            }
            if args.probe && ambiguous(report) && output == Output::Udev {
                self.texts += &udev::ambivalent(report);
                return self.complete(AMBIVALENT);
            }
            if args.probe && ambiguous(report) {
                let text = "ambivalent result (probably more filesystems on the device, use wipefs(8) to see more details)";
                notice(context.name, &format!("{shown}: {text}"));
                return self.complete(AMBIVALENT);
            }
            let problems = all_problems.get(device.path.as_str()).map_or(&[][..], Vec::as_slice);
            for text in told(device, shown, problems) {
                notice(context.name, &text);
            }
            let tags = if ambiguous(report) { Vec::new() } else { tags(device, storage, args) };
            let matches =
                token.is_none_or(|(name, value)| tags.iter().any(|tag| tag.0 == *name && tag.1 == *value));
            if tags.is_empty() && args.probe {
                return self.complete(NOTHING);
            }
            if tags.is_empty() || !matches {
                continue;
            }
            self.status = contract::exit::YES;
            let wanted =
                |name: &str| args.match_tag.is_empty() || args.match_tag.iter().any(|tag| tag == name);
            let shown_tags: Vec<(String, String)> =
                tags.into_iter().filter(|(name, _)| wanted(name)).collect();
            if !self.texts.is_empty()
                && matches!(output, Output::Export | Output::Udev)
                && !shown_tags.is_empty()
            {
                self.texts.push('\n');
            }
            // The original's -p ends a line for a device of which nothing was wanted.
            if shown_tags.is_empty() && args.probe && output == Output::Full {
                self.texts.push('\n');
            } else if !shown_tags.is_empty() || matches!(output, Output::Device | Output::Json) {
                self.texts += &text(output, shown, &shown_tags, args.no_encoding);
            }
            if (args.list_one && token.is_some()) || lookup {
                self.is_complete = true;
            }
        }
    }
}

/// Damage and ambiguity, which the original keeps to itself.
fn told(device: &Device, shown: &str, problems: &[&Problem]) -> Vec<String> {
    let is_content = device.report().is_some_and(|report| {
        ambiguous(report)
            || report.signatures.iter().any(|signature| matches!(signature.health, Health::Damaged(_)))
    });
    // The same problem names the kernel's path, which may not be what was typed.
    problems.iter().filter(|_| is_content).map(|problem| problem.text.replace(&device.path, shown)).collect()
}

/// What only -p prints, besides whatever has `_ID` in its name.
const ONLY_PROBED: &[&str] = &["VERSION", "FSSIZE", "FSLASTBLOCK", "FSBLOCKSIZE", "ENDIANNESS"];

/// In blkid's order: the content, the table on it, the table that it is in.
fn tags(device: &Device, storage: &Storage, args: &Args) -> Vec<(String, String)> {
    let mut tags: Vec<(String, String)> = Vec::new();
    let mut add =
        |name: &str, value: Option<String>| tags.extend(value.map(|value| (name.to_string(), value)));
    let Some(report) = device.report() else { return tags };
    let signature = report.signatures.first();
    if let Some(signature) = signature {
        for (name, value) in &signature.tags {
            let known = !ONLY_PROBED.contains(&name.as_str()) && !name.contains("_ID");
            add(name, Some(value.clone()).filter(|_| args.probe || known));
        }
        add("TYPE", Some(signature.format.clone()));
        add("USAGE", args.probe.then(|| usage(signature.usage).to_string()));
    }
    // The table that shows on a RAID member is the array's.
    let own =
        signature.is_none_or(|signature| signature.usage != Usage::Raid || signature.format == "LVM2_member");
    let table = report.table.as_ref().filter(|_| own);
    if let Some(table) = table.and_then(|table| table.read_by(Reader::Libblkid)) {
        let scheme = scheme(table);
        let id =
            table.id.as_deref().map(str::to_lowercase).filter(|id| scheme != "PMBR" && id != "0x00000000");
        // The original says nothing of a BSD label by itself, nor of an SGI header with a wrong checksum.
        let silent = match table.kind {
            TableKind::Bsd => true,
            TableKind::Sgi => matches!(table.health, Health::Damaged(_)),
            TableKind::Gpt | TableKind::Mbr | TableKind::Mac | TableKind::Sun | TableKind::Atari => false,
        };
        add("PTUUID", id.map(|id| id.trim_start_matches("0x").to_string()));
        add("PTTYPE", (!silent).then(|| scheme.to_string()));
    }
    if args.probe && args.no_part_details {
        return tags;
    }
    let Some(disk) = device.parent.as_ref().and_then(|id| storage.get(id)) else { return tags };
    let table = disk.report().and_then(|report| report.table.as_ref()?.read_by(Reader::Libblkid));
    let start = device.block.partition.as_ref().map(|partition| partition.start);
    let entry = table.and_then(|table| {
        Some((table, table.partitions.iter().find(|entry| Some(entry.extent.start) == start)?))
    });
    let Some((table, entry)) = entry else { return tags };
    let name = entry.name.clone().filter(|name| !name.is_empty());
    let uuid = entry
        .uuid
        .as_deref()
        .map(str::to_lowercase)
        .filter(|uuid| table.kind != TableKind::Mbr || !uuid.starts_with("00000000-"));
    if !args.probe {
        add("PARTLABEL", name);
        add("PARTUUID", uuid);
        return tags;
    }
    let (kind, flags) = match table.kind {
        TableKind::Mbr => (format!("0x{}", entry.kind), if entry.boot { 0x80 } else { 0 }),
        TableKind::Bsd | TableKind::Sun | TableKind::Sgi => (format!("0x{}", entry.kind), entry.attributes),
        TableKind::Gpt => (entry.kind.to_lowercase(), entry.attributes),
        TableKind::Mac | TableKind::Atari => (entry.kind.clone(), entry.attributes),
    };
    let own = entry.within.clone();
    add("PART_ENTRY_SCHEME", Some(own.unwrap_or_else(|| scheme(table).to_string())));
    add("PART_ENTRY_NAME", name);
    add("PART_ENTRY_UUID", uuid);
    add("PART_ENTRY_TYPE", Some(kind));
    add("PART_ENTRY_FLAGS", (flags != 0).then(|| format!("{flags:#x}")));
    add("PART_ENTRY_NUMBER", Some(entry.number.to_string()));
    add("PART_ENTRY_OFFSET", Some((entry.extent.start / 512).to_string()));
    add("PART_ENTRY_SIZE", Some((entry.extent.length / 512).to_string()));
    add("PART_ENTRY_DISK", Some(format!("{}:{}", disk.block.major, disk.block.minor)));
    tags
}

fn usage(usage: Usage) -> &'static str {
    match usage {
        Usage::Filesystem => "filesystem",
        Usage::Raid => "raid",
        Usage::Crypto => "crypto",
        Usage::Other => "other",
    }
}

fn scheme(table: &Table) -> &'static str {
    let torn = |health: &Health| matches!(health, Health::Damaged(_));
    // Of a GPT without a sound copy only the protective MBR is left.
    match table.kind {
        TableKind::Gpt if table.gpt.as_ref().is_some_and(|gpt| torn(&gpt.primary) && torn(&gpt.backup)) => {
            "PMBR"
        }
        TableKind::Mbr if table.partitions.iter().any(|entry| entry.kind == "ee") => "PMBR",
        kind => kind.name(),
    }
}

fn text(output: Output, shown: &str, tags: &[(String, String)], raw: bool) -> String {
    let shown = Untrusted(shown);
    let lines = |line: &dyn Fn(&str, &str) -> String| {
        tags.iter().map(|(name, text)| line(name, text)).collect::<String>()
    };
    let quoted =
        |text: &str, special| if raw { Untrusted(text).to_string() } else { printable(text, special) };
    match output {
        Output::Device => format!("{shown}\n"),
        Output::Full => {
            format!("{shown}:{}\n", lines(&|name, text| format!(" {name}=\"{}\"", quoted(text, "\"\\"))))
        }
        Output::Value => lines(&|_, text| format!("{}\n", Untrusted(text))),
        Output::Export => {
            format!(
                "DEVNAME={shown}\n{}",
                lines(&|name, text| format!("{name}={}\n", quoted(text, " \\\"'$`<>")))
            )
        }
        Output::Udev => lines(&udev::lines),
        Output::Json => {
            let value = |text: &str| match without_raw_bytes(text) {
                text if text.is_empty() => "null".to_string(),
                text => serde_json::Value::from(text).to_string(),
            };
            let pair =
                |(name, text): &(String, String)| format!("   \"{}\": {}", name.to_lowercase(), value(text));
            format!("{{\n{}\n}}\n", tags.iter().map(pair).collect::<Vec<_>>().join(",\n"))
        }
    }
}

/// As the original prints on any terminal: `^A` for a control character, `M-` before a byte beyond ASCII, `\` before
/// what the format gives a meaning.
fn printable(text: &str, special: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let mut buffer = [0; 4];
        let raw = raw_byte(c).map(|byte| [byte]);
        let bytes = raw.as_ref().map_or_else(|| c.encode_utf8(&mut buffer).as_bytes(), |raw| raw.as_slice());
        for byte in bytes {
            let low = byte & 0x7f;
            if low != *byte {
                out.push_str("M-");
            }
            if low < 32 || low == 127 {
                out.push('^');
                out.push(char::from(low ^ 0x40));
                continue;
            }
            if special.contains(char::from(low)) {
                out.push('\\');
            }
            out.push(char::from(low));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_quoted_for_each_format() {
        let tag = |name: &str, value: &str| (name.to_string(), value.to_string());
        let tags = [tag("LABEL", "a\"b\\c$d e\n\u{fc}\u{10ff8e}"), tag("TYPE", "ext4")];
        let cases = [
            (Output::Full, "/dev/sda1: LABEL=\"a\\\"b\\\\c$d e^JM-CM-<M-^N\" TYPE=\"ext4\"\n"),
            (Output::Value, "a\"b\\c$d e\\x0a\u{fc}\\x8e\next4\n"),
            (Output::Export, "DEVNAME=/dev/sda1\nLABEL=a\\\"b\\\\c\\$d\\ e^JM-CM-\\<M-^N\nTYPE=ext4\n"),
            (Output::Device, "/dev/sda1\n"),
        ];
        for (output, want) in cases {
            assert_eq!(text(output, "/dev/sda1", &tags, false), want, "{output:?}");
        }
        assert_eq!(
            text(Output::Json, "/dev/sda1", &[tag("LABEL", "a\"b"), tag("UUID", "")], false),
            "{\n   \"label\": \"a\\\"b\",\n   \"uuid\": null\n}\n"
        );
    }
}
