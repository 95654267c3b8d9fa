//! Lines of a service's log: its stderr, which init appends to `/run/lifeboat/log/NAME`.

use contract::text::Untrusted;
use std::fmt::Arguments;
use std::io::Write;

/// One line with the seconds since boot, of which nothing can steer a terminal that shows the log. Never panics, unlike
/// eprintln.
pub fn line(args: Arguments<'_>) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let text = format!("[{:>5}.{:03}] {}\n", now.tv_sec, now.tv_nsec / 1_000_000, harmless(args));
    // A log that cannot be written must not stop the service.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn harmless(args: Arguments<'_>) -> String {
    Untrusted(&args.to_string()).to_string()
}

/// `log!("eth0: {error}")`
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::log::line(format_args!($($arg)*)) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_of_a_log_steers_no_terminal_that_shows_it() {
        let text =
            super::harmless(format_args!("lease of {}", "a\u{9b}2J\u{202e}\x1b[31m\n\u{2028}\u{10ffff}"));
        assert!(!text.contains(contract::text::steers), "{text:?}");
        assert!(text.starts_with("lease of a\\xc2\\x9b2J"), "{text}");
    }
}
