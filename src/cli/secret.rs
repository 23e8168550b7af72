//! `larder secret …`: the encrypted files of a checkout. It writes what `sops` reads, and commits nothing.
//!
//! A value comes by standard input or is typed unseen, never by an argument, and is printed only by `show`.

mod checkout;
mod typed;

use std::path::Path;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::cli::args::{Global, Output, SecretAction, SecretArgs};
use crate::cli::{Code, Done, output};
use crate::error::{Trouble, chain, codes};
use crate::secret::address::{Address, VALUE};
use crate::secret::identity::Sources;
use crate::secret::keys;
use crate::secret::sops::{SopsError, edit};
use checkout::{Checkout, Sealed};

pub(crate) fn secret(global: &Global, args: &SecretArgs) -> Done {
    let checkout = Checkout { root: args.checkout.clone(), sources: Sources::of_process(args.identity.clone()) };
    match &args.action {
        SecretAction::Set { name, recipient } => {
            let address = address(name)?;
            checkout.prepared(&address, recipient)?;
            let value = typed::value(&format!("the secret {address}"))?;
            set(&checkout, &address, &value, recipient)
        }
        SecretAction::Generate { name, length, recipient, replace } => {
            let address = address(name)?;
            if checkout.has(&address)? && !replace {
                let message = format!("the secret {address} is there already");
                return Err(Trouble::new(codes::SECRET_EXISTS, message)
                    .with_hint("give --replace for a new value")
                    .into());
            }
            let value = edit::random_text(usize::from(*length)).map_err(|error| failed(&address.file, &error))?;
            set(&checkout, &address, &value, recipient)
        }
        SecretAction::Show { name } => {
            let address = address(name)?;
            let file = checkout.file(&address.file)?;
            let path = file.parsed.meant(address.path.as_deref()).map_err(|error| failed(&address.file, &error))?;
            let opened = checkout.open(&file)?;
            let value = opened.text(&path).map_err(|error| failed(&address.file, &error))?;
            output::line(value.expose_secret());
            Ok(Code::Done)
        }
        SecretAction::List => list(global, &checkout),
        SecretAction::Rotate { names } => {
            for file in checkout.files(names)? {
                let opened = checkout.open(&file)?;
                let text = edit::rotate(&file.parsed, &opened, Timestamp::now())
                    .map_err(|error| failed(&file.path, &error))?;
                checkout.write(&file.path, &text)?;
                output::line(&format!("{}: new data key", file.path));
            }
            output::line(
                "who had the old one still reads what is in Git's history; change the secrets themselves where that matters",
            );
            Ok(Code::Done)
        }
        SecretAction::Recipients { names, add, remove } => recipients(global, &checkout, names, add, remove),
        SecretAction::Check => check(global, &checkout),
        SecretAction::Identity { file } => identity(file),
    }
}

fn set(checkout: &Checkout, address: &Address, value: &SecretString, recipients: &[String]) -> Done {
    let now = Timestamp::now();
    let (text, made) = if checkout.path(&address.file).exists() {
        if !recipients.is_empty() {
            let message = format!("{} is there already, so --recipient says nothing", address.file);
            let hint = format!("`larder secret recipients --add RECIPIENT {}` encrypts it for one more", address.file);
            return Err(Trouble::new(codes::SECRET_EXISTS, message).with_hint(hint).into());
        }
        let file = checkout.file(&address.file)?;
        let path = match (&address.path, file.parsed.meant(None)) {
            (Some(path), _) => path.clone(),
            (None, Ok(path)) => path,
            (None, Err(error)) => return Err(failed(&address.file, &error).into()),
        };
        let opened = checkout.open(&file)?;
        (edit::set(&file.parsed, &opened, &path, value, now), "changed")
    } else {
        let creation = checkout.creation(&address.file, recipients)?;
        (edit::create(&creation, address.path.as_deref().unwrap_or(VALUE), value, now), "made")
    };
    let text = text.map_err(|error| failed(&address.file, &error))?;
    checkout.write(&address.file, &text)?;
    output::line(&format!("{made} {}; refer to it by {{secret: {}}}", address.file, written(address)));
    Ok(Code::Done)
}

