//! The form, the edits and what is refused; against other programs' files in `tests/it/secret.rs`.

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::edit::{self, Creation};
use super::*;
use crate::secret::keys;

fn identity() -> (Identities, String) {
    let (secret, recipient) = keys::generate();
    (Identities::parse(secret.expose_secret()).unwrap(), recipient)
}

fn now() -> Timestamp {
    "2026-11-30T22:00:00Z".parse().unwrap()
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn creation(recipients: &[&str]) -> Creation {
    Creation { recipients: recipients.iter().map(|each| (*each).to_owned()).collect(), ..Creation::default() }
}

fn read(text: &str) -> SopsFile {
    SopsFile::read(text.as_bytes()).unwrap()
}

fn shows(text: &str, identities: &Identities, path: &str) -> String {
    read(text).open(identities).unwrap().text(path).unwrap().expose_secret().to_owned()
}

/// A file with several values, a comment before each key and one behind.
fn sample(identities: &Identities, recipient: &str) -> String {
    let mut text = edit::create(&creation(&[recipient]), "first", &secret("one"), now()).unwrap();
    for (path, value) in [("second", "two"), ("db.password", "three"), ("db.user", "four"), ("note_unencrypted", "")] {
        if value.is_empty() {
            continue;
        }
        let file = read(&text);
        let opened = file.open(identities).unwrap();
        text = edit::set(&file, &opened, path, &secret(value), now()).unwrap();
    }
    text.replacen("second:", "# my second one\nsecond:", 1)
}

#[test]
fn what_is_made_opens_and_says_nothing_in_the_clear() {
    let (identities, recipient) = identity();
    let text = edit::create(&creation(&[&recipient]), "value", &secret("pä\"ss: #1\n"), now()).unwrap();
    assert!(!text.contains("ss: #1"));
    assert_eq!(shows(&text, &identities, "value"), "pä\"ss: #1\n");
    assert_eq!(read(&text).recipients(), [recipient.as_str()]);
    assert_eq!(read(&text).meant(None).unwrap(), "value");
}

#[test]
fn a_value_that_is_set_changes_three_lines_and_keeps_comments_and_order() {
    let (identities, recipient) = identity();
    let before = sample(&identities, &recipient);
    let file = read(&before);
    let opened = file.open(&identities).unwrap();
    let later = "2026-12-01T08:00:00Z".parse().unwrap();
    let after = edit::set(&file, &opened, "second", &secret("changed"), later).unwrap();
    assert_eq!(shows(&after, &identities, "second"), "changed");
    assert_eq!(shows(&after, &identities, "first"), "one");
    let changed: Vec<&str> = before.lines().zip(after.lines()).filter(|(a, b)| a != b).map(|(_, b)| b.trim()).collect();
    assert_eq!(before.lines().count(), after.lines().count());
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert!(
        changed[0].starts_with("second:") && changed[1].starts_with("lastmodified:") && changed[2].starts_with("mac:")
    );
    assert!(after.contains("# my second one\nsecond:"));
}

#[test]
fn new_keys_are_added_where_they_belong() {
    let (identities, recipient) = identity();
    let text = sample(&identities, &recipient);
    assert_eq!(read(&text).paths(), ["first", "second", "db.user", "db.password"]);
    assert_eq!(shows(&text, &identities, "db.password"), "three");
    let file = read(&text);
    let opened = file.open(&identities).unwrap();
    let refused = edit::set(&file, &opened, "first.below", &secret("x"), now());
    assert_eq!(refused.unwrap_err(), SopsError::NoPlace { path: "first.below".to_owned() });
    let refused = edit::set(&file, &opened, "x_unencrypted", &secret("x"), now());
    assert_eq!(refused.unwrap_err(), SopsError::NoPlace { path: "x_unencrypted".to_owned() });
}

#[test]
fn a_new_data_key_keeps_values_and_shuts_out_the_old_one() {
    let (identities, recipient) = identity();
    let before = sample(&identities, &recipient);
    let file = read(&before);
    let opened = file.open(&identities).unwrap();
    let after = edit::rotate(&file, &opened, now()).unwrap();
    for (path, value) in [("first", "one"), ("second", "two"), ("db.password", "three"), ("db.user", "four")] {
        assert_eq!(shows(&after, &identities, path), value);
    }
    assert!(after.contains("# my second one\nsecond:"));
    assert!(read(&after).values(&opened.key).is_err(), "the old key opens nothing any more");
}

#[test]
fn who_is_added_opens_it_and_who_is_removed_does_not() {
    let ((mine, my_recipient), (other, other_recipient)) = (identity(), identity());
    let text = sample(&mine, &my_recipient);
    let file = read(&text);
    let opened = file.open(&mine).unwrap();
    let both = edit::for_recipients(&file, &opened, &[my_recipient, other_recipient.clone()], now()).unwrap();
    assert_eq!(shows(&both, &mine, "first"), "one");
    assert_eq!(shows(&both, &other, "first"), "one");
    let file = read(&both);
    let opened = file.open(&other).unwrap();
    let one = edit::for_recipients(&file, &opened, &[other_recipient], now()).unwrap();
    assert_eq!(shows(&one, &other, "first"), "one");
    assert!(matches!(read(&one).open(&mine), Err(SopsError::NotForUs { .. })));
    assert!(matches!(edit::for_recipients(&file, &opened, &[], now()), Err(SopsError::NoRecipient)));
    let bad = edit::for_recipients(&file, &opened, &["age1nobody".to_owned()], now());
    assert_eq!(bad.unwrap_err(), SopsError::Recipient { recipient: "age1nobody".to_owned() });
}

/// The line that starts with `key`.
fn line<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find(|line| line.trim_start().starts_with(key)).unwrap()
}

