//! /dev/virtio-ports/NAME for the ports of a hypervisor's serial device, as udev's 50-udev-default.rules names them: by
//! the name that the hypervisor gave the port. Hostile: a name that is no file name gets no link.

use host::Root;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Makes the links below `base` what the ports are now.
pub fn link(root: &Root, base: &Path) {
    let links = links(root);
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if fs::read_link(entry.path()).ok() != links.get(&name).cloned() {
            said(fs::remove_file(entry.path()), &entry.path());
        }
    }
    for (name, target) in &links {
        let path = base.join(name);
        match fs::create_dir_all(base).and_then(|()| symlink(target, &path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => said(result, &path),
        }
    }
}

/// Of two ports with one name the first has it.
fn links(root: &Root) -> BTreeMap<String, PathBuf> {
    let mut links = BTreeMap::new();
    let mut ports = root.list("/sys/class/virtio-ports").unwrap_or_default();
    ports.sort();
    for port in ports {
        let port = port.to_string_lossy();
        let name = root.line(format!("/sys/class/virtio-ports/{port}/name")).unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
        if !name.is_empty() && name.chars().all(is_plain) && !name.starts_with('.') {
            links.entry(name).or_insert_with(|| Path::new("..").join(port.as_ref()));
        }
    }
    links
}

fn said(result: io::Result<()>, path: &Path) {
    if let Err(error) = result {
        host::log!("{}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_the_names_that_the_hypervisor_gave_them_and_lose_them_with_the_port() {
        let dir = tempfile::tempdir().unwrap();
        let (sys, base) = (dir.path().join("sys/class/virtio-ports"), dir.path().join("dev/virtio-ports"));
        for (port, name) in [
            ("vport1p1", "lifeboat\n"),
            ("vport1p2", "org.qemu.guest_agent.0\n"),
            ("vport2p1", "lifeboat\n"),
            ("vport2p2", "../sda\n"),
        ] {
            fs::create_dir_all(sys.join(port)).unwrap();
            fs::write(sys.join(port).join("name"), name).unwrap();
        }
        let root = Root::at(dir.path()).unwrap();
        let now = || {
            link(&root, &base);
            let names = fs::read_dir(&base).unwrap().map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), fs::read_link(entry.path()).unwrap())
            });
            names.collect::<BTreeMap<_, _>>()
        };
        let agent = "org.qemu.guest_agent.0".to_string();
        let target = |port: &str| PathBuf::from(format!("../{port}"));
        let both = [("lifeboat".to_string(), target("vport1p1")), (agent.clone(), target("vport1p2"))].into();
        assert_eq!(now(), both);
        assert_eq!(now(), both, "and again");
        fs::remove_dir_all(sys.join("vport1p1")).unwrap();
        assert_eq!(now(), [("lifeboat".to_string(), target("vport2p1")), (agent, target("vport1p2"))].into());
    }
}
