//! Retention: what this run's listings show, what may go, and whether this run's own snapshot is there at its end.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::RunExecutor;
use crate::engine;
use crate::error::{Trouble, codes};
use crate::run::hold::{Finding, HoldKind};
use crate::run::retention::{self, Candidate};
use crate::runner::holdings::{self, Inventory, shared};
use crate::types::{Name, Outcome};

impl RunExecutor {
    /// Judges what the repositories hold: what vanished holds the job, who else is there and what is dated in the future
    /// is said.
    pub(super) fn take_stock(&mut self) {
        let job = self.record.job.clone();
        let mut lost = Vec::new();
        let mut older = Vec::new();
        let mut altered = Vec::new();
        let mut notices = Vec::new();
        for (name, inventory) in &self.inventories {
            let seen = &inventory.sorted.holdings;
            let missing = seen.missing.iter().find(|missing| missing.job == job && missing.newest);
            lost.extend(missing.map(|missing| holdings::lost(name, missing)));
            let newer = seen.newer.iter().find(|newer| newer.job == job);
            older.extend(newer.map(|newer| holdings::older::held(name, newer)));
            let of_job = seen.altered.iter().find(|altered| altered.job == job);
            altered.extend(of_job.map(|of_job| holdings::altered::held(name, of_job)));
            let others = seen.foreign.iter().filter(|other| other.targets.contains(&job.target));
            notices.extend(others.map(|other| shared(name, other)));
            notices.extend(self.future(name, inventory));
        }
        for notice in notices {
            self.note(notice);
        }
        // What was not listed says nothing, and takes nothing from what the others say: its own holds go on.
        let listed: BTreeSet<Name> = self.inventories.keys().cloned().collect();
        self.judge_at(HoldKind::Vanished, &listed, lost);
        self.judge_at(HoldKind::OlderState, &listed, older);
        self.judge_at(HoldKind::Altered, &listed, altered);
    }

    /// Judges what was found at the destinations that were `seen`; the holds of the others go on.
    fn judge_at(&mut self, kind: HoldKind, seen: &BTreeSet<Name>, found: Vec<Finding>) {
        let names = self.destinations.iter().map(|each| &each.name);
        let mut unseen: Vec<String> = names.filter(|name| !seen.contains(*name)).map(Name::to_string).collect();
        if kind != HoldKind::RetentionCut {
            // A run does not look at copies; who listed one did.
            let held = self.job.holds.iter().filter(|hold| hold.kind == kind).map(|hold| &hold.subject);
            unseen.extend(held.filter(|subject| !seen.iter().any(|name| name.as_str() == *subject)).cloned());
        }
        for finding in &found {
            self.remark_on(finding.trouble.clone());
        }
        self.judged.add_but(kind, unseen, found);
    }

    fn future(&self, name: &Name, inventory: &Inventory) -> Option<Trouble> {
        let ours = inventory.sorted.ours.get(&self.record.job)?;
        let future = ours.iter().filter(|each| each.is_future);
        let latest = future.clone().map(|each| each.time).max()?;
        let count = future.count();
        let (noun, verb) = if count == 1 { ("snapshot", "is") } else { ("snapshots", "are") };
        let message = format!(
            "{count} {noun} of {} in {name} {verb} dated in the future, up to {}: the clock was ahead when they were made",
            self.record.job,
            latest.strftime("%Y-%m-%d %H:%M")
        );
        Some(Trouble::new(codes::FUTURE_SNAPSHOTS, message).with_hint("they stay, and push no other one out"))
    }

    /// Gives up what the policy does not keep, only where this run's snapshot is whole.
    pub(super) async fn retain(&mut self) {
        let zone = TimeZone::get(&self.policy.schedule.timezone).unwrap_or(TimeZone::UTC);
        let (now, job) = (self.world.clock.now(), self.record.job.clone());
        let (mut cuts, mut judged) = (Vec::new(), BTreeSet::new());
        for index in 0..self.record.shipments.len() {
            let Some(shipment) = self.record.shipments.get(index) else { break };
            let Some(destination) = self.destinations.iter().find(|each| each.name == shipment.destination) else {
                continue;
            };
            let Some(inventory) = self.inventories.get(&destination.name) else { continue };
            // The storage keeps all, or somebody with other rights thins it out.
            if shipment.outcome != Outcome::Success || destination.append_only {
                continue;
            }
            judged.insert(destination.name.clone());
            let there: Vec<Candidate> =
                inventory.sorted.ours.get(&job).into_iter().flatten().map(Candidate::from).collect();
            if let Some(finding) = self.cut(&destination.name, &there, &zone, now) {
                cuts.push(finding);
                continue;
            }
            let rules = &self.policy.retention;
            let gone = retention::superfluous(&there, rules, &zone, now);
            let missed = missed_no_longer(inventory, &job, there, |all| retention::superfluous(all, rules, &zone, now));
            let route = self.route(destination);
            let noted = match holdings::leaving::give_up(&route, &job, &gone).await {
                Ok(()) => holdings::leaving::take_out(&route, [(job.clone(), missed)].into()).await,
                Err(trouble) => Err(trouble),
            };
            match noted {
                Ok(()) => {
                    self.retained.insert(route.destination.name.clone());
                    if let Some(shipment) = self.record.shipments.get_mut(index) {
                        shipment.forgotten = Some(gone.len() as u64);
                    }
                }
                Err(trouble) => self.warn(trouble),
            }
        }
        self.judge_at(HoldKind::RetentionCut, &judged, cuts);
    }

    /// Whether the snapshots of this run are still there now that all is done; one that is not makes its shipment failed.
    pub(super) async fn look_again(&mut self) {
        for shipment in &mut self.record.shipments {
            let destination = self.destinations.iter().find(|each| each.name == shipment.destination);
            let (Some(destination), Some(id)) = (destination, shipment.snapshot.clone()) else { continue };
            let Ok(access) = self.world.access(destination).await else { continue };
            let gone = engine::absent(&access, std::slice::from_ref(&id)).await;
            if gone.is_some_and(|gone| !gone.is_empty()) {
                let message = format!("the snapshot {id} of this run is not in {} at its end", shipment.destination);
                shipment.trouble = Some(
                    Trouble::new(codes::SNAPSHOT_GONE, message)
                        .with_hint("something else removes snapshots from this repository: find out what"),
                );
                shipment.outcome = Outcome::Failed;
                shipment.snapshot = None;
            }
        }
    }
}

/// Those of the missing that the policy would have forgotten by now.
fn missed_no_longer(
    inventory: &Inventory,
    job: &crate::types::JobId,
    mut all: Vec<Candidate>,
    superfluous: impl Fn(&[Candidate]) -> Vec<String>,
) -> Vec<String> {
    let Some(missing) = inventory.sorted.missing.get(job) else { return Vec::new() };
    all.extend(missing.iter().map(|(id, known)| Candidate { id: id.clone(), order: known.order, time: known.time }));
    let mut gone = superfluous(&all);
    gone.retain(|id| missing.iter().any(|(missing, _)| missing == id));
    gone
}
