//! NICs whose driver asked for a file that is not there: the kernel says so once, in its log, and then there is no
//! interface, or one that does not work.

use contract::state;
use host::Root;
use host::kmsg::Kmsg;
use serde::Serialize;

/// One file that one card lacks.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// `0000:02:00.0`
    pub device: String,
    pub driver: String,
    /// Below /usr/lib/firmware.
    pub file: String,
}

/// What is still missing. Without a log that can be read, nothing is known to be.
pub fn missing(root: &Root, network: &state::Netd) -> Vec<Missing> {
    let lines = Kmsg::whole().unwrap_or_default();
    let is_nic = |missing: &Missing| {
        host::nic::is_controller(root, &missing.device)
            || network.links.iter().any(|link| link.driver == missing.driver)
    };
    let mut found: Vec<Missing> = Vec::new();
    for one in lines.iter().filter_map(|line| read(line)) {
        if is_nic(&one) && !host::nic::has_firmware(root, &one.file) && !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// As the kernel has it (drivers/base/firmware_loader/main.c), and as Debian's kernel does.
fn read(line: &str) -> Option<Missing> {
    let (head, file) = match line.split_once(": Direct firmware load for ") {
        Some((head, rest)) => (head, rest.split_once(" failed with error ")?.0),
        None => {
            let (head, rest) = line.split_once(": firmware: failed to load ")?;
            (head, rest.split_once(" (")?.0)
        }
    };
    let (driver, device) = head.rsplit_once(' ')?;
    let is_plain = !file.is_empty() && !file.contains("..") && !file.starts_with('/');
    is_plain.then(|| Missing {
        device: device.to_string(),
        driver: driver.to_string(),
        file: file.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_name_the_card_and_the_file() {
        let want = |file: &str| {
            let (device, driver) = ("0000:02:00.0".to_string(), "bnx2".to_string());
            Some(Missing { device, driver, file: file.to_string() })
        };
        for (line, want) in [
            (
                "bnx2 0000:02:00.0: Direct firmware load for bnx2/a-6.2.3.fw failed with error -2",
                want("bnx2/a-6.2.3.fw"),
            ),
            ("bnx2 0000:02:00.0: firmware: failed to load bnx2/a-6.2.3.fw (-2)", want("bnx2/a-6.2.3.fw")),
            ("bnx2 0000:02:00.0: firmware: direct-loading firmware bnx2/a.fw", None),
            ("bnx2 0000:02:00.0: Direct firmware load for ../../etc/shadow failed with error -2", None),
            ("Direct firmware load for", None),
            ("", None),
        ] {
            assert_eq!(read(line), want, "{line}");
        }
    }

    #[test]
    fn a_card_that_has_no_interface_is_one_all_the_same_and_a_disk_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("sys/bus/pci/devices/0000:02:00.0/class", "0x020000\n");
        write("sys/bus/pci/devices/0000:03:00.0/class", "0x010700\n");
        write("usr/lib/firmware/bnx2/there.fw.xz", "");
        let root = Root::at(directory.path()).unwrap();
        let is = |device: &str| host::nic::is_controller(&root, device);
        assert!(is("0000:02:00.0") && !is("0000:03:00.0") && !is("../x") && !is(""));
        assert!(
            host::nic::has_firmware(&root, "bnx2/there.fw")
                && !host::nic::has_firmware(&root, "bnx2/gone.fw")
        );
    }
}
