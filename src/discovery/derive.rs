//! Targets for what was discovered: a pure function of the config and of what an engine has.
//!
//! An engine that does not answer changes nothing: what was derived before stays. A project that is gone takes its
//! target along, which is orphaned as any other then; its backups stay.

use serde_json::json;

use crate::config::model::{Config, Target};
use crate::discovery::docker::{EngineInventory, Uncovered, uncovered};
use crate::types::Name;

/// The names of derived targets start with it.
const PREFIX: &str = "compose-";

/// The targets that `config` gets for compose projects that none of its own covers; `before` are those that it had.
///
/// A project whose target is switched off is not missed: somebody did that on purpose.
pub(crate) fn derived<'t>(
    config: &Config,
    inventory: Option<&EngineInventory>,
    before: impl Iterator<Item = &'t Target>,
) -> Vec<Target> {
    let Some(discover) = config.site.discover.as_ref().filter(|discover| discover.auto) else { return Vec::new() };
    let Some(policy) = config.policies.values().find(|policy| policy.default) else { return Vec::new() };
    let of = |project: &str| -> Option<Target> {
        let name = Name::parse(&format!("{PREFIX}{project}")).ok()?;
        let taken = config.targets.keys().any(|each| each.as_str().eq_ignore_ascii_case(name.as_str()));
        let settings = json!({"socket": discover.socket, "project": project});
        let plugin = Name::parse("docker").ok()?;
        let target = Target::bare(name, plugin, settings);
        (!taken).then(|| Target { policies: vec![policy.name.clone()], enabled: true, ..target })
    };
    let project_of = |target: &Target| -> Option<String> {
        let text = |field: &str| target.settings.get(field)?.as_str();
        let same = text("socket") == Some(discover.socket.as_str());
        text("project").filter(|_| same).map(str::to_owned)
    };
    let projects: Vec<String> = match inventory.filter(|inventory| inventory.socket == discover.socket) {
        Some(inventory) => uncovered(inventory, config.targets.values(), &discover.exclude)
            .into_iter()
            .filter_map(|each| if let Uncovered::Project(name) = each { Some(name) } else { None })
            .collect(),
        None => before.filter_map(project_of).filter(|project| !discover.exclude.contains(project)).collect(),
    };
    projects.iter().filter_map(|project| of(project)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Discover, OnMissed, Policy, Retention, ScheduleSpec};
    use crate::discovery::docker::Seen;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn config(targets: &[Target]) -> Config {
        let policy = Policy {
            name: name("daily"),
            default: true,
            schedule: ScheduleSpec { expression: "0 2 * * *".to_owned(), timezone: "UTC".to_owned() },
            jitter: std::time::Duration::ZERO,
            retention: Retention { last: Some(3), ..Retention::default() },
            destinations: vec![name("nas")],
            max_age: None,
            timeout: std::time::Duration::from_secs(60),
            on_missed: OnMissed::Run,
        };
        let mut config = Config::default();
        config.site.discover =
            Some(Discover { socket: "/e.sock".to_owned(), auto: true, exclude: vec!["skipped".to_owned()] });
        config.policies.insert(policy.name.clone(), policy);
        config.targets = targets.iter().map(|target| (target.name.clone(), target.clone())).collect();
        config
    }

    fn inventory(projects: &[&str]) -> EngineInventory {
        let seen = |project: &&str| Seen {
            name: format!("{project}-1"),
            project: Some((*project).to_owned()),
            ..Seen::default()
        };
        EngineInventory {
            socket: "/e.sock".to_owned(),
            containers: projects.iter().map(seen).collect(),
            ..EngineInventory::default()
        }
    }

    fn names(targets: &[Target]) -> Vec<&str> {
        targets.iter().map(|target| target.name.as_str()).collect()
    }

    #[test]
    fn every_project_that_nobody_covers_gets_a_target() {
        let own = Target::bare(name("mine"), name("docker"), json!({"socket": "/e.sock", "project": "b"}));
        let found = derived(&config(&[own]), Some(&inventory(&["a", "b", "skipped", "c"])), std::iter::empty());
        assert_eq!(names(&found), ["compose-a", "compose-c"]);
        assert_eq!(found[0].settings, json!({"socket": "/e.sock", "project": "a"}));
        assert!(found[0].enabled && found[0].policies == [name("daily")]);
        let again = derived(&config(&[]), Some(&inventory(&["a", "c"])), found.iter());
        assert_eq!(again, found, "the same in gives the same out");
        assert_eq!(names(&derived(&config(&[]), Some(&inventory(&["c"])), found.iter())), ["compose-c"]);
    }

    #[test]
    fn an_engine_that_does_not_answer_changes_nothing() {
        let before = derived(&config(&[]), Some(&inventory(&["a"])), std::iter::empty());
        assert_eq!(derived(&config(&[]), None, before.iter()), before);
        let other = EngineInventory { socket: "/other.sock".to_owned(), ..inventory(&["z"]) };
        assert_eq!(derived(&config(&[]), Some(&other), before.iter()), before);
        let mut off = config(&[]);
        off.site.discover = None;
        assert_eq!(derived(&off, None, before.iter()), []);
        let taken = Target::bare(name("Compose-A"), name("files"), json!({}));
        assert_eq!(derived(&config(&[taken]), None, before.iter()), []);
    }
}
