//! `mount`: what a command means is `model::mount`'s to say; here its words are looked up (paths, fstab,
//! what is on the device), the steps go through the door, and a failure gets its reason.

use crate::apply::{self, Door, Made};
use crate::cmd::writable::told;
use crate::report::{Answer, Failure, notice, without_errno};
use crate::scan::{Scan, whence};
use crate::tool::{Context, classic};
use anyhow::Context as _;
use contract::facts::Mount;
use host::fstab;
use model::fstype::{self, Origin};
use model::mount::{self, Able, Kind, Options, Plan, Refusal, Request, Source, Tag, exit};
use model::overlay;
use model::plan::Step;
use model::storage::{Device, Id, Storage};
use ondisk::{DiskReport, Extent};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Mount a file system, or list what is mounted.
///
/// The type is probed, never guessed by trial; -t sets it. The device is a path, or
/// LABEL=, UUID=, PARTLABEL=, PARTUUID= or ID= (a name below /dev/disk/by-id). Where two
/// devices carry the same one, both are named, and none is mounted.
///
/// Mounting for writing, which is the default, takes the write guard off exactly the
/// devices below, makes their arrays writable, and says so in one line. With -r (-o ro)
/// nothing is written to what is under the guard, not even a journal: one that needs a replay
/// gets it in memory, in an overlay that umount drops, and a line says so. What lies on the
/// disk itself is shown with -o ro,noload (xfs, f2fs: norecovery; btrfs: rescue=nologreplay). A
/// journal on a device of its own is never replayed by reading; for writing, that device is made
/// writable too.
///
/// With the guard off, -o ro alone replays a journal on the disk, as everywhere; with those
/// options it does not. Files that were deleted while in use (ext2, 3 and 4, f2fs) are cleared
/// away with any option: what has some is mounted through such an overlay, or not at all, unless
/// the device itself is read-only.
///
/// ext2, ext3 and ext4 get errors=remount-ro unless errors= is given: a superblock may ask
/// for a kernel panic upon an error, and that would end the rescue.
///
/// As rescue mount, it mounts read-only unless --rw is given.
///
/// ntfs is the kernel's ntfs3; -t ntfs-3g is the other driver. What is not here (-a and
/// all that goes by fstab's options) is the original's, under the same guard.
/// An option that is the original's alone (X-mount.subdir=) does not go with such an overlay,
/// and is refused where reading needs one.
/// --dry-run prints the steps.
///
///     # mount /dev/sda1 /mnt
///     mount: made writable: /dev/sda1 (Samsung SSD 870, S5Y1NG0R)
///     # mount -o ro /dev/nvme0n1p2 /mnt
///     mount: /mnt: /dev/nvme0n1p2: its journal is replayed in memory (/dev/mapper/over-nvme0n1p2), so the last ...
#[derive(clap::Parser)]
#[command(name = "mount", disable_version_flag = true, verbatim_doc_comment)]
struct Args {
    /// The type, or a list of types that the probed one must be of (noTYPE,...: must not)
    #[arg(short = 't', long = "types", value_name = "TYPE")]
    types: Option<String>,
    /// Options, separated by commas
    #[arg(short = 'o', long = "options", value_name = "LIST")]
    options: Vec<String>,
    /// Read-only: -o ro
    #[arg(short = 'r', long = "read-only", overrides_with = "rw")]
    ro: bool,
    /// For writing, which is an error where the device is write-protected: -o rw
    #[arg(short = 'w', long = "rw", alias = "read-write", overrides_with = "ro")]
    rw: bool,
    /// The file system of this label: LABEL=
    #[arg(short = 'L', long = "label", value_name = "LABEL")]
    label: Option<String>,
    /// The file system of this UUID: UUID=
    #[arg(short = 'U', long = "uuid", value_name = "UUID", conflicts_with = "label")]
    uuid: Option<String>,
    /// Show a directory in a second place
    #[arg(short = 'B', long)]
    bind: bool,
    /// The same, with what is mounted below it
    #[arg(short = 'R', long)]
    rbind: bool,
    /// Move a mount to another place
    #[arg(short = 'M', long = "move")]
    shift: bool,
    /// Do not spread mounts to and from other copies of this one
    #[arg(long)]
    make_private: bool,
    #[arg(long)]
    make_shared: bool,
    #[arg(long)]
    make_slave: bool,
    #[arg(long)]
    make_unbindable: bool,
    /// The same four, for all below it too
    #[arg(long)]
    make_rprivate: bool,
    #[arg(long)]
    make_rshared: bool,
    #[arg(long)]
    make_rslave: bool,
    #[arg(long)]
    make_runbindable: bool,
    /// Make the mount point if it is not there
    #[arg(short = 'm', long)]
    mkdir: bool,
    /// With the list: labels too
    #[arg(short = 'l', long = "show-labels")]
    show_labels: bool,
    /// Say what was mounted
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Nothing to do: nobody writes /etc/mtab any more
    #[arg(short = 'n', long = "no-mtab")]
    no_mtab: bool,
    /// Print the steps, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The device, and the directory; or one of them, which fstab has the other of
    #[arg(num_args = 0..=2, value_name = "DEVICE DIRECTORY")]
    words: Vec<String>,
}

