//! Changes to a file: a value, a new data key, other recipients. Only what changes is written anew, so comments and order stay.
//!
//! Each change ends the same way: the new text is read, its MAC made, and what SOPS checks by is put in its place.

use std::ops::Range;

use jiff::Timestamp;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::tree::{Block, Leaf};
use super::value::{DataKey, Type};
use super::{AgeKey, Metadata, Opened, RawRules, SopsError, SopsFile, context, is_null, scalar};
use crate::secret::keys;

/// The version of SOPS whose form is written.
const VERSION: &str = "3.9.4";
/// Metadata that is neither a key nor a rule.
const NO_KEYS: [&str; 5] = ["version", "lastmodified", "mac", "shamir_threshold", "created_at"];

/// For whom a new file is, and what of it is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Creation {
    pub recipients: Vec<String>,
    pub rules: RawRules,
    pub mac_only_encrypted: bool,
}

/// A new file with one value at `path` (keys joined by dots).
///
/// # Errors
/// When there is no recipient, or one is none.
pub fn create(creation: &Creation, path: &str, value: &SecretString, now: Timestamp) -> Result<String, SopsError> {
    let key = DataKey::random()?;
    let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
    if !creation.rules.ready()?.encrypts(&keys, true) {
        return Err(SopsError::NoPlace { path: path.to_owned() });
    }
    let sealed = key.seal(Type::Text, value.expose_secret().as_bytes(), &context(&keys))?;
    let mut text = nested(&keys, &scalar_text(&sealed), 0);
    text.push_str(&metadata(
        &wrapped(&key, &creation.recipients)?,
        &creation.rules,
        creation.mac_only_encrypted,
        &placeholder(&key, now)?,
    ));
    finish(text, &key, now)
}

/// The file with `value` at `path`, which may be new; `opened` is its own content.
///
/// # Errors
/// When the value would not be encrypted, or cannot be added there.
pub fn set(
    file: &SopsFile,
    opened: &Opened,
    path: &str,
    value: &SecretString,
    now: Timestamp,
) -> Result<String, SopsError> {
    let plain = value.expose_secret().as_bytes();
    let no_place = || SopsError::NoPlace { path: path.to_owned() };
    let mut found = file.tree.leaves.iter().filter(|leaf| leaf.path.join(".") == path);
    let (place, text) = match (found.next(), found.next()) {
        (Some(leaf), None) => {
            if leaf.block || !file.rules.encrypts(&leaf.keys, true) {
                return Err(no_place());
            }
            (leaf.span.clone(), scalar_text(&opened.key.seal(Type::Text, plain, &context(&leaf.keys))?))
        }
        (Some(_), Some(_)) => return Err(SopsError::Ambiguous { path: path.to_owned() }),
        (None, _) => {
            let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
            if !file.rules.encrypts(&keys, true) {
                return Err(no_place());
            }
            let sealed = opened.key.seal(Type::Text, plain, &context(&keys))?;
            added(file, &keys, &scalar_text(&sealed)).ok_or_else(no_place)?
        }
    };
    let changed = replaced(&file.text, vec![(place, text)]);
    finish(changed, &opened.key, now)
}

/// The file with a new data key: who had the old one opens nothing that is written from now on.
///
/// # Errors
/// When it is also encrypted for others than age.
pub fn rotate(file: &SopsFile, opened: &Opened, now: Timestamp) -> Result<String, SopsError> {
    let recipients: Vec<String> = file.recipients().into_iter().map(str::to_owned).collect();
    for_recipients(file, opened, &recipients, now)
}

