//! The programs that a person counts on, and the terminals that they come with.

use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use contract::event::Event;
use image::forms::{Form, Parts};
use image::manifest::{EXTRAS, PROGRAMS};
use image::vm::ssh::Ssh;
use image::vm::{programs, qemu};

/// Terminals of today, and the lines of BMCs, as they call themselves.
const TERMINALS: &[&str] = &[
    "alacritty",
    "foot",
    "konsole-256color",
    "linux",
    "rxvt-unicode-256color",
    "screen-256color",
    "st-256color",
    "tmux-256color",
    "vt100",
    "vt220",
    "wezterm",
    "xterm",
    "xterm-256color",
    "xterm-ghostty",
    "xterm-kitty",
];

/// 124: it hangs; 126 and 127: it is not there, no program, or one of its libraries is missing; from 128 on: it
/// was killed by a signal, of which there are 64.
const DID_NOT_START: std::ops::RangeInclusive<u32> = 124..=128 + 64;

/// Each program starts; whether it knows --version is its own matter: ip and ssh answer 255.
fn each_starts(bench: &Bench, ssh: &Ssh, programs: &[&str]) -> Result<()> {
    let line = format!(
        "for name in {}; do timeout 20 \"$name\" --version < /dev/null > /run/said 2>&1; \
         echo \"$name $? $(head -c 200 /run/said | tr '\\n' ' ')\"; done",
        programs.join(" ")
    );
    let told = ssh.patience(std::time::Duration::from_secs(300)).ok(&line)?;
    for name in programs {
        bench.check(&format!("{name} is there and starts"), || {
            let said = told
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .context("find its line")?;
            let status: u32 =
                said.split(' ').next().unwrap_or_default().parse().with_context(|| said.to_string())?;
            ensure!(!DID_NOT_START.contains(&status), "see it start: status {said}");
            Ok(())
        });
    }
    Ok(())
}

/// MiB with which the image of `make full` boots and has every layer: docs/boot.md says so.
const FULL: u32 = 512;

/// One call of each extra's, which does something: (layer, line of the shell, part of what it says).
const CALLS: &[(&str, &str, &str)] = &[
    ("50-archives", "cd /tmp && echo text > member && 7z a -bd x.7z member && bsdtar -tf x.7z", "member"),
    (
        "50-clamav",
        "cd /tmp && printf 'malware' > bad && echo \"$(md5sum < bad | cut -c-32):7:Test\" > own.hdb; clamscan -d own.hdb bad",
        "Test.UNOFFICIAL FOUND",
    ),
    (
        "50-clone",
        "cd /tmp && qemu-img create -q -f qcow2 x.qcow2 1G && modprobe nbd && qemu-nbd -c /dev/nbd0 x.qcow2 && \
         blockdev --getsize64 /dev/nbd0 && qemu-nbd -d /dev/nbd0 && qemu-img info x.qcow2",
        "1073741824",
    ),
    ("50-debug", "strace -e trace=write echo traced 2>&1", "write(1, \"traced"),
    ("50-editors", "echo '1 2' | gawk '{ print $1 + $2 }' && vim --version", "IMproved"),
    (
        "50-gpg",
        // One after the other: two that start at once both make the directory of keys, and one gives up.
        "cd /tmp && echo secret > told && gpg --batch --passphrase x --pinentry-mode loopback --symmetric told && \
         gpg --batch --passphrase x --pinentry-mode loopback -d told.gpg",
        "secret",
    ),
    ("50-ipmi", "ipmitool mc info", "Device ID"),
    ("50-load", "memtester 1M 1 && stress-ng --cpu 1 --timeout 2s 2>&1", "passed: 1: cpu"),
    ("50-network", "dig +time=1 +tries=1 @127.0.0.1 x | head -3; iperf3 --version", "iperf 3"),
    ("50-recovery", "testdisk /version", "TestDisk"),
];

