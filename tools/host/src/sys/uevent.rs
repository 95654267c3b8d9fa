//! Kernel uevents (NETLINK_KOBJECT_UEVENT, lib/kobject_uevent.c).

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

/// A machine with a thousand disks sends some megabytes at once.
const RECEIVE_BUFFER: usize = 16 << 20;
/// UEVENT_BUFFER_SIZE is 2048, and the header comes on top.
const LONGEST: usize = 8192;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `move`, `bind`, `unbind`, `online`, `offline`.
    pub action: String,
    /// Below /sys.
    pub path: String,
    pub fields: BTreeMap<String, String>,
}

/// A socket that hears the kernel's own uevents and does not block.
pub fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
    // Beyond the system's limit where we may, which root may.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    }
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1))?;
    Ok(socket)
}

/// The next uevent; `None` when there is none now. `ENOBUFS`: some were lost.
pub fn receive(socket: &OwnedFd) -> io::Result<Option<Uevent>> {
    let mut buffer = [0; LONGEST];
    match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
        Ok((length, _)) => Ok(Some(parse(&buffer[..length.min(LONGEST)]))),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `ACTION@PATH\0KEY=VALUE\0...`
fn parse(bytes: &[u8]) -> Uevent {
    let mut event = Uevent::default();
    for (number, part) in bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty()).enumerate() {
        let text = String::from_utf8_lossy(part);
        if number == 0 {
            let (action, path) = text.split_once('@').unwrap_or_default();
            (event.action, event.path) = (action.to_string(), path.to_string());
        } else if let Some((key, value)) = text.split_once('=') {
            event.fields.insert(key.to_string(), value.to_string());
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_action_path_and_fields() {
        let event =
            parse(b"add@/devices/x/block/sda\0ACTION=add\0SUBSYSTEM=block\0DEVNAME=sda\0MODALIAS=a=b\0");
        assert_eq!((event.action.as_str(), event.path.as_str()), ("add", "/devices/x/block/sda"));
        assert_eq!(event.fields["MODALIAS"], "a=b");
        assert_eq!(parse(b"libudev\0nonsense"), Uevent::default());
    }
}