#[test]
fn what_was_changed_moved_removed_or_put_back_is_seen() {
    let (identities, recipient) = identity();
    let text = sample(&identities, &recipient);
    let file = read(&text);
    let opened = file.open(&identities).unwrap();
    let newer = edit::set(&file, &opened, "first", &secret("new"), now()).unwrap();
    let (first, second) = (line(&text, "first:"), line(&text, "second:"));
    let moved = text.replace(first, &second.replace("second:", "first:"));
    let value = |broken: &str| read(broken).open(&identities).unwrap_err();
    assert_eq!(value(&moved), SopsError::Value { path: "first".to_owned() });
    assert_eq!(value(&text.replace(&format!("{second}\n"), "")), SopsError::Mac, "removed");
    let swapped = text.replace(first, "@").replace(second, first).replace('@', second);
    assert_eq!(value(&swapped), SopsError::Mac, "order");
    assert_eq!(value(&newer.replace(line(&newer, "first:"), first)), SopsError::Mac, "put back");
    assert_eq!(value(&format!("extra_unencrypted: 1\n{text}")), SopsError::Mac, "added in the clear");
    assert_eq!(value(&text.replace("2026-11-30T22:00:00Z", "2026-11-30T22:00:01Z")), SopsError::Mac, "time");
    assert_eq!(value(&text.replace(line(&text, "mac:"), line(&newer, "mac:"))), SopsError::Mac, "another MAC");
}

