//! `image`: builds the image and keeps its packages. The Makefile is the way in.

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use image::flavour::Flavour;
use image::forms::Form;
use image::vm::person;
use image::{
    build, custom, forms, hardware, home, identity, lock, manifest, packages, params, raise, sbom, serve,
    sign, sizes, sums,
};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Build the image of Lifeboat; variable: KERNEL, custom or debian (docs/kernel.md)")]
struct Arguments {
    /// The project's root.
    #[arg(long, default_value = ".")]
    source: PathBuf,
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Move image/packages.lock, image/kernel.lock and image/bench.lock to what the archive has now.
    Lock,
    /// Fetch the locked packages and make the host's programs: prints their directory.
    Tools,
    /// Build out/vmlinuz, out/initramfs, out/boot.ipxe and out/SHA256SUMS.
    Build,
    /// Build the custom kernel, if the cache has it not: prints its directory. Variable: KERNEL_ROOT.
    Kernel {
        /// Build nothing: prints `custom` where the cache has it, and else `debian`, which an image takes without it.
        #[arg(long)]
        kept: bool,
    },
    /// Write out/lifeboat.spdx.json: what the image is made of, with licences and sources.
    Sbom,
    /// Serve the built image to machines that boot from the network, with dnsmasq and an HTTP server; becomes root for it.
    Serve {
        #[command(flatten)]
        wanted: serve::Wanted,
        /// A directory with `out`, `tools` and `ipxe`, where there is no cache of packages.
        #[arg(long, hide = true)]
        parts: Option<PathBuf>,
    },
    /// Sign what out/ and out-debian/ have in SHA256SUMS with keys of one's own: prints how it is verified.
    Sign(sign::Wanted),
    /// Write docs/hardware.md, as it is from the locked packages.
    Hardware,
    /// Print what the built image weighs, as rows of docs/benchmarks.md.
    Sizes,
    /// Make other forms of the built image in out/. Variables: EXTRA, an archive of one's own inside; FULL, with every
    /// layer; MICROCODE, 1 or 0, with the CPU's or without.
    Forms {
        forms: Vec<Form>,
        /// Sign the EFI program for Secure Boot with this certificate, in PEM.
        #[arg(long, requires = "certificate_key")]
        certificate: Option<PathBuf>,
        /// Its private key, in PEM.
        #[arg(long, requires = "certificate")]
        certificate_key: Option<PathBuf>,
    },
    /// Boot the built image in QEMU with the console on this terminal. Variables: DISKS, SSH_PORT, SSH_KEY,
    /// APPEND, MEM, QEMU_ACCEL, QEMU, BOOT.
    Run,
    /// Make a host key for a rescue that is to boot: prints its known_hosts line, writes the archive that
    /// goes between nucleus and layers.
    Identity(identity::Wanted),
    /// Print the words of a boot for what a person knows, checked by what reads them at the boot.
    Params(params::Wanted),
}

