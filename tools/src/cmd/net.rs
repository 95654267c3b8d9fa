//! `rescue net`: the network as netd has it, whether the next hops answer, and other plans for it, which netd carries out.

mod firmware;
mod hops;
mod path;
mod seeds;
mod systems;

use crate::report::{Answer, HandOver, Output, notice};
use crate::scan::Scan;
use crate::tool::{Context, verb};
use anyhow::{Context as _, bail};
use contract::cmdline::Word;
use contract::exit;
use contract::state;
use contract::wire::{NetdRequest, Offer, Reply};
use hops::Hop;
use host::Root;
use host::volumes::{Believed, believed};
use model::text::{Column, Untrusted, table};
use network::{Kind, Methods, Plan};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use systems::System;

/// netd answers at once.
const DEADLINE: Duration = Duration::from_secs(5);
/// Seconds until a plan that nobody kept is taken back.
const TRIAL: u32 = 60;
/// Seconds that the light of a port blinks.
const BLINK: u32 = 15;

/// The network: links and addresses, and whether gateways and name servers answer. Without a verb: that.
///
/// set, dhcp, borrow and seed change it. They show the plan; --dry-run shows it alone. As they may cut the very
/// line that they are typed on, what was before comes back after 60 seconds, unless rescue net keep is typed
/// by then (--try SECONDS; --for-good tries nothing).
///
///     # rescue net
///     Link Also   State Mbit/s Driver     MAC               Addresses
///     eth0 enp0s1 bound      - virtio_net 52:54:00:12:34:56 10.0.2.15/24
///     Gateway 10.0.2.2 by eth0 answers
///     DNS 10.0.2.3 answers
///     # rescue net set vlan=eth0.5:eth0 ip=192.0.2.7::192.0.2.1:24::eth0.5:off
///     eth0.5: VLAN 5 on eth0, no DHCP, 192.0.2.7/24, gateway 192.0.2.1
///     Next: rescue net keep  (within 60 seconds, else it is as before)
#[derive(clap::Parser)]
#[command(name = "rescue net", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// As JSON, schema 1
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// What is asked of the network, by whom
    Plan,
    /// Do what boot parameters would: ip=... vlan=... bond=... nameserver=...
    Set {
        #[command(flatten)]
        how: How,
        #[arg(required = true, value_name = "PARAMETER")]
        words: Vec<String>,
    },
    /// DHCP on an interface, anew
    Dhcp {
        #[command(flatten)]
        how: How,
        #[arg(value_name = "INTERFACE")]
        interface: String,
    },
    /// Use the settings of the system on the disks, as netplan, ifupdown, systemd-networkd, wicked, NetworkManager or ifcfg
    /// files have them: of the one that is mounted, else the disks are looked through, and nothing on them changes
    Borrow {
        #[command(flatten)]
        how: How,
        /// Where the system is mounted, where several are
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
    /// Use the settings on a volume that was made for this machine: NoCloud's network-config (cidata), or a config drive's
    /// network_data.json (config-2)
    Seed {
        #[command(flatten)]
        how: How,
    },
    /// What was tried stays
    Keep,
    /// What was tried is taken back now
    Revert,
    /// Let the light of a port blink
    Blink {
        /// Show the command, and do nothing
        #[arg(long)]
        dry_run: bool,
        #[arg(value_name = "INTERFACE")]
        interface: String,
        #[arg(value_name = "SECONDS", default_value_t = BLINK)]
        seconds: u32,
    },
}

#[derive(clap::Args)]
struct How {
    /// Show the plan, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Come back to what was before after as many seconds
    #[arg(long = "try", value_name = "SECONDS", default_value_t = TRIAL, value_parser = clap::value_parser!(u32).range(5..=3600))]
    trial: u32,
    /// Do not come back by itself
    #[arg(long, conflicts_with = "trial")]
    for_good: bool,
}

