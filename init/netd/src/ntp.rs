//! The clock by SNTP (RFC 4330; the packet is RFC 5905's, section 7.3), from servers that leases, routers' neighbours or a person
//! named: pure. Nobody else is asked. A rescue's clock only has to be right enough for certificates and for the times of
//! files, so it is set once, and looked at again every hour.

use crate::rtc::{DISAGREES, LONGEST_LIFE};
use std::time::Duration;

pub const PORT: u16 = 123;
const LENGTH: usize = 48;
/// Seconds from 1900, NTP's epoch, to 1970.
const TO_UNIX: u64 = 2_208_988_800;
/// Less than this is not set: the network's own delay is of this size.
const SMALL: Duration = Duration::from_millis(500);
/// More than this is told to a person: certificates and logs may have been judged by the wrong time.
const LARGE: Duration = Duration::from_secs(DISAGREES);
/// Of an exchange; slower answers say too little.
const SLOWEST: Duration = Duration::from_secs(3);

/// How a clock differs, as the exchange of one packet told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// The machine's clock is behind.
    Behind(Duration),
    Ahead(Duration),
}

impl Offset {
    pub fn size(self) -> Duration {
        match self {
            Offset::Behind(by) | Offset::Ahead(by) => by,
        }
    }

    pub fn is_small(self) -> bool {
        self.size() < SMALL
    }

    pub fn is_large(self) -> bool {
        self.size() > LARGE
    }

    /// Right time for a wrong one; both since 1970.
    pub fn mend(self, clock: Duration) -> Duration {
        match self {
            Offset::Behind(by) => clock.saturating_add(by),
            Offset::Ahead(by) => clock.saturating_sub(by),
        }
    }
}

/// A question; `nonce` is what its answer has to repeat.
pub fn question(nonce: u64) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = 4 << 3 | 3; // version 4, client
    // The transmit timestamp is sent back as it came, so that it need not tell the clock.
    packet[40..].copy_from_slice(&nonce.to_be_bytes());
    packet
}

/// Reads an answer. `sent` and `received` are this machine's clock, since 1970; `floor` is when the image was made, seconds.
/// `Ok(None)`: not an answer to this question.
///
/// Errors: why the server is not to be believed.
pub fn answer(
    packet: &[u8],
    nonce: u64,
    sent: Duration,
    received: Duration,
    floor: u64,
) -> Result<Option<Offset>, String> {
    let Some(packet) = packet.first_chunk::<LENGTH>() else { return Ok(None) };
    let (leap, mode, stratum) = (packet[0] >> 6, packet[0] & 7, packet[1]);
    if mode != 4 || packet[24..32] != nonce.to_be_bytes() {
        return Ok(None);
    }
    if stratum == 0 {
        let code = String::from_utf8_lossy(&packet[12..16]).escape_debug().to_string();
        return Err(format!("it wants to be left alone ({code})"));
    }
    if leap == 3 || stratum > 15 {
        return Err("it does not know the time itself".to_string());
    }
    let elapsed = received.checked_sub(sent).filter(|elapsed| *elapsed <= SLOWEST);
    let elapsed = elapsed.ok_or("it took too long to answer")?;
    let (arrived, left) = (time(&packet[32..40], floor), time(&packet[40..48], floor));
    if !(floor..floor.saturating_add(LONGEST_LIFE)).contains(&left.as_secs()) {
        return Err(format!("it says {}, seconds since 1970, which cannot be", left.as_secs()));
    }
    // The way there and the way back are taken to be equally long.
    let processing = left.checked_sub(arrived).filter(|within| *within <= elapsed);
    let processing = processing.ok_or("its answer left it before the question came, or long after")?;
    let right = left + (elapsed - processing) / 2;
    Ok(Some(match right.checked_sub(received) {
        Some(by) => Offset::Behind(by),
        None => Offset::Ahead(received - right),
    }))
}

