//! Devices that want a module: every `modalias` below /sys/bus.

use crate::Root;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanting {
    pub bus: String,
    pub name: String,
    pub alias: String,
}

/// Devices without a driver that have an alias, in the order of bus and name.
pub fn without_driver(root: &Root) -> Vec<Wanting> {
    let mut found = Vec::new();
    for bus in root.list("/sys/bus").unwrap_or_default() {
        let bus = bus.to_string_lossy().into_owned();
        let directory = format!("/sys/bus/{bus}/devices");
        for name in root.list(&directory).unwrap_or_default() {
            let name = name.to_string_lossy().into_owned();
            let device = format!("{directory}/{name}");
            if let Some(alias) = root.line(format!("{device}/modalias"))
                && !root.exists(format!("{device}/driver"))
            {
                found.push(Wanting { bus: bus.clone(), name, alias });
            }
        }
    }
    found
}
