//! What a run holds its job for: the part of a run that weighs, looks at mounts and asks before a retention is cut.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{MOUNTS_MAX, RunExecutor};
use crate::error::{Trouble, codes};
use crate::look;
use crate::plugin::{Captured, Source, Validation, Verdict};
use crate::run::hold::{self, Finding, HoldKind};
use crate::run::judgement;
use crate::run::retention::{self, Candidate};
use crate::run::usual::recall::Kept;
use crate::run::usual::{Weighed, mounts};
use crate::runner::holdings::Inventory;
use crate::runner::weigh::{self, Concern, MountsSeen};
use crate::runner::{lost, recall};
use crate::types::{ByteSize, Name, RunId};

/// The path of the first source, for looks at all of them.
fn first_of(sources: &[Source]) -> PathBuf {
    sources.first().map_or_else(|| PathBuf::from("/"), |source| source.path.clone())
}

impl RunExecutor {
    /// Holds the job while a loss of the state is not accepted.
    pub(super) fn look_for_a_lost_state(&mut self) {
        let lost = match self.world.ledger.loss() {
            Ok(lost) => lost,
            Err(error) => return self.warn(error.trouble()),
        };
        let target = self.record.job.target.clone();
        self.judge(HoldKind::LostState, lost.map(|damage| lost::finding(&damage, &target)));
    }

    /// Takes what is usual from what is there, where the state may have forgotten it; whether somebody accepted that the
    /// state is lost or old says nothing of the data.
    pub(super) async fn recall(&mut self) {
        let unread = recall::unread(
            &self.world,
            self.inventories.iter().map(|(name, each)| (name, &**each)),
            &self.job,
            self.record.id,
        );
        let (told, mut recalled) = match unread {
            Ok(Some(unread)) => unread,
            Ok(None) => return,
            Err(error) => return self.warn(error.trouble()),
        };
        let looked_into = recall::looked_into(&told);
        let begun = Instant::now();
        for destination in &self.destinations.clone() {
            let here = looked_into.iter().filter(|each| each.destination == destination.name);
            let here: Vec<Kept> = here.map(|each| (*each).clone()).collect();
            match recall::look_into(&self.route(destination), &here, begun).await {
                Ok(loads) => {
                    for load in &loads {
                        recalled.take_in(load);
                    }
                    if loads.len() < here.len() {
                        let message = format!(
                            "{} of {} older backups in {} could be looked into for what each source had",
                            loads.len(),
                            here.len(),
                            destination.name
                        );
                        self.context.log.line(&message);
                    }
                }
                // It is tried again by the next run, which no retention comes before.
                Err(trouble) => {
                    recalled.read.remove(&destination.name);
                    let message = format!(
                        "what older backups in {} have of each source could not be read: {trouble}",
                        destination.name
                    );
                    self.warn(Trouble::new(codes::SOURCES_UNKNOWN, message).with_hint("the next run tries it again"));
                }
            }
        }
        self.job.usual.recall(&recalled);
        self.recalled = Some(recalled);
    }

    /// Weighs what the snapshots have, and holds retention when that is far less than usual.
    pub(super) async fn weigh(&mut self, captured: &Captured) {
        let (shipments, sources) = (self.record.shipments.clone(), captured.sources.clone());
        let first = sources.first().map_or_else(|| self.shelf.root().to_owned(), |source| source.path.clone());
        let own = self.inputs.own.clone();
        let load = match self.away("the source", &first, move || weigh::load(&shipments, &sources, &own)).await {
            Ok(Some(load)) => load,
            Ok(None) => return,
            Err(stop) => return self.warn(stop.trouble),
        };
        self.record.bytes = load.total.bytes;
        let weighed = Weighed { load, oldest: self.oldest_kept(), paths: weigh::named(&self.target) };
        let load = &weighed.load;
        let mut usual = self.job.usual.clone();
        if let Some(paths) = &weighed.paths {
            usual.only(paths);
        }
        let mut losses = usual.losses(load);
        // What an older Larder recorded has no files and no parts.
        if self.job.usual.loads.is_empty() && judgement::shrink_guard(&self.job.sizes, captured.bytes) {
            losses.push(format!("the backup has {} only", ByteSize(captured.bytes)));
        }
        let no_worse = usual.is_no_worse(load);
        let now = load.total.bytes.to_string();
        let hold = self.job.holds.iter().find(|hold| hold.kind == HoldKind::Shrank).filter(|_| no_worse);
        let command =
            hold::accept_command(&self.record.job.target, hold.and_then(|hold| hold.value.as_deref()).unwrap_or(&now));
        let shrank = (!losses.is_empty()).then(|| Finding {
            kind: HoldKind::Shrank,
            subject: String::new(),
            trouble: Trouble::new(codes::SHRANK, format!("far less than usual: {}", losses.join("; "))).with_hint(
                format!(
                    "look whether data is missing; old backups are kept until the size is usual again, or until \
                 `{command}` says that it is right"
                ),
            ),
            value: Some(now),
            no_worse,
        });
        self.judge(HoldKind::Shrank, shrank);
        self.load = Some(weighed);
    }

