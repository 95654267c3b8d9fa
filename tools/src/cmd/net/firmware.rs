//! NICs whose driver asked for a file that is not there: the kernel says so once, in its log, and then there is no
//! interface, or one that does not work.

use contract::state;
use host::Root;
pub use host::blobs::Missing;
use host::blobs::{is_there, read};
use host::kmsg::Kmsg;

/// What is still missing. Without a log that can be read, nothing is known to be.
pub fn missing(root: &Root, network: &state::Netd) -> Vec<Missing> {
    let lines = Kmsg::whole().unwrap_or_default();
    let is_nic = |missing: &Missing| {
        host::nic::is_controller(root, &missing.device)
            || network.links.iter().any(|link| link.driver == missing.driver)
    };
    let mut found: Vec<Missing> = Vec::new();
    for one in lines.iter().filter_map(|line| read(line)) {
        if is_nic(&one) && !is_there(root, &one.file) && !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let root = Root::at(directory.path()).unwrap();
        let is = |device: &str| host::nic::is_controller(&root, device);
        assert!(is("0000:02:00.0") && !is("0000:03:00.0") && !is("../x") && !is(""));
    }
}
