//! What `rescue lsblk` tells, to those who look at disks without a person.

use crate::rescue;
use serde::Deserialize;
use std::io;

/// A block device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device {
    pub path: String,
    pub fstype: String,
    pub uuid: String,
    pub label: String,
    pub kind: String,
    /// Something stands on it, or it has a table that says so.
    pub is_divided: bool,
}

impl Device {
    /// Put together, as opposed to plugged in.
    pub fn is_assembled(&self) -> bool {
        !matches!(self.kind.as_str(), "disk" | "part" | "rom" | "loop")
    }
}

/// These, or without names all; each is looked at with a deadline.
pub fn devices(paths: &[String]) -> io::Result<Vec<Device>> {
    let mut words = vec!["lsblk", "-J", "-o", "PATH,FSTYPE,UUID,LABEL,TYPE,PTTYPE"];
    words.extend(paths.iter().map(String::as_str));
    Ok(parse(&rescue::call(&words)?)?)
}

/// A tree, in which what stands on two is there twice.
fn parse(text: &[u8]) -> serde_json::Result<Vec<Device>> {
    #[derive(Deserialize)]
    struct Node {
        path: Option<String>,
        fstype: Option<String>,
        uuid: Option<String>,
        label: Option<String>,
        pttype: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
        #[serde(default)]
        children: Vec<Node>,
    }
    #[derive(Deserialize)]
    struct Tree {
        blockdevices: Vec<Node>,
    }
    let mut waiting: Vec<Node> = serde_json::from_slice::<Tree>(text)?.blockdevices;
    waiting.reverse();
    let mut devices: Vec<Device> = Vec::new();
    while let Some(node) = waiting.pop() {
        let device = Device {
            path: node.path.unwrap_or_default(),
            fstype: node.fstype.unwrap_or_default(),
            uuid: node.uuid.unwrap_or_default(),
            label: node.label.unwrap_or_default(),
            kind: node.kind.unwrap_or_default(),
            is_divided: node.pttype.is_some() || !node.children.is_empty(),
        };
        if !devices.iter().any(|known| known.path == device.path) {
            devices.push(device);
        }
        waiting.extend(node.children.into_iter().rev());
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_devices_is_a_list_with_each_once() {
        let md = r#"{"path":"/dev/md2","fstype":"ext4","uuid":"u","type":"raid1"}"#;
        let disk = |name: &str| {
            format!(r#"{{"path":"{name}","fstype":null,"uuid":null,"type":"disk","children":[{md}]}}"#)
        };
        let text = format!(r#"{{"blockdevices":[{},{}]}}"#, disk("/dev/sda"), disk("/dev/sdb"));
        let devices = parse(text.as_bytes()).unwrap();
        let paths: Vec<&str> = devices.iter().map(|device| device.path.as_str()).collect();
        assert_eq!(paths, ["/dev/sda", "/dev/md2", "/dev/sdb"]);
        assert_eq!(devices.iter().map(Device::is_assembled).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(devices.iter().map(|device| device.is_divided).collect::<Vec<_>>(), [true, false, true]);
    }
}
