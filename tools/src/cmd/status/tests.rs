//! The published schema against a picture in which every key and every word of ours stands. All structs are written out
//! field by field: a new field stops the compiler here, and then the test until the schema has it.

use super::*;
use contract::facts::Space;
use contract::state::{Address, Clock, Disk, Layer, Link, Service};
use lockdown::Level;
use model::overlay::{Overlay, Purpose, Room, Store};
use model::status::{GroupLine, Next, Stopped, VolumeLine};
use model::storage::{Id, Problem};
use serde_json::Value;
use std::collections::BTreeSet;

fn some(text: &str) -> Option<String> {
    Some(text.to_string())
}

fn texts() -> Vec<String> {
    vec!["text".to_string()]
}

fn line(health: Fitness, guard: Guard) -> Line {
    Line {
        path: "/dev/sda1".to_string(),
        name: "sda1".to_string(),
        depth: 1,
        size: u64::MAX,
        what: "ext4".to_string(),
        health,
        guard,
        used_by: texts(),
        space: Some(Space { size: 3, used: 2, available: 1 }),
    }
}

fn overlay(room: Room, made_by: Purpose) -> Overlay {
    Overlay {
        id: Id(String::new()),
        name: "over-sda1".to_string(),
        path: "/dev/mapper/over-sda1".to_string(),
        node: "/dev/dm-0".to_string(),
        of: some("/dev/sda1"),
        origin: None,
        size: 1 << 30,
        made_by,
        room,
        store: some("/run/lifeboat/overlay/over-sda1"),
        used_by: texts(),
    }
}

fn problem(severity: Severity) -> Problem {
    Problem { device: some("/dev/sda"), severity, text: "it is torn".to_string() }
}

fn storage() -> Status {
    let text = || "text".to_string();
    Status {
        disks: 1,
        writable: texts(),
        problems: vec![problem(Severity::Error), problem(Severity::Warning), problem(Severity::Info)],
        drives: vec![
            line(Fitness::Good, Guard::Guarded),
            line(Fitness::Dirty, Guard::Writable),
            line(Fitness::Damaged, Guard::Guarded),
            line(Fitness::Hung, Guard::Guarded),
            line(Fitness::Unknown, Guard::Guarded),
        ],
        volumes: vec![line(Fitness::Good, Guard::ReadOnly), line(Fitness::Good, Guard::ReadWrite)],
        stopped: vec![Stopped {
            uuid: text(),
            name: text(),
            level: "raid1".to_string(),
            present: 1,
            wanted: 2,
            members: texts(),
            left_out: texts(),
            copy: some("text"),
            refusal: some("text"),
        }],
        groups: vec![GroupLine {
            uuid: text(),
            name: text(),
            present: 1,
            wanted: 2,
            members: texts(),
            missing: texts(),
            left_out: texts(),
            notes: texts(),
            volumes: vec![VolumeLine {
                name: text(),
                size: 1,
                kind: "linear".to_string(),
                active: true,
                copy: some("text"),
                refusal: some("text"),
            }],
            refusal: some("text"),
            advice: some("text"),
        }],
        overlays: vec![
            overlay(Room::Free { used: 1, limit: 2 }, Purpose::Overlay),
            overlay(Room::Full, Purpose::Mount),
            overlay(Room::Lost, Purpose::Assemble),
            overlay(Room::Unknown, Purpose::Mount),
        ],
        overlay_store: Some(Store { limit: 2, used: 1 }),
        next: Next { command: text(), why: text() },
    }
}

fn picture() -> Picture {
    let text = || "text".to_string();
    Picture {
        version: some("1"),
        image: some("0123456789abcdef0123456789abcdef"),
        lockdown: Some(Lockdown { level: Level::Integrity, refused: &["text"] }),
        storage: storage(),
        services: Init {
            version: text(),
            started: 1.5,
            services: vec![Service {
                name: text(),
                state: "running".to_string(),
                pid: Some(7),
                restarts: 1,
                last_exit: some("signal 9"),
            }],
            warnings: texts(),
        },
        network: Netd {
            hostname: text(),
            origin: text(),
            links: vec![Link {
                name: text(),
                names: vec!["enp3s0".to_string()],
                kind: String::new(),
                asked: Vec::new(),
                mac: text(),
                driver: text(),
                carrier: true,
                booted_from: true,
                state: "bound".to_string(),
                addresses: vec![Address {
                    address: "10.0.2.15".to_string(),
                    prefix: 24,
                    gateway: some("10.0.2.2"),
                    lease: Some(60),
                    server: some("10.0.2.2"),
                }],
            }],
            nameservers: texts(),
            clock: Clock { settled: true, by: "the time server 192.0.2.1".into() },
            problems: texts(),
        },
        layers: Layers {
            done: true,
            layers: vec![Layer { name: text(), bytes: 1, error: some("text") }],
            coming: vec![contract::state::Coming {
                name: text(),
                bytes: 2,
                got: 1,
                from: text(),
                trouble: text(),
                by: 3,
            }],
        },
        sshd: Sshd {
            port: 22,
            listening: true,
            host_key: text(),
            fingerprint: text(),
            alias: text(),
            origin: text(),
            system: text(),
            waits: text(),
            more_host_keys: texts(),
            certificate: text(),
            sshfp: texts(),
            qr: text(),
            keys: texts(),
            password: true,
            problems: texts(),
        },
        devd: Devd {
            settled: true,
            writable: true,
            disks: vec![Disk { name: text(), diskseq: 1, guard: "guarded".to_string(), note: some("text") }],
            problems: texts(),
        },
    }
}

