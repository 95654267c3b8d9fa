//! A network of the run's own, in which machines boot by PXE as a hoster's do: a gateway that answers routers'
//! solicitations, dnsmasq with a reserved address for the machine and TFTP, and no wait for a proxy that nobody runs.

use anyhow::{Context as _, Result, ensure};
use image::serve::{NO_PROXY, Server};
use image::vm::machine::Nic;
use image::vm::programs;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

/// The machine's address, whose port 22 nothing forwards.
pub const MACHINE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The server's.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const TAP: &str = "bench0";
/// iPXE's script, on the TFTP server.
pub const SCRIPT: &str = "start.ipxe";

/// From here on the thread, the threads that it starts and their children are in a network of their own, with one cable.
pub fn enter() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a network of the run's own is made by root: in a clone of root's, make bench PXE=1"
    );
    // SAFETY: no descriptor is shared otherwise than before; of NEWNET alone nothing that Rust relies on changes.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
        .context("make a network namespace")?;
    for line in [
        "link set lo up".to_string(),
        format!("tuntap add dev {TAP} mode tap"),
        format!("address add {GATEWAY}/24 dev {TAP}"),
        format!("address add fd00:2::2/64 dev {TAP} nodad"),
        format!("link set {TAP} up"),
        // Who is there is not to be asked once a second.
        format!("neighbor add {MACHINE} lladdr {} dev {TAP} nud permanent", nic().mac(0)),
    ] {
        let status = Command::new("ip").args(line.split(' ')).status().context("run ip of iproute2")?;
        ensure!(status.success(), "ip {line}: {status}");
    }
    Ok(())
}

/// The machine's end of the cable.
pub fn nic() -> Nic {
    Nic::tap(TAP)
}

/// dnsmasq(8) with the files of `directory`, until it is dropped.
pub fn serve(directory: &Path) -> Result<Server> {
    // The lease of a machine before this one, whose client identifier was another, is forgotten.
    let leases = directory.join("leases");
    let log = fs::File::create(directory.join("dnsmasq.log")).context("create a log")?;
    let mac = nic().mac(0);
    let steady = ["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--log-dhcp"];
    let mut dnsmasq = programs::debian(&programs::tools_root()?, "usr/sbin/dnsmasq", steady);
    dnsmasq
        // The cache may be root's alone.
        .args(["--user=root", "--port=0", "--bind-interfaces", "--dhcp-authoritative"])
        .arg(format!("--interface={TAP}"))
        .arg(format!("--dhcp-leasefile={}", leases.display()))
        .args(["--enable-tftp", &format!("--tftp-root={}", directory.display())])
        .arg(format!("--dhcp-range={GATEWAY},static,255.255.255.0"))
        .arg(format!("--dhcp-host={mac},{MACHINE}"))
        .arg(format!("--dhcp-boot={SCRIPT}"))
        .arg(format!("--dhcp-option={NO_PROXY}"))
        .args(["--enable-ra", "--dhcp-range=fd00:2::,ra-stateless"])
        .stdout(Stdio::null())
        .stderr(log);
    Server::start("dnsmasq", &mut dnsmasq)
}
