//! What the image is made of, for whoever has to answer for it: an SPDX 2.3 document of Debian's packages, of the crates, of
//! what else our binaries are linked with, and of the loaders of its other forms, with versions, hashes, licences and sources
//! (spdx.github.io/spdx-spec/v2.3). The same image gives the same bytes.

use crate::build;
use crate::custom;
use crate::flavour::Flavour;
use crate::forms::{self, Form};
use crate::licences::{self, Licence, Other};
use crate::lock::{Package, Set};
use crate::manifest;
use crate::packages::{self, Cache, Tree};
use crate::provenance;
use crate::say;
use crate::sums;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where the shell of the nucleus and microcode.cpio come from, besides the kernel and what the layers hold.
const ALWAYS: &[&str] = &["amd64-microcode", "busybox-static", "intel-microcode"];
const KERNEL: &str = "linux-image";
/// The package of the program in [`Form::Kexec`].
const TAKEOVER: &str = "takeover";

/// Kernel and initramfs.
const WHOLE: &str = "SPDXRef-Lifeboat";

/// One line of the document, before it has its shape.
struct Part {
    /// Unique, of letters, digits, `.` and `-`.
    id: String,
    name: String,
    version: String,
    supplier: String,
    /// A package URL: github.com/package-url/purl-spec.
    purl: String,
    /// Those that have it beside kernel and initramfs; empty: it is in these.
    forms: Vec<Form>,
    sha256: Option<String>,
    homepage: Option<String>,
    /// Where its source is, in words.
    source: String,
    licence: Licence,
}

const FILE: &str = "lifeboat.spdx.json";

/// Writes it into `out/`, or where [`Flavour::out`] says, of what that was built from.
pub fn make(source: &Path, wanted: Option<Flavour>) -> Result<()> {
    let cache = Cache::open(source)?;
    let (locked, unlocked) = packages::locked_or_current(&cache, &build::guest_packages(), manifest::HOST)?;
    let version = build::version(source, unlocked);
    let out = Flavour::out(wanted);
    let nucleus = fs::read(source.join(out).join("nucleus"))
        .with_context(|| format!("read the image in {out}/: make image builds it"))?;
    is_of(out, &nucleus, &version)?;
    packages::fetch(&cache, &locked)?;
    let guest = packages::tree(&cache, &locked, Set::Guest)?;
    let (packed, flavour) = build::wanted_kernel(&cache, &guest, &locked, wanted)?;
    let mut parts = debian(&cache, &guest, &locked, &build::all_files(&guest, &packed)?, flavour)?;
    parts.extend(crates(source)?);
    parts.extend(linked_besides()?);
    let made: Vec<Form> = forms::ALL.into_iter().filter(|form| form.is_for(flavour)).collect();
    parts.extend(loaders(&cache, &locked, &made)?);
    let text = document(&parts, &made, &version, &build::made(source))?;
    let path = source.join(out).join(FILE);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    sums::add(&source.join(out), &[FILE.to_string()])?;
    say!("{out}/{FILE}: {} packages, crates and libraries", parts.len());
    Ok(())
}

/// What is listed and signed with an image tells of that one, and the tree may have moved on since.
fn is_of(out: &str, nucleus: &[u8], version: &str) -> Result<()> {
    let of_image = provenance::version_of(nucleus)
        .with_context(|| format!("{out}/nucleus names no version: make image first"))?;
    ensure!(
        of_image == version,
        "{out}/ is of version {of_image}, and this tree of {version}: make image first"
    );
    Ok(())
}

/// Packages of which a file is in the image.
fn debian(
    cache: &Cache,
    guest: &Tree,
    locked: &[Package],
    files: &BTreeSet<String>,
    flavour: Flavour,
) -> Result<Vec<Part>> {
    let is_used = |package: &&Package| {
        ALWAYS.iter().any(|name| package.name.starts_with(name))
            || (flavour == Flavour::Debian && package.name.starts_with(KERNEL))
            || guest.files.get(&package.name).is_some_and(|own| own.iter().any(|file| files.contains(file)))
    };
    let used: Vec<&Package> = locked.iter().filter(|p| p.is_in(Set::Guest)).filter(is_used).collect();
    let mut parts: Vec<Part> =
        used.into_iter().map(|package| of_debian(cache, guest, package)).collect::<Result<_>>()?;
    if flavour == Flavour::Custom {
        let package = custom::source_package(cache, locked)?;
        packages::fetch(cache, std::slice::from_ref(&package))?;
        let mut part = of_debian(cache, guest, &package)?;
        // It is unpacked nowhere, and of the same source as the package that it stands for.
        let same = locked.iter().find(|other| other.name.starts_with(KERNEL) && other.name.contains('+'));
        if let Some(same) = same {
            part.licence = of_debian(cache, guest, same)?.licence;
        }
        part.source += ", built with kernel-config/custom";
        parts.push(part);
    }
    Ok(parts)
}