/// What netd answers to [`NetdRequest::Plan`], as far as it is read here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Plans {
    current: Plan,
    trial: Option<(Plan, Duration)>,
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match verb(context, arguments)? {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    match args.verb {
        None => look(context, args.json),
        Some(Verb::Plan) => plan(args.json),
        Some(Verb::Set { how, words }) => set(context, &how, &words),
        Some(Verb::Dhcp { how, interface }) => dhcp(&how, &interface),
        Some(Verb::Borrow { how, root }) => borrow(context, &how, root.as_deref(), args.json),
        Some(Verb::Seed { how }) => seed(context, &how, args.json),
        Some(Verb::Keep) => {
            done(ask(&NetdRequest::Keep)?)?;
            Ok(Answer::text("the network stays as it is now\n".to_string(), exit::YES))
        }
        Some(Verb::Revert) => {
            done(ask(&NetdRequest::Revert)?)?;
            Ok(Answer::text("the network is as it was before\n".to_string(), exit::YES))
        }
        Some(Verb::Blink { dry_run, interface, seconds }) => {
            let interface = kernels(&context.root, interface, || value(&NetdRequest::Status))?;
            if dry_run {
                let text = format!("ethtool -p {} {seconds}\n", Untrusted(&interface));
                return Ok(Answer::text(text, exit::YES));
            }
            let arguments = ["-p", interface.as_str(), &seconds.to_string()].map(OsString::from).to_vec();
            let program = PathBuf::from("/usr/sbin/ethtool");
            Ok(Answer { output: Output::HandOver(HandOver { program, arguments }), exit: exit::YES })
        }
    }
}

fn ask(request: &NetdRequest) -> anyhow::Result<Reply> {
    host::ask::ask("netd", request, DEADLINE).context("ask netd")
}

fn done(reply: Reply) -> anyhow::Result<()> {
    match reply {
        Reply::Done | Reply::Value { .. } => Ok(()),
        Reply::Failed { error } => bail!("{}", Untrusted(&error)),
    }
}

