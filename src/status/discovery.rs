//! What no target covers, for people: judged anew with the config in force at every view.

use crate::config::model::Discover;
use crate::discovery::docker::{Uncovered, uncovered};
use crate::runner::live::Discovery;
use crate::status::read::Reading;
use crate::status::verdict::plural;
use crate::status::{DiscoveryView, Problem, UncoveredView};

/// How many are told by name; the rest is counted.
const TOLD_MAX: usize = 200;

/// How many a plate names.
const NAMED_MAX: usize = 8;

pub(super) fn view(reading: &Reading) -> Option<DiscoveryView> {
    let discover = reading.desired.site.discover.as_ref()?;
    let mut view = DiscoveryView {
        socket: discover.socket.clone(),
        known: false,
        at: None,
        uncovered: Vec::new(),
        uncovered_omitted: 0,
        problem: None,
    };
    match &reading.discovery {
        // Of another socket: the config has just changed.
        Discovery::Known { inventory, at } if inventory.socket == discover.socket => {
            let targets = reading.desired.targets.values().filter(|target| target.enabled);
            let mut all = uncovered(inventory, targets, &discover.exclude);
            view.known = true;
            view.at = Some(*at);
            view.problem = missed(&all, discover);
            view.uncovered_omitted = all.len().saturating_sub(TOLD_MAX) as u64;
            all.truncate(TOLD_MAX);
            let told = |each: &Uncovered| UncoveredView { kind: each.kind().to_owned(), name: each.name().to_owned() };
            view.uncovered = all.iter().map(told).collect();
        }
        Discovery::Unknown { trouble, at } => {
            view.at = Some(*at);
            view.problem = Some(Problem {
                code: trouble.code.clone(),
                what: "The container engine does not answer, so what no target covers is not known".to_owned(),
                why: Some(trouble.message.clone()),
                hint: trouble.hint.clone(),
                commands: Vec::new(),
            });
        }
        Discovery::Known { .. } | Discovery::None => {}
    }
    Some(view)
}

fn missed(all: &[Uncovered], discover: &Discover) -> Option<Problem> {
    let first = all.first()?;
    let mut names: Vec<String> =
        all.iter().take(NAMED_MAX).map(|each| format!("{} {}", each.kind(), each.name())).collect();
    if all.len() > NAMED_MAX {
        names.push(format!("and {} more", all.len() - NAMED_MAX));
    }
    let with = match first {
        Uncovered::Project(name) => format!("project: {name}"),
        Uncovered::Container(name) => format!("containers: [{name}]"),
        Uncovered::Volume(name) => format!("volumes: [{name}]"),
    };
    let many = if all.len() == 1 { "is" } else { "are" };
    Some(Problem {
        code: "uncovered".to_owned(),
        what: format!("{} {many} covered by no target", plural(all.len() as u64, "thing")),
        why: Some(names.join(", ")),
        hint: Some(format!(
            "add a target (`plugin: docker`, `with: {{{}{with}}}`), or its name to `discover.exclude` of the site",
            if discover.socket == crate::discovery::docker::SOCKET {
                String::new()
            } else {
                format!("socket: {}, ", discover.socket)
            }
        )),
        commands: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;
    use crate::status::render::Renderer;
    use crate::status::sample::{discovering, healthy, inventory, now};
    use crate::status::{Health, View};

    #[test]
    fn what_nobody_covers_is_told_on_the_page() {
        let view = View::build(&discovering(inventory(&["shop"])), now());
        let discovery = view.discovery.clone().unwrap();
        assert_eq!((discovery.known, discovery.uncovered[0].name.as_str()), (true, "shop"));
        assert_eq!(view.verdict.health, Health::Warning);
        assert!(view.attention.iter().any(|each| each.kind == "discovery"));
        let page = Renderer::new(None).unwrap().index(&view).unwrap();
        assert!(page.contains("Uncovered") && page.contains("shop"));
    }

    #[test]
    fn an_engine_that_does_not_answer_is_unknown_and_never_zero() {
        let trouble = crate::error::Trouble::new(codes::ENGINE_UNREACHABLE, "it is off");
        let view = View::build(&discovering(Discovery::Unknown { trouble, at: now() }), now());
        let discovery = view.discovery.clone().unwrap();
        assert!(!discovery.known && discovery.problem.is_some() && view.verdict.health == Health::Warning);
        let page = Renderer::new(None).unwrap().index(&view).unwrap();
        assert!(page.contains("does not answer") && page.contains("not known"));
        let before = View::build(&discovering(Discovery::None), now());
        assert!(!before.discovery.unwrap().known);
    }

    #[test]
    fn where_all_is_covered_everything_stays_green() {
        assert_eq!(View::build(&discovering(inventory(&[])), now()).verdict.health, Health::Proven);
        let off = healthy(&[("a", "files")]);
        assert_eq!(View::build(&off, now()).discovery, None);
    }
}