/// The file for exactly these recipients, with a new data key, so that who was taken out is.
///
/// # Errors
/// When it is also encrypted for others than age, or a recipient is none.
pub fn for_recipients(
    file: &SopsFile,
    opened: &Opened,
    recipients: &[String],
    now: Timestamp,
) -> Result<String, SopsError> {
    only_age(&file.metadata)?;
    let key = DataKey::random()?;
    let mut changes = comments(file, &opened.key, &key)?;
    let leaves = file.tree.leaves.iter().filter(|leaf| !is_null(leaf));
    for (leaf, value) in leaves.zip(&opened.values).filter(|(leaf, _)| file.encrypts(leaf) && !leaf.text.is_empty()) {
        if leaf.block {
            return Err(SopsError::NoPlace { path: leaf.path.join(".") });
        }
        changes.push((leaf.span.clone(), scalar_text(&key.seal(value.kind, &value.bytes, &context(&leaf.keys))?)));
    }
    let Some(place) = file.tree.metadata_span.clone() else { return Err(SopsError::NotEncrypted) };
    let ours = metadata(
        &wrapped(&key, recipients)?,
        &file.metadata.rules,
        file.metadata.mac_only_encrypted,
        &placeholder(&key, now)?,
    );
    changes.push((place, ours));
    finish(replaced(&file.text, changes), &key, now)
}

/// Puts time and MAC into a text whose values are as they shall be.
fn finish(text: String, key: &DataKey, now: Timestamp) -> Result<String, SopsError> {
    let file = SopsFile::read(text.as_bytes())?;
    let values = file.values(key)?;
    let time = written(now);
    let mac = key.seal(Type::Text, file.mac(&values).as_bytes(), &time)?;
    let place = |name: &str| {
        let at = file
            .tree
            .metadata
            .iter()
            .find(|leaf: &&Leaf| leaf.path.len() == 2 && leaf.path.ends_with(&[name.to_owned()]));
        at.map(|leaf| leaf.span.clone()).ok_or(SopsError::Metadata { what: "it lacks `mac` or `lastmodified`" })
    };
    Ok(replaced(&file.text, vec![(place("lastmodified")?, format!("\"{time}\"")), (place("mac")?, mac)]))
}

/// A key that is not there yet: where to write what.
fn added(file: &SopsFile, keys: &[String], value: &str) -> Option<(Range<usize>, String)> {
    // The deepest mapping that is there, and what is missing below it.
    let depth = (0..keys.len()).rev().find(|depth| {
        file.tree.blocks.iter().any(|block: &Block| keys.get(..*depth).is_some_and(|head| block.path == head))
    })?;
    let (head, rest) = keys.split_at(depth);
    let stands = |leaf: &Leaf| leaf.path.starts_with(keys.get(..=depth).unwrap_or(keys));
    if file.tree.leaves.iter().any(stands) {
        return None;
    }
    if head.is_empty() {
        // Before what SOPS wrote, where its line begins.
        let at = file.tree.metadata_span.as_ref()?.start;
        return Some((at..at, nested(rest, value, 0)));
    }
    let block = file.tree.blocks.iter().find(|block| block.path == head)?;
    let line = file.text.get(..block.first_key)?.rfind('\n').map_or(0, |at| at + 1);
    let indent = file.text.get(line..block.first_key)?;
    indent.bytes().all(|byte| byte == b' ').then(|| (line..line, nested(rest, value, indent.len())))
}

/// Keys below each other, and the value below the last.
fn nested(keys: &[String], value: &str, indent: usize) -> String {
    let mut text = String::new();
    for (depth, key) in keys.iter().enumerate() {
        let pad = " ".repeat(indent + 4 * depth);
        let last = depth + 1 == keys.len();
        let end = if last { format!(" {value}") } else { String::new() };
        text.push_str(&format!("{pad}{}:{end}\n", scalar::key(key)));
    }
    text
}

/// An encrypted value needs no quotes; the empty one does.
fn scalar_text(sealed: &str) -> String {
    if sealed.is_empty() { "\"\"".to_owned() } else { sealed.to_owned() }
}

/// Encrypted comments, which open with the data key and the keys of the mapping that they stand in.
fn comments(file: &SopsFile, old: &DataKey, new: &DataKey) -> Result<Vec<(Range<usize>, String)>, SopsError> {
    let mut contexts = vec![context(&[])];
    for leaf in &file.tree.leaves {
        contexts.extend((1..=leaf.keys.len()).filter_map(|length| leaf.keys.get(..length)).map(context));
    }
    contexts.sort_unstable();
    contexts.dedup();
    let mut changes = Vec::new();
    let mut at = 0;
    for line in file.text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let Some((before, sealed)) = line.trim_end().split_once("#ENC[") else { continue };
        if before.contains(['"', '\'']) {
            continue;
        }
        let sealed = format!("ENC[{sealed}");
        let opened = contexts.iter().find_map(|context| Some((context, old.open(&sealed, context)?)));
        if let Some((context, (kind, plain))) = opened {
            let place = start + before.len() + 1;
            changes.push((place..place + sealed.len(), new.seal(kind, &plain, context)?));
        }
    }
    Ok(changes)
}