fn printed(picture: &Picture) -> Value {
    let Output::Json(text) = Answer::json(1, picture, exit::YES).unwrap().output else { panic!() };
    serde_json::from_str(&text).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

fn faults(value: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_is_one_and_describes_all_that_is_printed() {
    jsonschema::draft202012::meta::validate(&schema()).unwrap();
    assert_eq!(faults(&printed(&picture())), [""; 0]);
}

/// The keys of every object in a value, at any depth.
fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            keys(value, into);
        }),
        Value::Array(values) => values.iter().for_each(|value| keys(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The keys that a schema describes, and its objects that let others pass or have keys without a word on them.
fn described(schema: &Value, into: &mut BTreeSet<String>, lax: &mut Vec<String>) {
    let Value::Object(members) = schema else {
        if let Value::Array(schemas) = schema {
            schemas.iter().for_each(|schema| described(schema, into, lax));
        }
        return;
    };
    if let Some(Value::Object(properties)) = members.get("properties") {
        into.extend(properties.keys().cloned());
        let strict = members.get("additionalProperties") == Some(&Value::Bool(false));
        if members.get("type").is_some_and(|kind| kind == "object") && !strict {
            lax.push(properties.keys().cloned().collect::<Vec<_>>().join(" "));
        }
    }
    members.values().for_each(|schema| described(schema, into, lax));
}

#[test]
fn the_schema_is_strict_and_describes_nothing_that_is_not_there() {
    let (mut there, mut told, mut lax) = Default::default();
    keys(&printed(&picture()), &mut there);
    described(&schema(), &mut told, &mut lax);
    assert_eq!(told, there);
    assert_eq!(lax, [""; 0], "objects that let unknown keys pass");
}

#[test]
fn each_level_of_lockdown_is_in_the_schema_and_on_the_screen() {
    let colour = Colour(false);
    for (level, said) in [
        (Some(Level::Integrity), "Locked down (integrity): the kernel refuses text\n"),
        (Some(Level::Confidentiality), "Locked down (confidentiality): the kernel refuses text\n"),
        (None, ""),
    ] {
        let lockdown = level.map(|level| Lockdown { level, refused: &["text"] });
        let picture = Picture { lockdown, ..picture() };
        assert_eq!(faults(&printed(&picture)), [""; 0], "{level:?}");
        let screen = screen(&picture, colour, false);
        let lines: String = screen
            .lines()
            .filter(|line| line.starts_with("Locked"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(lines, said, "{level:?}");
    }
}

#[test]
fn the_schema_refuses_what_is_not_printed() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change)] = &[
        ("a key more", |value| value["drives"][0]["new"] = Value::from(1)),
        ("a key more at the top", |value| value["new"] = Value::from(1)),
        ("a key less", |value| drop(value["drives"][0].as_object_mut().unwrap().remove("size"))),
        ("a size that is text", |value| value["drives"][0]["size"] = Value::from("1G")),
        ("an unknown word", |value| value["drives"][0]["health"] = Value::from("ill")),
        ("room in a full overlay", |value| value["overlays"][1]["used"] = Value::from(1)),
        ("no room in a free overlay", |value| {
            drop(value["overlays"][0].as_object_mut().unwrap().remove("limit"));
        }),
        ("a level that refuses nothing", |value| value["lockdown"]["level"] = Value::from("none")),
        ("another schema", |value| value["schema"] = Value::from(2)),
    ];
    for (label, change) in cases {
        let mut value = printed(&picture());
        change(&mut value);
        assert_eq!(faults(&value).len(), 1, "{label}: {:?}", faults(&value));
    }
}

#[test]
fn the_login_begins_with_the_version_and_the_first_digits_of_the_images_hash() {
    let first = |version: Option<&str>, image: Option<&str>| {
        let picture =
            Picture { version: version.map(str::to_string), image: image.map(str::to_string), ..picture() };
        login(&picture, Colour(false)).lines().next().unwrap_or_default().to_string()
    };
    let hash = "0123456789abcdef0123456789abcdef";
    assert_eq!(first(Some("0.1+abc"), Some(hash)), "Lifeboat 0.1+abc, image 0123456789abcdef");
    let version_alone = "Lifeboat 0.1+abc";
    for image in [None, Some(""), Some("0123")] {
        assert_eq!(first(Some("0.1+abc"), image), version_alone, "{image:?}");
    }
    assert!(!first(None, Some(hash)).starts_with("Lifeboat"), "nothing says which version");
}
