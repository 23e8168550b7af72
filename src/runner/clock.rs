//! Looks at the clock, and what is said of one that jumped.

use jiff::Timestamp;

use crate::error::{Trouble, codes};
use crate::run::hold::{Finding, HoldKind, accept_command};
use crate::run::turned::{self, Anchor, Look, Turn};
use crate::runner::world::World;
use crate::store::record::JobRecord;
use crate::store::{Batch, StoreError};
use crate::types::{Name, show_duration};

/// Where what is remembered of the clock is in the tree `meta`.
const ANCHOR_KEY: &str = "clock/anchor";

/// Compares the clock with the machine's own and with what `job` recorded; `dated` is the newest date of its snapshots.
///
/// # Errors
/// When the store cannot be read or written.
pub fn look(world: &World, job: Option<&JobRecord>, dated: Option<Timestamp>) -> Result<Turn, StoreError> {
    let anchor: Option<Anchor> = world.ledger.meta_get(ANCHOR_KEY)?;
    let finished = |job: &JobRecord| job.last_run.as_ref().map(|last| last.finished);
    let recorded = match anchor {
        Some(_) => job.and_then(finished),
        // A state that was lost or never looked: whatever was dated tells.
        None => world.ledger.jobs()?.iter().filter_map(finished).max().max(dated),
    };
    let (turn, after) = turned::judge(anchor.as_ref(), &both_clocks(world.clock.now()), recorded);
    // Who only waits for the end of it looks often, and there is nothing new to remember.
    let told = |anchor: &Anchor| anchor.behind.as_ref().map(|behind| (behind.latest, behind.shown));
    let waits = job.is_none() && turn != Turn::None && anchor.as_ref().map(told) == Some(told(&after));
    if !waits && anchor.as_ref() != Some(&after) {
        remember(world, &after)?;
    }
    Ok(turn)
}

/// Notes that somebody says that what the clock shows is right.
///
/// # Errors
/// When the store cannot be read or written.
pub fn accept(world: &World) -> Result<(), StoreError> {
    let anchor: Option<Anchor> = world.ledger.meta_get(ANCHOR_KEY)?;
    remember(world, &turned::accept(anchor.as_ref(), &both_clocks(world.clock.now())))
}

fn remember(world: &World, anchor: &Anchor) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.meta_put(ANCHOR_KEY, anchor)?;
    world.ledger.commit(batch)
}

/// What holds the jobs of `target` while the clock is as `turn` says.
#[must_use]
pub fn finding(turn: &Turn, target: &Name) -> Option<Finding> {
    let shown = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let between = |from: Timestamp, to: Timestamp| show_duration(to.duration_since(from).unsigned_abs());
    let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
    let (message, value, hint) = match turn {
        Turn::None => return None,
        Turn::Back(behind) => {
            let value = day(behind.shown);
            let message = format!(
                "the clock jumped: it showed {}, but runs are dated up to {}, {} later: it was ahead then, or is behind now",
                shown(behind.shown),
                shown(behind.latest),
                between(behind.shown, behind.latest)
            );
            let hint = format!(
                "nothing is forgotten until that is known. If the clock is right now, `{}` says \
                 so for all targets: what is dated later stays, is flagged and pushes no other snapshot out. If it is behind, correct it \
                 (`timedatectl`): the hold ends by itself",
                accept_command(target, &value)
            );
            (message, value, hint)
        }
        Turn::Ahead(ahead) => {
            let value = day(ahead.shown);
            let message = format!(
                "the clock jumped ahead by {}: it showed {} where {} was expected",
                between(ahead.expected, ahead.shown),
                shown(ahead.shown),
                shown(ahead.expected)
            );
            let hint = format!(
                "set the machine's time right (`timedatectl`); nothing is forgotten until then, or until `{}` \
                 says for all targets that it is right",
                accept_command(target, &value)
            );
            (message, value, hint)
        }
    };
    let trouble = Trouble::new(codes::JUMPED_CLOCK, message).with_hint(hint);
    let found = Finding::without_value(HoldKind::JumpedClock, trouble);
    Some(Finding { value: Some(value), no_worse: false, ..found })
}

/// Both clocks at one instant. Where the kernel does not tell, each look is as of another start.
fn both_clocks(wall: Timestamp) -> Look {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let uptime = read("/proc/uptime");
    let seconds: f64 = uptime.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, reason = "a machine's uptime in milliseconds is far below the bound")]
    let awake_ms = (seconds * 1000.0) as i64;
    let boot = read("/proc/sys/kernel/random/boot_id").trim().to_owned();
    let boot = if uptime.is_empty() || boot.is_empty() { wall.to_string() } else { boot };
    Look { wall, awake_ms, boot }
}
