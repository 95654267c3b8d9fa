//! `make serve`: everything that a broken machine needs to netboot, from a laptop on the same wire: dnsmasq for DHCP or
//! beside the network's own DHCP server, and for TFTP; busybox's httpd for what is large. Real programs, of the build's
//! own tools; here are their settings, and the scripts that iPXE is given.

use crate::build;
use crate::flavour::Flavour;
use crate::forms;
use crate::keys;
use crate::lock::Set;
use crate::manifest;
use crate::microcode;
use crate::packages::{self, Cache};
use anyhow::{Context as _, Result, bail, ensure};
use host::sys::process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What iPXE is to load first, by TFTP: its name there, and the file of Debian's package `ipxe`.
pub const LOADERS: &[&str] = &["undionly.kpxe", "ipxe.efi"];
/// iPXE's own option `no-pxedhcp` (its `include/ipxe/dhcp.h`), as dnsmasq writes it: no proxy says more, so that none is waited
/// for, which takes iPXE three seconds.
pub const NO_PROXY: &str = "encap:175,176,1b";
/// The script that every machine is given.
const SCRIPT: &str = "serve.ipxe";
/// Scripts of single machines, by MAC: `52-54-00-12-34-56.ipxe`.
const MACHINES: &str = "machines";

#[derive(clap::Args, Debug)]
pub struct Wanted {
    /// The interface on whose wire the broken machine is.
    #[arg(long)]
    pub interface: String,
    /// Lease addresses of this range, FIRST,LAST: for a wire without a DHCP server. Else only the boot is told, beside one.
    #[arg(long, value_name = "FIRST,LAST")]
    pub range: Option<String>,
    /// The port of HTTP.
    #[arg(long, default_value_t = 80)]
    pub port: u16,
    /// Who may log in: a file of one public key.
    #[arg(long)]
    pub key: Option<PathBuf>,
    /// More words for the kernel's command line.
    #[arg(long, default_value = "")]
    pub append: String,
    /// A directory of iPXE scripts of single machines, named by MAC: 52-54-00-12-34-56.ipxe, which `set params WORDS`.
    #[arg(long)]
    pub machines: Option<PathBuf>,
    /// UEFI machines start Debian's signed shim and GRUB (out-debian/netboot, of `make netboot`) instead of iPXE.
    #[arg(long)]
    pub secure_boot: bool,
}

impl Wanted {
    /// Of the range, if one is to be leased.
    fn ends(&self) -> Result<Option<(Ipv4Addr, Ipv4Addr)>> {
        let Some(range) = &self.range else { return Ok(None) };
        let ends: Vec<Ipv4Addr> = range.split(',').filter_map(|end| end.parse().ok()).collect();
        let [first, last] = ends[..] else { bail!("a range is written FIRST,LAST: {range}") };
        Ok(Some((first, last)))
    }
}

/// Where the parts come from.
pub struct Parts {
    /// `out/`.
    pub image: PathBuf,
    /// dnsmasq and busybox.
    pub tools: PathBuf,
    /// Debian's package `ipxe`.
    pub loaders: PathBuf,
}

impl Parts {
    /// Those of the cache.
    pub fn of(source: &Path, wanted: Option<Flavour>) -> Result<Parts> {
        let cache = Cache::open(source)?;
        // Beside the broken machine there may be no network, and the image is built.
        let host = packages::host(&cache, &build::guest_packages(), manifest::HOST)?;
        let host = packages::tree(&cache, &host, Set::Host)?;
        let tools = packages::wrappers(&cache, &host)?;
        Ok(Parts { image: source.join(Flavour::out(wanted)), tools, loaders: host.root.join("usr/lib/ipxe") })
    }

    /// Those of a directory that somebody filled.
    pub fn beneath(directory: &Path) -> Parts {
        let part = |name: &str| directory.join(name);
        Parts { image: part("out"), tools: part("tools"), loaders: part("ipxe") }
    }
}

