//! A running machine. QEMU ends with whoever started it, whatever happens to the tester.

use super::disks::{Bus, Disk};
use super::events::Events;
use super::lab::Lab;
use super::machine::{Machine, Serial};
use super::programs;
use super::qmp::Qmp;
use super::ssh::Ssh;
use super::transcript::Transcript;
use anyhow::{Context as _, Result, bail, ensure};
use contract::event::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// From QEMU's start to a service that answers. An idle machine needs a tenth; two busy cores that
/// emulate two others need their time.
pub const BOOT: Duration = Duration::from_secs(180);
/// For what a running machine does at once.
pub const SOON: Duration = Duration::from_secs(60);

pub struct Vm<'lab> {
    lab: &'lab Lab,
    machine: Machine,
    child: Child,
    pidfd: OwnedFd,
    pub console: Transcript,
    keyboard: Option<UnixStream>,
    pub events: Events,
    pub qmp: Qmp,
    /// What is typed on the second serial line, where the machine has no events.
    second: UnixStream,
    /// Ports on loopback that lead to port 22 of the guest, one per NIC in a network of its own.
    pub ports: Vec<u16>,
    errors: PathBuf,
    /// Sockets, and the pipe that nobody reads.
    _sockets: tempfile::TempDir,
    _unread: Option<OwnedFd>,
    plugged: usize,
}

impl<'lab> Vm<'lab> {
    pub(super) fn start(machine: Machine, lab: &'lab Lab) -> Result<Vm<'lab>> {
        // Sockets have a short path; the lab's need not be one.
        let sockets = tempfile::Builder::new().prefix("lifeboat-").tempdir().context("make a directory")?;
        let place = |name: &str| sockets.path().join(name);
        let errors = lab.path("qemu.log");
        // PR_SET_PDEATHSIG survives exec: no machine outlives the thread that made it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(programs::qemu()?);
        command.args(machine.arguments(programs::qemu_major()?));

        let listen = |name| UnixListener::bind(place(name)).with_context(|| format!("listen on {name}"));
        let socket = |id: &str| format!("socket,id={id},path={}", place(id).display());
        let (monitor, events) = (listen("qmp")?, listen("events")?);
        let (console, unread) = match machine.serial {
            Serial::Read => {
                command.args(["-chardev", &socket("console")]);
                (Some(listen("console")?), None)
            }
            Serial::Unread => {
                command.args(["-chardev", &format!("pipe,id=console,path={}", place("pipe").display())]);
                (None, Some(full_pipe(&place("pipe"))?))
            }
        };
        command.args([
            "-serial",
            "chardev:console",
            "-chardev",
            &socket("events"),
            "-serial",
            "chardev:events",
        ]);
        command.args(["-chardev", &socket("qmp"), "-mon", "chardev=qmp,mode=control"]);
        let log = File::create(&errors).with_context(|| format!("create {}", errors.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share the log")?).stderr(log);

        let mut child = command.spawn().context("run setpriv of util-linux")?;
        let connected = connect(&mut child, console, &events, &monitor);
        let (pidfd, keyboard, events, monitor) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                // It may have ended by itself, which is what the error says then.
                child.kill().ok();
                child.wait().ok();
                let said = std::fs::read_to_string(&errors).unwrap_or_default();
                return Err(error.context(format!("start QEMU: {said}\n{}", machine.paste())));
            }
        };
        let console = match &keyboard {
            Some(stream) => Transcript::follow(stream.try_clone().context("share the console")?),
            None => Transcript::default(),
        };
        let mut vm = Vm {
            lab,
            machine,
            child,
            pidfd,
            console,
            keyboard,
            second: events.try_clone().context("share the second line")?,
            events: Events { line: Transcript::follow(events) },
            qmp: Qmp::new(monitor)?,
            ports: Vec::new(),
            errors,
            _sockets: sockets,
            _unread: unread,
            plugged: 0,
        };
        let networks = vm.qmp.human("info usernet")?;
        vm.ports = forwards(&networks);
        ensure!(vm.ports.len() == vm.machine.forwards(), "find the forwarded ports in: {networks}");
        Ok(vm)
    }

    /// Wait until a login is possible over the first NIC, and return the way in: the stock client
    /// that trusts the console's `known_hosts` line and nothing else.
    pub fn login(&self) -> Result<Ssh> {
        self.login_after(0, 0)
    }

    /// The same for a boot whose events come after `events`, and whose console text after `console`.
    pub fn login_after(&self, events: usize, console: usize) -> Result<Ssh> {
        self.events.ready("sshd", events, BOOT)?;
        self.addresses_after(events, 1)?;
        let known = self.known_hosts(console)?;
        self.ssh(0, &known)
    }

    /// Addresses that netd announced, once there are so many.
    pub fn addresses(&self, count: usize) -> Result<Vec<String>> {
        self.addresses_after(0, count)
    }

    fn addresses_after(&self, mark: usize, count: usize) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        self.events.wait(&format!("the event of {count} IPv4 address(es)"), mark, BOOT, |event| {
            if let Event::Address { address, .. } = event {
                let plain = address.split('/').next().unwrap_or(address).to_string();
                if plain.contains('.') && !seen.contains(&plain) {
                    seen.push(plain);
                }
            }
            (seen.len() >= count).then(|| seen.clone())
        })
    }

