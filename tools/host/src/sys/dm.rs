//! Device mapper: /dev/mapper/control (linux/dm-ioctl.h; Documentation/admin-guide/device-mapper).
//!
//! A device is made in three calls, as dmsetup(8) makes it: created without content, its table
//! loaded beside the live one (there is none), and resumed, which makes that table the live one.
//! devtmpfs has its node, /dev/dm-N, from the load on; names below /dev/mapper are nobody's but those who make them.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::AsRawFd;

/// The interface that the kernel has had since 2.6: it takes any minor version up to its own.
const VERSION: [u32; 3] = [4, 0, 0];

/// `_IOWR(DM_IOCTL, COMMAND, struct dm_ioctl)` with the commands of dm-ioctl.h.
const fn command(number: libc::Ioctl) -> libc::Ioctl {
    0xC138_FD00 | number
}
const DM_VERSION: libc::Ioctl = command(0);
const DM_LIST_DEVICES: libc::Ioctl = command(2);
const DM_DEV_CREATE: libc::Ioctl = command(3);
const DM_DEV_REMOVE: libc::Ioctl = command(4);
const DM_DEV_SUSPEND: libc::Ioctl = command(6);
const DM_TABLE_LOAD: libc::Ioctl = command(9);
const DM_TABLE_DEPS: libc::Ioctl = command(11);
const DM_TABLE_STATUS: libc::Ioctl = command(12);
const DM_TARGET_MSG: libc::Ioctl = command(14);

// enum of flags, dm-ioctl.h
const READONLY: u32 = 1 << 0;
const SUSPEND: u32 = 1 << 1;
const STATUS_TABLE: u32 = 1 << 4;
const BUFFER_FULL: u32 = 1 << 8;
/// Asking a target how it is does not make it write its metadata first.
const NOFLUSH: u32 = 1 << 11;

/// DM_NAME_LEN, DM_UUID_LEN, DM_MAX_TYPE_NAME, with the terminating NUL.
const NAME: usize = 128;
const UUID: usize = 129;
const KIND: usize = 16;

/// Room behind the header: tables of a thousand lines, lists of as many devices.
const ROOM: usize = 64 << 10;

/// `struct dm_ioctl`
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_number: u32,
    padding: u32,
    device: u64,
    name: [u8; NAME],
    uuid: [u8; UUID],
    data: [u8; 7],
}

/// The header and what it carries.
#[repr(C)]
struct Message {
    header: Header,
    payload: [u8; ROOM],
}

/// One line of a table, or of its status. Sectors of 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub start: u64,
    pub length: u64,
    /// `snapshot`, `linear`
    pub kind: String,
    /// What the target reads, or says of itself.
    pub text: String,
}

/// A mapped device by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub major: u32,
    pub minor: u32,
}

impl Numbers {
    fn of(device: u64) -> Numbers {
        Numbers { major: rustix::fs::major(device), minor: rustix::fs::minor(device) }
    }
}

/// The version of the kernel's interface: major, minor, patch level.
pub fn version() -> io::Result<[u32; 3]> {
    let mut message = Message::new("", "")?;
    message.send(DM_VERSION)?;
    Ok(message.header.version)
}

/// Makes a device without content. `AlreadyExists` (or busy) where the name or the UUID is taken.
pub fn create(name: &str, uuid: &str) -> io::Result<Numbers> {
    let mut message = Message::new(name, uuid)?;
    message.send(DM_DEV_CREATE)?;
    Ok(Numbers::of(message.header.device))
}

/// Puts a table beside the live one. The kernel opens the devices that the table names.
pub fn load(name: &str, table: &[Target], read_only: bool) -> io::Result<()> {
    let mut message = Message::new(name, "")?;
    message.header.flags = if read_only { READONLY } else { 0 };
    message.put(table)?;
    message.send(DM_TABLE_LOAD)
}

/// Makes the loaded table the live one, and lets I/O through.
pub fn resume(name: &str) -> io::Result<()> {
    Message::new(name, "")?.send(DM_DEV_SUSPEND)
}

/// Holds I/O back, once what is under way has ended; a file system above is made consistent first.
pub fn suspend(name: &str) -> io::Result<()> {
    let mut message = Message::new(name, "")?;
    message.header.flags = SUSPEND;
    message.send(DM_DEV_SUSPEND)
}

/// Removes a mapped device by its name. `ResourceBusy` while anything has it open.
pub fn remove(name: &str) -> io::Result<()> {
    Message::new(name, "")?.send(DM_DEV_REMOVE)
}

/// How each target of a device says that it is. Opens no device and waits for none.
pub fn status(name: &str) -> io::Result<Vec<Target>> {
    targets(name, NOFLUSH)
}

/// The live table.
pub fn table(name: &str) -> io::Result<Vec<Target>> {
    targets(name, STATUS_TABLE | NOFLUSH)
}

