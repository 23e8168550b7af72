//! A look at the clock before anything is forgotten: one that jumped holds the job.

use jiff::Timestamp;

use super::Journey;
use crate::error::Trouble;
use crate::run::hold::{Finding, HoldKind};
use crate::run::turned::{self, Ahead, Anchor, Look, Turn};
use crate::store::{Batch, StoreError};
use crate::types::show_duration;

/// Where the newest look that was believed is in the tree `meta`.
const ANCHOR_KEY: &str = "clock/anchor";

impl Journey {
    /// Compares the clock with the machine's own and with what was recorded.
    pub(super) async fn look_at_clock(&mut self) {
        let now = self.world.clock.now();
        let recorded = self.job.last_run.as_ref().map(|last| last.finished);
        let accepted: Vec<String> = self
            .job
            .accepted
            .iter()
            .filter(|each| each.kind == HoldKind::JumpedClock)
            .map(|each| each.value.clone())
            .collect();
        let ledger = self.world.ledger.clone();
        let looked = tokio::task::spawn_blocking(move || -> Result<Turn, StoreError> {
            let anchor: Option<Anchor> = ledger.meta_get(ANCHOR_KEY)?;
            let is_accepted = |ahead: &Ahead| accepted.contains(&value(ahead));
            let (turn, after) = turned::judge(anchor.as_ref(), &look(now), recorded, is_accepted);
            if anchor.as_ref() != Some(&after) {
                let mut batch = Batch::default();
                batch.meta_put(ANCHOR_KEY, &after)?;
                ledger.commit(batch)?;
            }
            Ok(turn)
        });
        match looked.await {
            Ok(Ok(turn)) => self.judge(HoldKind::JumpedClock, finding(&turn, now, &self.record.job.target.clone())),
            Ok(Err(error)) => self.warn(error.trouble()),
            Err(error) => self.warn(Trouble::new("internal", format!("looking at the clock stopped: {error}"))),
        }
    }
}

fn value(ahead: &Ahead) -> String {
    ahead.shown.strftime("%Y-%m-%d").to_string()
}

fn finding(turn: &Turn, now: Timestamp, target: &crate::types::Name) -> Option<Finding> {
    let shown = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let between = |from: Timestamp, to: Timestamp| show_duration(to.duration_since(from).unsigned_abs());
    match turn {
        Turn::None => None,
        Turn::Back { recorded } => {
            let message = format!(
                "the clock jumped: it shows {}, but {} was recorded before, {} later",
                shown(now),
                shown(*recorded),
                between(now, *recorded)
            );
            let trouble = Trouble::new("jumped_clock", message).with_hint(
                "see that the machine's time is right (`timedatectl`); this run forgot nothing, the next one goes on",
            );
            Some(Finding::without_value(HoldKind::JumpedClock, trouble))
        }
        Turn::Ahead(ahead) => {
            let message = format!(
                "the clock jumped ahead by {}: it showed {} where {} was expected",
                between(ahead.expected, ahead.shown),
                shown(ahead.shown),
                shown(ahead.expected)
            );
            let trouble = Trouble::new("jumped_clock", message).with_hint(format!(
                "set the machine's time right; nothing is forgotten until then, or until `larder accept {target} {}` \
                 says that it is right",
                value(ahead)
            ));
            let value = Some(value(ahead));
            Some(Finding { value, ..Finding::without_value(HoldKind::JumpedClock, trouble) })
        }
    }
}

/// Both clocks, now. Where the kernel does not tell, each look is as of another start.
fn look(wall: Timestamp) -> Look {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let uptime = read("/proc/uptime");
    let seconds: f64 = uptime.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, reason = "a machine's uptime in milliseconds is far below the bound")]
    let awake_ms = (seconds * 1000.0) as i64;
    let boot = read("/proc/sys/kernel/random/boot_id").trim().to_owned();
    let boot = if uptime.is_empty() || boot.is_empty() { wall.to_string() } else { boot };
    Look { wall, awake_ms, boot }
}
