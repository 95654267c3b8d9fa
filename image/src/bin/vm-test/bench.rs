//! A lab in which several promises are held against one machine: one that is broken does not hide
//! the next.

use anyhow::{Result, ensure};
use image::vm::Lab;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

pub struct Bench {
    pub lab: Lab,
    /// Promise, and what broke it.
    outcomes: Mutex<Vec<(String, Option<String>)>>,
}

impl Deref for Bench {
    type Target = Lab;
    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Bench {
    pub fn new(lab: Lab) -> Bench {
        Bench { lab, outcomes: Mutex::default() }
    }

    /// Hold one promise.
    pub fn check(&self, promise: &str, body: impl FnOnce() -> Result<()>) {
        let begun = Instant::now();
        let broken = body().err().map(|error| format!("{error:#}"));
        let seconds = begun.elapsed().as_secs_f32();
        match &broken {
            None => println!("ok    {promise} ({seconds:.1} s)"),
            Some(error) => println!("FAIL  {promise} ({seconds:.1} s): {error}"),
        }
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((promise.to_string(), broken));
    }

    pub fn outcomes(&self) -> Vec<(String, Option<String>)> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The text has to hold each of these.
pub fn holds(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "find {part:?} in:\n{text}");
    }
    Ok(())
}
