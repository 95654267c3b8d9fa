//! What ACPI tells of buttons: the family `acpi_event` of generic netlink (drivers/acpi/event.c, linux/genetlink.h).

use super::netlink::{Request, attributes, messages, receive, send, u32_at};
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;

const FAMILY: &[u8] = b"acpi_event\0";
const GROUP: &[u8] = b"acpi_mc_group\0";
/// Of `struct genlmsghdr`: a command, its version, two bytes reserved.
const HEAD: usize = 4;
/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_MCAST_GROUPS and two of each of these.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_NAME: u16 = 2;
const GROUPS: u16 = 7;
const GROUP_NAME: u16 = 1;
const GROUP_ID: u16 = 2;
/// ACPI_GENL_ATTR_EVENT: `struct acpi_genl_event`, which begins with the class of the device, in so many bytes.
const EVENT: u16 = 1;
const CLASS: usize = 20;
/// drivers/acpi/button.c
const POWER: &[u8] = b"button/power\0";
/// Longer than any datagram of the family.
const LONGEST: usize = 8192;

/// A socket that hears ACPI's events and does not block.
///
/// # Errors
///
/// `NotFound` where the kernel has no such family.
pub fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = || rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(GENERIC));
    let asked = socket()?;
    send(&asked, &question())?;
    let mut buffer = [0; LONGEST];
    // The kernel has answered before send returned.
    let length = receive(&asked, &mut buffer)?.unwrap_or(0).min(LONGEST);
    let group = group(&buffer[..length]).ok_or(io::ErrorKind::NotFound)?;
    let mask = 1_u32.checked_shl(group.wrapping_sub(1)).ok_or(io::ErrorKind::Unsupported)?;
    let socket = socket()?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, mask))?;
    Ok(socket)
}

/// Whether the power button was pressed since the last call.
pub fn power_pressed(socket: &OwnedFd) -> io::Result<bool> {
    let (mut pressed, mut buffer) = (false, [0; LONGEST]);
    while let Some(length) = receive(socket, &mut buffer)? {
        pressed |= is_power(&buffer[..length.min(LONGEST)]);
    }
    Ok(pressed)
}

fn question() -> Vec<u8> {
    Request::new(CONTROL, 0, 0, &[GET_FAMILY, 1, 0, 0]).attribute(FAMILY_NAME, FAMILY).finish()
}

/// The number of the group in what the kernel says of the family.
fn group(answer: &[u8]) -> Option<u32> {
    let message = messages(answer).into_iter().find(|message| message.kind == CONTROL)?;
    let of = |attributes: &[(u16, &[u8])], wanted: u16| {
        attributes.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec())
    };
    let groups = of(&attributes(message.body.get(HEAD..)?), GROUPS)?;
    let found = attributes(&groups).into_iter().find_map(|(_, one)| {
        let one = attributes(one);
        let id = of(&one, GROUP_ID).filter(|id| id.len() == 4)?;
        (of(&one, GROUP_NAME)? == GROUP).then(|| u32_at(&id, 0))
    });
    found.filter(|group| *group > 0)
}

fn is_power(datagram: &[u8]) -> bool {
    let is_event = |(kind, event): &(u16, &[u8])| {
        *kind == EVENT && event.get(..CLASS).is_some_and(|class| class.starts_with(POWER))
    };
    messages(datagram)
        .iter()
        .filter_map(|message| message.body.get(HEAD..))
        .any(|body| attributes(body).iter().any(is_event))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::u16_at;
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = (4 + value.len()) as u16;
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = (16 + HEAD + body.len()) as u32;
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], &[1, 1, 0, 0], body].concat()
    }

    /// As drivers/acpi/event.c lays it out: class, 15 bytes of the device's name, type and data.
    fn event(class: &str) -> Vec<u8> {
        let mut bytes = class.as_bytes().to_vec();
        bytes.resize(CLASS, 0);
        bytes.extend_from_slice(b"LNXPWRBN:00\0\0\0\0\0\x80\0\0\0\x01\0\0\0");
        message(24, &attribute(EVENT, &bytes))
    }

    #[test]
    fn the_power_button_is_told_from_the_others() {
        assert!(is_power(&event("button/power")));
        assert!(is_power(&[event("button/sleep"), event("button/power")].concat()));
        for other in ["button/sleep", "button/lid", "ac_adapter", "button/power2", ""] {
            assert!(!is_power(&event(other)), "{other}");
        }
        let whole = event("button/power");
        for cut in 0..whole.len() {
            assert!(!is_power(&whole[..cut]), "cut at {cut}");
        }
    }

    #[test]
    fn the_group_is_the_one_of_the_name() {
        let one = |name: &[u8], id: u32| {
            attribute(1, &[attribute(GROUP_NAME, name), attribute(GROUP_ID, &id.to_ne_bytes())].concat())
        };
        let answer = |groups: &[Vec<u8>]| {
            let body =
                [attribute(FAMILY_NAME, FAMILY), attribute(GROUPS | 0x8000, &groups.concat())].concat();
            message(CONTROL, &body)
        };
        assert_eq!(group(&answer(&[one(b"other\0", 3), one(GROUP, 5)])), Some(5));
        assert_eq!(group(&answer(&[one(b"other\0", 3)])), None);
        assert_eq!(group(&answer(&[one(GROUP, 0)])), None);
        // NLMSG_ERROR: no such family.
        assert_eq!(group(&message(2, &[0xfe, 0xff, 0xff, 0xff])), None);
        let whole = answer(&[one(GROUP, 5)]);
        for cut in 0..whole.len() {
            assert_eq!(group(&whole[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_question_is_one_message_of_its_own_length() {
        let question = question();
        let [message] = messages(&question)[..] else { panic!("one message: {question:?}") };
        assert_eq!((message.kind, u16_at(&question, 6)), (CONTROL, 1));
        assert_eq!(attributes(&message.body[HEAD..]), [(FAMILY_NAME, FAMILY)]);
    }
}