/// Serves until one of its programs ends, or a person types Ctrl-C. Nothing of it is left then.
pub fn run(parts: &Parts, wanted: &Wanted) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "DHCP and TFTP have ports of root's: sudo make serve ...");
    let (address, prefix) = address(&wanted.interface, wanted.ends()?)?;
    let own = std::env::temp_dir();
    let place = place(&[&own, Path::new("/var/tmp")])?;
    let stage = tempfile::Builder::new().prefix("lifeboat-serve-").tempdir_in(place);
    let stage = stage.with_context(|| format!("make a directory in {}", place.display()))?;
    let leases = tempfile::tempdir().context("make a directory")?;
    let arguments = dnsmasq(wanted, stage.path(), &leases.path().join("leases"), address, prefix)?;
    // dnsmasq and httpd read as nobody.
    fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o755)).context("open the directory")?;
    lay(stage.path(), parts, wanted, address)?;
    let signals =
        process::signal_fd(&[Signal::INT, Signal::TERM, Signal::HUP]).context("wait for signals")?;
    let mut http = Command::new(parts.tools.join("busybox"));
    http.args(["httpd", "-f", "-u", "nobody", "-p", &format!("{address}:{}", wanted.port), "-h"])
        .arg(stage.path());
    let mut servers = vec![Server::start("busybox httpd", &mut http)?];
    servers.push(Server::start("dnsmasq", Command::new(parts.tools.join("dnsmasq")).args(arguments))?);
    let how =
        if wanted.range.is_some() { "leases, TFTP" } else { "the boot beside the network's DHCP, TFTP" };
    println!("{} ({address}): {how}, http://{address}:{}/{SCRIPT}", wanted.interface, wanted.port);
    println!("Start the broken machine from the network. Ctrl-C ends this.");
    loop {
        for Server { name, child } in &mut servers {
            if let Some(status) = child.try_wait().with_context(|| format!("wait for {name}"))? {
                bail!("{name} ended: {status}; is its port taken?");
            }
        }
        poll(&mut [PollFd::new(&signals, PollFlags::IN)], Some(&LOOK)).context("wait")?;
        if process::next_signal(&signals).is_some() {
            return Ok(());
        }
    }
}

/// The first that everybody may enter, as TMPDIR may be one of a user's own, also of root's (libpam-tmpdir).
fn place<'a>(places: &[&'a Path]) -> Result<&'a Path> {
    let is_open =
        |directory: &Path| fs::metadata(directory).is_ok_and(|is| is.permissions().mode() & 0o001 != 0);
    let all_open = |place: &Path| fs::canonicalize(place).is_ok_and(|place| place.ancestors().all(is_open));
    places.iter().copied().find(|place| all_open(place)).with_context(|| {
        let names: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        format!("the servers are nobody, who may enter none of {}: name another by TMPDIR", names.join(", "))
    })
}

/// Between two looks at the servers.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// A program that serves, and ends with this one.
pub struct Server {
    name: &'static str,
    child: Child,
}

impl Server {
    pub fn start(name: &'static str, command: &mut Command) -> Result<Server> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("start {name}"))?;
        Ok(Server { name, child })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The interface's IPv4 address, and the length of its network's prefix: that in whose network the range lies, else the first
/// that is not of the link alone.
fn address(interface: &str, range: Option<(Ipv4Addr, Ipv4Addr)>) -> Result<(Ipv4Addr, u8)> {
    let said = packages::output(Command::new("ip").args(["-4", "-o", "address", "show", "dev", interface]))
        .with_context(|| format!("ask for the address of {interface}: see ip link"))?;
    let own = read_addresses(&said);
    choose(&own, range).with_context(|| {
        format!("{interface} has no IPv4 address: ip address add 192.0.2.1/24 dev {interface}")
    })
}

fn choose(own: &[(Ipv4Addr, u8)], range: Option<(Ipv4Addr, Ipv4Addr)>) -> Option<(Ipv4Addr, u8)> {
    let holds = |(address, prefix): &&(Ipv4Addr, u8)| {
        range.is_some_and(|(first, _)| first.to_bits() & mask(*prefix) == address.to_bits() & mask(*prefix))
    };
    let wide = |(address, _): &&(Ipv4Addr, u8)| !address.is_link_local();
    own.iter().find(holds).or_else(|| own.iter().find(wide)).or(own.first()).copied()
}

/// Of a prefix of so many bits, 1 to 32.
fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// One on each line, behind the word `inet`.
fn read_addresses(said: &str) -> Vec<(Ipv4Addr, u8)> {
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        words.find(|word| *word == "inet")?;
        let (address, prefix) = words.next()?.split_once('/')?;
        Some((address.parse().ok()?, prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix))?))
    };
    said.lines().filter_map(read).collect()
}