    /// What the console shows to be put into `known_hosts` under the stable alias, unedited.
    pub fn known_hosts(&self, mark: usize) -> Result<String> {
        self.console.wait("a known_hosts line for lifeboat-SERIAL on the console", mark, BOOT, |text| {
            let whole = &text[..text.rfind('\n')?];
            let line =
                whole.lines().find(|line| line.contains("lifeboat-") && line.contains(" ssh-ed25519 "))?;
            Some(line[line.find("lifeboat-")?..].trim_end().to_string())
        })
    }

    /// Wait for a warning on the console (a line that begins with `!`) that holds each of these.
    pub fn warning(&self, parts: &[&str]) -> Result<()> {
        let fits =
            |line: &&str| line.trim_start().starts_with('!') && parts.iter().all(|part| line.contains(part));
        self.console.wait(&format!("a warning of {parts:?} on the console"), 0, SOON, |text| {
            text[..text.rfind('\n')?].lines().find(fits).map(drop)
        })
    }

    /// The host key's line from the machine's events, where nobody reads the console.
    pub fn known_hosts_event(&self) -> Result<String> {
        self.events.wait("the event of the host key", 0, BOOT, |event| match event {
            Event::HostKey { line, alias, .. } => Some(format!("{alias} {line}")),
            _ => None,
        })
    }

    /// Wait until the whole userland is there, and what was plugged in at power-on is handled.
    pub fn settled_after(&self, mark: usize) -> Result<()> {
        self.events.ready("layers", mark, BOOT)?;
        self.events.wait("the event that devices are settled", mark, BOOT, |event| {
            matches!(event, Event::Settled { .. }).then_some(())
        })
    }

    /// The stock client towards one NIC, with this `known_hosts` line.
    pub fn ssh(&self, nic: usize, known_hosts: &str) -> Result<Ssh> {
        let port = *self.ports.get(nic).with_context(|| format!("find NIC {nic}"))?;
        Ssh::new(self.lab, port, known_hosts)
    }

    /// Type on the console.
    pub fn type_line(&mut self, text: &str) -> Result<()> {
        let keyboard = self.keyboard.as_mut().context("type on a console that nobody reads")?;
        keyboard.write_all(format!("{text}\n").as_bytes()).context("type on the console")
    }