fn of_debian(cache: &Cache, guest: &Tree, package: &Package) -> Result<Part> {
    let deb = cache.file(package);
    let fields = ["Source", "Homepage"];
    let said = packages::output(Command::new("dpkg-deb").arg("--field").arg(&deb).args(fields))?;
    let field = |name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_string)
    };
    // `Source: NAME (VERSION)`, where it differs from the package's own.
    let from = field("Source").unwrap_or_else(|| package.name.clone());
    let (from, of) = match from.split_once(" (") {
        Some((name, version)) => (name.to_string(), version.trim_end_matches(')').to_string()),
        None => (from, package.version.clone()),
    };
    // Of several packages of one source, one may hold the file for all and the others link to its directory.
    let path = guest.root.join("usr/share/doc").join(&package.name).join("copyright");
    let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    Ok(Part {
        id: id("deb", &package.name, &package.version),
        name: package.name.clone(),
        version: package.version.clone(),
        supplier: "Organization: Debian".to_string(),
        purl: format!(
            "pkg:deb/debian/{}@{}?arch={}",
            escaped(&package.name),
            escaped(&package.version),
            package.architecture
        ),
        forms: Vec::new(),
        sha256: Some(package.sha256.clone()),
        homepage: field("Homepage").filter(|page| page.starts_with("http")),
        source: format!("Debian's source package {from} {of}: apt-get source {from}={of}"),
        licence: licences::of_copyright(&text),
    })
}

/// The loaders of the image's other forms.
fn loaders(cache: &Cache, locked: &[Package], made: &[Form]) -> Result<Vec<Part>> {
    let host = || locked.iter().filter(|package| package.is_in(Set::Host));
    for name in forms::ALL.iter().flat_map(|form| form.loaders()) {
        ensure!(host().any(|package| package.name == *name), "{name} is not in the lock");
    }
    let tree = packages::tree(cache, locked, Set::Host)?;
    let mut parts = Vec::new();
    for package in host() {
        let has_it = |form: &&Form| form.loaders().contains(&package.name.as_str());
        let forms: Vec<Form> = made.iter().filter(has_it).copied().collect();
        if !forms.is_empty() {
            parts.push(Part { forms, ..of_debian(cache, &tree, package)? });
        }
    }
    Ok(parts)
}

/// What our binaries are linked with that is no crate: they are static.
fn linked_besides() -> Result<Vec<Part>> {
    let rustc = provenance::rustc_version()?;
    let rust = rustc.split(' ').next().unwrap_or_default();
    let mut standard = of_host("rust-std", rust, "MIT OR Apache-2.0");
    standard.purl = format!("pkg:github/rust-lang/rust@{}", escaped(rust));
    standard.source = format!("Rust's standard library and what it is built of, as rustc {rustc} has it");
    // os-release(5)
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let vendor =
        release.lines().find_map(|line| line.strip_prefix("ID=")).unwrap_or("debian").trim_matches('"');
    let library =
        |name: &str, package: &str, version: &[&str], licence: &str| match provenance::package_version(
            package,
        ) {
            Some(version) => Part {
                source: format!("the host's package {package}, which our binaries were linked with"),
                purl: format!("pkg:deb/{vendor}/{}@{}?arch=amd64", escaped(package), escaped(&version)),
                ..of_host(name, &version, licence)
            },
            None => {
                let said = provenance::asked(version[0], &version[1..]).unwrap_or_default();
                of_host(name, said.rsplit(' ').next().unwrap_or_default(), licence)
            }
        };
    let gcc = provenance::asked("cc", &["-dumpversion"]).unwrap_or_default();
    let gcc = gcc.split('.').next().unwrap_or_default().to_string();
    Ok(vec![
        standard,
        library("glibc", "libc6-dev", &["getconf", "GNU_LIBC_VERSION"], "LGPL-2.1-or-later"),
        library(
            "libgcc",
            &format!("libgcc-{gcc}-dev"),
            &["cc", "-dumpversion"],
            "GPL-3.0-or-later WITH GCC-exception-3.1",
        ),
    ])
}

