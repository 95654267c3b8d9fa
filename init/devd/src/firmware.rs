//! What a person is told of firmware: the files that drivers asked for and did not find, which the kernel's log names, and
//! where each may come from. What a module says of itself (modinfo) is only what it might ask for.

use host::Root;
use host::blobs::{self, Missing};
use host::kmsg::Kmsg;
use std::os::fd::{AsFd, BorrowedFd};

/// Most files that are kept: a driver that asks again and again says nothing new.
const MOST: usize = 64;

#[derive(Default)]
pub struct Firmware {
    /// Not before the layers are there: what is missed until then is loaded once more.
    log: Option<Kmsg>,
    missed: Vec<Missing>,
}

impl Firmware {
    /// The layers are there. Without a log nothing is known to be missing.
    pub fn begin(&mut self) {
        if self.log.is_none() {
            self.log = Kmsg::from_start().map_err(|error| host::log!("read the kernel's log: {error}")).ok();
        }
        self.hear();
    }

    /// Readable when the kernel has said more.
    pub fn log(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref().map(AsFd::as_fd)
    }

    /// Takes what the kernel said since.
    pub fn hear(&mut self) {
        let Some(log) = &mut self.log else { return };
        loop {
            let lines = log.lines();
            if lines.is_empty() {
                break;
            }
            note(&mut self.missed, &lines);
        }
    }

    /// One line for each device that lacks a file now.
    pub fn problems(&self, root: &Root) -> Vec<String> {
        problems(root, &self.missed)
    }
}

fn note(missed: &mut Vec<Missing>, lines: &[String]) {
    for one in lines.iter().filter_map(|line| blobs::read(line)) {
        if missed.len() < MOST && !missed.contains(&one) {
            missed.push(one);
        }
    }
}

fn problems(root: &Root, missed: &[Missing]) -> Vec<String> {
    let lacking: Vec<&Missing> = missed.iter().filter(|one| !blobs::is_there(root, &one.file)).collect();
    let of = |one: &Missing| lacking.iter().filter(|other| other.device == one.device).count();
    let is_first = |place: usize| !lacking[..place].iter().any(|other| other.device == lacking[place].device);
    let first = lacking.iter().enumerate().filter(|(place, _)| is_first(*place)).map(|(_, one)| *one);
    first
        .map(|one| {
            let more = match of(one) {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            let module = blobs::module(root, &one.driver);
            let from = match blobs::layer(root, &one.file) {
                Some(layer) => format!("rescue add {layer}"),
                None => "no layer has it: put it below /usr/lib/firmware".to_string(),
            };
            format!(
                "{} ({}): its driver asked for the firmware {}{more}, which is not here: {from}, modprobe -r {module}, \
                 modprobe {module}",
                one.device, one.driver, one.file
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_a_driver_asked_for_is_named_with_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path()).unwrap();
        for path in ["usr/lib/firmware", "lifeboat"] {
            fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        fs::write(directory.path().join("lifeboat/layers.firmware"), "30-firmware ql2500_fw.bin\n").unwrap();
        let said = |lines: &[&str]| {
            let mut missed = Vec::new();
            for _ in 0..2 {
                // What is said twice is told once.
                note(&mut missed, &lines.iter().map(|line| line.to_string()).collect::<Vec<_>>());
            }
            problems(&root, &missed)
        };
        let missed = |driver: &str, device: &str, file: &str| {
            format!("{driver} {device}: Direct firmware load for {file} failed with error -2")
        };
        let rare = missed("qla2xxx", "0000:02:00.0", "ql2500_fw.bin");
        assert_eq!(
            said(&[&rare]),
            ["0000:02:00.0 (qla2xxx): its driver asked for the firmware ql2500_fw.bin, which is not here: \
              rescue add 30-firmware, modprobe -r qla2xxx, modprobe qla2xxx"]
        );
        let (one, two) =
            (missed("nfp", "0000:03:00.0", "n/a.nffw"), missed("nfp", "0000:03:00.0", "n/b.nffw"));
        let of_nobody = said(&[&one, "unrelated", &two]);
        assert_eq!(of_nobody.len(), 1, "{of_nobody:?}");
        assert!(
            of_nobody[0].contains("n/a.nffw (and 1 more), which is not here: no layer has it"),
            "{of_nobody:?}"
        );
        assert!(!of_nobody[0].contains("rescue add"), "{of_nobody:?}");
        assert_eq!(said(&[&rare, &one]).len(), 2);
        fs::write(directory.path().join("usr/lib/firmware/ql2500_fw.bin"), "").unwrap();
        assert_eq!(said(&[&rare]), [""; 0], "a layer brought it");
    }

    #[test]
    fn a_driver_that_asks_for_ever_takes_no_more_memory() {
        let mut missed = Vec::new();
        let lines: Vec<String> =
            (0..1000).map(|n| format!("a 1: Direct firmware load for {n} failed with error -2")).collect();
        note(&mut missed, &lines);
        assert_eq!(missed.len(), MOST);
    }
}