fn value<T: for<'a> Deserialize<'a>>(request: &NetdRequest) -> anyhow::Result<T> {
    match ask(request)? {
        Reply::Value { value } => serde_json::from_value(value).context("read netd's answer"),
        Reply::Failed { error } => bail!("{}", Untrusted(&error)),
        Reply::Done => bail!("netd says nothing"),
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    network: state::Netd,
    hops: Vec<Hop>,
    /// Files that drivers of NICs asked for and did not find.
    firmware: Vec<firmware::Missing>,
    /// Seconds until what is tried is taken back.
    trial: Option<u64>,
}

fn look(context: &Context, json: bool) -> anyhow::Result<Answer> {
    let network: state::Netd = value(&NetdRequest::Status)?;
    let plans: Plans = value(&NetdRequest::Plan)?;
    let trial = plans.trial.map(|(_, end)| end.saturating_sub(since_boot()).as_secs());
    let hops = hops::ask(&network);
    let firmware = firmware::missing(&context.root, &network);
    let is_well = hops.iter().all(|hop| hop.answers) && network.problems.is_empty() && firmware.is_empty();
    let status = if is_well { exit::YES } else { exit::NO };
    if json {
        return Answer::json(1, &Report { network, hops, firmware, trial }, status);
    }
    let mut text = links(context, &network);
    if !network.origin.is_empty() {
        text += &format!("Settings by {}\n", Untrusted(&network.origin));
    }
    if !network.clock.by.is_empty() {
        text += &format!("Clock by {}\n", Untrusted(&network.clock.by));
    }
    for hop in &hops {
        let by = hop.interface.as_ref().map(|name| format!(" by {}", Untrusted(name))).unwrap_or_default();
        let kind = if hop.kind == "gateway" { "Gateway" } else { "DNS" };
        let says = if hop.answers { "answers" } else { "does not answer" };
        let path = hop.path.as_ref().map(|path| format!(": {path}")).unwrap_or_default();
        text += &format!("{kind} {}{by} {says}{path}\n", hop.address);
    }
    for missing in &firmware {
        let line = format!("{} ({}) lacks its firmware {}", missing.device, missing.driver, missing.file);
        text += &format!("! {}\n", Untrusted(&line));
    }
    for problem in &network.problems {
        text += &format!("! {}\n", Untrusted(problem));
    }
    text += &match (trial, next(&context.root, &network, &hops, &firmware)) {
        (Some(left), _) => format!("Next: rescue net keep  (within {left} seconds, else it is as before)\n"),
        (None, Some(next)) => format!("Next: {next}\n"),
        (None, None) => String::new(),
    };
    Ok(Answer::text(text, status))
}

fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

fn links(context: &Context, network: &state::Netd) -> String {
    const COLUMNS: &[Column<'_>] = &[
        Column { title: "Link", right: false, width: 0 },
        Column { title: "Also", right: false, width: 0 },
        Column { title: "State", right: false, width: 0 },
        Column { title: "Mbit/s", right: true, width: 0 },
        Column { title: "Driver", right: false, width: 0 },
        Column { title: "MAC", right: false, width: 0 },
        Column { title: "Addresses", right: false, width: 0 },
    ];
    let row = |link: &state::Link| {
        let speed = host::nic::speed(&context.root, &link.name).filter(|_| link.carrier);
        let speed = speed.map(|speed| speed.to_string());
        let addresses: Vec<String> =
            link.addresses.iter().map(|address| format!("{}/{}", address.address, address.prefix)).collect();
        let what = if link.driver.is_empty() { &link.kind } else { &link.driver };
        [
            link.name.clone(),
            link.names.first().cloned().unwrap_or_default(),
            link.state.clone(),
            speed.unwrap_or_else(|| "-".to_string()),
            what.clone(),
            link.mac.clone(),
            addresses.join("\n"),
        ]
        .map(|cell| {
            cell.split('\n').map(|line| Untrusted(line).to_string()).collect::<Vec<String>>().join("\n")
        })
        .to_vec()
    };
    let rows: Vec<Vec<String>> = network.links.iter().map(row).collect();
    if rows.is_empty() {
        return "no network card was found\n".to_string();
    }
    table(COLUMNS, &rows, true).lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The first thing that is wrong, as the command that shows more of it.
fn next(root: &Root, network: &state::Netd, hops: &[Hop], firmware: &[firmware::Missing]) -> Option<String> {
    let has_address = network.links.iter().any(|link| !link.addresses.is_empty());
    if let (Some(missing), false) = (firmware.first(), has_address) {
        let module = host::blobs::module(root, &missing.driver);
        let module = Untrusted(&module);
        let layer = host::blobs::layer(root, &missing.file);
        let layer =
            layer.map(|layer| format!("; the layer {} has it", Untrusted(&layer))).unwrap_or_default();
        return Some(format!(
            "modprobe -r {module}; modprobe {module}  (once its file is below /usr/lib/firmware{layer})"
        ));
    }
    if network.links.is_empty() {
        return Some("lspci -k  (which cards are there, and has each its driver)".to_string());
    }
    if !has_address {
        let has_carrier = network.links.iter().any(|link| link.carrier);
        return Some(match has_carrier {
            true => {
                "rescue net borrow --dry-run  (no server gives an address; the installed system may have one)"
                    .to_string()
            }
            false => "rescue net blink INTERFACE  (no cable has a link: which port is which)".to_string(),
        });
    }
    let silent = hops.iter().find(|hop| !hop.answers)?;
    Some(match &silent.interface {
        Some(interface) => format!("tcpdump -ni {}  (is anybody there)", Untrusted(interface)),
        None => format!("mtr -n {}  (where packets are lost)", silent.address),
    })
}

fn plan(json: bool) -> anyhow::Result<Answer> {
    let plans: Plans = value(&NetdRequest::Plan)?;
    if json {
        return Answer::json(1, &plans.current, exit::YES);
    }
    let mut text = shown(&plans.current);
    if plans.current.others.is_none() {
        text += &format!("other NICs: {}\n", Methods::DEFAULT);
    }
    Ok(Answer::text(text, exit::YES))
}

/// Each line of a plan, whose text is a stranger's.
fn shown(plan: &Plan) -> String {
    plan.to_string().lines().map(|line| format!("{}\n", Untrusted(line))).collect()
}

fn set(context: &Context, how: &How, words: &[String]) -> anyhow::Result<Answer> {
    let words: Vec<Word> = words.iter().flat_map(|word| contract::cmdline::words(word)).collect();
    let plan = asked(&words)?;
    // Whoever types a name wrongly learns it before the time is over. Without netd the plan is shown all the same.
    if let Ok(network) = value::<state::Netd>(&NetdRequest::Status) {
        for name in absent(&plan, &network) {
            let here: Vec<&str> = network.links.iter().map(|link| link.name.as_str()).collect();
            let line = format!("there is no interface {name} now; here are: {}", here.join(" "));
            notice(context.name, &Untrusted(&line).to_string());
        }
    }
    let text = shown(&plan);
    apply(how, &plan, text)
}

/// The plan of what a person typed, of which each word counts, or nothing.
fn asked(words: &[Word]) -> anyhow::Result<Plan> {
    let of_netd = |param: &&contract::params::Param| param.owner == contract::params::Owner::Netd;
    let names = || contract::params::PARAMS.iter().filter(of_netd).map(|param| param.name);
    // What is Lifeboat's own of these is about the boot.
    let names: Vec<&str> = names().filter(|name| !name.starts_with("rescue.")).collect();
    if let Some(unknown) = words.iter().find(|word| !names.contains(&word.name.as_str())) {
        let name = Untrusted(&unknown.name);
        bail!("{name} cannot be set here; parameters of the network are: {}", names.join("= ") + "=");
    }
    let plan = network::dracut::read(words);
    if let Some(problem) = plan.problems.first() {
        // At boot something is done in its place, here nothing is.
        bail!("{}", Untrusted(problem.strip_suffix(": DHCP is used").unwrap_or(problem)));
    }
    Ok(plan)
}

/// Interfaces that a plan means by a name, and that neither are here nor will be by this plan.
fn absent(plan: &Plan, network: &state::Netd) -> Vec<String> {
    let made = |name: &str| {
        let is_it =
            |link: &network::Link| link.kind != Kind::Physical && link.selector.name.as_deref() == Some(name);
        plan.links.iter().any(|link| is_it(link) || link.rename.as_deref() == Some(name))
    };
    let is_here = |name: &str| {
        network.links.iter().any(|link| link.name == name || link.names.iter().any(|own| own == name))
    };
    let mut absent: Vec<String> = Vec::new();
    for link in &plan.links {
        let names: Vec<&String> = match &link.kind {
            Kind::Physical => link.selector.name.iter().collect(),
            Kind::Vlan { link, .. } => vec![link],
            Kind::Bond { ports, .. } | Kind::Bridge { ports, .. } => {
                ports.iter().filter_map(|port| port.name.as_ref()).collect()
            }
        };
        let is_pattern = |name: &str| name.contains(['*', '?', '[']);
        for name in names.into_iter().filter(|name| !is_pattern(name) && !is_here(name) && !made(name)) {
            if !absent.contains(name) {
                absent.push(name.clone());
            }
        }
    }
    absent
}

/// The interface that is meant by any of its names.
fn called<'a>(network: &'a state::Netd, interface: &str) -> Option<&'a state::Link> {
    network
        .links
        .iter()
        .find(|link| link.name == interface || link.names.iter().any(|name| name == interface))
}

