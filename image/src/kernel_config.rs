//! What the kernel must be able to do (kernel-config/required.config), held against the config that its
//! package brings.

use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;

const REQUIRED: &str = include_str!("../../kernel-config/required.config");

/// How an option may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    BuiltIn,
    /// Built in, or a module.
    There,
    Absent,
}

/// An error names every option that is not as it is wanted, with its reason.
pub fn check(config: &str) -> Result<()> {
    let has: BTreeMap<&str, &str> = config
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    let mut wrong = Vec::new();
    for (option, wanted, reason) in required(REQUIRED)? {
        let value = has.get(option).copied().unwrap_or("n");
        let fits = match wanted {
            Wanted::BuiltIn => value == "y",
            Wanted::There => value == "y" || value == "m",
            Wanted::Absent => value == "n",
        };
        if !fits {
            wrong.push(format!("  {option} is {value}: {reason}"));
        }
    }
    ensure!(
        wrong.is_empty(),
        "the kernel of the lock cannot do what kernel-config/required.config asks for:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

/// Lines are `CONFIG_NAME=VALUE  # reason`; others are comments.
fn required(text: &str) -> Result<Vec<(&str, Wanted, &str)>> {
    let mut found: Vec<(&str, Wanted, &str)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = number + 1;
        let (setting, reason) = line.split_once('#').unwrap_or((line, ""));
        let reason = reason.trim();
        ensure!(!reason.is_empty(), "required.config, line {at}: no reason");
        let (option, wanted) = match setting.trim().split_once('=') {
            Some((option, "y")) => (option, Wanted::BuiltIn),
            Some((option, "m")) => (option, Wanted::There),
            Some((option, "n")) => (option, Wanted::Absent),
            _ => bail!("required.config, line {at}: neither =y, =m nor =n"),
        };
        ensure!(option.starts_with("CONFIG_"), "required.config, line {at}: {option} is no option");
        ensure!(
            found.iter().all(|(other, _, _)| *other != option),
            "required.config, line {at}: {option} again"
        );
        found.push((option, wanted, reason));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A config that is as required to the letter.
    fn perfect() -> String {
        let line = |(option, wanted, _): &(&str, Wanted, &str)| match wanted {
            Wanted::BuiltIn => format!("{option}=y\n"),
            Wanted::There => format!("{option}=m\n"),
            Wanted::Absent => format!("# {option} is not set\n"),
        };
        required(REQUIRED).unwrap().iter().map(line).collect()
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        check(&perfect()).unwrap();
        let lacking = perfect().replace("CONFIG_MD_RAID1=m\n", "").replace("CONFIG_SMP=y", "CONFIG_SMP=m");
        let error = check(&lacking).unwrap_err().to_string();
        assert!(error.contains("CONFIG_MD_RAID1 is n: arrays"), "{error}");
        assert!(error.contains("CONFIG_SMP is m: servers"), "{error}");
        assert_eq!(error.lines().count(), 3, "{error}");
    }

    #[test]
    fn a_module_may_be_built_in_and_what_is_forbidden_may_not_be_there() {
        check(&perfect().replace("CONFIG_MD_RAID1=m", "CONFIG_MD_RAID1=y")).unwrap();
        let forced = perfect() + "CONFIG_MODULE_SIG_FORCE=y\n";
        assert!(check(&forced).unwrap_err().to_string().contains("CONFIG_MODULE_SIG_FORCE is y"));
    }

    #[test]
    fn a_line_without_a_reason_or_twice_is_refused() {
        for wrong in ["CONFIG_A=y\n", "CONFIG_A=y # x\nCONFIG_A=m # y\n", "A=y # x\n", "CONFIG_A=\"s\" # x\n"]
        {
            assert!(required(wrong).is_err(), "{wrong}");
        }
    }
}