fn of_host(name: &str, version: &str, licence: &str) -> Part {
    Part {
        id: id("linked", name, version),
        name: name.into(),
        version: version.into(),
        supplier: "NOASSERTION".into(),
        purl: format!("pkg:generic/{}@{}", escaped(name), escaped(version)),
        forms: Vec::new(),
        sha256: None,
        homepage: None,
        source: "the host's, which our binaries were linked with".into(),
        licence: licences::of_crate(licence),
    }
}

/// Crates that are linked into our binaries.
fn crates(source: &Path) -> Result<Vec<Part>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = packages::output(Command::new(cargo).current_dir(source).args([
        "metadata",
        "--locked",
        "--quiet",
        "--format-version=1",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ]))?;
    let metadata: Value = serde_json::from_str(&said).context("read cargo's metadata")?;
    let lock = fs::read_to_string(source.join("Cargo.lock")).context("read Cargo.lock")?;
    let sums = checksums(&lock);
    let in_image = linked(&metadata, &build::binaries());
    let of_takeover = linked(&metadata, &[TAKEOVER]);
    ensure!(!in_image.is_empty(), "cargo's metadata name none of {:?}", build::binaries());
    ensure!(!of_takeover.is_empty(), "cargo's metadata do not name {TAKEOVER}");
    let all = metadata["packages"].as_array().context("read cargo's packages")?;
    let part = |package: &Value| {
        let id = package["id"].as_str().unwrap_or_default();
        let forms = match (in_image.contains(id), of_takeover.contains(id)) {
            (true, _) => Vec::new(),
            (false, true) => vec![Form::Kexec],
            (false, false) => return None,
        };
        Some(Part { forms, ..of_cargo(package, &sums) })
    };
    Ok(all.iter().filter_map(part).collect())
}

fn of_cargo(package: &Value, sums: &BTreeMap<(String, String), String>) -> Part {
    let text = |key: &str| package[key].as_str().map(str::to_string);
    let (name, version) = (text("name").unwrap_or_default(), text("version").unwrap_or_default());
    let is_own = package["source"].is_null();
    let source = match text("repository") {
        _ if is_own => "this repository; of russh, its released source with init/sshd/patches".to_string(),
        Some(repository) => format!("the crate as released, of {repository}"),
        None => "the crate as released".to_string(),
    };
    Part {
        id: id("cargo", &name, &version),
        purl: format!("pkg:cargo/{}@{}", escaped(&name), escaped(&version)),
        forms: Vec::new(),
        sha256: sums.get(&(name.clone(), version.clone())).cloned(),
        supplier: if is_own { "Organization: Lifeboat" } else { "NOASSERTION" }.to_string(),
        homepage: text("homepage").filter(|page| page.starts_with("http")),
        source,
        licence: text("license").map_or(Licence::unknown("none is stated"), |said| licences::of_crate(&said)),
        name,
        version,
    }
}

/// Package identifiers that these binaries' packages are linked with: what builds or tests them is not in the image.
fn linked(metadata: &Value, binaries: &[&str]) -> BTreeSet<String> {
    let none = Vec::new();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap_or(&none)
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let is_binary = |package: &&Value| binaries.contains(&package["name"].as_str().unwrap_or_default());
    let packages = metadata["packages"].as_array().unwrap_or(&none);
    let is_macro = |id: &str| {
        let package = packages.iter().find(|package| package["id"] == id);
        package.is_some_and(|package| package["targets"][0]["kind"][0] == "proc-macro")
    };
    let mut seen = BTreeSet::new();
    let own = packages.iter().filter(is_binary).filter(|package| package["source"].is_null());
    let mut queue: VecDeque<&str> = own.filter_map(|package| package["id"].as_str()).collect();
    while let Some(id) = queue.pop_front() {
        if is_macro(id) || !seen.insert(id.to_string()) {
            continue;
        }
        for dependency in nodes.get(id).and_then(|node| node["deps"].as_array()).unwrap_or(&none) {
            let kinds = dependency["dep_kinds"].as_array().unwrap_or(&none);
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                queue.extend(dependency["pkg"].as_str());
            }
        }
    }
    seen
}

/// SHA-256 of each released crate, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut sums = BTreeMap::new();
    for block in lock.split("[[package]]") {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
            Some(line.trim_end_matches('"').to_string())
        };
        if let (Some(name), Some(version), Some(sum)) = (value("name"), value("version"), value("checksum")) {
            sums.insert((name, version), sum);
        }
    }
    sums
}

