//! A target document.

use std::path::PathBuf;
use std::time::Duration;

use super::{Checker, Sited, values};
use crate::config::model::{Hook, Hooks, Target, Tolerate};
use crate::config::raw::{RawArgument, RawHook, RawHookList, RawHooks, RawTarget, RawTolerate};
use crate::error::codes;
use crate::types::Name;

/// Largest settings as JSON: they are stored, and a stored value stays below 32 KiB.
pub const SETTINGS_BYTES_MAX: usize = 16 * 1024;
/// Most programs in one hook.
const HOOKS_MAX: usize = 16;
/// Without `timeout`.
const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_mins(10);
const READY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The list of programs beside a run.
const DURING: &str = "during";
const HOOK_TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// A target; its policies still have to be found.
#[derive(Debug)]
pub(crate) struct TargetItem {
    target: Target,
    /// As written; none: the default policy.
    pub policies: Option<Vec<Sited<Name>>>,
    /// The directories and files that are all of its data.
    pub paths: Vec<Sited<PathBuf>>,
}

impl TargetItem {
    pub(crate) fn enabled(&self) -> bool {
        self.target.enabled
    }

    pub(crate) fn resolve(&self, default: Option<&Name>) -> Target {
        let policies = match &self.policies {
            Some(names) => names.iter().map(|name| name.value.clone()).collect(),
            None => default.cloned().into_iter().collect(),
        };
        Target { policies, ..self.target.clone() }
    }
}

pub(super) fn check(checker: &mut Checker<'_>, raw: RawTarget) -> Option<TargetItem> {
    let name = checker.name(&["name"], &raw.name.0);
    let plugin = checker.name(&["plugin"], &raw.plugin.0);
    let settings = serde_json::Value::Object(raw.with);
    let bytes = settings.to_string().len();
    if bytes > SETTINGS_BYTES_MAX {
        let message = format!("`with` has {bytes} bytes as JSON, but may have at most {SETTINGS_BYTES_MAX}");
        let refusal = values::Refusal::new(codes::SETTINGS_TOO_LARGE, message);
        checker.take::<()>(&["with"], Err(refusal.hint("split the target, or use patterns instead of long lists")));
    }
    let policies = raw.policies.map(|names| {
        let names: Vec<String> = names.into_iter().map(|name| name.0).collect();
        checker.names(&["policies"], &names)
    });
    let hooks = hooks(checker, raw.hooks.unwrap_or_default());
    let accept = raw.accept.unwrap_or_default().into_iter().map(|value| value.0).collect();
    let enabled = raw.enabled.unwrap_or(true);
    if !enabled {
        let message = "this target is switched off: it is not backed up";
        checker.warn(
            &["enabled"],
            codes::TARGET_DISABLED,
            message,
            "delete the line `enabled: false` to back it up again",
        );
    }
    let tolerate = tolerate(checker, raw.tolerate.unwrap_or_default());
    let (name, plugin) = (name?, plugin?);
    let target = Target { name, plugin, settings, policies: Vec::new(), enabled, hooks, accept, tolerate };
    let paths = if target.plugin.as_str() == "files" { paths(checker, &target.settings) } else { Vec::new() };
    Some(TargetItem { target, policies, paths })
}

fn paths(checker: &Checker<'_>, settings: &serde_json::Value) -> Vec<Sited<PathBuf>> {
    let written = settings.get("paths").and_then(serde_json::Value::as_array);
    let sited = written.into_iter().flatten().enumerate().filter_map(|(index, path)| {
        let span = checker.span(&["with", "paths", index.to_string().as_str()]);
        Some(Sited { value: PathBuf::from(path.as_str()?), span })
    });
    sited.collect()
}

fn tolerate(checker: &mut Checker<'_>, raw: RawTolerate) -> Tolerate {
    let vanished = checker.maybe(&["tolerate", "vanished"], raw.vanished.map(|text| values::share(&text.0)));
    let mut unreadable = Vec::new();
    for (index, text) in raw.unreadable.unwrap_or_default().iter().enumerate() {
        let index = index.to_string();
        unreadable.extend(checker.take(&["tolerate", "unreadable", index.as_str()], values::path(&text.0)));
    }
    let vanished_ppm = vanished.unwrap_or(Tolerate::default().vanished_ppm);
    Tolerate { vanished_ppm, unreadable }
}

