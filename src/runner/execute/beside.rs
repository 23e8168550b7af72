//! The programs that run beside a run: started behind `before`, ended behind shipping.

use super::{RunExecutor, Stop};
use crate::plugin::Captured;

impl RunExecutor {
    pub(super) async fn begin_during(&mut self) -> Result<(), Stop> {
        let (hooks, left) = (self.target.hooks.during.clone(), self.left());
        self.during.start(&hooks, &self.record, &self.context, left).await.map_err(Stop::failed)
    }

    /// A capture beside which a program failed is none, whatever the plugin made of it; why the capture failed is told by
    /// the program, too.
    pub(super) async fn judge_during(&mut self, captured: Result<Captured, Stop>) -> Result<Captured, Stop> {
        match (self.during.trouble().await, captured) {
            (None, captured) => captured,
            (Some(trouble), Ok(_)) => Err(Stop::failed(trouble)),
            (Some(trouble), Err(stop)) => {
                self.context.log.line(&format!("{}: {}", stop.outcome, stop.trouble));
                Err(Stop { outcome: stop.outcome, trouble })
            }
        }
    }

    /// Ends the programs; one that failed before is a remark on the run.
    pub(super) async fn end_during(&mut self) {
        if let Some(trouble) = self.during.trouble().await {
            self.warn(trouble);
        }
        let context = self.context.clone();
        self.during.end(&context).await;
    }
}