    /// The first run of this job that a repository has a snapshot of; none when one of them was not listed.
    fn oldest_kept(&self) -> Option<RunId> {
        let of_job = |inventory: &Inventory| {
            let ours = inventory.sorted.ours.get(&self.record.job)?;
            let ours: BTreeSet<&str> = ours.iter().map(|each| each.id.as_str()).collect();
            let kept = inventory.listing.iter().filter(|snapshot| ours.contains(snapshot.id.as_str()));
            kept.map(|snapshot| snapshot.tag("run")?.parse::<RunId>().ok()).min()?
        };
        let each = self.destinations.iter().map(|each| of_job(self.inventories.get(&each.name)?));
        each.collect::<Option<Vec<RunId>>>()?.into_iter().min()
    }

    /// Looks at the mounts of the sources; nothing when the kernel or a hung mount does not tell in time.
    pub(super) async fn mounts(&self, captured: &Captured) -> Option<MountsSeen> {
        let concern = self.concern(captured);
        look::at(&first_of(&captured.sources), MOUNTS_MAX, move || concern.mounts()).await.ok()?
    }

    fn concern(&self, captured: &Captured) -> Concern {
        let one = self.target.settings.get("one_file_system").and_then(serde_json::Value::as_bool);
        let lost = self.job.holds.iter().filter(|hold| hold.kind == HoldKind::LostMount);
        Concern {
            sources: captured.sources.clone(),
            one_file_system: one == Some(true),
            own: self.inputs.own.clone(),
            noted: self.job.usual.noted(),
            held: lost.map(|hold| hold.subject.clone()).collect(),
        }
    }

    /// Holds retention when a mount of the last good run was away before or after the engine read.
    pub(super) async fn miss_mounts(
        &mut self,
        before: Option<MountsSeen>,
        after: Option<MountsSeen>,
        captured: &Captured,
    ) {
        let (Some(before), Some(after)) = (before, after) else {
            self.warn(Trouble::new(
                codes::MOUNTS_UNKNOWN,
                "whether all mounts of the sources are there could not be seen in time",
            ));
            return;
        };
        let there = before.noted(&after, &self.inputs.own);
        let concern = self.concern(captured);
        let first = first_of(&captured.sources);
        let lost = match look::at(&first, MOUNTS_MAX, move || concern.lost(&before, &after)).await {
            Ok(lost) => lost,
            Err(silent) => return self.warn(silent.trouble(codes::MOUNTS_UNKNOWN, "the source")),
        };
        let target = self.record.job.target.clone();
        self.judge(
            HoldKind::LostMount,
            lost.iter().map(|point| {
                let shown = mounts::name(point);
                Finding {
                    kind: HoldKind::LostMount,
                    subject: shown.clone(),
                    trouble: Trouble::new(
                        codes::LOST_MOUNT,
                        format!("{shown} was mounted at the last good run and is not there or is empty: this backup is without it"),
                    )
                    .with_hint(format!(
                        "mount it again; old backups are kept until then, or until `{}` says that it is right",
                        hold::accept_command(&target, &shown)
                    )),
                    value: Some(shown),
                    no_worse: true,
                }
            }),
        );
        self.mounted = Some(there);
    }