impl Args {
    /// All options, in mount(8)'s order: the letters stand for words behind -o's.
    fn options(&self, before: Option<&str>) -> anyhow::Result<Options> {
        let texts = before.into_iter().chain(self.options.iter().map(String::as_str));
        let mut options = Options::parse(texts).map_err(|error| failure(exit::USAGE, error))?;
        let letters = [
            (self.ro, "ro"),
            (self.rw, "rw"),
            (self.bind, "bind"),
            (self.rbind, "rbind"),
            (self.shift, "move"),
            (self.mkdir, "X-mount.mkdir"),
            (self.make_private, "private"),
            (self.make_shared, "shared"),
            (self.make_slave, "slave"),
            (self.make_unbindable, "unbindable"),
            (self.make_rprivate, "rprivate"),
            (self.make_rshared, "rshared"),
            (self.make_rslave, "rslave"),
            (self.make_runbindable, "runbindable"),
        ];
        for (_, word) in letters.iter().filter(|(given, _)| *given) {
            options.add(word).map_err(|error| failure(exit::USAGE, error))?;
        }
        Ok(options)
    }
}

fn failure(exit: i32, text: impl std::fmt::Display) -> anyhow::Error {
    Failure { exit, text: text.to_string() }.into()
}

/// mount(8) says which mount point it is about.
fn failed(target: &str, text: impl std::fmt::Display) -> anyhow::Error {
    failure(exit::FAILED, format!("{target}: {text}"))
}

fn refused(target: &str, refusal: &Refusal) -> anyhow::Error {
    failure(refusal.exit(), format!("{target}: {refusal}"))
}

pub fn run(context: &Context, arguments: &[OsString]) -> anyhow::Result<Answer> {
    let args: Args = match classic(context, arguments) {
        Ok(args) => args,
        Err(answer) => return Ok(answer),
    };
    let _claim = host::installed::claim();
    let typed = apply::typed(context.name, arguments);
    let tag = args.label.as_ref().map(|label| Tag::Label.with(label));
    let tag = tag.or(args.uuid.as_ref().map(|uuid| Tag::Uuid.with(uuid)));
    let words: Vec<&str> = tag.iter().chain(&args.words).map(String::as_str).collect();
    let call = Call { context, args: &args, arguments, typed: &typed };
    match words[..] {
        [] if args.options.is_empty() => Ok(call.list()),
        [] => Ok(Answer::classic(context.name, arguments)),
        [word] => call.of_one(word),
        [source, target] => {
            let options = args.options(None)?;
            call.of_two(source, target, args.types.as_deref(), &options)
        }
        _ => Err(failure(exit::USAGE, "a device and a directory, and no more: mount --help")),
    }
}

/// One command.
struct Call<'a> {
    context: &'a Context,
    args: &'a Args,
    arguments: &'a [OsString],
    typed: &'a str,
}

/// What is looked at is found as one of these.
enum Found {
    Device(Id),
    File(String),
    Word(String),
}

