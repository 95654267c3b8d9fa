//! House rules that the compiler does not know. Comments and tests are left out; a rule that is in
//! the way is changed here, with its reason.

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file of ours, without its comments, and without its tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for top in ["tools", "init"] {
        collect(&root.join(top), &mut files);
    }
    let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
    let sources: Vec<_> =
        files.iter().map(|path| (name(path), code(&fs::read_to_string(path).unwrap()))).collect();
    assert!(sources.len() > 50, "the source tree is not where it was");
    sources
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !["tests", "target", "patches"].contains(&name) {
            collect(&path, files);
        } else if name.ends_with(".rs") && name != "build.rs" && !name.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

fn code(text: &str) -> String {
    let lines = text.split("#[cfg(test)]").next().unwrap_or_default().lines();
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Files with one of the words in their code, but for those below one of the allowed paths.
fn offenders(words: &[&str], allowed: &[&str]) -> Vec<String> {
    let is_allowed = |name: &str| allowed.iter().any(|prefix| name.starts_with(prefix));
    let offends = |text: &str| words.iter().find(|word| text.contains(**word)).map(|word| word.to_string());
    sources()
        .into_iter()
        .filter(|(name, _)| !is_allowed(name))
        .filter_map(|(name, text)| Some(format!("{name}: {}", offends(&text)?)))
        .collect()
}

#[test]
fn unsafe_code_is_in_host_sys_alone() {
    assert_eq!(offenders(&["unsafe {", "unsafe fn", "unsafe impl"], &["tools/host/src/sys/"]), [""; 0]);
}

#[test]
fn only_report_prints() {
    let words = ["println!", "print!(", "io::stdout()", "io::stderr()", "eprint"];
    // Logs go to stderr; a console's banner is its terminal's; terminals are asked for, not written to.
    let allowed = ["tools/src/report.rs", "tools/host/src/log.rs", "init/"];
    let found = offenders(&words, &allowed);
    let found: Vec<_> = found.into_iter().filter(|line| !line.starts_with("tools/src/tool.rs")).collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn steps_are_made_in_apply_alone() {
    assert_eq!(offenders(&["Act::begin"], &["tools/src/apply", "tools/host/src/act.rs"]), [""; 0]);
}

#[test]
fn kernel_files_are_named_in_host_alone() {
    // contract says where a node is, and model how a mapped one is shown: names, not files to read.
    let allowed = ["tools/host/", "tools/contract/", "init/"];
    assert_eq!(offenders(&["\"/sys/", "\"/proc/"], &allowed), [""; 0]);
}

#[test]
fn model_network_and_ondisk_open_nothing() {
    // Addresses are values; what of std::net opens something is named.
    let words = [
        "std::fs",
        "std::process",
        "std::env",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
        "SystemTime",
        "Instant",
    ];
    assert_eq!(offenders(&words, &["init/", "tools/src/", "tools/host/", "tools/web/"]), [""; 0]);
}

#[test]
fn a_program_opens_to_others_by_main_alone() {
    let is_program = |name: &str| name == "tools/src/lib.rs" || name.starts_with("init/");
    let mut programs: Vec<_> = sources()
        .into_iter()
        .filter(|(name, _)| is_program(name) && name.ends_with("/src/lib.rs"))
        .map(|(name, text)| {
            // What only the fuzzer is compiled with opens nothing of the product.
            let of_product = text.replace("#[cfg(feature = \"fuzz\")]\npub mod", "");
            let public: Vec<_> = of_product.lines().filter(|line| line.starts_with("pub ")).collect();
            (name, public.join("\n"))
        })
        .collect();
    programs.sort();
    let expected = ["init/console", "init/devd", "init/layers", "init/netd", "init/sshd", "tools"];
    let main = "pub fn main() -> ExitCode {".to_string();
    assert_eq!(programs, expected.map(|package| (format!("{package}/src/lib.rs"), main.clone())));
}

#[test]
fn lifeboat_alone_stands_on_programs() {
    let programs = ["console", "devd", "layers", "netd", "sshd", "tools"];
    let packages = [
        // The tools are a binary of their own.
        ("init/lifeboat", &programs[..programs.len() - 1]),
        ("image", &[]),
        ("init", &[]),
        ("init/console", &[]),
        ("init/devd", &[]),
        ("init/layers", &[]),
        ("init/netd", &[]),
        ("init/sshd", &[]),
        ("tools", &[]),
        ("tools/contract", &[]),
        ("tools/host", &[]),
        ("tools/model", &[]),
        ("tools/network", &[]),
        ("tools/ondisk", &[]),
        ("tools/web", &[]),
    ];
    for (package, expected) in packages {
        let mut found = dependencies(package);
        found.retain(|name| programs.contains(&name.as_str()));
        assert_eq!(found, expected, "{package}");
    }
}

#[test]
fn pid_1_stands_on_little() {
    let names = dependencies("init");
    let allowed = ["contract", "host", "libc", "rustix", "serde", "serde_json", "thiserror"];
    let more: Vec<_> = names.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(more.is_empty(), "init depends on {more:?}");
}

/// What a package of ours depends on, sorted.
fn dependencies(package: &str) -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(package).join("Cargo.toml");
    let text = fs::read_to_string(manifest).unwrap();
    let section = text.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let mut names: Vec<String> =
        section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).map(str::to_string).collect();
    names.retain(|name| !name.is_empty() && !name.starts_with('#'));
    names.sort_unstable();
    names
}
