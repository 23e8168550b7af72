//! What changed within a document, in short phrases. Values that could be long or private are only named.

use std::fmt::Display;
use std::time::Duration;

use serde_json::Value;

use crate::config::model::{
    CopyRule, Destination, ObjectLock, OnMissed, Policy, Retention, ScheduleSpec, Site, Target,
};
use crate::schedule::Schedule;
use crate::types::{Name, show_duration};

pub(super) fn site(old: &Site, new: &Site) -> Vec<String> {
    let mut phrases = Phrases::default();
    phrases.value("name", &old.name, &new.name);
    phrases.value("timezone", &old.timezone, &new.timezone);
    phrases.value("artifacts", &old.artifacts.path.display().to_string(), &new.artifacts.path.display().to_string());
    phrases.value("keep_runs", &old.artifacts.keep_runs, &new.artifacts.keep_runs);
    phrases.value("min_free", &old.artifacts.min_free, &new.artifacts.min_free);
    phrases.value("require_mount", &old.artifacts.require_mount, &new.artifacts.require_mount);
    phrases.value("runs at once", &old.concurrency.runs, &new.concurrency.runs);
    phrases.value("runs at once in a destination", &old.concurrency.per_destination, &new.concurrency.per_destination);
    phrases.named("email", &old.email, &new.email);
    phrases.named("url", &old.url, &new.url);
    phrases.named("discover", &old.discover, &new.discover);
    phrases.0
}

pub(super) fn destination(old: &Destination, new: &Destination) -> Vec<String> {
    let mut phrases = Phrases::default();
    phrases.value("repository", &old.repository.location(), &new.repository.location());
    if old.repository.location() == new.repository.location() {
        phrases.named("repository settings", &old.repository, &new.repository);
    }
    phrases.named("password", &old.password, &new.password);
    phrases.named("limits", &old.limits, &new.limits);
    phrases.value("machine key", &old.machine_key, &new.machine_key);
    phrases.value("append-only", &old.append_only, &new.append_only);
    let [lock_before, lock_after] = [old, new].map(|each| each.object_lock.as_ref());
    let lock = |lock: &ObjectLock| format!("{} for {} days", lock.mode.word(), lock.days);
    phrases.value("object lock", &optional(lock_before, lock), &optional(lock_after, lock));
    phrases.named("repository id", &old.repository_id, &new.repository_id);
    let [check_before, check_after] = [old, new].map(|each| each.check.as_ref());
    phrases.value(
        "check",
        &optional(check_before, |check| times(&check.schedule)),
        &optional(check_after, |check| times(&check.schedule)),
    );
    if let (Some(before), Some(after)) = (check_before, check_after) {
        phrases.named("read_data", &before.read_data, &after.read_data);
    }
    let [prune_before, prune_after] = [old, new].map(|each| each.prune.as_ref());
    phrases.value(
        "prune",
        &optional(prune_before, |prune| times(&prune.schedule)),
        &optional(prune_after, |prune| times(&prune.schedule)),
    );
    let [copy_before, copy_after] = [old, new].map(|each| each.copy.as_ref());
    phrases.value("copy", &optional(copy_before, copied), &optional(copy_after, copied));
    phrases.0
}

fn copied(copy: &CopyRule) -> String {
    let of = |what: &str, all: &[Name]| if all.is_empty() { String::new() } else { format!(", {what} {}", names(all)) };
    let (targets, policies) = (of("targets", &copy.targets), of("policies", &copy.policies));
    format!("from {}, {}{targets}{policies}", copy.from, times(&copy.schedule))
}

pub(super) fn new_policy(policy: &Policy) -> Vec<String> {
    vec![
        times(&policy.schedule),
        format!("to {}", names(&policy.destinations)),
        format!("keep {}", kept(&policy.retention)),
    ]
}

pub(super) fn policy(old: &Policy, new: &Policy) -> Vec<String> {
    let mut phrases = Phrases::default();
    if old.schedule.expression != new.schedule.expression {
        let (before, after) = (times(&old.schedule), times(&new.schedule));
        phrases.0.push(format!("schedule {before} -> {after}"));
    }
    phrases.value("timezone", &old.schedule.timezone, &new.schedule.timezone);
    phrases.value("jitter", &duration(old.jitter), &duration(new.jitter));
    phrases.value("keep", &kept(&old.retention), &kept(&new.retention));
    phrases.value("destinations", &names(&old.destinations), &names(&new.destinations));
    phrases.value("max_age", &optional(old.max_age, duration), &optional(new.max_age, duration));
    phrases.value("timeout", &duration(old.timeout), &duration(new.timeout));
    phrases.value("on_missed", on_missed(old.on_missed), on_missed(new.on_missed));
    phrases.value("default", &old.default, &new.default);
    phrases.0
}

pub(super) fn new_target(target: &Target) -> Vec<String> {
    let mut phrases = vec![target.plugin.to_string()];
    phrases.push(if target.enabled { names(&target.policies) } else { "disabled".to_owned() });
    phrases
}

pub(super) fn target(old: &Target, new: &Target) -> Vec<String> {
    let mut phrases = Phrases::default();
    phrases.value("plugin", &old.plugin, &new.plugin);
    for key in changed_keys(&old.settings, &new.settings) {
        phrases.0.push(format!("with.{key}"));
    }
    phrases.value("policies", &names(&old.policies), &names(&new.policies));
    phrases.named("hooks", &old.hooks, &new.hooks);
    phrases.named("accept", &old.accept, &new.accept);
    match (old.enabled, new.enabled) {
        (true, false) => phrases.0.push("disabled".to_owned()),
        (false, true) => phrases.0.push("enabled".to_owned()),
        _ => {}
    }
    phrases.0
}

#[derive(Default)]
struct Phrases(Vec<String>);

impl Phrases {
    /// `name old -> new`, when they differ.
    fn value<T: PartialEq + Display + ?Sized>(&mut self, name: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(format!("{name} {old} -> {new}"));
        }
    }

    /// Only the name, when they differ.
    fn named<T: PartialEq>(&mut self, name: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(name.to_owned());
        }
    }
}

/// The top-level settings that differ. Their values may name private hosts and paths, so they are not shown.
fn changed_keys(old: &Value, new: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut keys: Vec<String> =
        old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
    keys.sort();
    keys.dedup();
    keys
}

fn times(spec: &ScheduleSpec) -> String {
    Schedule::parse(&spec.expression, &spec.timezone)
        .map_or_else(|_| spec.expression.clone(), |schedule| schedule.describe())
}

fn kept(retention: &Retention) -> String {
    let rules = [
        (retention.last, "last"),
        (retention.hourly, "hourly"),
        (retention.daily, "daily"),
        (retention.weekly, "weekly"),
        (retention.monthly, "monthly"),
        (retention.yearly, "yearly"),
    ];
    let kept: Vec<String> = rules.iter().filter_map(|(count, rule)| Some(format!("{} {rule}", (*count)?))).collect();
    kept.join(" ")
}

fn names(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(" + ")
}

fn optional<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "none".to_owned(), show)
}

fn duration(duration: Duration) -> String {
    if duration.is_zero() { "none".to_owned() } else { show_duration(duration) }
}

fn on_missed(on_missed: OnMissed) -> &'static str {
    match on_missed {
        OnMissed::Run => "run",
        OnMissed::Skip => "skip",
    }
}