    /// Notes which proofs are missing, and of those that were accepted as missing, which were made after all: the next time
    /// is another, but where Git accepts it still.
    pub(super) fn judge_proofs(&mut self, validations: &[Validation], unproven: Vec<Finding>) {
        for accepted in self.job.accepted.iter().filter(|each| each.kind == HoldKind::MissingProof) {
            let mut of = validations.iter().filter(|each| each.name == accepted.subject).peekable();
            let stays = self.target.accept.iter().any(|value| hold::is_value(&accepted.value, value));
            if !stays && of.peek().is_some() && of.all(|each| each.verdict == Verdict::Proven) {
                self.judged.mend(HoldKind::MissingProof, &accepted.subject);
            }
        }
        self.judge(HoldKind::MissingProof, unproven);
    }

    /// Notes that `kind` was looked at; what was `found` makes the run partial and holds what is there.
    pub(super) fn judge(&mut self, kind: HoldKind, found: impl IntoIterator<Item = Finding>) {
        let mut found: Vec<Finding> = found.into_iter().collect();
        for finding in &found {
            self.remark_on(finding.trouble.clone());
        }
        // What is accepted as not provable stays unproven, but holds nothing any more.
        found.retain(|finding| kind != HoldKind::MissingProof || !finding.is_accepted(&self.job.accepted));
        self.judged.add(kind, found);
    }

    /// Since when the job is held, by this run or one before it.
    pub(super) fn held(&self) -> Option<Timestamp> {
        let started = self.record.started.unwrap_or(self.record.queued);
        let holds = self.judged.holds(&self.job.holds, &self.job.accepted, started);
        holds.iter().map(|hold| hold.since).min()
    }

    /// Says what holds the job from before and was not looked at in this run.
    pub(super) fn hold_on(&mut self) {
        for hold in self.judged.untouched(&self.job.holds) {
            self.remark_on(hold.trouble.clone());
        }
    }

    /// What the policy's rules would forget of the destination that those of before kept, when nobody said that it may.
    pub(super) fn cut(&self, name: &Name, there: &[Candidate], zone: &TimeZone, now: Timestamp) -> Option<Finding> {
        let (before, rules) = (self.job.usual.rules(name), &self.policy.retention);
        if before == Some(rules) {
            return None;
        }
        let cut = retention::cut(there, before, rules, zone, now)?;
        let same = |kind: HoldKind, subject: &str| kind == HoldKind::RetentionCut && subject == name.as_str();
        // Each run adds one snapshot, so what was shown may have grown a little since.
        let covers = |value: &str| value.parse::<usize>().is_ok_and(|shown| cut.forgotten <= shown + shown / 10 + 2);
        if self.job.accepted.iter().any(|each| same(each.kind, &each.subject) && covers(&each.value)) {
            return None;
        }
        let shown =
            self.job.holds.iter().find(|hold| same(hold.kind, &hold.subject)).and_then(|hold| hold.value.clone());
        let (target, count) = (&self.record.job.target, cut.forgotten);
        let value = shown.as_deref().filter(|value| covers(value)).map_or_else(|| count.to_string(), str::to_owned);
        Some(Finding {
            kind: HoldKind::RetentionCut,
            subject: name.to_string(),
            trouble: Trouble::new(
                codes::RETENTION_CUT,
                format!(
                    "the retention of {} would forget {count} of {} snapshots in {name} at once, from {} to {}",
                    self.policy.name,
                    cut.there,
                    cut.oldest.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M"),
                    cut.newest.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M")
                ),
            )
            .with_hint(format!(
                "nothing is forgotten until `{}`, or until the policy keeps more again",
                hold::accept_command(target, &value)
            )),
            value: Some(value),
            no_worse: false,
        })
    }

    /// Whether something else than a cut of the retention holds the job: that is decided behind it.
    pub(super) fn held_otherwise(&self) -> bool {
        let started = self.record.started.unwrap_or(self.record.queued);
        let holds = self.judged.holds(&self.job.holds, &self.job.accepted, started);
        holds.iter().any(|hold| hold.kind != HoldKind::RetentionCut)
    }
}