/// One directory for TFTP and HTTP.
fn lay(stage: &Path, parts: &Parts, wanted: &Wanted, address: Ipv4Addr) -> Result<()> {
    // Not links: the servers are nobody, and may not enter a home.
    let lay = |from: &Path, name: &str| -> Result<()> {
        ensure!(
            from.exists(),
            "{} is not there: make image (for Secure Boot make netboot) comes first",
            from.display()
        );
        copy(from, &stage.join(name))
    };
    for name in ["vmlinuz", "initramfs", "boot.ipxe"] {
        lay(&parts.image.join(name), name)?;
    }
    for name in ["nucleus", "layers", "microcode.cpio"] {
        if parts.image.join(name).exists() {
            lay(&parts.image.join(name), name)?;
        }
    }
    for name in LOADERS {
        lay(&parts.loaders.join(name), name)?;
    }
    if wanted.secure_boot {
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        ensure!(Flavour::of(&read(&parts.image.join("vmlinuz"))?) == Flavour::Debian, forms::UNSIGNED);
        let netboot = parts.image.join("netboot");
        // Its own initramfs, which holds the rare firmware and what EXTRA and FULL say, also for machines that start iPXE.
        for name in ["bootx64.efi", "grubx64.efi", "grub", "initramfs"] {
            lay(&netboot.join(name), name)?;
        }
        // The nucleus, which lists the layers by their sums, tells an image from others.
        let (made, nucleus) = (read(&netboot.join("initramfs"))?, read(&parts.image.join("nucleus"))?);
        let microcode = fs::read(parts.image.join(microcode::FILE)).unwrap_or_default();
        // `make netboot MICROCODE=1` has it in front, on a boundary of four bytes.
        let behind = made.get(microcode.len().next_multiple_of(4)..).filter(|_| made.starts_with(&microcode));
        ensure!(
            made.starts_with(&nucleus) || behind.is_some_and(|behind| behind.starts_with(&nucleus)),
            "{} is of another image than {}: make netboot once more",
            netboot.display(),
            parts.image.display()
        );
        if netboot.join("lifeboat.cpio").exists() {
            lay(&netboot.join("lifeboat.cpio"), "lifeboat.cpio")?;
        }
        let config = grub_words(&format!("http://{address}:{}", wanted.port), &words(wanted)?);
        fs::write(stage.join("lifeboat.cfg"), config).context("write lifeboat.cfg")?;
    }
    if let Some(machines) = &wanted.machines {
        lay(machines, MACHINES)?;
    }
    let script = script(&format!("http://{address}:{}", wanted.port), &words(wanted)?);
    fs::write(stage.join(SCRIPT), script).context("write the script")
}

/// A file, or a directory with all below it, for everybody to read.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mode = if from.is_dir() {
        fs::create_dir(to).with_context(|| format!("create {}", to.display()))?;
        for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
            let name = entry.with_context(|| format!("list {}", from.display()))?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        0o755
    } else {
        fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
        0o644
    };
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("open {}", to.display()))
}

/// Words for the kernel's command line. Neither iPXE's shell nor GRUB's is given anything to take apart.
fn words(wanted: &Wanted) -> Result<String> {
    let mut words = wanted.append.trim().to_string();
    if let Some(path) = &wanted.key {
        let key = keys::plain(path)?.two_fields();
        words = format!("{words} ssh_key={}", key.replace(' ', ",")).trim_start().to_string();
    }
    ensure!(
        words.chars().all(|c| c == ' ' || (c.is_ascii_graphic() && !"$\"'\\`;|&".contains(c))),
        "APPEND and KEY may hold no quotes and nothing that a boot loader's shell reads: {words}"
    );
    Ok(words)
}

/// For iPXE: what all machines are given, then what this one is, then the image's own script. A script that has ended has to
/// go: it would be handed to the kernel as the first part of the initramfs, which then is none.
fn script(base: &str, words: &str) -> String {
    let own = format!("{base}/{MACHINES}/${{netX/mac:hexhyp}}.ipxe");
    format!("#!ipxe\nset params {words}\nchain --autofree {own} ||\nchain {base}/boot.ipxe\n")
}

/// For GRUB: where the layers are fetched from, and behind it what all machines are given, which may say otherwise.
fn grub_words(base: &str, words: &str) -> String {
    format!("set params=\"{}\"\n", format!("rescue.layers={base}/layers {words}").trim_end())
}

