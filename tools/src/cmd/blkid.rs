//! `blkid`: what is on each device, in util-linux's words. Always from the devices themselves: there is no cache
//! that could be stale.

use crate::report::{Answer, notice};
use crate::scan::Scan;
use crate::tool::{Context, classic};
use contract::facts::Block;
use model::build::ambiguous;
use model::storage::{Device, Observed, Storage};
use model::text::Untrusted;
use ondisk::table::TableKind;
use ondisk::{Health, Usage};
use std::ffi::OsString;
use std::path::PathBuf;

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
    /// full (the default), value, export, device or json
    #[arg(short = 'o', long, default_value = "full")]
    output: Output,
    /// Show only this tag; repeatable
    #[arg(short = 's', long, value_delimiter = ',')]
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
    /// Low-level: more than one finding is an error; with -s for the tags that are ours
    #[arg(short = 'p', long, requires = "devices")]
    probe: bool,
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
    // Of each format the original's -p knows more tags than we keep.
    let ours = |tag: &String| PROBED.contains(&tag.as_str());
    if args.probe && (args.match_tag.is_empty() || !args.match_tag.iter().all(ours)) {
        return Ok(Answer::classic(context.name, arguments));
    }
    let context = context.at(args.sysroot.as_deref())?;
    let mut scan = Scan::begin(&context);
    let names: Vec<String> = if args.devices.is_empty() {
        let listed = scan.facts.blocks.iter().filter(|block| is_listed(block, &scan.facts.blocks));
        listed.map(|block| block.name.clone()).collect()
    } else {
        let mut names = Vec::new();
        for path in &args.devices {
            match scan.resolve(path) {
                Ok(name) => names.push((name, path.display().to_string())),
                Err(error) => notice(context.name, &format!("{error:#}")),
            }
        }
        let disks =
            names.iter().filter_map(|(name, _)| disk_of(name, &scan.facts.blocks)).collect::<Vec<_>>();
        let storage = scan.examine(|block| {
            names.iter().any(|(name, _)| *name == block.name) || disks.contains(&block.name)
        });
        return Ok(answer(&context, &args, &storage, &names, token.as_ref()));
    };
    let storage = scan.examine(|block| block.major != RAM_DISK);
    let shown = |name: &String| {
        let device = storage.devices.iter().find(|device| device.block.name == *name);
        (name.clone(), device.map(path).unwrap_or_default())
    };
    let names: Vec<(String, String)> = names.iter().map(shown).collect();
    Ok(answer(&context, &args, &storage, &names, token.as_ref()))
}

/// Whatever can hold something: not a disk that has partitions, nor an extended partition's two sectors.
fn is_listed(block: &Block, blocks: &[Block]) -> bool {
    let has_partitions = blocks
        .iter()
        .filter_map(|other| other.partition.as_ref())
        .any(|partition| partition.disk == block.name);
    block.size > 1024 && block.major != RAM_DISK && !has_partitions && !block.hidden
}

/// Its table says a partition's UUID and name.
fn disk_of(name: &str, blocks: &[Block]) -> Option<String> {
    let block = blocks.iter().find(|block| block.name == name)?;
    Some(block.partition.as_ref()?.disk.clone())
}

fn path(device: &Device) -> String {
    let mapped = device.block.dm.as_ref().map(|dm| format!("/dev/mapper/{}", dm.name));
    mapped.unwrap_or_else(|| device.path.clone())
}

/// `names`: kernel names, each with the path to show.
fn answer(
    context: &Context,
    args: &Args,
    storage: &Storage,
    names: &[(String, String)],
    token: Option<&(String, String)>,
) -> Answer {
    let lookup = args.label.is_some() || args.uuid.is_some();
    let mut found = Vec::new();
    for (name, shown) in names {
        let Some(device) = storage.devices.iter().find(|device| device.block.name == *name) else { continue };
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
        if args.probe && ambiguous(report) {
            let text = "ambivalent result (probably more filesystems on the device, use wipefs(8) to see more details)";
            notice(context.name, &format!("{shown}: {text}"));
            return Answer::exit(AMBIVALENT);
        }
        for text in problems(device, shown, storage) {
            notice(context.name, &text);
        }
        let tags = tags(device, storage, args.probe);
        let matches =
            token.is_none_or(|(name, value)| tags.iter().any(|tag| tag.0 == name && tag.1 == *value));
        let wanted = |name: &str| args.match_tag.is_empty() || args.match_tag.iter().any(|tag| tag == name);
        let tags: Vec<(&str, String)> = tags.into_iter().filter(|(name, _)| lookup || wanted(name)).collect();
        if matches && !tags.is_empty() {
            found.push((shown.clone(), tags));
            if (args.list_one && token.is_some()) || lookup {
                break;
            }
        }
    }
    if found.is_empty() {
        return Answer::exit(NOTHING);
    }
    let output = if lookup { Output::Device } else { args.output };
    let texts: Vec<String> = found.iter().map(|(shown, tags)| text(output, shown, tags)).collect();
    Answer::text(texts.join(if output == Output::Export { "\n" } else { "" }), contract::exit::YES)
}