impl Call<'_> {
    fn list(&self) -> Answer {
        let root = &self.context.root;
        let mut labels = BTreeMap::new();
        let mounts = if self.args.show_labels {
            let storage = Scan::begin(self.context).examine(|_| true);
            for device in &storage.devices {
                if let Some(label) = device.signature().and_then(|signature| signature.label.clone()) {
                    labels.insert(mount::shown(device), label);
                }
            }
            storage.mounts
        } else {
            host::proc::mounts(root)
        };
        let name = |source: &str| {
            let kernel = source.strip_prefix("/dev/").filter(|name| name.starts_with("loop"));
            let file = kernel.and_then(|name| host::sysfs::file_of_passing_loop(root, name));
            file.unwrap_or_else(|| source.to_string())
        };
        Answer::text(mount::listing(&mounts, self.args.types.as_deref(), &name, &labels), 0)
    }

    /// A directory or a device alone: a change of what is mounted there, or fstab knows the rest.
    fn of_one(&self, word: &str) -> anyhow::Result<Answer> {
        let options = self.args.options(None)?;
        if options.remount {
            return self.remount(word, None, &options);
        }
        if options.only_spreads() {
            let target = absolute(word)?;
            return self.carry_out(&Storage::default(), &mount::spread(&options, &target), &target);
        }
        let same = |entry: &fstab::Entry| {
            let is_path = absolute(word).is_ok_and(|path| path == entry.target || path == entry.source);
            is_path
                || entry.target == word
                || entry.source == word
                || Tag::parse(word).is_some_and(|tag| Tag::parse(&entry.source) == Some(tag))
        };
        let entries = fstab::read(&self.context.root);
        let entry = entries.iter().find(|entry| same(entry) && entry.fstype != "swap");
        let Some(entry) = entry else {
            let path = Path::new(word);
            let hint =
                if path.is_dir() { format!("mount DEVICE {word}") } else { format!("mount {word} /mnt") };
            return Err(failure(
                exit::USAGE,
                format!("{word}: can't find in /etc/fstab; did you mean {hint}?"),
            ));
        };
        let options = self.args.options(Some(&entry.options))?;
        let types = self.args.types.as_deref().or(Some(&entry.fstype));
        self.of_two(&entry.source, &entry.target, types, &options)
    }

    fn of_two(
        &self,
        source: &str,
        target: &str,
        types: Option<&str>,
        given: &Options,
    ) -> anyhow::Result<Answer> {
        if given.remount {
            return self.remount(target, Some(source), given);
        }
        let (target, mkdir) = mount_point(target, given)?;
        let mut options = given.clone();
        // A verb looks before it touches.
        if self.context.verb && !options.rw && options.kind == Kind::New {
            options.add("ro").map_err(|error| failure(exit::USAGE, error))?;
        }
        let options = &options;
        if options.kind != Kind::New {
            let source = absolute(source).map_err(|error| failed(&target, format!("{error:#}")))?;
            let steps = mount::rebind(&source, &target, options, mkdir);
            return self.carry_out(&Storage::default(), &steps, &target);
        }
        let mut options = options.clone();
        options.data.iter_mut().for_each(resolve_beside);
        let options = &options;
        let (storage, found) = match self.look(source, &target, types, options) {
            // fstab(5): a device that is not there is passed over.
            Err(error) if options.nofail && is_absent(&error) => return Ok(Answer::exit(0)),
            other => other?,
        };
        let report;
        let (what, device) = match &found {
            Found::Device(id) => {
                let device = storage.get(id).with_context(|| format!("{source} is gone"))?;
                (Source::Device(device), Some(device))
            }
            Found::File(path) => {
                let device = storage.devices.iter().find(|device| device.block.name == *path);
                let device = device.with_context(|| format!("{path} is gone"))?;
                report = device.report().cloned().unwrap_or_default();
                (Source::File { path, report: &report, size: device.block.size }, Some(device))
            }
            Found::Word(word) => (Source::Word(word), None),
        };
        let mut request = Request {
            source: what,
            target: &target,
            types,
            options,
            window: device.and_then(|device| window(device, options)),
            mkdir,
            by: self.typed,
        };
        let known: Vec<String> =
            host::proc::filesystems(&self.context.root).into_iter().map(|(name, _)| name).collect();
        let helper = |fstype: &str| Path::new(&mount::helper(fstype)).exists();
        let memory = Some(host::proc::available_memory(&self.context.root));
        let able = Able { known: &known, helper: &helper, memory };
        let plan = mount::plan(&storage, &able, &request).map_err(|refusal| refused(&target, &refusal))?;
        if options.unknown.is_some() {
            return self.hand_over(&storage, &plan, &plan.beside(given));
        }
        let name = request.source.name();
        if self.args.dry_run {
            return Ok(Answer::text(apply::shown(&plan.steps()), 0));
        }
        let outcome = self.make(&storage, &plan, &target);
        // As mount(8) has it: what cannot be written is mounted all the same, unless -w forbids it.
        let again = match &outcome {
            Err(error) if !options.read_only() && !options.rw && is_write_protected(error) => true,
            Ok(_) | Err(_) => false,
        };
        if !again {
            outcome.map_err(|error| self.explain(&error, &storage, &plan, &request, options))?;
            self.look_at_members(&plan, &target)?;
            return self.done(&name, &target);
        }
        let mut read_only = options.clone();
        read_only.add("ro").map_err(|error| failure(exit::USAGE, error))?;
        request.options = &read_only;
        let plan = mount::plan(&storage, &able, &request).map_err(|refusal| refused(&target, &refusal))?;
        self.make(&storage, &plan, &target)
            .map_err(|error| self.explain(&error, &storage, &plan, &request, &read_only))?;
        self.look_at_members(&plan, &target)?;
        notice(self.context.name, &format!("{target}: WARNING: source write-protected, mounted read-only."));
        self.done(&name, &target)
    }

    fn done(&self, source: &str, target: &str) -> anyhow::Result<Answer> {
        let text = format!("mount: {source} mounted on {target}.\n");
        Ok(Answer::text(if self.args.verbose { text } else { String::new() }, 0))
    }

    /// The same guard and consent; then the original does what ours does not, and is told of what it does not know.
    fn hand_over(&self, storage: &Storage, plan: &Plan, more: &[String]) -> anyhow::Result<Answer> {
        if self.args.dry_run {
            return Ok(Answer::text(apply::shown(&plan.opens), 0));
        }
        let mut door = Door::open(self.context, self.typed)?;
        door.make_all(&plan.opens)?;
        door.save(&plan.mounts)?;
        door.tell();
        drop(door);
        if !plan.opens.is_empty() {
            notice(self.context.name, &format!("made writable: {}", told(storage, &plan.opens, "")));
        }
        Ok(Answer::classic(self.context.name, &handed(self.arguments, more)))
    }

    /// btrfs puts its devices together by their UUIDs, which an overlay shares with its original: a mount of both
    /// is taken back.
    fn look_at_members(&self, plan: &Plan, target: &str) -> anyhow::Result<()> {
        if plan.fstype != "btrfs" {
            return Ok(());
        }
        let facts = host::sysfs::facts(&self.context.root);
        let Some(mount) = facts.mounts.iter().rev().find(|mount| mount.target == target) else {
            return Ok(());
        };
        let names = host::sysfs::btrfs_devices(&self.context.root, &facts.blocks, &mount.source);
        let storage = Scan::begin(self.context).examine(|_| false);
        let Some((original, overlay)) = overlay::mixed(&storage, &names) else { return Ok(()) };
        let step = Step::Umount { target: target.to_string(), lazy: false, force: false };
        Door::open(self.context, self.typed)?.make(&step)?;
        Err(failed(
            target,
            format!(
                "unmounted again: btrfs took {original} beside the overlay {overlay}; rescue overlay {original}"
            ),
        ))
    }

    /// The steps of a plan, and what there is to say about it once it is done.
    fn make(&self, storage: &Storage, plan: &Plan, target: &str) -> anyhow::Result<()> {
        let mut door = Door::open(self.context, self.typed)?;
        let steps = plan.steps();
        let made = door.make_all(&steps)?;
        let status = made.iter().find_map(|made| match made {
            Made::Status(0) | Made::Done | Made::Device(_) | Made::Said(_) => None,
            Made::Status(status) => Some(*status),
        });
        if let Some(status) = status {
            let done: Vec<(Step, Made)> = steps.into_iter().zip(made).collect();
            let but_helper = |(step, _): &(Step, Made)| !matches!(step, Step::Run { .. });
            door.take_back(&done.into_iter().filter(but_helper).collect::<Vec<_>>());
            let helper = mount::helper(&plan.fstype);
            return Err(failure(status, format!("{target}: {helper} ended with status {status}")));
        }
        if !plan.opens.is_empty() {
            notice(self.context.name, &format!("made writable: {}", told(storage, &plan.opens, "")));
        }
        for text in &plan.notices {
            notice(self.context.name, &format!("{target}: {text}"));
        }
        Ok(())
    }

    /// Binds, moves and the like, which open no device.
    fn carry_out(&self, storage: &Storage, steps: &[Step], target: &str) -> anyhow::Result<Answer> {
        if self.args.dry_run {
            return Ok(Answer::text(apply::shown(steps), 0));
        }
        let plan = Plan { mounts: steps.to_vec(), ..Plan::default() };
        self.make(storage, &plan, target).map_err(|error| {
            let text = match errno(&error) {
                Some(mount::errno::INVAL) => {
                    "is not a mount point, or cannot be moved out of a shared one".to_string()
                }
                Some(mount::errno::NOENT) => "mount point or source does not exist".to_string(),
                Some(_) | None => format!("{error:#}"),
            };
            failed(target, text)
        })?;
        Ok(Answer::exit(0))
    }

    fn remount(&self, word: &str, source: Option<&str>, options: &Options) -> anyhow::Result<Answer> {
        let target = absolute(word)?;
        let mounts = host::proc::mounts(&self.context.root);
        // The last one covers those before it.
        let last = |is: &dyn Fn(&Mount) -> bool| mounts.iter().rev().find(|mount| is(mount)).cloned();
        let mount = last(&|mount| mount.target == target).or_else(|| last(&|mount| mount.source == target));
        let mount = mount.ok_or_else(|| failed(&target, "mount point not mounted or bad option."))?;
        let numbers = (mount.major, mount.minor);
        let btrfs = mount.fstype == "btrfs";
        let mut storage = Scan::begin(self.context)
            .examine_with_disks(|block| btrfs || (block.major, block.minor) == numbers);
        if !btrfs && storage.devices.iter().filter_map(Device::signature).any(is_spread) {
            storage = Scan::begin(self.context).examine(|_| true);
        }
        let plan = mount::remount(&storage, &mount, options, source.is_none(), self.typed)
            .map_err(|refusal| refused(&mount.target, &refusal))?;
        if options.unknown.is_some() {
            return self.hand_over(&storage, &plan, &[]);
        }
        if self.args.dry_run {
            return Ok(Answer::text(apply::shown(&plan.steps()), 0));
        }
        self.make(&storage, &plan, &mount.target).map_err(|error| match reason(&error) {
            Some((errno, refused)) => {
                let failed = mount::Failed {
                    errno,
                    words: &without_errno(&error.root_cause().to_string()),
                    source: &mount.source,
                    fstype: &mount.fstype,
                    read_only: options.read_only(),
                    rw: options.rw,
                    remount: true,
                    log: refused.map_or(&[], |refused| &refused.log[..]),
                };
                self.failed(&mount.target, &failed, &[], &|_| false)
            }
            None => error,
        })?;
        Ok(Answer::exit(0))
    }

    /// What the source is, with what is on it.
    fn look(
        &self,
        source: &str,
        target: &str,
        types: Option<&str>,
        options: &Options,
    ) -> anyhow::Result<(Storage, Found)> {
        let source = by_link(source).unwrap_or_else(|| source.to_string());
        if let Some((tag, value)) = Tag::parse(&source).filter(|(tag, _)| *tag != Tag::Id) {
            let storage = Scan::begin(self.context).examine(|_| true);
            let device = mount::by_tag(&storage, tag, value).map_err(|refusal| refused(target, &refusal))?;
            let id = device.id.clone();
            return Ok((storage, Found::Device(id)));
        }
        let id = Tag::parse(&source).map(|(_, name)| format!("/dev/disk/by-id/{name}"));
        let path = PathBuf::from(id.as_deref().unwrap_or(&source));
        if self.is_word(&source, types) {
            return Ok((Storage::default(), Found::Word(source)));
        }
        let mut scan = Scan::begin(self.context);
        // A file is named by its whole path, which the loop device and the ledger keep.
        let path = if path.is_file() { std::fs::canonicalize(&path).unwrap_or(path) } else { path };
        let name = match scan.resolve(&path) {
            Ok(name) => name,
            Err(_) if !path.exists() => {
                // A type with a helper may have sources of any form (fuse).
                let has_helper = types.is_some_and(|types| Path::new(&mount::helper(types)).exists());
                if has_helper {
                    return Ok((Storage::default(), Found::Word(source)));
                }
                let next = whence(&path);
                return Err(failed(
                    target,
                    format!("special device {} does not exist: {next}", path.display()),
                ));
            }
            Err(_) => return Err(failed(target, format!("{} is not a block device", path.display()))),
        };
        if let Some(wanted) = options.window.filter(|window| window.offset > 0 || window.size.is_some()) {
            let size =
                scan.facts.blocks.iter().find(|block| block.name == name).map_or(0, |block| block.size);
            let rest = size.saturating_sub(wanted.offset);
            let length = wanted.size.map_or(rest, |size| size.min(rest));
            scan = scan.with_window(&name, Extent { start: wanted.offset, length });
        }
        let storage = scan.examine_with_disks(|block| block.name == name);
        let device = storage.devices.iter().find(|device| device.block.name == name);
        let device = device.with_context(|| format!("{source} is gone"))?;
        if device.block.major == 0 && device.block.partition.is_none() {
            return Ok((storage, Found::File(name)));
        }
        let id = device.id.clone();
        if device.signature().is_some_and(is_spread) {
            return Ok((Scan::begin(self.context).examine(|_| true), Found::Device(id)));
        }
        Ok((storage, Found::Device(id)))
    }

    /// A server's path, or the mere word that a virtual file system is given.
    fn is_word(&self, source: &str, types: Option<&str>) -> bool {
        match types.filter(|types| *types != "auto") {
            Some(types) => match fstype::row(types) {
                Some(row) => row.origin != Origin::Device,
                None => host::proc::filesystems(&self.context.root)
                    .iter()
                    .any(|(name, nodev)| name == types && *nodev && !types.starts_with("fuse")),
            },
            None => mount::is_network(source) && !Path::new(source).exists(),
        }
    }

    fn explain(
        &self,
        error: &anyhow::Error,
        storage: &Storage,
        plan: &Plan,
        request: &Request<'_>,
        options: &Options,
    ) -> anyhow::Error {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure_of(failure);
        }
        let Some((errno, refused)) = reason(error) else {
            return failed(request.target, format!("{error:#}"));
        };
        // Only mount(2) has errnos with the meanings of mount(2).
        let Some(refused) = refused else { return failed(request.target, format!("{error:#}")) };
        let name = request.source.name();
        let failed = mount::Failed {
            errno,
            words: &without_errno(&refused.error.to_string()),
            source: &name,
            fstype: &plan.fstype,
            read_only: options.read_only(),
            rw: options.rw,
            remount: false,
            log: &refused.log,
        };
        let numbers = match &request.source {
            Source::Device(Device { block, .. }) => Some((block.major, block.minor)),
            Source::File { .. } | Source::Word(_) => None,
        };
        let is_same = |mount: &Mount| Some((mount.major, mount.minor)) == numbers || mount.source == name;
        self.failed(request.target, &failed, &storage.mounts, &is_same)
    }

    fn failed(
        &self,
        target: &str,
        failed: &mount::Failed<'_>,
        mounts: &[Mount],
        is_same: &dyn Fn(&Mount) -> bool,
    ) -> anyhow::Error {
        // All but the last, which is in the line: what came before it may be the cause.
        for line in failed.log.iter().rev().skip(1).take(3).rev() {
            notice("kernel", line);
        }
        self::failed(target, mount::failure(failed, mounts, is_same))
    }
}

