//! The programs that a person counts on, and the terminals that they come with.

use crate::bench::{Bench, holds};
use anyhow::{Context as _, Result, ensure};
use image::manifest::PROGRAMS;

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

pub fn start(bench: &Bench) -> Result<()> {
    let vm = bench.machine()?.start(bench)?;
    let ssh = vm.login()?;
    vm.settled_after(0)?;
    // Whether a program knows --version is its own matter: ip and ssh answer 255.
    let line = format!(
        "for name in {}; do timeout 20 \"$name\" --version < /dev/null > /run/said 2>&1; \
         echo \"$name $? $(head -c 200 /run/said | tr '\\n' ' ')\"; done",
        PROGRAMS.join(" ")
    );
    let told = ssh.patience(std::time::Duration::from_secs(300)).ok(&line)?;
    for name in PROGRAMS {
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
    bench.check("vi is vim, and the classic tools' originals are kept", || {
        holds(&ssh.ok("vi --version | head -n 1")?, &["VIM"])?;
        holds(&ssh.ok("/usr/libexec/classic/fdisk --version")?, &["util-linux"])
    });
    Ok(())
}
