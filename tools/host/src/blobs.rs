//! Firmware files that drivers ask the kernel for. Of one that is not there it says so once, in its log, and then there is
//! no device, or one that does less than it could.

use crate::Root;
use contract::paths;
use serde::Serialize;

/// One file that one device lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// `0000:02:00.0`
    pub device: String,
    pub driver: String,
    /// Below /usr/lib/firmware.
    pub file: String,
}

/// A line of the kernel's log as the kernel has it (drivers/base/firmware_loader/main.c), and as Debian's kernel does.
pub fn read(line: &str) -> Option<Missing> {
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

/// Whether a driver would find this file now (drivers/base/firmware_loader: plain, .zst, .xz).
pub fn is_there(root: &Root, file: &str) -> bool {
    ["", ".zst", ".xz"].iter().any(|end| root.exists(format!("/usr/lib/firmware/{file}{end}")))
}

/// The layer of the image that has the file. `None`: no layer has, or the nucleus itself.
pub fn layer(root: &Root, file: &str) -> Option<String> {
    let list = root.read_text(paths::LAYER_FIRMWARE).ok()?;
    let mut lines = list.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(_, name)| *name == file).map(|(layer, _)| layer.to_string())
}

/// The module of a driver, which may go by another name: `liquidio` of `LiquidIO`. That of the driver where none says so.
pub fn module(root: &Root, driver: &str) -> String {
    let is_plain = !driver.contains('/') && !driver.starts_with('.');
    let buses = root.list("/sys/bus").unwrap_or_default();
    let link = |bus: &std::ffi::OsString| {
        root.link(format!("/sys/bus/{}/drivers/{driver}/module", bus.to_string_lossy())).ok()
    };
    let found = buses.iter().filter(|_| is_plain).find_map(link);
    let name =
        found.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| driver.to_string())
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
    fn a_file_is_found_packed_or_in_a_layer_s_list_and_a_driver_s_module_by_its_link() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("usr/lib/firmware/bnx2/there.fw.xz", "");
        write("lifeboat/layers.firmware", "10-userland a/b.bin\n30-firmware b.bin\n");
        write("sys/bus/pci/drivers/LiquidIO/bind", "");
        let link = directory.path().join("sys/bus/pci/drivers/LiquidIO/module");
        std::os::unix::fs::symlink("../../../../module/liquidio", link).unwrap();
        let root = Root::at(directory.path()).unwrap();
        assert!(is_there(&root, "bnx2/there.fw") && !is_there(&root, "bnx2/gone.fw"));
        assert_eq!(layer(&root, "b.bin").as_deref(), Some("30-firmware"));
        assert_eq!(layer(&root, "a/b.bin").as_deref(), Some("10-userland"));
        assert_eq!(layer(&root, "of-nobody.bin"), None);
        for (driver, want) in [("LiquidIO", "liquidio"), ("bnx2", "bnx2"), ("../x", "../x")] {
            assert_eq!(module(&root, driver), want, "{driver}");
        }
    }
}