fn document(parts: &[Part], forms: &[Form], version: &str, made: &str) -> Result<String> {
    let mut ids = BTreeSet::new();
    for part in parts {
        ensure!(ids.insert(&part.id), "{} is there twice", part.id);
    }
    let mut others: BTreeMap<&str, &Other> = BTreeMap::new();
    parts.iter().flat_map(|part| &part.licence.others).for_each(|other| {
        others.entry(&other.id).or_insert(other);
    });
    let entries: Vec<Value> = parts.iter().map(entry).collect();
    let hash = packages::hex(&Sha256::digest(serde_json::to_vec(&entries)?));
    let relation = |one: &str, how: &str, other: &str| json!({ "spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other });
    let form_id = |form: &Form| id("form", form.name(), version);
    let of_part = |part: &Part| -> Vec<Value> {
        match &part.forms[..] {
            [] => vec![relation(WHOLE, "CONTAINS", &part.id)],
            forms => forms.iter().map(|form| relation(&form_id(form), "CONTAINS", &part.id)).collect(),
        }
    };
    let described = [WHOLE.to_string()].into_iter().chain(forms.iter().map(form_id));
    let described = described.map(|one| relation("SPDXRef-DOCUMENT", "DESCRIBES", &one));
    let inside = forms.iter().map(|form| relation(&form_id(form), "CONTAINS", WHOLE));
    let relations: Vec<Value> = described.chain(inside).chain(parts.iter().flat_map(of_part)).collect();
    let built = |id: &str, name: &str| {
        json!({
            "SPDXID": id,
            "name": name,
            "versionInfo": version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
        })
    };
    let built: Vec<Value> = [built(WHOLE, "Lifeboat")]
        .into_iter()
        .chain(forms.iter().map(|form| built(&form_id(form), form.name())))
        .collect();
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("Lifeboat {version}"),
        // Unique for each content, and nowhere to be fetched.
        "documentNamespace": format!("urn:sha256:{hash}"),
        "creationInfo": { "created": time(made)?, "creators": ["Tool: lifeboat-image"] },
        "packages": built.into_iter().chain(entries).collect::<Vec<Value>>(),
        "relationships": relations,
        "hasExtractedLicensingInfos": others.values().map(|other| json!({
            "licenseId": other.id, "name": other.name, "extractedText": other.text,
        })).collect::<Vec<Value>>(),
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn entry(part: &Part) -> Value {
    let mut entry = json!({
        "SPDXID": part.id,
        "name": part.name,
        "versionInfo": part.version,
        "supplier": part.supplier,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "sourceInfo": part.source,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": part.licence.expression,
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            { "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.purl }
        ],
    });
    if let Some(sha256) = &part.sha256 {
        entry["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]);
    }
    if let Some(homepage) = &part.homepage {
        entry["homepage"] = json!(homepage);
    }
    if !part.licence.comment.is_empty() {
        entry["licenseComments"] = json!(part.licence.comment);
    }
    entry
}

/// As ISO 8601 in UTC, from seconds since 1970; the epoch where the source has no commit.
fn time(made: &str) -> Result<String> {
    let seconds: u64 = if made.is_empty() { 0 } else { made.parse().context("read the commit's time")? };
    let said = packages::output(Command::new("date").args([
        "-u",
        "-d",
        &format!("@{seconds}"),
        "+%Y-%m-%dT%H:%M:%SZ",
    ]))?;
    Ok(said.trim().to_string())
}

/// Spec section 3.2: letters, digits, `.` and `-`. Two crates may have one name, and two versions.
fn id(kind: &str, name: &str, version: &str) -> String {
    let plain: String = format!("{name}-{version}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    format!("SPDXRef-{kind}-{plain}")
}

/// For a package URL.
fn escaped(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_~:".contains(byte);
    text.bytes()
        .map(|byte| if is_plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(id: &str, kind: &str) -> Value {
        let source = if id == "tools" { Value::Null } else { json!("registry") };
        json!({ "id": id, "name": id, "source": source, "targets": [{ "kind": [kind] }] })
    }

    #[test]
    fn an_image_of_another_version_is_not_described() {
        let nucleus = provenance::archive("ab", "version 0.1+abc\nrustc 1\n").unwrap();
        is_of("out", &nucleus, "0.1+abc").unwrap();
        for (nucleus, version, says) in [
            (
                &nucleus[..],
                "0.1+def",
                "out/ is of version 0.1+abc, and this tree of 0.1+def: make image first",
            ),
            (
                &nucleus[..],
                "0.1+abc.changed",
                "out/ is of version 0.1+abc, and this tree of 0.1+abc.changed: make image first",
            ),
            (&b""[..], "0.1+abc", "out/nucleus names no version: make image first"),
        ] {
            assert_eq!(is_of("out", nucleus, version).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn what_only_builds_or_tests_is_not_in_the_image() {
        let depend = |pkg: &str, kind: Value| json!({ "pkg": pkg, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("tools", "lib"), package("used", "lib"), package("below", "lib"), package("builds", "lib"),
                package("tests", "lib"), package("derives", "proc-macro"), package("elsewhere", "lib"),
            ],
            "resolve": { "nodes": [
                { "id": "tools", "deps": [
                    depend("used", Value::Null), depend("builds", json!("build")), depend("tests", json!("dev")),
                    depend("derives", Value::Null),
                ] },
                { "id": "used", "deps": [depend("below", Value::Null)] },
                { "id": "below", "deps": [] },
                { "id": "derives", "deps": [depend("elsewhere", Value::Null)] },
            ] },
        });
        let names: Vec<String> = linked(&metadata, &["tools"]).into_iter().collect();
        assert_eq!(names, ["below", "tools", "used"]);
    }

    #[test]
    fn hashes_come_from_the_lock() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0\"\nchecksum = \"12ab\"\n\n[[package]]\nname = \"own\"\n\
                    version = \"0.1\"\n";
        let sums = checksums(lock);
        assert_eq!(sums.get(&("a".into(), "1.0".into())).map(String::as_str), Some("12ab"));
        assert_eq!(sums.len(), 1);
    }

    #[test]
    fn names_are_written_as_the_two_specifications_want_them() {
        assert_eq!(id("deb", "libstdc++6", "14.2.0-19"), "SPDXRef-deb-libstdc--6-14.2.0-19");
        assert_eq!(escaped("libstdc++6"), "libstdc%2B%2B6");
        assert_eq!(escaped("1:2.3~rc1"), "1:2.3~rc1");
        assert_eq!(time("1700000000").unwrap(), "2023-11-14T22:13:20Z");
        assert_eq!(time("").unwrap(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn the_document_has_each_part_once_and_each_licence_that_has_no_name() {
        let part = |name: &str| Part {
            id: id("deb", name, "1"),
            name: name.into(),
            version: "1".into(),
            supplier: "Organization: Debian".into(),
            purl: format!("pkg:deb/debian/{name}@1"),
            forms: if name == "b" { vec![Form::Iso, Form::Disk] } else { vec![] },
            sha256: Some("ab".repeat(32)),
            homepage: None,
            source: "somewhere".into(),
            licence: licences::of_copyright(
                "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
                 Files: *\nLicense: own-terms\n Do as you like.\n",
            ),
        };
        let made = [Form::Iso, Form::Disk];
        let make = |parts: &[Part]| document(parts, &made, "0.1", "1700000000");
        let text = make(&[part("a"), part("b")]).unwrap();
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["packages"].as_array().map(Vec::len), Some(5));
        let relations: Vec<String> = read["relationships"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let word = |key: &str| one[key].as_str().unwrap().trim_start_matches("SPDXRef-").to_string();
                format!(
                    "{} {} {}",
                    word("spdxElementId"),
                    word("relationshipType"),
                    word("relatedSpdxElement")
                )
            })
            .collect();
        assert_eq!(
            relations,
            [
                "DOCUMENT DESCRIBES Lifeboat",
                "DOCUMENT DESCRIBES form-lifeboat.iso-0.1",
                "DOCUMENT DESCRIBES form-lifeboat.img-0.1",
                "form-lifeboat.iso-0.1 CONTAINS Lifeboat",
                "form-lifeboat.img-0.1 CONTAINS Lifeboat",
                "Lifeboat CONTAINS deb-a-1",
                "form-lifeboat.iso-0.1 CONTAINS deb-b-1",
                "form-lifeboat.img-0.1 CONTAINS deb-b-1",
            ]
        );
        assert_eq!(read["hasExtractedLicensingInfos"][0]["extractedText"], "Do as you like.");
        assert_eq!(text, make(&[part("a"), part("b")]).unwrap());
        assert!(make(&[part("a"), part("a")]).is_err());
    }

    #[test]
    fn what_static_binaries_are_linked_with_has_a_version_and_a_licence() {
        let parts = linked_besides().unwrap();
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["rust-std", "glibc", "libgcc"]);
        for part in &parts {
            assert!(part.version.starts_with(|c: char| c.is_ascii_digit()), "{} {}", part.name, part.version);
            assert!(
                part.licence.others.is_empty() && part.licence.expression != "NOASSERTION",
                "{}",
                part.name
            );
        }
    }
}