fn main() -> ExitCode {
    let arguments = std::env::args_os().take(1).chain(home::arguments());
    run(Arguments::parse_from(arguments)).unwrap_or_else(|error| {
        eprintln!("image: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let source = std::fs::canonicalize(arguments.source)?;
    let wanted_kernel = Flavour::read(std::env::var("KERNEL").ok().as_deref())?;
    let out = source.join(Flavour::out(wanted_kernel));
    match arguments.command {
        What::Lock => {
            let cache = packages::Cache::open(&source)?;
            let locked = packages::relock(
                &cache,
                &build::guest_packages(),
                manifest::HOST,
                manifest::HOST_ALONE,
                manifest::SOURCES,
            )?;
            std::fs::write(source.join("image/packages.lock"), lock::format(&locked))?;
            println!("image/packages.lock: {} packages", locked.len());
            let kernel = packages::relock(&cache, &[], manifest::KERNEL, &[], &[])?;
            std::fs::write(source.join(custom::LOCK), lock::format(&kernel))?;
            println!("{}: {} packages", custom::LOCK, kernel.len());
            let bench = packages::relock(&cache, &[], &[], manifest::BENCH, &[])?;
            std::fs::write(source.join(manifest::BENCH_LOCK), lock::format(&bench))?;
            println!("{}: {} packages", manifest::BENCH_LOCK, bench.len());
            custom::in_step(&locked, &kernel)?;
        }
        What::Tools => {
            let cache = packages::Cache::open(&source)?;
            let (locked, _) = packages::locked_or_current(&cache, &build::guest_packages(), manifest::HOST)?;
            packages::sources(&cache)?;
            let tree = packages::tree(&cache, &locked, lock::Set::Host)?;
            println!("{}", packages::wrappers(&cache, &tree)?.display());
        }
        What::Identity(wanted) => {
            let line = identity::make(&wanted)?;
            println!("{line}");
            eprintln!(
                "put it between nucleus and layers: (cat out/nucleus {}; tail -c +$(($(wc -c < out/nucleus) + 1)) out/initramfs) > initramfs",
                wanted.output.display()
            );
        }
        What::Params(wanted) => println!("{}", params::make(&wanted)?),
        What::Build => {
            let built = build::build(&source, wanted_kernel)?;
            build::write_summary(&built, std::io::stdout())?;
        }
        What::Kernel { kept } => {
            let cache = packages::Cache::open(&source)?;
            let (locked, _) = packages::locked_or_current(&cache, &build::guest_packages(), manifest::HOST)?;
            let guest = packages::tree(&cache, &locked, lock::Set::Guest)?;
            if !kept {
                println!("{}", build::packed(&cache, &guest, &locked, Flavour::Custom)?.tree.root.display());
            } else if custom::is_kept(&cache, &guest)? {
                println!("custom");
            } else {
                eprintln!(
                    "the custom kernel is not in the cache: Debian's is tested (KERNEL=custom builds ours, an hour of one CPU)"
                );
                println!("debian");
            }
        }
        What::Sbom => sbom::make(&source, wanted_kernel)?,
        What::Serve { wanted, parts } => {
            let parts = match parts {
                Some(directory) => serve::Parts::beneath(&directory),
                None => serve::Parts::of(&source, wanted_kernel)?,
            };
            // All that is made is there by now, and is this person's.
            if !rustix::process::geteuid().is_root() {
                raise::again(&packages::Cache::open(&source)?.root)?;
            }
            serve::run(&parts, &wanted)?;
        }
        What::Sign(wanted) => {
            let cache = packages::Cache::open(&source)?;
            let host = packages::host(&cache, &build::guest_packages(), manifest::HOST)?;
            let tools = packages::wrappers(&cache, &packages::tree(&cache, &host, lock::Set::Host)?)?;
            for out in sign::directories(&source, wanted_kernel)? {
                print!("{}", sign::make(&out, &tools, &wanted)?);
            }
        }
        What::Sizes => print!("{}", sizes::table(&out)?),
        What::Hardware => hardware::write(&source)?,
        What::Forms { forms: wanted, certificate, certificate_key } => {
            let extra = std::env::var_os("EXTRA").filter(|name| !name.is_empty());
            let extra =
                extra.map(|name| PathBuf::from(home::expanded(name, std::env::var_os("HOME").as_deref())));
            let has_extra = extra.is_some();
            let mut parts = forms::Parts::of(&source, &out, extra)?;
            if std::env::var_os("FULL").is_some_and(|value| !value.is_empty()) {
                parts = parts.full();
            }
            match std::env::var("MICROCODE").ok().as_deref() {
                None | Some("") => {}
                Some("1") => parts = parts.microcode(true),
                Some("0") => parts = parts.microcode(false),
                Some(other) => bail!("MICROCODE={other}: it is 1 or 0"),
            }
            if let (Some(certificate), Some(key)) = (certificate, certificate_key) {
                parts = parts.signed(forms::Signer { certificate, key });
            }
            for form in wanted {
                // Of several: the others are made.
                if form == Form::Netboot && parts.flavour()? == Flavour::Custom {
                    eprintln!("netboot is left out: {}", forms::UNSIGNED);
                    continue;
                }
                let made = form.make(&parts, &out)?;
                println!("{}", made.display());
                // What an operator put in is for one machine, and may be its key.
                match has_extra {
                    true => sums::forget(&out, &form.files())?,
                    false => sums::add(&out, &form.files())?,
                }
                if form == Form::Netboot && has_extra {
                    eprintln!(
                        "{}/initramfs holds EXTRA, so nobody but you can read it. chmod 644 lets a TFTP server, and with it \
                         everybody on its network; make serve SECURE_BOOT=1 does so by itself",
                        made.display()
                    );
                }
            }
        }
        What::Run => {
            let wishes = person::Wishes::read(|name| std::env::var(name).ok())?;
            return person::run(&out, &wishes);
        }
    }
    Ok(ExitCode::SUCCESS)
}