/// The arguments of the original: first what a person did not say, so that a later word of theirs wins.
fn handed(arguments: &[OsString], more: &[String]) -> Vec<OsString> {
    let more = (!more.is_empty()).then(|| ["-o".to_string(), more.join(",")]);
    more.into_iter().flatten().map(OsString::from).chain(arguments.iter().cloned()).collect()
}

/// A log's device, as the kernel calls it: it is looked for by that among all.
fn resolve_beside(word: &mut String) {
    let names = ["jdev", "journal_path", "logdev", "rtdev"];
    if let Some((name, path)) = word.split_once('=').filter(|(name, _)| names.contains(name))
        && let Some(path) = std::fs::canonicalize(path).ok().as_deref().and_then(Path::to_str)
    {
        *word = format!("{name}={path}");
    }
}

/// A btrfs may be on several devices, and the journal of others on one of its own.
fn is_spread(found: &ondisk::Signature) -> bool {
    found.format == "btrfs" || found.journal_on.is_some()
}

fn failure_of(other: &Failure) -> anyhow::Error {
    failure(other.exit, &other.text)
}

/// The errno at the root, and what the kernel said when it was mount(2)'s.
fn reason(error: &anyhow::Error) -> Option<(i32, Option<&apply::mount::Refused>)> {
    let refused = error.downcast_ref::<apply::mount::Refused>();
    match refused {
        Some(refused) => Some((refused.error.raw_os_error()?, Some(refused))),
        None => Some((errno(error)?, None)),
    }
}

