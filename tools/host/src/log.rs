//! Lines of a service's log: its stderr, which init appends to `/run/lifeboat/log/NAME`.

use std::fmt::Arguments;
use std::io::Write;

/// One line with the seconds since boot. Control characters are escaped, so that nothing that came
/// from a disk or a peer can steer a terminal that shows the log. Never panics, unlike eprintln.
pub fn line(args: Arguments<'_>) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let mut text = format!("[{:>5}.{:03}] ", now.tv_sec, now.tv_nsec / 1_000_000);
    for c in args.to_string().chars() {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text.push('\n');
    // A log that cannot be written must not stop the service.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// `log!("eth0: {error}")`
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::log::line(format_args!($($arg)*)) };
}