/// Damage and ambiguity, which the original keeps to itself.
fn problems(device: &Device, shown: &str, storage: &Storage) -> Vec<String> {
    let is_content = device.report().is_some_and(|report| {
        ambiguous(report)
            || report.signatures.iter().any(|signature| matches!(signature.health, Health::Damaged(_)))
    });
    let of_device = storage.problems.iter().filter(|problem| problem.device.as_deref() == Some(&device.path));
    // The same problem names the kernel's path, which may not be what was typed.
    of_device.filter(|_| is_content).map(|problem| problem.text.replace(&device.path, shown)).collect()
}

/// Tags that -p prints as we do.
const PROBED: &[&str] = &["LABEL", "UUID", "UUID_SUB", "VERSION", "TYPE", "USAGE", "PTUUID", "PTTYPE"];

/// In blkid's order.
fn tags(device: &Device, storage: &Storage, probe: bool) -> Vec<(&'static str, String)> {
    let mut tags = Vec::new();
    let mut add = |name, value: Option<String>| tags.extend(value.map(|value| (name, value)));
    let Some(report) = device.report() else { return tags };
    if let Some(signature) = report.signatures.first() {
        add("LABEL", signature.label.clone());
        add("UUID", signature.uuid.clone());
        add("UUID_SUB", signature.member_uuid.clone());
        add("VERSION", signature.version.clone().filter(|_| probe));
        add("BLOCK_SIZE", signature.block_size.map(|size| size.to_string()).filter(|_| !probe));
        add("TYPE", Some(signature.format.clone()));
        let usage = match signature.usage {
            Usage::Filesystem => "filesystem",
            Usage::Raid => "raid",
            Usage::Crypto => "crypto",
            Usage::Other => "other",
        };
        add("USAGE", probe.then(|| usage.to_string()));
    }
    if let Some(table) = &report.table {
        let id = table.id.as_deref().map(str::to_lowercase);
        add("PTUUID", id.map(|id| id.trim_start_matches("0x").to_string()));
        let kind = match table.kind {
            TableKind::Gpt => "gpt",
            TableKind::Mbr => "dos",
            TableKind::Bsd => "bsd",
            TableKind::Mac => "mac",
        };
        add("PTTYPE", Some(kind.to_string()));
    }
    let disk = device.parent.as_ref().and_then(|id| storage.get(id)).filter(|_| !probe);
    let table = disk.and_then(|disk| disk.report()?.table.as_ref());
    let start = device.block.partition.as_ref().map(|partition| partition.start);
    let entry =
        table.and_then(|table| table.partitions.iter().find(|entry| Some(entry.extent.start) == start));
    if let Some(entry) = entry {
        add("PARTLABEL", entry.name.clone().filter(|name| !name.is_empty()));
        add("PARTUUID", entry.uuid.as_deref().map(str::to_lowercase));
    }
    tags
}

fn text(output: Output, shown: &str, tags: &[(&str, String)]) -> String {
    let shown = Untrusted(shown);
    let value = |value: &str| Untrusted(value).to_string();
    let lines = |line: &dyn Fn(&str, &str) -> String| {
        tags.iter().map(|(name, text)| line(name, text)).collect::<String>()
    };
    match output {
        Output::Device => format!("{shown}\n"),
        Output::Full => {
            let pairs = lines(&|name, text| format!(" {name}=\"{}\"", backslashed(&value(text), "\"\\")));
            format!("{shown}:{pairs}\n")
        }
        Output::Value => lines(&|_, text| format!("{}\n", value(text))),
        Output::Export => {
            let pairs = lines(&|name, text| format!("{name}={}\n", backslashed(&value(text), "\"\\$` <>&'")));
            format!("DEVNAME={shown}\n{pairs}")
        }
        Output::Json => {
            let pair = |(name, text): &(&str, String)| {
                format!("   \"{}\": {}", name.to_lowercase(), serde_json::Value::from(text.as_str()))
            };
            format!("{{\n{}\n}}\n", tags.iter().map(pair).collect::<Vec<_>>().join(",\n"))
        }
    }
}

fn backslashed(text: &str, special: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if special.contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_quoted_for_each_format() {
        let tags = [("LABEL", "a\"b\\c$d e\n".to_string()), ("TYPE", "ext4".to_string())];
        let cases = [
            (Output::Full, "/dev/sda1: LABEL=\"a\\\"b\\\\c$d e\\\\x0a\" TYPE=\"ext4\"\n"),
            (Output::Value, "a\"b\\c$d e\\x0a\next4\n"),
            (Output::Export, "DEVNAME=/dev/sda1\nLABEL=a\\\"b\\\\c\\$d\\ e\\\\x0a\nTYPE=ext4\n"),
            (Output::Device, "/dev/sda1\n"),
            (Output::Json, "{\n   \"label\": \"a\\\"b\\\\c$d e\\n\",\n   \"type\": \"ext4\"\n}\n"),
        ];
        for (output, want) in cases {
            assert_eq!(text(output, "/dev/sda1", &tags), want, "{output:?}");
        }
    }
}
