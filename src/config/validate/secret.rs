//! Secrets: only references are taken, and what was written instead is never shown.

use super::Validator;
use crate::config::spans::{Node, Value};
use crate::config::suggest;
use crate::config::text::{Finding, Span};
use crate::error::codes;
use crate::secret::address::{Address, is_sealed};

const KINDS: [&str; 4] = ["file", "env", "credential", "secret"];
const MEND: &str = "write {secret: NAME}, {file: /path/to/it}, {env: NAME} or {credential: NAME}";

/// Longer names of secrets are not shown.
const NAME_SHOWN_MAX: usize = 40;

impl Validator<'_> {
    pub(super) fn secret(&mut self, node: &Node, at: Span) {
        let here = self.here();
        match &node.value {
            Value::Null => {
                let message = format!("{here} has no value; it must say where the secret is kept");
                self.push(Finding::error(node.span, codes::NO_VALUE, message).hint(MEND));
            }
            Value::Mapping(entries) => match entries.as_slice() {
                [] => {
                    let message = format!("{here} is empty; it must say where the secret is kept");
                    self.push(Finding::error(at, codes::TOO_FEW, message).hint(MEND));
                }
                [entry] if KINDS.contains(&entry.key.as_str()) => {
                    self.reference(&entry.key, &entry.value, entry.key_span);
                }
                entries => {
                    self.hide(node);
                    let unknown = entries.iter().find(|entry| !KINDS.contains(&entry.key.as_str()));
                    let (message, span) = match unknown {
                        Some(entry) => {
                            (format!("{here} has no field `{}`", suggest::shown(&entry.key)), entry.key_span)
                        }
                        None => (format!("{here} names more than one place for one secret"), at),
                    };
                    let near = unknown.and_then(|entry| suggest::nearest(&entry.key, KINDS));
                    let hint = near.map_or_else(|| MEND.to_owned(), |near| format!("did you mean `{near}`?"));
                    self.push(Finding::error(span, codes::UNKNOWN_FIELD, message).hint(hint));
                }
            },
            Value::Sequence(_) => {
                self.hide(node);
                let message = format!("{here} must say where the secret is kept, but this is a list");
                self.push(Finding::error(at, codes::WRONG_TYPE, message).hint(MEND));
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.hide(node);
                let message = format!("{here} holds a secret in plain text, and whoever reads the repository reads it");
                let hint = format!(
                    "`larder secret set NAME` keeps it in this repository, encrypted: {MEND}, and change the secret if this was ever pushed"
                );
                self.push(Finding::error(node.span, codes::PLAINTEXT_SECRET, message).hint(hint));
            }
        }
    }

    fn reference(&mut self, kind: &str, value: &Node, at: Span) {
        let Some(name) = value.text().filter(|name| !name.is_empty()) else {
            self.hide(value);
            let wanted = if kind == "file" { "a path" } else { "a name" };
            self.path.push(kind.to_owned());
            let message = format!("{} must be {wanted}", self.here());
            self.path.pop();
            self.push(Finding::error(at, codes::WRONG_TYPE, message));
            return;
        };
        // A reference that can not be one may be the secret itself, so it is not repeated.
        let trouble = match kind {
            "secret" => match Address::parse(name) {
                Ok(address) => {
                    // A name that does not look like one may be the secret itself, which a finding must not show.
                    if !looks_like_a_name(name) {
                        self.hide(value);
                    }
                    self.sealed.push((address, value.span));
                    return;
                }
                Err(_) => "the name of a secret (letters, digits, `.`, `_`, `-`, `/`), or FILE.sops.yaml#path.to.value",
            },
            "file" if !name.starts_with('/') || name.contains(['\n', '\0']) => "an absolute path",
            "env" if !is_variable(name) => "the name of an environment variable (letters, digits, `_`)",
            "credential" if !is_credential(name) => "the name of a systemd credential (letters, digits, `.`, `_`, `-`)",
            _ => return,
        };
        self.hide(value);
        let message = format!("`{kind}` must be {trouble}");
        let hint = "the secret itself is never written here, only where it is kept";
        self.push(Finding::error(value.span, codes::INVALID_REFERENCE, message).hint(hint));
    }

    fn hide(&mut self, node: &Node) {
        match &node.value {
            Value::Mapping(entries) => entries.iter().for_each(|entry| self.hide(&entry.value)),
            Value::Sequence(items) => items.iter().for_each(|item| self.hide(item)),
            _ => self.secrets.push(node.span),
        }
    }
}

fn looks_like_a_name(name: &str) -> bool {
    let file = name.split('#').next().unwrap_or(name);
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    is_sealed(file) || (name.len() <= NAME_SHOWN_MAX && name.bytes().all(plain))
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_credential(name: &str) -> bool {
    !name.contains("..") && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