fn wrapped(key: &DataKey, recipients: &[String]) -> Result<Vec<AgeKey>, SopsError> {
    if recipients.is_empty() {
        return Err(SopsError::NoRecipient);
    }
    let wrap = |recipient: &String| match keys::wrap(key.bytes(), recipient) {
        Ok(enc) => Ok(AgeKey { recipient: recipient.clone(), enc }),
        Err(_) if !keys::is_recipient(recipient) => Err(SopsError::Recipient { recipient: recipient.clone() }),
        Err(source) => Err(SopsError::DataKey { recipient: recipient.clone(), source }),
    };
    recipients.iter().map(wrap).collect()
}

/// Time and MAC that have the right form and are replaced at once.
fn placeholder(key: &DataKey, now: Timestamp) -> Result<(String, String), SopsError> {
    let time = written(now);
    let mac = key.seal(Type::Text, b"-", &time)?;
    Ok((time, mac))
}

/// What SOPS writes at the end of a file.
fn metadata(keys: &[AgeKey], rules: &RawRules, mac_only_encrypted: bool, (time, mac): &(String, String)) -> String {
    let mut text = "sops:\n    age:\n".to_owned();
    for key in keys {
        text.push_str(&format!("        - recipient: {}\n          enc: |\n", key.recipient));
        for line in key.enc.lines() {
            text.push_str(&format!("            {line}\n"));
        }
    }
    text.push_str(&format!("    lastmodified: \"{time}\"\n    mac: {mac}\n"));
    for (name, value) in rules.named() {
        text.push_str(&format!("    {name}: {}\n", scalar::quoted(value)));
    }
    if mac_only_encrypted {
        text.push_str("    mac_only_encrypted: true\n");
    }
    text.push_str(&format!("    version: {VERSION}\n"));
    text
}

fn only_age(metadata: &Metadata) -> Result<(), SopsError> {
    let empty = |value: &serde_yaml::Value| match value {
        serde_yaml::Value::Null => true,
        serde_yaml::Value::Sequence(items) => items.is_empty(),
        _ => false,
    };
    let others = metadata.others.iter().filter(|(name, value)| !NO_KEYS.contains(&name.as_str()) && !empty(value));
    let names: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() { Ok(()) } else { Err(SopsError::OtherKeys { what: names.join(", ") }) }
}

fn written(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The text with each place replaced; the places do not overlap.
fn replaced(text: &str, mut changes: Vec<(Range<usize>, String)>) -> String {
    changes.sort_by_key(|(place, _)| place.start);
    let mut out = String::with_capacity(text.len() + 256);
    let mut at = 0;
    for (place, new) in changes {
        out.push_str(text.get(at..place.start).unwrap_or_default());
        out.push_str(&new);
        at = place.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// A value of `length` characters out of letters and digits: some six bits each.
///
/// # Errors
/// When the system has no random bytes.
pub fn random_text(length: usize) -> Result<SecretString, SopsError> {
    use ring::rand::SecureRandom as _;
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let random = ring::rand::SystemRandom::new();
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut bytes = Zeroizing::new([0; 64]);
    while text.len() < length {
        random.fill(bytes.as_mut_slice()).map_err(|_| SopsError::Random)?;
        // What does not divide evenly is left out, so each letter is as likely.
        let even = bytes.iter().filter(|byte| **byte < 248).filter_map(|byte| LETTERS.get(usize::from(*byte) % 62));
        for letter in even.take(length - text.len()).collect::<Vec<_>>() {
            text.push(char::from(*letter));
        }
    }
    Ok(SecretString::from(text.as_str()))
}