fn targets(name: &str, flags: u32) -> io::Result<Vec<Target>> {
    let mut message = Message::new(name, "")?;
    message.header.flags = flags;
    message.send(DM_TABLE_STATUS)?;
    parse_targets(message.answer(), message.header.target_count).ok_or_else(unclear)
}

/// Tells the target at this sector something, as `dmsetup message` does.
pub fn tell(name: &str, sector: u64, text: &str) -> io::Result<()> {
    let mut message = Message::new(name, "")?;
    // struct dm_target_msg: the sector, and a string with its NUL.
    let place = message.payload.get_mut(8..8 + text.len()).filter(|_| text.len() < ROOM - 8);
    place.ok_or_else(|| io::Error::other("the message is too long"))?.copy_from_slice(text.as_bytes());
    message.payload[..8].copy_from_slice(&sector.to_ne_bytes());
    message.send(DM_TARGET_MSG)
}

/// What the live table stands on.
pub fn deps(name: &str) -> io::Result<Vec<Numbers>> {
    let mut message = Message::new(name, "")?;
    message.send(DM_TABLE_DEPS)?;
    parse_deps(message.answer()).ok_or_else(unclear)
}

/// Every mapped device by its name.
pub fn list() -> io::Result<Vec<(String, Numbers)>> {
    let mut message = Message::new("", "")?;
    message.send(DM_LIST_DEVICES)?;
    parse_names(message.answer()).ok_or_else(unclear)
}

fn unclear() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "device mapper gave an answer that is not understood")
}

impl Message {
    /// Errors: a name or UUID longer than the kernel's.
    fn new(name: &str, uuid: &str) -> io::Result<Box<Message>> {
        let header = Header {
            version: VERSION,
            data_size: size_of::<Message>() as u32,
            data_start: size_of::<Header>() as u32,
            target_count: 0,
            open_count: 0,
            flags: 0,
            event_number: 0,
            padding: 0,
            device: 0,
            name: terminated(name)?,
            uuid: terminated(uuid)?,
            data: [0; 7],
        };
        Ok(Box::new(Message { header, payload: [0; ROOM] }))
    }

    fn put(&mut self, table: &[Target]) -> io::Result<()> {
        let bytes = encode(table)?;
        let place = self.payload.get_mut(..bytes.len());
        let place = place
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the table is longer than 64 KiB"))?;
        place.copy_from_slice(&bytes);
        self.header.target_count = u32::try_from(table.len()).map_err(io::Error::other)?;
        Ok(())
    }

    fn send(&mut self, command: libc::Ioctl) -> io::Result<()> {
        let control = rustix::fs::open("/dev/mapper/control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let message: *mut Message = self;
        // SAFETY: the kernel reads and writes `data_size` bytes at the pointer, which are this struct's own (tested).
        match unsafe { libc::ioctl(control.as_raw_fd(), command, message) } {
            0 if self.header.flags & BUFFER_FULL != 0 => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "device mapper has more to say than 64 KiB"))
            }
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The kernel says where its data begins, and how much there is of header and data.
    fn answer(&self) -> &[u8] {
        let start = self.header.data_start as usize;
        let end = self.header.data_size as usize;
        let (from, to) =
            (start.saturating_sub(size_of::<Header>()), end.saturating_sub(size_of::<Header>()).min(ROOM));
        self.payload.get(from..to).unwrap_or_default()
    }
}

