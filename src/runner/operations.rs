//! Work that is no run (a restore, a prune, a check, a test): a shared board in memory, lost at a restart on purpose.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::error::Trouble;
use crate::runner::control::{OperationId, OperationStatus};
use crate::types::RunId;

/// How many operations are remembered; the oldest finished one gives way first.
pub const OPERATIONS_MAX: usize = 100;
/// How many lines of one operation are remembered, the newest.
pub const LINES_MAX: usize = 1_000;
/// A longer line is cut, in characters.
const LINE_CHARS_MAX: usize = 500;

/// The board of operations; a clone is the same board.
#[derive(Clone, Debug, Default)]
pub struct Operations {
    /// In the order in which they were started: two ids of one millisecond have none.
    board: Arc<Mutex<VecDeque<OperationStatus>>>,
}

impl Operations {
    /// Puts a new operation on the board.
    pub fn start(&self, title: impl Into<String>, now: Timestamp) -> OperationId {
        let id = RunId::generate(now);
        let status = OperationStatus {
            id,
            title: title.into(),
            started: now,
            finished: None,
            percent: 0,
            lines: Vec::new(),
            trouble: None,
        };
        self.with(|board| {
            board.push_back(status);
            if board.len() > OPERATIONS_MAX {
                let oldest = board.iter().position(|status| status.finished.is_some()).unwrap_or(0);
                board.remove(oldest);
            }
        });
        id
    }

    /// Says how far it is: `percent` is clamped to 99 while it goes on.
    pub fn progress(&self, id: OperationId, percent: u8) {
        self.change(id, |status| status.percent = percent.min(99));
    }

    /// Adds a line for a person.
    pub fn line(&self, id: OperationId, line: &str) {
        let line: String = line.chars().take(LINE_CHARS_MAX).collect();
        self.change(id, |status| {
            if status.lines.len() >= LINES_MAX {
                status.lines.remove(0);
            }
            status.lines.push(line);
        });
    }

    /// Ends it, well or with `trouble`.
    pub fn finish(&self, id: OperationId, now: Timestamp, result: Result<(), Trouble>) {
        self.change(id, |status| {
            status.finished = Some(now);
            match result {
                Ok(()) => status.percent = 100,
                Err(trouble) => status.trouble = Some(trouble),
            }
        });
    }

    #[must_use]
    pub fn get(&self, id: OperationId) -> Option<OperationStatus> {
        self.with(|board| board.iter().find(|status| status.id == id).cloned())
    }

    /// All that are remembered, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<OperationStatus> {
        self.with(|board| board.iter().rev().cloned().collect())
    }

    fn change(&self, id: OperationId, change: impl FnOnce(&mut OperationStatus)) {
        self.with(|board| {
            // A finished operation stands: a late progress line must not reopen it.
            if let Some(status) = board.iter_mut().find(|status| status.id == id && status.finished.is_none()) {
                change(status);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut VecDeque<OperationStatus>) -> T) -> T {
        act(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn only_the_newest_hundred_stay_and_a_running_one_is_not_forgotten() {
        let operations = Operations::default();
        let running = operations.start("check of nas", at(0));
        for second in 1..250 {
            let id = operations.start("test", at(second));
            operations.finish(id, at(second), Ok(()));
        }
        assert_eq!(operations.list().len(), OPERATIONS_MAX);
        assert!(operations.get(running).is_some());
        assert_eq!(operations.list()[0].started, at(249));
    }

    #[test]
    fn two_of_one_millisecond_are_listed_newest_first() {
        let operations = Operations::default();
        let ids: Vec<OperationId> = (0..20).map(|_| operations.start("test", at(0))).collect();
        let listed: Vec<OperationId> = operations.list().iter().rev().map(|status| status.id).collect();
        assert_eq!(listed, ids);
    }

    #[test]
    fn a_finished_operation_is_not_changed_by_late_news() {
        let operations = Operations::default();
        let id = operations.start("restore", at(0));
        operations.progress(id, 100);
        assert_eq!(operations.get(id).unwrap().percent, 99);
        operations.finish(id, at(5), Err(Trouble::new(codes::DISK_FULL, "the disk is full")));
        operations.progress(id, 50);
        operations.line(id, "late");
        let status = operations.get(id).unwrap();
        assert_eq!((status.percent, status.lines.len(), status.finished), (99, 0, Some(at(5))));
    }

    #[test]
    fn lines_are_bounded_in_number_and_length() {
        let operations = Operations::default();
        let id = operations.start("prune", at(0));
        for n in 0..1_400 {
            operations.line(id, &format!("{n} {}", "x".repeat(10_000)));
        }
        let lines = operations.get(id).unwrap().lines;
        assert_eq!(lines.len(), LINES_MAX);
        assert!(lines.iter().all(|line| line.chars().count() <= LINE_CHARS_MAX));
        assert!(lines[0].starts_with("400 "));
    }
}
