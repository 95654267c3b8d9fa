//! What firmware and hypervisor hand in, as bytes: the SMBIOS table, and QEMU's fw_cfg entries.

use crate::Root;

/// The firmware's whole table, as the kernel found it; and its structures of type 11 (OEM strings) one
/// by one, by dmi-sysfs.
const TABLE: &str = "/sys/firmware/dmi/tables/DMI";
const ENTRIES: &str = "/sys/firmware/dmi/entries";
const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name";

/// SMBIOS structures, one after the other; those of the OEM strings are among them. Empty without.
pub fn smbios(root: &Root) -> Vec<u8> {
    root.read(TABLE).unwrap_or_else(|_| {
        let names = root.list(ENTRIES).unwrap_or_default();
        let oem = names.iter().filter_map(|name| name.to_str()).filter(|name| name.starts_with("11-"));
        oem.filter_map(|name| root.read(format!("{ENTRIES}/{name}/raw")).ok()).flatten().collect()
    })
}

/// A file that was given to QEMU under this name (`opt/...`). `None` without, or before the driver is
/// loaded.
pub fn fw_cfg(root: &Root, name: &str) -> Option<Vec<u8>> {
    root.read(format!("{FW_CFG}/{name}/raw")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_without_it_the_entries_of_oem_strings() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: String, bytes: &[u8]| {
            let path = dir.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let root = Root::at(dir.path()).unwrap();
        assert_eq!((smbios(&root), fw_cfg(&root, "opt/x")), (Vec::new(), None));
        write(format!("{ENTRIES}/11-0/raw"), b"eleven");
        write(format!("{ENTRIES}/1-0/raw"), b"one");
        assert_eq!(smbios(&root), b"eleven");
        write(TABLE.to_string(), b"all");
        assert_eq!(smbios(&root), b"all");
        write(format!("{FW_CFG}/opt/x/raw"), b"x");
        assert_eq!(fw_cfg(&root, "opt/x").unwrap(), b"x");
    }
}