/// dnsmasq(8): no DNS, no file of settings but these words.
fn dnsmasq(
    wanted: &Wanted,
    stage: &Path,
    leases: &Path,
    address: Ipv4Addr,
    prefix: u8,
) -> Result<Vec<String>> {
    let interface = &wanted.interface;
    let mask = Ipv4Addr::from_bits(mask(prefix));
    let network = Ipv4Addr::from_bits(address.to_bits() & mask.to_bits());
    let url = format!("http://{address}:{}/{SCRIPT}", wanted.port);
    let mut arguments = vec![
        "--keep-in-foreground".to_string(),
        "--conf-file=/dev/null".into(),
        "--log-facility=-".into(),
        "--log-dhcp".into(),
        "--port=0".into(),
        format!("--interface={interface}"),
        "--bind-interfaces".into(),
        format!("--dhcp-leasefile={}", leases.display()),
        format!("--enable-tftp={interface}"),
        format!("--tftp-root={}", stage.display()),
        // iPXE's own option, so that who is iPXE already is given the script.
        "--dhcp-match=set:ipxe,175".into(),
        // UEFI's HTTP boot (UEFI specification section 24.7): it wants its vendor class back.
        "--dhcp-vendorclass=set:http,HTTPClient".into(),
        "--dhcp-option-force=tag:http,60,HTTPClient".into(),
    ];
    let uefi = if wanted.secure_boot { "bootx64.efi" } else { "ipxe.efi" };
    match wanted.ends()? {
        Some((first, last)) => {
            let range = format!("{first},{last}");
            let is_here = |end: Ipv4Addr| end.to_bits() & mask.to_bits() == network.to_bits();
            ensure!(
                first <= last && is_here(first) && is_here(last),
                "{range} is no range of {network}/{prefix}"
            );
            ensure!(
                !(first..=last).contains(&address),
                "{range} holds {address}, which is this machine's own"
            );
            arguments.extend([
                format!("--dhcp-range={first},{last},{mask},1h"),
                // Nobody else leads anywhere from this wire.
                "--dhcp-authoritative".into(),
                format!("--dhcp-option={NO_PROXY}"),
                // Architectures by RFC 4578 section 2.1 and its registry.
                "--dhcp-match=set:uefi,option:client-arch,7".into(),
                "--dhcp-match=set:uefi,option:client-arch,9".into(),
                "--dhcp-boot=tag:!ipxe,tag:!uefi,tag:!http,undionly.kpxe".into(),
                format!("--dhcp-boot=tag:!ipxe,tag:uefi,{uefi}"),
                format!("--dhcp-boot=tag:ipxe,{url}"),
                format!("--dhcp-boot=tag:http,http://{address}:{}/{uefi}", wanted.port),
            ]);
        }
        None => arguments.extend([
            format!("--dhcp-range={network},proxy,{mask}"),
            "--pxe-service=tag:!ipxe,x86PC,Lifeboat,undionly.kpxe".into(),
            format!("--pxe-service=tag:!ipxe,X86-64_EFI,Lifeboat,{uefi}"),
            format!("--pxe-service=tag:!ipxe,BC_EFI,Lifeboat,{uefi}"),
            format!("--pxe-service=tag:ipxe,x86PC,Lifeboat,{url}"),
            format!("--pxe-service=tag:ipxe,X86-64_EFI,Lifeboat,{url}"),
            format!("--pxe-service=tag:ipxe,BC_EFI,Lifeboat,{url}"),
        ]),
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::ED25519;

    fn wanted() -> Wanted {
        Wanted {
            interface: "eth0".into(),
            range: None,
            port: 80,
            key: None,
            append: String::new(),
            machines: None,
            secure_boot: false,
        }
    }

    fn words_of(wanted: &Wanted) -> Result<Vec<String>> {
        dnsmasq(wanted, Path::new("/stage"), Path::new("/leases"), Ipv4Addr::new(192, 0, 2, 1), 24)
    }

    #[test]
    fn the_address_is_that_of_the_range_else_one_that_leads_further_than_the_link() {
        let said = "2: eth0    inet 169.254.7.7/16 brd 169.254.255.255 scope link eth0\\       valid_lft forever\n\
                    2: eth0    inet nonsense\n\
                    2: eth0    inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\\       valid_lft forever\n\
                    2: eth0    inet 192.0.2.1/24 scope global secondary eth0\\       valid_lft forever\n";
        let own = read_addresses(said);
        let range = |first: &str| Some((first.parse().unwrap(), first.parse().unwrap()));
        for (range, want) in [
            (range("192.0.2.50"), "192.0.2.1"),
            (range("169.254.9.9"), "169.254.7.7"),
            (range("198.51.100.1"), "10.0.0.5"),
            (None, "10.0.0.5"),
        ] {
            assert_eq!(choose(&own, range).unwrap().0.to_string(), want, "{range:?}");
        }
        assert_eq!(choose(&own[..1], None).unwrap().0.to_string(), "169.254.7.7", "better than none");
        assert_eq!(choose(&read_addresses(""), None), None);
    }

    #[test]
    fn beside_another_server_nothing_is_leased() {
        let words = words_of(&wanted()).unwrap();
        let ranges: Vec<&String> = words.iter().filter(|word| word.starts_with("--dhcp-range")).collect();
        assert_eq!(ranges, ["--dhcp-range=192.0.2.0,proxy,255.255.255.0"]);
        assert!(!words.iter().any(|word| word == "--dhcp-authoritative"));
    }

    #[test]
    fn a_range_is_of_this_wire_and_not_this_machine() {
        let of = |range: &str| words_of(&Wanted { range: Some(range.into()), ..wanted() });
        assert!(
            of("192.0.2.50,192.0.2.99").unwrap().iter().any(|word| word.contains("192.0.2.50,192.0.2.99"))
        );
        for bad in
            ["192.0.2.1,192.0.2.9", "192.0.2.99,192.0.2.50", "198.51.100.1,198.51.100.9", "192.0.2.50", "a,b"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_firmware_is_given_what_it_can_start() {
        let words = words_of(&wanted()).unwrap().join("\n");
        assert!(words.contains("tag:!ipxe,x86PC,Lifeboat,undionly.kpxe"));
        assert!(words.contains("tag:!ipxe,X86-64_EFI,Lifeboat,ipxe.efi"));
        assert!(words.contains("tag:ipxe,x86PC,Lifeboat,http://192.0.2.1:80/serve.ipxe"));
        let words = words_of(&Wanted { secure_boot: true, ..wanted() }).unwrap().join("\n");
        assert!(words.contains("tag:!ipxe,X86-64_EFI,Lifeboat,bootx64.efi"));
    }

    #[test]
    fn the_script_asks_for_the_machines_own_first_and_is_given_no_riddles() {
        let text = script("http://192.0.2.1:80", "ssh_key=ssh-ed25519,AAAA");
        assert!(text.starts_with("#!ipxe\nset params ssh_key=ssh-ed25519,AAAA\nchain --autofree "), "{text}");
        assert!(text.find("machines/").unwrap() < text.find("boot.ipxe").unwrap());
        for bad in ["a;b", "a\nchain x", "${net0/mac}", "\"a b\""] {
            assert!(words(&Wanted { append: bad.into(), ..wanted() }).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_served_can_be_read_by_everybody() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("layers")).unwrap();
        fs::write(from.path().join("layers/a"), "a").unwrap();
        fs::set_permissions(from.path().join("layers/a"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(from.path(), fs::Permissions::from_mode(0o700)).unwrap();
        copy(from.path(), &to.path().join("all")).unwrap();
        let mode = |name: &str| fs::metadata(to.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("all"), mode("all/layers"), mode("all/layers/a")), (0o755, 0o755, 0o644));
    }

    #[test]
    fn what_is_served_lies_where_everybody_may_enter() {
        let top = tempfile::tempdir_in("/var/tmp").unwrap();
        let (own, open) = (top.path().join("own/tmp"), top.path().join("open"));
        for (directory, mode) in
            [(top.path(), 0o755), (&top.path().join("own"), 0o700), (&own, 0o777), (&open, 0o755)]
        {
            fs::create_dir_all(directory).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(place(&[&own, &open]).unwrap(), open);
        assert_eq!(place(&[&open, Path::new("/")]).unwrap(), open);
        let error = place(&[&own, &top.path().join("none")]).unwrap_err().to_string();
        assert!(error.contains("TMPDIR") && error.contains("own/tmp"), "{error}");
    }

    #[test]
    fn the_recipes_name_the_directory_of_the_layers() {
        let page = include_str!("../../docs/serve.md");
        let named: Vec<&str> = (page.split("rescue.layers=").skip(1))
            .filter_map(|rest| rest.split(|c: char| c.is_whitespace() || c == '`').next())
            .filter(|url| !url.is_empty())
            .collect();
        // `NAME.squashfs` is asked for right below it.
        let wrong: Vec<&&str> = named.iter().filter(|url| !url.ends_with("/layers")).collect();
        assert!(!named.is_empty() && wrong.is_empty(), "{wrong:?} of {named:?}");
    }

    /// What `make image` and `make netboot EXTRA=` leave.
    fn parts(directory: &Path) -> Parts {
        for name in ["out/layers", "out/netboot/grub", "ipxe"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        let files = [
            ("out/vmlinuz", "Debian's"),
            ("out/initramfs", "image, layers"),
            ("out/nucleus", "image"),
            ("out/boot.ipxe", "#!ipxe"),
            ("out/lifeboat.efi", "with a private key, of make efi EXTRA="),
            ("out/layers/30-firmware.squashfs", "firmware"),
            ("out/netboot/bootx64.efi", "shim"),
            ("out/netboot/grubx64.efi", "grub"),
            ("out/netboot/grub/grub.cfg", "config"),
            ("out/netboot/initramfs", "image, extra, layers, firmware"),
            ("ipxe/undionly.kpxe", "bios"),
            ("ipxe/ipxe.efi", "uefi"),
        ];
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        Parts::beneath(directory)
    }

    #[test]
    fn with_secure_boot_the_initramfs_of_make_netboot_is_served_and_leads_to_the_layers() {
        let directory = tempfile::tempdir().unwrap();
        let parts = parts(directory.path());
        let lay = |secure_boot| {
            let stage = tempfile::tempdir().unwrap();
            let wanted = Wanted { secure_boot, append: "quiet".into(), port: 8080, ..wanted() };
            super::lay(stage.path(), &parts, &wanted, Ipv4Addr::new(192, 0, 2, 1)).map(|()| stage)
        };
        let text =
            |stage: &tempfile::TempDir, name: &str| fs::read_to_string(stage.path().join(name)).unwrap();
        let (plain, secure) = (lay(false).unwrap(), lay(true).unwrap());
        assert_eq!(text(&plain, "initramfs"), "image, layers");
        assert_eq!(text(&secure, "initramfs"), "image, extra, layers, firmware");
        assert_eq!(
            text(&secure, "lifeboat.cfg"),
            "set params=\"rescue.layers=http://192.0.2.1:8080/layers quiet\"\n"
        );
        assert_eq!(text(&secure, "layers/30-firmware.squashfs"), "firmware");
        for stage in [&plain, &secure] {
            assert!(!stage.path().join("lifeboat.efi").exists(), "nothing here boots it");
        }
        fs::write(parts.image.join("netboot/initramfs"), "early\0\0\0image, extra, layers, firmware")
            .unwrap();
        assert!(lay(true).is_err(), "of another microcode");
        fs::write(parts.image.join(microcode::FILE), "early").unwrap();
        assert!(text(&lay(true).unwrap(), "initramfs").starts_with("early"));
        fs::write(parts.image.join("nucleus"), "a later image").unwrap();
        assert!(lay(true).unwrap_err().to_string().contains("make netboot once more"));
        assert!(lay(false).is_ok());
    }

    #[test]
    fn a_private_key_is_not_handed_out() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        fs::write(&key, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        assert!(words(&Wanted { key: Some(key.clone()), ..wanted() }).is_err());
        let of = |text: &str| {
            fs::write(&key, text).unwrap();
            words(&Wanted { key: Some(key.clone()), append: "quiet".into(), ..wanted() })
        };
        let plain = format!("quiet ssh_key={}", ED25519.replace(' ', ","));
        assert_eq!(of(&format!("{ED25519} me@here\n")).unwrap(), plain);
        // The first line is no key, the second has options.
        assert_eq!(of(&format!("# mine, since May\nno-pty {ED25519}\n{ED25519} ${{me}}\n")).unwrap(), plain);
        for bad in ["two words\n", "", &format!("command=\"a; b\" {ED25519}\n")] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