fn errno(error: &anyhow::Error) -> Option<i32> {
    error.chain().find_map(|cause| {
        let refused = cause.downcast_ref::<apply::mount::Refused>().map(|refused| &refused.error);
        refused.or(cause.downcast_ref::<std::io::Error>())?.raw_os_error()
    })
}

/// What a worker did has its errno as text.
fn is_write_protected(error: &anyhow::Error) -> bool {
    let by_drive = error.downcast_ref::<apply::guard::WriteProtected>().is_some();
    by_drive || matches!(errno(error), Some(mount::errno::ROFS | mount::errno::ACCES))
}

/// A device that is not there, as opposed to one that is and cannot be used.
fn is_absent(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Failure>()
        .is_some_and(|failure| failure.exit == exit::USAGE || failure.text.contains(": special device "))
}

/// What a window of a device holds.
fn window<'a>(device: &'a Device, options: &Options) -> Option<&'a DiskReport> {
    let wanted = options.window.filter(|window| window.offset > 0 || window.size.is_some())?;
    let sections = &device.report()?.sections;
    sections.iter().find(|(start, _)| *start == wanted.offset).map(|(_, report)| report)
}

/// The links that devd makes by what is on a device mean what the tag means: where two devices carry it, the
/// link leads to one of them.
fn by_link(path: &str) -> Option<String> {
    let plain = |name: &&str| !name.contains(['/', '\\']);
    let of =
        |directory: &str, tag: Tag| path.strip_prefix(directory).filter(plain).map(|value| tag.with(value));
    of("/dev/disk/by-uuid/", Tag::Uuid)
        .or_else(|| of("/dev/disk/by-partuuid/", Tag::PartUuid))
        .or_else(|| of("/dev/disk/by-label/", Tag::Label))
        .or_else(|| of("/dev/disk/by-partlabel/", Tag::PartLabel))
}