/// The image of `make full`: every layer inside.
pub fn extras(bench: &Bench) -> Result<()> {
    let whole = Form::Full.make(&Parts::of(&programs::source(), &bench.image, None)?, &bench.path(""))?;
    let mut machine = bench.machine()?.initrd(&whole).append("rootfstype=ramfs").memory(FULL);
    // A BMC, which no device asks /dev/ipmi0 for, and a watchdog.
    machine.more.extend(
        "-device ipmi-bmc-sim,id=bmc -device isa-ipmi-kcs,bmc=bmc -device i6300esb"
            .split(' ')
            .map(String::from),
    );
    let vm = machine.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    bench.check(&format!("the full image boots in {FULL} MiB, with every layer"), || {
        let list = ssh.ok("rescue add")?;
        ensure!(!list.contains("not loaded"), "see each loaded: {list}");
        Ok(())
    });
    for extra in EXTRAS {
        each_starts(bench, &ssh, extra.programs)?;
        bench.check(&format!("a call of the layer {} does what it should", extra.name), || {
            let (_, line, said) =
                CALLS.iter().find(|(layer, ..)| *layer == extra.name).context("find a call of the layer")?;
            holds(&ssh.run(line)?.stdout, &[said])
        });
    }
    bench.check(
        "freshclam has the settings to fetch what clamscan goes by, and says what is in the way",
        || {
            let answer = ssh.run("freshclam --config-file=/etc/clamav/freshclam.conf 2>&1")?;
            ensure!(answer.status != 0, "fetch nothing without a network: {answer:?}");
            holds(&answer.stdout, &["database.clamav.net"])
        },
    );
    bench.check("a watchdog is there for a person, and nothing arms it", || {
        let seen = ssh.ok("cd /sys/class/watchdog/watchdog0 && cat identity state")?;
        ensure!(seen == "i6300ESB timer\ninactive\n", "see it: {seen}");
        Ok(())
    });
    bench.check("firmware of the layer of its own is where the kernel looks", || {
        ssh.ok("test -s /usr/lib/firmware/ql2500_fw.bin && test -s /usr/lib/firmware/phanfw.bin").map(drop)
    });
    Ok(())
}

pub fn start(bench: &Bench) -> Result<()> {
    let vm = bench.machine()?.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    each_starts(bench, &ssh, PROGRAMS)?;
    bench.check("tcpdump, which `rescue net` names, shows a packet", || {
        let line = "timeout 60 tcpdump -nli lo -c 1 udp port 9 > /run/seen 2>&1 & while kill -0 $! 2> /dev/null; do \
                    echo x > /dev/udp/127.0.0.1/9; sleep 0.1; done; cat /run/seen";
        holds(&ssh.ok(line)?, &["127.0.0.1.9: UDP, length 2"])
    });
    bench.check("showmount knows the protocols that it asks by", || {
        let said = ssh.run("timeout 60 showmount -e 127.0.0.1 2>&1")?.stdout;
        ensure!(!said.contains("Unknown protocol"), "hear no answer from a server: {said}");
        holds(&said, &["RPC"])
    });
    bench.check("today's terminals are described", || {
        for name in TERMINALS {
            ssh.ok(&format!("infocmp {name}"))?;
        }
        Ok(())
    });
    bench.check("a terminal that nobody described is taken for xterm-256color", || {
        let answer = ssh.ok("TERM=of-tomorrow bash -lc 'echo $TERM'")?;
        holds(&answer, &["xterm-256color"])
    });
    bench.check("completion is at hand", || {
        ssh.ok("bash -ic 'complete -p cd; type _comp_load || type __load_completion' 2> /dev/null").map(drop)
    });
    bench.check("firmware of widespread NICs is where the kernel looks", || {
        ssh.ok("test -s /usr/lib/firmware/bnx2/bnx2-mips-09-6.2.1b.fw.xz && test -s /usr/lib/firmware/intel/ice/ddp/ice.pkg.xz")
            .map(drop)
    });
    bench.check("firmware of every other wired NIC is there with the image alone", || {
        ssh.ok(
            "cd /usr/lib/firmware && test ! -e ql2500_fw.bin && test -s phanfw.bin && test -s ct2fw-3.2.5.1.bin && \
             test -s cxgb4/t6fw.bin && test -s liquidio/lio_210nv_nic.bin && test -s netronome/nic_AMDA0081-0001_4x10.nffw && \
             test -s myri10ge_eth_z8e.dat",
        )
        .map(drop)
    });
    bench.check("a file that a driver asked for in vain is named, with the layer that has it where one has", || {
        // In the kernel's own words: QEMU has no card that asks for one.
        let mark = vm.events.mark();
        ssh.ok("echo 'nfp 0000:00:1e.0: Direct firmware load for of-nobody.nffw failed with error -2' > /dev/kmsg\n\
                echo 'qla2xxx 0000:00:1f.0: firmware: failed to load ql2500_fw.bin (-2)' > /dev/kmsg")?;
        vm.events.wait("the notice of the file", mark, qemu::BOOT, |event| match event {
            Event::Notice { text, .. } if text.contains("ql2500_fw.bin") => Some(()),
            _ => None,
        })?;
        holds(
            &ssh.run("rescue status")?.stdout,
            &[
                "of-nobody.nffw, which is not here: no layer has it",
                "ql2500_fw.bin, which is not here: rescue add 30-firmware, modprobe -r qla2xxx",
            ],
        )
    });
    bench.check("what is in a layer that is not loaded is named with what loads it", || {
        let answer = ssh.run("bash -ic 'vim /etc/fstab'")?;
        ensure!(answer.status == 127, "see no vim: {answer:?}");
        holds(&answer.stderr, &["vim is in the layer 50-editors, which is not here: rescue add 50-editors"])
    });
    bench.check("the classic tools' originals are kept", || {
        holds(&ssh.ok("/usr/libexec/classic/fdisk --version")?, &["util-linux"])
    });
    Ok(())
}
