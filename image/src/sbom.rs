//! What the image is made of, for whoever has to answer for it: an SPDX 2.3 document of Debian's packages and of the
//! crates, with versions, hashes, licences and sources (spdx.github.io/spdx-spec/v2.3). The same image gives the same bytes.

use crate::build;
use crate::custom;
use crate::flavour::Flavour;
use crate::licences::{self, Licence, Other};
use crate::lock::{Package, Set};
use crate::manifest;
use crate::packages::{self, Cache, Tree};
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

/// One line of the document, before it has its form.
struct Part {
    /// Unique, of letters, digits, `.` and `-`.
    id: String,
    name: String,
    version: String,
    supplier: String,
    /// A package URL: github.com/package-url/purl-spec.
    purl: String,
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
    packages::fetch(&cache, &locked)?;
    let guest = packages::tree(&cache, &locked, Set::Guest)?;
    let mut parts = debian(&cache, &guest, &locked, wanted)?;
    parts.extend(crates(source)?);
    let version = build::version(source, unlocked);
    let text = document(&parts, &version, &build::made(source))?;
    let out = source.join(Flavour::out(wanted));
    fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
    let path = out.join(FILE);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    sums::add(&out, &[FILE.to_string()])?;
    say!("{}/{FILE}: {} packages and crates", Flavour::out(wanted), parts.len());
    Ok(())
}

/// Packages of which a file is in the image.
fn debian(cache: &Cache, guest: &Tree, locked: &[Package], wanted: Option<Flavour>) -> Result<Vec<Part>> {
    let (packed, flavour) = build::wanted_kernel(cache, guest, locked, wanted)?;
    let files = build::all_files(guest, &packed)?;
    let is_used = |package: &&Package| {
        ALWAYS.iter().any(|name| package.name.starts_with(name))
            || (flavour == Flavour::Debian && package.name.starts_with(KERNEL))
            || guest.files.get(&package.name).is_some_and(|own| own.iter().any(|file| files.contains(file)))
    };
    let used: Vec<&Package> = locked.iter().filter(|p| p.is_in(Set::Guest)).filter(is_used).collect();
    let mut parts: Vec<Part> =
        used.into_iter().map(|package| of_debian(cache, guest, package)).collect::<Result<_>>()?;
    if flavour == Flavour::Custom {
        let package = custom::source_package(&cache.source)?;
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
        sha256: Some(package.sha256.clone()),
        homepage: field("Homepage").filter(|page| page.starts_with("http")),
        source: format!("Debian's source package {from} {of}: apt-get source {from}={of}"),
        licence: licences::of_copyright(&text),
    })
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
    let linked = linked(&metadata, &build::binaries());
    ensure!(!linked.is_empty(), "cargo's metadata name none of {:?}", build::binaries());
    let all = metadata["packages"].as_array().context("read cargo's packages")?;
    Ok(all
        .iter()
        .filter(|package| linked.contains(package["id"].as_str().unwrap_or_default()))
        .map(|package| of_cargo(package, &sums))
        .collect())
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

fn document(parts: &[Part], version: &str, made: &str) -> Result<String> {
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
    let relations = parts.iter().map(|part| {
        json!({ "spdxElementId": "SPDXRef-Lifeboat", "relationshipType": "CONTAINS", "relatedSpdxElement": part.id })
    });
    let described = json!({
        "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Lifeboat"
    });
    let whole = json!({
        "SPDXID": "SPDXRef-Lifeboat",
        "name": "Lifeboat",
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    });
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("Lifeboat {version}"),
        // Unique for each content, and nowhere to be fetched.
        "documentNamespace": format!("urn:sha256:{hash}"),
        "creationInfo": { "created": time(made)?, "creators": ["Tool: lifeboat-image"] },
        "packages": std::iter::once(whole).chain(entries).collect::<Vec<Value>>(),
        "relationships": std::iter::once(described).chain(relations).collect::<Vec<Value>>(),
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
            sha256: Some("ab".repeat(32)),
            homepage: None,
            source: "somewhere".into(),
            licence: licences::of_copyright(
                "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
                 Files: *\nLicense: own-terms\n Do as you like.\n",
            ),
        };
        let text = document(&[part("a"), part("b")], "0.1", "1700000000").unwrap();
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["packages"].as_array().map(Vec::len), Some(3));
        assert_eq!(read["relationships"].as_array().map(Vec::len), Some(3));
        assert_eq!(read["hasExtractedLicensingInfos"][0]["extractedText"], "Do as you like.");
        assert_eq!(text, document(&[part("a"), part("b")], "0.1", "1700000000").unwrap());
        assert!(document(&[part("a"), part("a")], "0.1", "").is_err());
    }
}