/// As mountinfo and fstab are read: a byte that is no text is a character of its own, in the word and in the path.
fn absolute(word: &str) -> anyhow::Result<String> {
    let path = std::fs::canonicalize(host::proc::path(word)).with_context(|| word.to_string())?;
    Ok(host::proc::shown(&path))
}

/// The directory (or file) to mount on, and whether it has to be made first.
fn mount_point(word: &str, options: &Options) -> anyhow::Result<(String, bool)> {
    let path = host::proc::path(word);
    match std::fs::symlink_metadata(&path) {
        Ok(_) => Ok((absolute(word).map_err(|error| failure(exit::FAILED, format!("{error:#}")))?, false)),
        Err(_) if options.mkdir => {
            let path = std::path::absolute(&path).with_context(|| word.to_string())?;
            Ok((host::proc::shown(&path), true))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(failed(word, "mount point does not exist: -m makes it"))
        }
        Err(error) => Err(failed(word, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    /// In a namespace that ends with its thread, since the working directory is the whole process's otherwise.
    #[test]
    fn a_mount_point_is_made_below_a_place_whose_name_is_no_text() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().join(OsStr::from_bytes(b"a\xff"));
        std::fs::create_dir(&here).unwrap();
        let options = Options::parse(["X-mount.mkdir"]).unwrap();
        std::thread::scope(|scope| {
            let all = scope.spawn(|| {
                host::sys::mount::own_namespace().unwrap();
                std::env::set_current_dir(&here).unwrap();
                let (target, is_new) = mount_point("new/one", &options).unwrap();
                apply::mount::make_directory(&target).unwrap();
                assert!(is_new && here.join("new/one").is_dir(), "{target:?}");
                assert_eq!(mount_point("new/one", &options).unwrap(), (target.clone(), false));
                // As fstab may have it.
                assert_eq!(mount_point(&target, &Options::default()).unwrap(), (target, false));
            });
            all.join().unwrap();
        });
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no other directory was made");
    }

    #[test]
    fn the_original_hears_first_what_a_plan_adds() {
        let arguments: Vec<OsString> = ["-o", "ro,X-mount.subdir=etc", "/mnt"].map(OsString::from).to_vec();
        let handed = |more: &[&str]| {
            let more: Vec<String> = more.iter().map(|word| (*word).to_string()).collect();
            handed(&arguments, &more).join(" ".as_ref())
        };
        assert_eq!(handed(&[]), "-o ro,X-mount.subdir=etc /mnt");
        let want = "-o noload,errors=remount-ro -o ro,X-mount.subdir=etc /mnt";
        assert_eq!(handed(&["noload", "errors=remount-ro"]), want);
    }
}