    pub(super) fn lab(&self) -> &'lab Lab {
        self.lab
    }

    /// Write to the second serial line.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        self.second.write_all(text.as_bytes()).context("write to the second serial line")
    }

    /// Plug a disk in, into the SCSI controller or a free PCI slot.
    pub fn plug(&mut self, disk: &Disk) -> Result<()> {
        let slot = match disk.bus {
            Bus::VirtioBlk | Bus::Nvme => Some(self.free_slot()?),
            Bus::VirtioScsi | Bus::Ahci | Bus::Usb | Bus::Uas | Bus::Scsi(_) | Bus::Sd | Bus::Cd => None,
        };
        if disk.throttled {
            let group = json!({ "qom-type": "throttle-group", "id": disk.throttle_group() });
            self.qmp.execute("object-add", group)?;
        }
        for node in disk.nodes() {
            self.qmp.execute("blockdev-add", node)?;
        }
        self.qmp.execute("device_add", disk.device(0, slot.as_deref()))?;
        Ok(())
    }

    /// Pull a disk out and let go of its file.
    pub fn unplug(&mut self, disk: &Disk) -> Result<()> {
        let (mark, id) = (self.qmp.mark(), format!("{}-disk", disk.serial));
        self.qmp.execute("device_del", json!({ "id": id }))?;
        self.qmp.wait(&format!("{id} unplugged"), mark, SOON, |value| {
            value["event"] == "DEVICE_DELETED" && value["data"]["device"] == id.as_str()
        })?;
        for node in disk.nodes().iter().rev() {
            self.qmp.execute("blockdev-del", json!({ "node-name": node["node-name"] }))?;
        }
        Ok(())
    }

    /// Limit a throttled disk to so many requests a second; `None` sets it free.
    pub fn throttle(&mut self, disk: &Disk, requests: Option<u64>) -> Result<()> {
        let limits = json!({ "iops-total": requests.unwrap_or(0) });
        let path = format!("/objects/{}", disk.throttle_group());
        self.qmp.execute("qom-set", json!({ "path": path, "property": "limits", "value": limits }))?;
        Ok(())
    }

    /// A throttled disk answers one more request, and then none within the hour.
    pub fn stall(&mut self, disk: &Disk) -> Result<()> {
        let path = format!("/objects/{}", disk.throttle_group());
        let limits = json!({ "bps-total": 1 });
        self.qmp.execute("qom-set", json!({ "path": path, "property": "limits", "value": limits }))?;
        Ok(())
    }

    /// The cable of one NIC.
    pub fn link(&mut self, nic: usize, up: bool) -> Result<()> {
        self.qmp.execute("set_link", json!({ "name": format!("nic{nic}"), "up": up }))?;
        Ok(())
    }

    /// Plug in one more virtio NIC, on a network of its own.
    pub fn plug_nic(&mut self, network: &str) -> Result<()> {
        let slot = self.free_slot()?;
        let net = json!({ "type": "user", "id": "plugged", "net": format!("{network}.0/24") });
        self.qmp.execute("netdev_add", net)?;
        let device = json!({
            "driver": "virtio-net-pci", "id": "plugged-nic", "netdev": "plugged", "bus": slot,
            "mac": "52:54:00:12:34:f0", "romfile": "",
        });
        self.qmp.execute("device_add", device)?;
        Ok(())
    }

    fn free_slot(&mut self) -> Result<String> {
        ensure!(self.plugged < self.machine.slots, "the machine was given no free slot");
        self.plugged += 1;
        Ok(format!("slot{}", self.plugged - 1))
    }

    /// A key of the keyboard, by QEMU's name for it.
    pub fn press(&mut self, key: &str) -> Result<()> {
        self.qmp.human(&format!("sendkey {key}")).map(drop)
    }

    /// The power button.
    pub fn press_power(&mut self) -> Result<()> {
        self.qmp.execute("system_powerdown", json!({}))?;
        Ok(())
    }

    /// Wait until the machine is off, and so its disks are settled on the host.
    pub fn wait_off(&mut self) -> Result<()> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&timespec(SOON * 2))).context("wait for QEMU")?;
        ensure!(ready > 0, "see the machine off within {} s", (SOON * 2).as_secs());
        let status = self.child.wait().context("wait for QEMU")?;
        ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }

    /// Pull the plug.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill().context("kill QEMU")?;
        self.child.wait().context("wait for QEMU")
    }

    /// Processor time that the machine has used so far (proc_pid_stat(5), in ticks of 1/100 s).
    pub fn cpu(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // The name in brackets may hold blanks; the fields after it begin with the third.
        let ticks = text.rsplit(')').next().and_then(|rest| {
            let mut fields = rest.split_whitespace().skip(11);
            let mut next = || fields.next()?.parse::<u64>().ok();
            Some(next()? + next()?)
        });
        Ok(Duration::from_millis(ticks.with_context(|| format!("read {text:?}"))? * 10))
    }

    fn describe(&self) -> String {
        let events = self.events.line.tail(30);
        let said = std::fs::read_to_string(&self.errors).unwrap_or_default();
        format!(
            "--- console of {}, last lines\n{}\n--- events, last lines\n{events}\n--- QEMU\n{said}\n{}\n",
            self.machine.name,
            self.console.tail(40),
            self.machine.paste(),
        )
    }
}