#[test]
fn what_is_no_file_of_sops_is_told_by_what_it_is() {
    let (identities, recipient) = identity();
    let text = sample(&identities, &recipient);
    let told = |bytes: &[u8]| SopsFile::read(bytes).unwrap_err();
    assert_eq!(told(b"password: hunter2\n"), SopsError::NotEncrypted);
    assert_eq!(told(&vec![b'a'; 10 << 20]), SopsError::TooLarge { bytes: 10 << 20 });
    assert_eq!(told(b"a: \xff"), SopsError::NotText { at: 3 });
    let merged = text.replacen("second:", "<<<<<<< HEAD\nsecond: x\n=======\nsecond:", 1);
    assert_eq!(told(merged.as_bytes()), SopsError::Conflict { line: 3 });
    assert!(matches!(told(b"a: [1\n"), SopsError::Yaml { .. }));
    assert!(matches!(told(b"- a\n"), SopsError::Shape { .. }));
    assert!(matches!(told(b"a: &x 1\nb: *x\n"), SopsError::Shape { what: "an anchor", .. }));
    assert!(matches!(
        told(format!("{text}---\nb: 1\n").as_bytes()),
        SopsError::Shape { what: "a second document", .. }
    ));
    let plain = format!("password: hunter2\n{text}");
    assert_eq!(told(plain.as_bytes()), SopsError::Plain { path: "password".to_owned() });
    assert_eq!(told(b"a: 1\nsops: {mac: x, lastmodified: y}\n"), SopsError::NoRecipient);
    let shares = text.replace("sops:\n", "sops:\n    key_groups: [{age: []}]\n");
    assert_eq!(told(shares.as_bytes()), SopsError::Shares);
    let rules = text.replace("sops:\n", "sops:\n    encrypted_regex: a\n    unencrypted_regex: b\n");
    assert_eq!(told(rules.as_bytes()), SopsError::ManyRules);
    let regex = text.replace("sops:\n", "sops:\n    encrypted_regex: (\n");
    assert_eq!(told(regex.as_bytes()), SopsError::Regex { regex: "(".to_owned() });
    let mac = text.replace(line(&text, "mac:"), "    mac: none");
    assert!(matches!(told(mac.as_bytes()), SopsError::Metadata { .. }));
    for error in [SopsError::NotEncrypted, SopsError::Mac, SopsError::Shares, SopsError::Random, SopsError::TooLong] {
        assert!(!error.hint("secrets/x.sops.yaml").is_empty());
    }
    drop(identities);
}

#[test]
fn no_cut_of_a_file_opens_as_something_else() {
    let (identities, recipient) = identity();
    let text = sample(&identities, &recipient);
    // Behind the MAC there is only the version of who wrote it.
    let mac = text.find("    mac: ").unwrap() + line(&text, "mac:").len();
    for end in (0..mac).step_by(7).chain([mac - 1]) {
        if let Ok(file) = SopsFile::read(&text.as_bytes()[..end]) {
            assert!(file.open(&identities).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn a_file_of_several_values_needs_a_path() {
    let (identities, recipient) = identity();
    let file = read(&sample(&identities, &recipient));
    assert_eq!(file.meant(None), Err(SopsError::ManyValues { count: 4 }));
    assert_eq!(file.meant(Some("db.user")).unwrap(), "db.user");
    assert!(matches!(file.meant(Some("db")), Err(SopsError::NoValue { .. })));
}

#[test]
fn only_what_the_rule_names_is_encrypted_and_all_is_under_the_mac() {
    let (identities, recipient) = identity();
    let rules = RawRules { encrypted_regex: Some("^(password|token)$".to_owned()), ..RawRules::default() };
    let creation = Creation { rules, mac_only_encrypted: true, ..creation(&[&recipient]) };
    assert!(matches!(edit::create(&creation, "user", &secret("x"), now()), Err(SopsError::NoPlace { .. })));
    let text = edit::create(&creation, "password", &secret("x"), now()).unwrap();
    // What is readable is not under this MAC.
    let text = format!("user: somebody\n{text}");
    assert_eq!(shows(&text, &identities, "user"), "somebody");
    assert_eq!(shows(&text, &identities, "password"), "x");
    let file = read(&text);
    let opened = file.open(&identities).unwrap();
    let after = edit::rotate(&file, &opened, now()).unwrap();
    assert_eq!(shows(&after, &identities, "password"), "x");
    assert!(after.contains("mac_only_encrypted: true") && after.contains("encrypted_regex: \"^(password|token)$\""));
}

#[test]
fn keys_of_others_are_never_written_over() {
    let (identities, recipient) = identity();
    let text = sample(&identities, &recipient).replace("sops:\n", "sops:\n    pgp: [{fp: ABC, enc: x}]\n");
    let file = read(&text);
    let opened = file.open(&identities).unwrap();
    assert!(matches!(edit::rotate(&file, &opened, now()), Err(SopsError::OtherKeys { .. })));
    let after = edit::set(&file, &opened, "first", &secret("new"), now()).unwrap();
    assert!(after.contains("fp: ABC"));
}

#[test]
fn a_random_value_has_its_length_and_no_two_are_alike() {
    let made: std::collections::BTreeSet<String> =
        (0..50).map(|_| edit::random_text(32).unwrap().expose_secret().to_owned()).collect();
    assert_eq!(made.len(), 50);
    assert!(made.iter().all(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())));
}