/// The kernel's name of an interface, also of one that has none there by the name that is typed; `netd` knows all of them.
fn kernels(
    root: &Root,
    interface: String,
    netd: impl FnOnce() -> anyhow::Result<state::Netd>,
) -> anyhow::Result<String> {
    if host::nic::exists(root, &interface) {
        return Ok(interface);
    }
    let link = netd().ok().and_then(|network| called(&network, &interface).map(|link| link.name.clone()));
    link.with_context(|| format!("no interface {}", Untrusted(&interface)))
}

fn dhcp(how: &How, interface: &str) -> anyhow::Result<Answer> {
    let network: state::Netd = value(&NetdRequest::Status)?;
    let link = called(&network, interface)
        .with_context(|| format!("no interface {} is known to netd: see rescue net", Untrusted(interface)))?;
    // What is asked may be DHCPv6 alone, or nothing any more (`single-dhcp`): netd says no then, and DHCP is asked for.
    if matches!(link.state.as_str(), "bound" | "renewing" | "rebinding" | "asking" | "no answer")
        && !how.dry_run
        && done(ask(&NetdRequest::Renew { interface: link.name.clone() })?).is_ok()
    {
        return Ok(Answer::text(format!("{} is asked for anew\n", Untrusted(&link.name)), exit::YES));
    }
    let words = contract::cmdline::words(&format!("ip={}:dhcp", link.name));
    let plan = network::dracut::read(&words);
    let text = shown(&plan);
    apply(how, &plan, text)
}

/// Of the one system that is mounted, or of the one at `root`; where none is mounted, of the one on the disks.
fn borrow(context: &Context, how: &How, root: Option<&Path>, json: bool) -> anyhow::Result<Answer> {
    let (found, notes) = match root {
        Some(root) => (at(context, root), Vec::new()),
        None => {
            let scan = Scan::begin(context);
            let storage = scan.examine(|_| true);
            match systems::mounted(&context.root, &storage.mounts) {
                some if some.is_empty() => systems::on_disks(&storage),
                some => (systems::chosen(some), Vec::new()),
            }
        }
    };
    offer(context, how, json, Found { settings: found, notes, may_come: false })
}

fn at(context: &Context, root: &Path) -> anyhow::Result<System> {
    let directory = root.to_str().context("the directory's name is no text")?;
    let directory = directory.trim_end_matches('/');
    systems::system(&context.root, directory, "--root")
        .with_context(|| format!("there is no installed system at {}", Untrusted(directory)))
}

