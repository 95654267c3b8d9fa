//! Which places of the parsers an input reached, by the counters that LLVM's SanitizerCoverage puts at every
//! edge (clang's documentation, "Inline 8bit-counters"). The only unsafe here; it is in no product.

use std::sync::Mutex;

/// Ranges of counters, as the constructors of each compiled unit announce them before `main`.
static RANGES: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// # Safety
/// Called by compiled code only, with the bounds of its own counters, which live as long as the program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    if let Ok(mut ranges) = RANGES.lock() {
        let range = (start as usize, stop as usize);
        if range.0 < range.1 && !ranges.contains(&range) {
            ranges.push(range);
        }
    }
}

fn each(mut with: impl FnMut(usize, &mut u8)) {
    let ranges = RANGES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut number = 0;
    for (start, stop) in ranges.iter() {
        for address in *start..*stop {
            // SAFETY: announced by the unit that owns it; there is one thread, and no unit counts while this
            // function's own counters are looked at but this one, whose counts do not matter.
            with(number, unsafe { &mut *(address as *mut u8) });
            number += 1;
        }
    }
}

pub fn reset() {
    each(|_, counter| *counter = 0);
}

/// For each place, in which orders of magnitude it was reached, over all inputs.
#[derive(Default)]
pub struct Seen(Vec<u8>);

impl Seen {
    /// Adds the counters as they are; whether anything was new.
    pub fn add(&mut self) -> bool {
        let mut new = false;
        each(|number, counter| {
            let bit = match *counter {
                0 => return,
                1 => 1,
                2 => 2,
                3 => 4,
                4..=7 => 8,
                8..=15 => 16,
                16..=31 => 32,
                32..=127 => 64,
                128.. => 128u8,
            };
            if self.0.len() <= number {
                self.0.resize(number + 1, 0);
            }
            new |= self.0[number] & bit == 0;
            self.0[number] |= bit;
        });
        new
    }

    pub fn count(&self) -> usize {
        self.0.iter().filter(|bits| **bits != 0).count()
    }
}