/// A timestamp of 32 bits of seconds, in the era that puts it after the floor, and 32 of fraction.
fn time(bytes: &[u8], floor: u64) -> Duration {
    let number =
        |at: usize| u64::from(u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    let (mut seconds, fraction) = (number(0), number(4));
    // A day's tolerance, so that a clock just before the floor is not taken for one of the next era.
    while seconds < (floor + TO_UNIX).saturating_sub(86_400) {
        seconds += 1 << 32;
    }
    Duration::new(seconds.saturating_sub(TO_UNIX), ((fraction * 1_000_000_000) >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLOOR: u64 = 1_795_000_000;
    const NONCE: u64 = 0x0123_4567_89ab_cdef;

    fn stamp(at: Duration) -> [u8; 8] {
        let seconds = (at.as_secs() + TO_UNIX) as u32;
        let fraction = (u64::from(at.subsec_nanos()) << 32) / 1_000_000_000;
        ((u64::from(seconds) << 32) | fraction).to_be_bytes()
    }

    /// A server whose clock is right, at `arrived` by it.
    fn packet(arrived: Duration, left: Duration) -> Vec<u8> {
        let mut packet = vec![4 << 3 | 4, 2, 0, 0];
        packet.resize(24, 0);
        packet.extend_from_slice(&NONCE.to_be_bytes());
        packet.extend_from_slice(&stamp(arrived));
        packet.extend_from_slice(&stamp(left));
        packet
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn read(bytes: &[u8], sent: Duration, received: Duration) -> Result<Option<Offset>, String> {
        answer(bytes, NONCE, sent, received, FLOOR)
    }

    #[test]
    fn the_clock_is_mended_by_half_of_the_way() {
        let right = Duration::from_secs(FLOOR + 1000);
        let bytes = packet(right, right + ms(10));
        // This machine's clock is an hour behind; the packet took 20 ms each way.
        let sent = right - Duration::from_secs(3600) - ms(20);
        let offset = read(&bytes, sent, sent + ms(50)).unwrap().unwrap();
        let Offset::Behind(by) = offset else { panic!("{offset:?}") };
        assert!(by.abs_diff(Duration::from_secs(3600)) < ms(1), "{by:?}");
        assert!(offset.is_large() && !offset.is_small());
        assert!(offset.mend(sent + ms(50)).abs_diff(right + ms(30)) < ms(1));
        let sent = right + Duration::from_secs(5);
        assert!(matches!(read(&bytes, sent, sent + ms(50)), Ok(Some(Offset::Ahead(by))) if by > ms(4900)));
    }

    #[test]
    fn the_era_after_2036_is_read_too() {
        let right = Duration::from_secs((1 << 32) - TO_UNIX + 5);
        let bytes = packet(right, right);
        let sent = Duration::from_secs(FLOOR);
        let offset = read(&bytes, sent, sent + ms(2)).unwrap().unwrap();
        assert_eq!(offset.mend(sent + ms(2)).as_secs(), right.as_secs());
    }

    #[test]
    fn a_server_that_cannot_be_right_is_not_believed() {
        let now = Duration::from_secs(FLOOR + 1000);
        let whole = packet(now, now);
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            bytes
        };
        for (label, bytes, slow) in [
            ("kiss of death", with(1, 0), ms(10)),
            ("stratum 16", with(1, 16), ms(10)),
            ("not synchronized", with(0, 0xe4), ms(10)),
            ("too slow", whole.clone(), ms(3001)),
            ("left before it came", packet(now + ms(5), now), ms(10)),
            ("left long after", packet(now, now + ms(50)), ms(10)),
            (
                "a century ahead",
                packet(now + Duration::from_secs(3_000_000_000), now + Duration::from_secs(3_000_000_000)),
                ms(10),
            ),
        ] {
            assert!(read(&bytes, now, now + slow).is_err(), "{label}");
        }
        assert_eq!(read(&with(24, 9), now, now + ms(10)), Ok(None), "another question");
        assert_eq!(read(&with(0, 4 << 3 | 3), now, now + ms(10)), Ok(None), "a client");
        assert_eq!(read(&whole[..47], now, now + ms(10)), Ok(None), "cut");
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 48), sent in any::<u32>(), slow in 0..4000_u64) {
            let mut bytes = bytes;
            bytes[24..32].copy_from_slice(&NONCE.to_be_bytes());
            bytes[0] = bytes[0] & 0xf8 | 4;
            let sent = Duration::from_secs(sent.into());
            let _ = read(&bytes, sent, sent + ms(slow));
        }
    }
}