impl Drop for Vm<'_> {
    fn drop(&mut self) {
        self.lab.report(self.describe());
        // Both fail only where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

type Connected = (OwnedFd, Option<UnixStream>, UnixStream, UnixStream);

/// QEMU opens its sockets in the order of its arguments, unless it has something to complain about.
fn connect(
    child: &mut Child,
    console: Option<UnixListener>,
    events: &UnixListener,
    monitor: &UnixListener,
) -> Result<Connected> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("read QEMU's process id")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("watch QEMU")?;
    let keyboard = console.map(|listener| accept(&pidfd, &listener)).transpose()?;
    let events = accept(&pidfd, events)?;
    let monitor = accept(&pidfd, monitor)?;
    Ok((pidfd, keyboard, events, monitor))
}

fn accept(pidfd: &OwnedFd, listener: &UnixListener) -> Result<UnixStream> {
    let mut fds =
        [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&timespec(SOON))).context("wait for QEMU")?;
    if !fds[0].revents().contains(PollFlags::IN) {
        bail!("QEMU opened none of its lines");
    }
    Ok(listener.accept().context("accept QEMU's line")?.0)
}

/// A pipe of one page that is held open and never read.
fn full_pipe(path: &Path) -> Result<OwnedFd> {
    let name = || format!("make the pipe {}", path.display());
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .with_context(name)?;
    let pipe = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).with_context(name)?;
    rustix::pipe::fcntl_setpipe_size(&pipe, 4096).with_context(name)?;
    Ok(pipe)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}

/// Host ports of `info usernet`, in the order of the networks' ids.
fn forwards(text: &str) -> Vec<u16> {
    let mut network = "";
    let mut found: Vec<(&str, u16)> = Vec::new();
    for line in text.lines() {
        if let Some(start) = line.find('(').filter(|_| line.contains("Hub")) {
            network = line[start + 1..].trim_end_matches([')', ':']);
        }
        let mut words = line.split_whitespace();
        if words.next() == Some("TCP[HOST_FORWARD]")
            && let Some(port) = words.nth(2).and_then(|word| word.parse().ok())
        {
            found.push((network, port));
        }
    }
    found.sort();
    found.into_iter().map(|(_, port)| port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_ports_come_in_the_order_of_the_nics() {
        let text = "Hub -1 (net1):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
            TCP[HOST_FORWARD]   3       127.0.0.1 43957       10.0.3.15    22     0     0\n\
            Hub -1 (net0):\n  TCP[HOST_FORWARD]   4       127.0.0.1 40001       10.0.2.15    22     0     0\n";
        assert_eq!(forwards(text), [40001, 43957]);
    }
}