fn hooks(checker: &mut Checker<'_>, raw: RawHooks) -> Hooks {
    let mut list = |name: &str, raw: Option<RawHookList>| match raw {
        Some(RawHookList(items)) => hook_list(checker, name, items),
        None => Vec::new(),
    };
    Hooks {
        before: list("before", raw.before),
        during: list(DURING, raw.during),
        after: list("after", raw.after),
        on_failure: list("on_failure", raw.on_failure),
    }
}

/// A list of words is one program; a list of lists and mappings is several.
fn hook_list(checker: &mut Checker<'_>, name: &str, items: Vec<RawHook>) -> Vec<Hook> {
    let words = items.iter().filter(|item| matches!(item, RawHook::Word(_))).count();
    if words == items.len() {
        let words: Vec<RawArgument> = items
            .into_iter()
            .filter_map(|item| match item {
                RawHook::Word(word) => Some(word),
                _ => None,
            })
            .collect();
        let nothing = words.is_empty();
        let command = command(checker, &["hooks", name], &words);
        return command.filter(|_| !nothing).map(|command| hook(name, command, None)).into_iter().collect();
    }
    if words > 0 {
        let refusal = values::Refusal::new(codes::MIXED_HOOKS, format!("`hooks.{name}` mixes words and programs"));
        let hint = "write one program as [systemctl, stop, app], several as [[systemctl, stop, app], [sync]]";
        checker.take::<()>(&["hooks", name], Err(refusal.hint(hint)));
    }
    if items.len() > HOOKS_MAX {
        let message = format!("`hooks.{name}` has {} programs, but may have at most {HOOKS_MAX}", items.len());
        checker.take::<()>(&["hooks", name], Err(values::Refusal::new(codes::TOO_MANY, message)));
        return Vec::new();
    }
    let mut hooks = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let index = index.to_string();
        let path = ["hooks", name, index.as_str()];
        match item {
            RawHook::Word(_) => {}
            RawHook::Words(words) => {
                hooks.extend(command(checker, &path, &words).map(|command| hook(name, command, None)));
            }
            RawHook::Full(full) => {
                let command = command(checker, &[path.as_slice(), &["command"]].concat(), &full.command);
                let timeout = full.timeout.map(|text| values::duration(&text.0, HOOK_TIMEOUT_MAX));
                let timeout = checker.maybe(&[path.as_slice(), &["timeout"]].concat(), timeout);
                let ready = full.ready.map(|ready| ready_at(name, &ready.tcp.0));
                let ready = checker.maybe(&[path.as_slice(), &["ready", "tcp"]].concat(), ready);
                hooks.extend(command.map(|command| Hook { ready, ..hook(name, command, timeout) }));
            }
        }
    }
    hooks
}

fn command(checker: &mut Checker<'_>, path: &[&str], words: &[RawArgument]) -> Option<Vec<String>> {
    if let [only] = words
        && only.0.contains(' ')
    {
        let message = "a program and its arguments stand in one text, but no shell takes them apart";
        let parts: Vec<&str> = only.0.split_whitespace().collect();
        let hint = format!("write [{}]", crate::config::suggest::shown(&parts.join(", ")));
        checker
            .take::<()>(&[path, &["0"]].concat(), Err(values::Refusal::new(codes::SHELL_COMMAND, message).hint(hint)));
        return None;
    }
    let mut command = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let index = index.to_string();
        command.push(checker.take(&[path, &[index.as_str()]].concat(), values::one_line(&word.0)));
    }
    command.into_iter().collect()
}

fn hook(name: &str, command: Vec<String>, timeout: Option<Duration>) -> Hook {
    let default = if name == DURING { READY_TIMEOUT_DEFAULT } else { HOOK_TIMEOUT_DEFAULT };
    Hook { command, timeout: timeout.unwrap_or(default), ready: None }
}

/// `127.0.0.1:5433`, where a program that runs beside a run is waited for.
fn ready_at(name: &str, text: &str) -> Result<String, values::Refusal> {
    if name != DURING {
        let message = format!("`hooks.{name}` is waited for to its end, so `ready` means nothing there");
        return Err(values::Refusal::new(codes::READY_ELSEWHERE, message).hint("move the program to `hooks.during`"));
    }
    let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains([' ', '/']));
    let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
    match port {
        Some(_) => Ok(text.to_owned()),
        None => Err(values::Refusal::new(codes::BAD_READY, format!("{text:?} is no HOST:PORT"))
            .hint("write an address such as 127.0.0.1:5433 or [::1]:5433")),
    }
}
