//! What went wrong, for people: each line is told once on the consoles, and the first of them stand in the state file.

use std::collections::VecDeque;

/// Problems kept in the state file.
const SHOWN: usize = 16;
/// Lines that are known to have been told. What comes again and again among more others than these is told anew.
const TOLD: usize = 256;

#[derive(Default)]
pub struct Problems {
    shown: Vec<String>,
    /// Those last heard of are behind.
    told: VecDeque<String>,
}

impl Problems {
    /// Whether it is to be told.
    pub fn add(&mut self, text: &str) -> bool {
        let known = self.told.iter().position(|told| told == text);
        if let Some(at) = known {
            self.told.remove(at);
        } else if self.shown.len() < SHOWN {
            self.shown.push(text.to_string());
        }
        self.told.push_back(text.to_string());
        if self.told.len() > TOLD {
            self.told.pop_front();
        }
        known.is_none()
    }

    /// For the state file.
    pub fn shown(&self) -> &[String] {
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_once_though_the_list_is_full() {
        let mut problems = Problems::default();
        let line = |number: usize| format!("problem {number}");
        for number in 0..SHOWN * 2 {
            assert!(problems.add(&line(number)), "{number}");
        }
        assert!((0..SHOWN * 2).all(|number| !problems.add(&line(number))), "told before");
        assert_eq!(problems.shown().len(), SHOWN);
        assert_eq!(problems.shown()[0], line(0));
    }

    #[test]
    fn lines_without_end_take_no_memory_without_end_and_one_among_them_that_repeats_is_told_once() {
        let mut problems = Problems::default();
        problems.add("the same");
        for number in 0..TOLD * 4 {
            problems.add(&number.to_string());
            assert!(!problems.add("the same"), "{number}");
        }
        assert!(problems.told.len() <= TOLD && problems.shown.len() == SHOWN);
    }
}
