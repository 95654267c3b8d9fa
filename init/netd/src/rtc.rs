//! The clock that runs on while the machine is off (RTC), compared with what is known better. It is only read: the installed
//! system sets it, and may keep local time in it, which the kernel takes for UTC.

use contract::date::rfc3339;
use host::Root;
use std::net::IpAddr;

/// What the RTC counts, in whole seconds since 1970 (Documentation/ABI/testing/sysfs-class-rtc).
const READING: &str = "/sys/class/rtc/rtc0/since_epoch";
/// More is told to a person, in seconds: an RTC loses or gains some in a week.
pub const DISAGREES: u64 = 60;
/// An image is not older than this, in seconds: a clock that says so is wrong.
pub const LONGEST_LIFE: u64 = 20 * 365 * 86_400;
/// Zones are whole quarters of an hour from UTC, and this far at most.
const QUARTER: u64 = 900;
const FARTHEST_ZONE: u64 = 14 * 3600;

/// `None` on a machine without one.
pub fn read(root: &Root) -> Option<u64> {
    root.number(READING)
}

/// A line for a person where it is not what a time server says; both in seconds since 1970.
pub fn against_server(rtc: u64, right: u64, server: IpAddr) -> Option<String> {
    let by = rtc.abs_diff(right);
    if by <= DISAGREES {
        return None;
    }
    let which = if rtc < right { "behind" } else { "ahead" };
    let from_quarter = (by % QUARTER).min(QUARTER - by % QUARTER);
    let is_zone =
        from_quarter <= DISAGREES && (QUARTER - DISAGREES..=FARTHEST_ZONE + DISAGREES).contains(&by);
    let zone = if is_zone { ", as one that keeps local time" } else { "" };
    Some(format!(
        "the machine's clock (RTC) says {}, the time server {server} says {}: it is {} {which}{zone}. The time server counts here; the RTC is not written, and what the installed system wrote may bear wrong times",
        rfc3339(rtc),
        rfc3339(right),
        span(by)
    ))
}

/// A line for a person where it cannot be right by the time at which the image was made.
pub fn against_image(rtc: u64, made: u64) -> Option<String> {
    let how = match rtc {
        _ if rtc < made => "before",
        _ if rtc > made.saturating_add(LONGEST_LIFE) => "more than 20 years after",
        _ => return None,
    };
    Some(format!(
        "the machine's clock (RTC) says {}, {how} this image was made ({}): it is wrong, and is not written. Until a time server or `date -s` sets the clock, valid certificates may be refused and expired ones taken",
        rfc3339(rtc),
        rfc3339(made)
    ))
}

/// In the two largest units: `2 h 5 min`.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: u64 = 1_795_000_000;
    const HOUR: u64 = 3600;

    #[test]
    fn an_rtc_that_disagrees_with_the_time_server_is_told_with_both_times_and_by_how_much() {
        let server = IpAddr::from([192, 0, 2, 1]);
        for (label, rtc, want) in [
            ("right", RIGHT, None),
            ("a minute behind", RIGHT - 60, None),
            ("a minute ahead", RIGHT + 60, None),
            ("more than a minute behind", RIGHT - 61, Some("it is 1 min 1 s behind. ")),
            ("more than a minute ahead", RIGHT + 300, Some("it is 5 min 0 s ahead. ")),
            ("an hour", RIGHT + HOUR, Some("it is 1 h 0 min ahead, as one that keeps local time. ")),
            (
                "Nepal",
                RIGHT + 5 * HOUR + 2700,
                Some("it is 5 h 45 min ahead, as one that keeps local time. "),
            ),
            ("a zone and a drift", RIGHT - 5 * HOUR + 40, Some("it is 4 h 59 min behind, as one that")),
            ("farther than zones", RIGHT - 16 * HOUR, Some("it is 16 h 0 min behind. ")),
            ("no zone", RIGHT - HOUR - 300, Some("it is 1 h 5 min behind. ")),
            ("an empty battery", 86_400, Some("it is 20774 d 11 h behind. ")),
        ] {
            let line = against_server(rtc, RIGHT, server);
            assert_eq!(line.is_some(), want.is_some(), "{label}: {line:?}");
            let (Some(line), Some(want)) = (line, want) else { continue };
            assert!(line.contains(want), "{label}: {line}");
            let times = format!("says {}, the time server 192.0.2.1 says 2026-11-18T11:06:40Z", rfc3339(rtc));
            assert!(line.contains(&times), "{label}: {line}");
        }
    }

    #[test]
    fn an_rtc_that_cannot_be_right_by_the_day_of_the_image_is_told_with_both_times() {
        for (label, rtc, want) in [
            (
                "of 1970",
                86_405,
                Some("1970-01-02T00:00:05Z, before this image was made (2026-11-18T11:06:40Z)"),
            ),
            ("just made", RIGHT, None),
            ("an old image", RIGHT + 10 * 365 * 86_400, None),
            ("of 2099", 4_070_908_800, Some("2099-01-01T00:00:00Z, more than 20 years after this image")),
        ] {
            let line = against_image(rtc, RIGHT);
            assert_eq!(line.is_some(), want.is_some(), "{label}: {line:?}");
            assert!(line.unwrap_or_default().contains(want.unwrap_or_default()), "{label}");
        }
    }
}