fn terminated<const N: usize>(text: &str) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // The last byte stays the terminating NUL.
    match bytes[..N - 1].get_mut(..text.len()) {
        Some(place) if !text.bytes().any(|c| c == 0) => place.copy_from_slice(text.as_bytes()),
        _ => {
            let text = format!("{text:?} is no name of at most {} bytes", N - 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    Ok(bytes)
}

/// Bytes of `struct dm_target_spec`: start, length, status, next, type.
const SPEC: usize = 8 + 8 + 4 + 4 + KIND;

/// Each `dm_target_spec` with its string behind it, the next one on a boundary of eight; `next` counts from the
/// start of its own.
fn encode(table: &[Target]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for target in table {
        let length = (SPEC + target.text.len() + 1).next_multiple_of(8);
        let begin = bytes.len();
        bytes.extend(target.start.to_ne_bytes());
        bytes.extend(target.length.to_ne_bytes());
        bytes.extend(0_i32.to_ne_bytes());
        bytes.extend(u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes());
        bytes.extend(terminated::<KIND>(&target.kind)?);
        bytes.extend(target.text.as_bytes());
        bytes.resize(begin + length, 0);
    }
    Ok(bytes)
}

/// In an answer, `next` counts from the start of the first (retrieve_status in drivers/md/dm-ioctl.c).
fn parse_targets(bytes: &[u8], count: u32) -> Option<Vec<Target>> {
    let mut targets = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let spec = bytes.get(at..)?;
        targets.push(Target {
            start: u64_at(spec, 0)?,
            length: u64_at(spec, 8)?,
            kind: text(spec.get(24..SPEC)?),
            text: text(spec.get(SPEC..)?),
        });
        let next = u32_at(spec, 20)? as usize;
        if next <= at && targets.len() < count as usize {
            return None;
        }
        at = next;
    }
    Some(targets)
}

/// `struct dm_target_deps`: count, padding, then so many device numbers.
fn parse_deps(bytes: &[u8]) -> Option<Vec<Numbers>> {
    let count = u32_at(bytes, 0)? as usize;
    (0..count).map(|n| Some(Numbers::of(u64_at(bytes, n.checked_mul(8)?.checked_add(8)?)?))).collect()
}

/// `struct dm_name_list`: device number, offset of the next one from this one (0: the last), name.
fn parse_names(bytes: &[u8]) -> Option<Vec<(String, Numbers)>> {
    let mut names = Vec::new();
    let mut rest = bytes;
    loop {
        let device = u64_at(rest, 0)?;
        // One entry of device number 0 stands for none.
        if device != 0 {
            names.push((text(rest.get(12..)?), Numbers::of(device)));
        }
        match u32_at(rest, 8)? as usize {
            0 => return Some(names),
            next => rest = rest.get(next..)?,
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Up to the NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|c| *c == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_laid_out_as_the_kernel_has_them() {
        assert_eq!(size_of::<Header>(), 312);
        assert_eq!(std::mem::offset_of!(Header, device), 40);
        assert_eq!(std::mem::offset_of!(Header, name), 48);
        assert_eq!(std::mem::offset_of!(Header, uuid), 176);
        assert_eq!(std::mem::offset_of!(Message, payload), 312);
        assert_eq!(size_of::<Message>(), 312 + ROOM);
        assert_eq!(SPEC, 40);
        assert_eq!((DM_VERSION, DM_TABLE_STATUS), (0xC138_FD00, 0xC138_FD0C));
    }

    fn target(start: u64, text: &str) -> Target {
        Target { start, length: 8, kind: "snapshot".to_string(), text: text.to_string() }
    }

    #[test]
    fn a_table_is_a_chain_of_specs_on_boundaries_of_eight() {
        let bytes = encode(&[target(0, "/dev/sda1 /dev/loop7 PO 8"), target(8, "x")]).unwrap();
        let first = (40_usize + 25 + 1).next_multiple_of(8);
        assert_eq!(bytes.len(), first + 48);
        assert_eq!(u32_at(&bytes, 20), Some(first as u32));
        assert_eq!((u64_at(&bytes, first), u32_at(&bytes, first + 20)), (Some(8), Some(48)));
        assert_eq!(&bytes[24..33], b"snapshot\0");
        assert!(encode(&[Target { kind: "a_name_of_16_byte".to_string(), ..target(0, "") }]).is_err());
    }

    #[test]
    fn a_status_is_read_by_offsets_from_its_start() {
        let table = [target(0, "16/4096 8"), target(8, "Invalid")];
        let mut bytes = encode(&table).unwrap();
        let (first, all) = (u32_at(&bytes, 20).unwrap() as usize, bytes.len() as u32);
        // The kernel's own counting, see parse_targets.
        bytes[first + 20..first + 24].copy_from_slice(&all.to_ne_bytes());
        assert_eq!(parse_targets(&bytes, 2).unwrap(), table);
        for short in 0..bytes.len() {
            // Whatever is cut off, nothing is read beyond it.
            let _ = parse_targets(&bytes[..short], 2);
        }
        bytes[20..24].fill(0);
        assert_eq!(parse_targets(&bytes, 2), None, "a chain that stands still");
    }

    #[test]
    fn lists_of_devices_are_read() {
        let mut bytes = Vec::new();
        for (device, next, name) in [(0xfd00_u64, 32_u32, "over-sda1"), (0xfd01, 0, "vg-root")] {
            bytes.extend(device.to_ne_bytes());
            bytes.extend(next.to_ne_bytes());
            bytes.extend(name.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(32), 0);
        }
        let numbers = |minor| Numbers { major: 253, minor };
        let want = [("over-sda1".to_string(), numbers(0)), ("vg-root".to_string(), numbers(1))];
        assert_eq!(parse_names(&bytes).unwrap(), want);
        assert_eq!(parse_names(&[0; 16]).unwrap(), []);
        let deps: Vec<u8> = [2_u64, 0x801, 0x700].iter().flat_map(|number| number.to_ne_bytes()).collect();
        let want = [Numbers { major: 8, minor: 1 }, Numbers { major: 7, minor: 0 }];
        assert_eq!(parse_deps(&deps).unwrap(), want);
        assert_eq!(parse_deps(&deps[..12]), None);
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused_before_the_kernel_is_asked() {
        assert!(Message::new(&"a".repeat(127), "").is_ok());
        assert!(Message::new(&"a".repeat(128), "").is_err());
        assert!(Message::new("a\0b", "").is_err());
    }
}