/// Of a volume that was made for this machine.
fn seed(context: &Context, how: &How, json: bool) -> anyhow::Result<Answer> {
    // A person who asks has seen what there is; by itself only what the command line says is believed.
    let believed = match json {
        true => believed(&host::params::read(&context.root)),
        false => Believed::DisksToo,
    };
    offer(context, how, json, seeds::found(&context.root, how.dry_run, believed))
}

/// What a look for settings comes to.
struct Found<T> {
    settings: anyhow::Result<T>,
    /// For a person, whatever came of it.
    notes: Vec<String>,
    /// Nothing was there that could be read, and may yet come.
    may_come: bool,
}

/// What was found is shown, and used where it is to be.
fn offer<T: Source>(context: &Context, how: &How, json: bool, found: Found<T>) -> anyhow::Result<Answer> {
    let Found { settings, notes, may_come } = found;
    let used = settings.and_then(|settings| {
        let shown = settings.shown();
        let (origin, plan) = settings.taken()?;
        Ok((shown, origin, plan))
    });
    if !json {
        notes.iter().for_each(|note| notice(context.name, note));
        let (shown, _, mut plan) = used?;
        // They were said in `shown`.
        plan.problems.clear();
        return apply(how, &plan, shown);
    }
    let offer = match used {
        Ok((_, origin, plan)) => {
            send(how, &plan)?;
            let plan = Some(serde_json::to_value(&plan).context("write the plan")?);
            Offer { origin, plan, notes, ..Offer::default() }
        }
        Err(error) => Offer { reason: Some(format!("{error:#}")), notes, may_come, ..Offer::default() },
    };
    let status = if offer.plan.is_some() { exit::YES } else { exit::NO };
    Answer::json(1, &offer, status)
}

/// Where settings are found.
trait Source {
    /// What is shown before anything is done.
    fn shown(&self) -> String;
    /// Where the settings stand, in words, and what they ask for.
    fn taken(self) -> anyhow::Result<(String, Plan)>;
}

impl Source for System {
    fn shown(&self) -> String {
        System::shown(self)
    }

    fn taken(self) -> anyhow::Result<(String, Plan)> {
        let title = self.title();
        let borrowed = self.borrowed.with_context(|| format!("no file describes an interface in {title}"))?;
        let files: Vec<String> = borrowed.files.iter().map(|file| Untrusted(file).to_string()).collect();
        Ok((format!("{title}, {}: {}", borrowed.kind, files.join(" ")), borrowed.plan))
    }
}

/// `text`: the plan as it is shown first.
fn apply(how: &How, plan: &Plan, mut text: String) -> anyhow::Result<Answer> {
    send(how, plan)?;
    text += &match (how.dry_run, how.trial()) {
        (true, _) => String::new(),
        (false, Some(seconds)) => {
            format!("Next: rescue net keep  (within {seconds} seconds, else it is as before)\n")
        }
        (false, None) => "Next: rescue net\n".to_string(),
    };
    Ok(Answer::text(text, exit::YES))
}

/// To netd, unless nothing is to be done.
fn send(how: &How, plan: &Plan) -> anyhow::Result<()> {
    if how.dry_run {
        return Ok(());
    }
    let plan = serde_json::to_value(plan).context("write the plan")?;
    done(ask(&NetdRequest::Apply { plan, trial: how.trial() })?)
}