fn list(global: &Global, checkout: &Checkout) -> Done {
    let mut rows = Vec::new();
    let mut items = Vec::new();
    for path in checkout.sealed()? {
        match checkout.file(&path) {
            Ok(Sealed { parsed, .. }) => {
                let count = parsed.recipients().len();
                for value in parsed.paths() {
                    let only = parsed.meant(None).is_ok_and(|only| only == value);
                    let address = Address { file: path.clone(), path: (!only).then(|| value.clone()) };
                    rows.push(vec![written(&address), parsed.last_modified().to_owned(), count.to_string()]);
                    items.push(json!({"secret": address.written(), "file": path, "path": value,
                        "changed": parsed.last_modified(), "recipients": parsed.recipients()}));
                }
            }
            Err(trouble) => {
                rows.push(vec![path.clone(), trouble.message.clone(), String::new()]);
                items.push(json!({"file": path, "trouble": trouble}));
            }
        }
    }
    match global.output {
        Output::Json => output::json(&items),
        _ if rows.is_empty() => output::line("no secrets here; make one with `larder secret set NAME`"),
        _ => output::table(&["SECRET", "CHANGED", "RECIPIENTS"], &rows),
    }
    Ok(Code::Done)
}

fn recipients(global: &Global, checkout: &Checkout, names: &[String], add: &[String], remove: &[String]) -> Done {
    all_are_recipients(add)?;
    let files = checkout.files(names)?;
    let mut items = Vec::new();
    for file in files {
        let before: Vec<String> = file.parsed.recipients().into_iter().map(str::to_owned).collect();
        let mut after: Vec<String> = before.iter().filter(|each| !remove.contains(each)).cloned().collect();
        after.extend(add.iter().filter(|each| !before.contains(each)).cloned());
        if after != before {
            let opened = checkout.open(&file)?;
            let text = edit::for_recipients(&file.parsed, &opened, &after, Timestamp::now());
            checkout.write(&file.path, &text.map_err(|error| failed(&file.path, &error))?)?;
        }
        items.push((file.path.clone(), after));
    }
    if global.output == Output::Json {
        output::json(
            &items.iter().map(|(file, recipients)| json!({"file": file, "recipients": recipients})).collect::<Vec<_>>(),
        );
    } else {
        let row = |(file, recipient): (&String, &String)| vec![file.clone(), recipient.clone()];
        let rows: Vec<Vec<String>> =
            items.iter().flat_map(|(file, all)| all.iter().map(move |each| row((file, each)))).collect();
        output::table(&["FILE", "RECIPIENT"], &rows);
    }
    if !add.is_empty() || !remove.is_empty() {
        output::note("new files are encrypted as `.sops.yaml` says: change its `age:`, too");
    }
    Ok(Code::Done)
}

fn check(global: &Global, checkout: &Checkout) -> Done {
    let mut troubles = Vec::new();
    let all = checkout.sealed()?;
    for path in &all {
        let looked = checkout.file(path).and_then(|file| checkout.open(&file).map(drop));
        troubles.extend(looked.err());
    }
    if global.output == Output::Json {
        output::json(&json!({"files": all.len(), "troubles": troubles}));
    } else {
        troubles.iter().for_each(output::trouble);
        output::line(&format!("{} of {} files open and add up", all.len() - troubles.len(), all.len()));
    }
    Ok(if troubles.is_empty() { Code::Done } else { Code::Failed })
}

fn identity(file: &Path) -> Done {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let (identity, recipient) = keys::generate();
    let failed = |error: std::io::Error| {
        let message = format!("the identity {} cannot be written: {}", file.display(), chain(&error));
        Trouble::new(codes::CANNOT_WRITE, message)
            .with_hint("an identity that is there is never replaced: give another path")
    };
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let text = SecretString::from(format!("# public key: {recipient}\n{}\n", identity.expose_secret()));
    out.write_all(text.expose_secret().as_bytes()).and_then(|()| out.sync_all()).map_err(failed)?;
    output::note(&format!(
        "made {} (mode 0600); keep a copy of it somewhere else: without it no secret in Git can be opened",
        file.display()
    ));
    output::line(&recipient);
    Ok(Code::Done)
}

fn all_are_recipients(given: &[String]) -> Result<(), Trouble> {
    let Some(bad) = given.iter().find(|recipient| !keys::is_recipient(recipient)) else { return Ok(()) };
    let error = SopsError::Recipient { recipient: bad.clone() };
    Err(Trouble::of(codes::SECRET_RULE, &error, Some(error.hint(""))))
}

fn address(name: &str) -> Result<Address, Trouble> {
    Address::parse(name).map_err(|error| {
        Trouble::new(codes::SECRET_REFERENCE, error.to_string())
            .with_hint("write NAME for secrets/NAME.sops.yaml, or FILE.sops.yaml#path.to.value")
    })
}

/// As it is written in YAML.
fn written(address: &Address) -> String {
    let text = address.written();
    if text.contains('#') { format!("\"{text}\"") } else { text }
}

fn failed(file: &str, error: &SopsError) -> Trouble {
    Trouble::new(codes::SECRET_FILE, format!("{file}: {}", chain(error))).with_hint(error.hint(file))
}
