//! A look at the clock before anything is forgotten: one that jumped holds the job.

use super::RunExecutor;
use crate::error::{Trouble, codes};
use crate::run::hold::HoldKind;
use crate::runner::clock;

impl RunExecutor {
    /// Compares the clock with the machine's own and with what was recorded.
    pub(super) async fn look_at_clock(&mut self) {
        let (world, job) = (self.world.clone(), self.job.clone());
        let ours = self.inventories.values().filter_map(|each| each.sorted.ours.get(&self.record.job));
        let dated = ours.flatten().map(|each| each.time).max();
        let looked = tokio::task::spawn_blocking(move || clock::look(&world, Some(&job), dated));
        match looked.await {
            Ok(Ok(turn)) => self.judge(HoldKind::JumpedClock, clock::finding(&turn, &self.record.job.target)),
            Ok(Err(error)) => self.warn(error.trouble()),
            Err(error) => self.warn(Trouble::new(codes::INTERNAL, format!("looking at the clock stopped: {error}"))),
        }
    }
}
