//! Reads an RDB file: its magic here, all the rest by `redis-check-rdb`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use super::checksum::{self, Checksum};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::redis::instance;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Tools};
use crate::plugin::protocol::Verdict;
use crate::process::Exit;

/// What a file is.
pub(super) enum Checked {
    Sound(Found),
    /// Why it is none, or not whole.
    Damaged(String),
    /// Why nobody here can tell what is in it. Its checksum was looked at all the same: what is damaged is damaged.
    Unknown(String),
}

/// What is in a sound file.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) keys: u64,
    pub(super) expires: u64,
    /// What its data took in the instance's memory, where the file tells.
    pub(super) used_bytes: Option<u64>,
    /// Its format and checksum in words.
    pub(super) about: String,
}

/// Reads the whole file.
pub(super) fn read(tools: &Tools, bin_dir: Option<&Path>, file: &Path) -> Result<Checked, Failure> {
    let format = match magic(file) {
        Ok(Some(format)) => format,
        Ok(None) => return Ok(Checked::Damaged("it does not begin with REDIS or VALKEY and a number".to_owned())),
        Err(error) => return Ok(Checked::Damaged(format!("it cannot be read: {error}"))),
    };
    let program = instance::program(bin_dir, &["redis-check-rdb", "valkey-check-rdb"])?;
    let (mut found, mut looks_ok, mut trouble, mut checksum) = (Found::default(), false, None, "without a checksum");
    let hear = |line: &str| {
        let words = line.split_once("] ").map_or(line, |(_, words)| words);
        let number = || words.split(' ').next().and_then(|word| word.parse::<u64>().ok());
        if words.ends_with(" keys read") {
            found.keys = number().unwrap_or(0);
        } else if words.ends_with(" expires") {
            found.expires = number().unwrap_or(0);
        } else if let Some(used) = words.strip_prefix("AUX FIELD used-mem = ") {
            found.used_bytes = used.trim_matches('\'').parse().ok();
        } else if words.starts_with("Checksum OK") {
            checksum = "checksum right";
        } else if words.contains("RDB looks OK") {
            looks_ok = true;
        } else if line.starts_with('[') && trouble.is_none() && tells_trouble(words) {
            trouble = Some(words.to_owned());
        }
    };
    let ran = tools.run(&program, vec![file.into()], &[], DEADLINE_OF_WORK, hear, || {});
    if ran.exit == Exit::Success && looks_ok {
        found.about = format!("RDB format {format}, {checksum}");
        return Ok(Checked::Sound(found));
    }
    let said = trouble.unwrap_or_else(|| match ran.stderr.lines().next_back() {
        Some(line) => crate::plugin::kit::tidy::tidy(line, 300),
        None => format!("redis-check-rdb ended with {:?}", ran.exit),
    });
    if let Exit::NotStarted { detail, .. } = &ran.exit {
        return Ok(Checked::Unknown(format!("{}: {detail}", program.display())));
    }
    // A program that is older than the server, or of the other family, stumbles over a file that is well. The checksum
    // is the same in all of them.
    Ok(match checksum::of(file) {
        Ok(Checksum::Right) => {
            Checked::Unknown(format!("{said}; its checksum is right, so {} is too old for it", program.display()))
        }
        Ok(Checksum::Wrong) => Checked::Damaged(format!("{said}; its checksum is wrong")),
        Ok(Checksum::None) if is_of_another_version(&said) => Checked::Unknown(said),
        Ok(Checksum::None) => Checked::Damaged(said),
        Err(error) => Checked::Damaged(format!("it cannot be read: {error}")),
    })
}

/// Whether the program says that it does not know such files.
pub(in crate::plugin) fn is_of_another_version(said: &str) -> bool {
    ["handle RDB format version", "Wrong signature", "object type", "Unknown RDB encoding"]
        .iter()
        .any(|sign| said.contains(sign))
}

fn tells_trouble(words: &str) -> bool {
    ["Unexpected EOF", "CRC error", "Invalid", "Wrong", "handle RDB format", "Unknown", "error", "corrupt"]
        .iter()
        .any(|sign| words.contains(sign))
}

/// The format's number of `REDIS0010`.
fn magic(file: &Path) -> std::io::Result<Option<u32>> {
    let mut head = Vec::new();
    std::fs::File::open(file)?.take(9).read_to_end(&mut head)?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let digits = text.strip_prefix("REDIS").or_else(|| text.strip_prefix("VALKEY")).filter(|digits| digits.len() >= 3);
    Ok(digits.and_then(|digits| digits.parse().ok()))
}

/// Compares the keys in the file with those that the instance told.
pub(super) fn judge(found: &Found, figures: &BTreeMap<String, u64>, allow_empty: bool) -> (Verdict, String) {
    let figure = |name: &str| figures.get(name).copied();
    let (Some(then), Some(before), Some(after)) = (figure("keys"), figure("keys_before"), figure("keys_after")) else {
        return (Verdict::CouldNotVerify, format!("{} keys; the capture told no numbers", found.keys));
    };
    let detail = format!("{} keys in the file, {before} before the capture and {after} after it", found.keys);
    let (least, most) = (before.min(after), before.max(after));
    let near = if least == most {
        // Nothing but keys that ran out meanwhile can differ.
        found.keys.abs_diff(least) <= found.expires
    } else {
        // Keys come and go: the file is somewhere near.
        (least / 2..=most.saturating_mul(2)).contains(&found.keys)
    };
    match () {
        () if found.keys != then => (Verdict::Failed, format!("{detail}; at the capture {then} in the file")),
        () if found.keys == 0 && !allow_empty => (Verdict::Failed, "no key is in it".to_owned()),
        () if found.keys == 0 && least > found.expires => (Verdict::Failed, detail),
        () if near => (Verdict::Proven, detail),
        () => (Verdict::CouldNotVerify, format!("{detail}: too far apart to be sure")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_with_what_the_instance_told() {
        let verdict = |keys: u64, expires: u64, figures: [u64; 3]| {
            let names = ["keys", "keys_before", "keys_after"].map(str::to_owned);
            let found = Found { keys, expires, ..Found::default() };
            judge(&found, &names.into_iter().zip(figures).collect(), false).0
        };
        assert_eq!(verdict(10, 0, [10, 10, 10]), Verdict::Proven);
        assert_eq!(verdict(9, 0, [9, 10, 10]), Verdict::CouldNotVerify);
        assert_eq!(verdict(9, 2, [9, 10, 10]), Verdict::Proven);
        assert_eq!(verdict(105, 0, [105, 100, 110]), Verdict::Proven);
        assert_eq!(verdict(3, 0, [3, 100, 110]), Verdict::CouldNotVerify);
        assert_eq!(verdict(10, 0, [11, 10, 10]), Verdict::Failed);
        assert_eq!(verdict(0, 0, [0, 100, 90]), Verdict::Failed);
    }
}