impl How {
    /// Seconds until it is taken back.
    fn trial(&self) -> Option<u32> {
        (!self.for_good).then_some(self.trial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, addresses: usize, carrier: bool) -> state::Link {
        let address = state::Address { address: "192.0.2.7".to_string(), prefix: 24, ..Default::default() };
        state::Link {
            name: name.to_string(),
            state: "bound".to_string(),
            carrier,
            addresses: vec![address; addresses],
            ..Default::default()
        }
    }

    fn hop(interface: Option<&str>, answers: bool) -> Hop {
        Hop {
            kind: "gateway",
            address: std::net::Ipv4Addr::new(192, 0, 2, 1).into(),
            interface: interface.map(String::from),
            answers,
            milliseconds: None,
            path: None,
        }
    }

    #[test]
    fn a_port_blinks_by_any_name_that_netd_knows() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("sys/class/net/eth1")).unwrap();
        let root = Root::at(directory.path()).unwrap();
        let names = vec!["enp0s1".to_string()];
        let links = vec![state::Link { names, ..link("eth0", 0, true) }];
        let of = |name: &str| {
            let network = state::Netd { links: links.clone(), ..Default::default() };
            kernels(&root, name.to_string(), || Ok(network)).ok()
        };
        for (label, typed, wanted) in [
            ("that systemd would give", "enp0s1", Some("eth0")),
            ("that only the kernel has", "eth1", Some("eth1")),
            ("of no interface", "eth9", None),
        ] {
            assert_eq!(of(typed).as_deref(), wanted, "{label}");
        }
        assert!(kernels(&root, "enp0s1".to_string(), || bail!("no netd")).is_err());
    }

    #[test]
    fn the_next_command_is_about_the_first_hop_that_fails() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path()).unwrap();
        for (label, links, hops, want) in [
            ("no card", vec![], vec![], Some("lspci -k")),
            ("no cable", vec![link("eth0", 0, false)], vec![], Some("rescue net blink")),
            ("no server", vec![link("eth0", 0, true)], vec![], Some("rescue net borrow --dry-run")),
            (
                "no gateway",
                vec![link("eth0", 1, true)],
                vec![hop(Some("eth0"), false), hop(None, false)],
                Some("tcpdump -ni eth0"),
            ),
            (
                "no DNS",
                vec![link("eth0", 1, true)],
                vec![hop(Some("eth0"), true), hop(None, false)],
                Some("mtr -n 192.0.2.1"),
            ),
            ("all well", vec![link("eth0", 1, true)], vec![hop(Some("eth0"), true)], None),
        ] {
            let network = state::Netd { links, ..Default::default() };
            let missing = ["bnx2/a.fw"].map(|file| firmware::Missing {
                device: "0000:02:00.0".to_string(),
                driver: "bnx2".to_string(),
                file: file.to_string(),
            });
            let has_address = network.links.iter().any(|link| !link.addresses.is_empty());
            let about = next(&root, &network, &hops, &missing).unwrap_or_default();
            assert_eq!(about.starts_with("modprobe -r bnx2"), !has_address, "{label}");
            let got = next(&root, &network, &hops, &[]);
            match want {
                Some(want) => {
                    assert!(got.as_deref().is_some_and(|got| got.starts_with(want)), "{label}: {got:?}")
                }
                None => assert_eq!(got, None, "{label}"),
            }
        }
    }

    #[test]
    fn what_a_person_types_counts_word_by_word_or_nothing_is_done() {
        let asked = |line: &str| asked(&contract::cmdline::words(line)).map_err(|error| error.to_string());
        assert!(asked("ip=eth0:dhcp nameserver=192.0.2.53 BOOTIF=52:54:00:12:34:56").is_ok());
        for (line, want) in [
            (
                "ip=dhpc",
                "ip=dhpc: dhpc is neither an address nor one of dhcp, dhcp6, auto6, either6, link6, single-dhcp, off",
            ),
            ("eth0:dhcp", "eth0:dhcp cannot be set here; parameters of the network are: BOOTIF= bond= "),
            ("rescue.net=borrow", "rescue.net cannot be set here; parameters of the network are: "),
            ("rescue.hostname=x", "rescue.hostname cannot be set here; "),
        ] {
            let error = asked(line).unwrap_err();
            assert!(error.starts_with(want) && !error.contains("DHCP is used"), "{line}: {error}");
        }
    }

    #[test]
    fn names_that_no_interface_has_are_told_and_those_that_it_will_have_are_not() {
        let here = state::Link { names: vec!["enp3s0".to_string()], ..link("eth0", 1, true) };
        let network = state::Netd { links: vec![here], ..Default::default() };
        for (line, want) in [
            ("ip=eth0:dhcp ip=enp3s0:off", &[][..]),
            ("ip=eth9:dhcp", &["eth9"]),
            ("vlan=eth0.5:eth0 ip=eth0.5:dhcp bond=bond0:eth0,eth7 bridge=br0:bond0", &["eth7"]),
            ("ifname=lan0:52:54:00:12:34:56 ip=lan0:dhcp vlan=v5:lan0 vlan=v6:lan1", &["lan1"]),
            ("ip=192.0.2.7::192.0.2.1:24", &[]),
        ] {
            let plan = network::dracut::read(&contract::cmdline::words(line));
            assert_eq!(absent(&plan, &network), want, "{line}");
        }
    }

    #[test]
    fn a_stranger_on_the_disk_does_not_steer_the_terminal() {
        let words = contract::cmdline::words("ip=192.0.2.7:::24::eth0:off");
        let mut plan = network::dracut::read(&words);
        plan.links[0].rename = Some("\x1b[2J".to_string());
        assert!(!shown(&plan).contains('\x1b'));
    }
}
