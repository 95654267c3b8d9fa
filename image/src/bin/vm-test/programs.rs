//! The programs that a person counts on, and the terminals that they come with.

use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use image::cpio::Archive;
use image::manifest::{EXTRAS, PROGRAMS};
use image::vm::ssh::Ssh;
use std::fs;

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

/// The layers that are not in the image, appended to it as an operator would.
pub fn extras(bench: &Bench) -> Result<()> {
    let whole = bench.path("initramfs");
    let mut bytes = fs::read(bench.image.join("initramfs")).context("read the initramfs")?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let mut archive = Archive::new(bytes);
    let names = EXTRAS.iter().map(|extra| extra.name).chain(["30-firmware"]);
    for name in names {
        let layer = bench.image.join(format!("layers/{name}.squashfs"));
        let content = fs::read(&layer).with_context(|| format!("read {}", layer.display()))?;
        archive.file(&format!("layers/{name}.squashfs"), 0o444, &content).context("append a layer")?;
    }
    fs::write(&whole, archive.finish().context("end the archive")?).context("write the initramfs")?;
    let vm = bench.machine()?.initrd(&whole).start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    for extra in EXTRAS {
        each_starts(bench, &ssh, extra.programs)?;
    }
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
