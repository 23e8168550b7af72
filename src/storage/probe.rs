//! What works at a place and what does not: one answer a question, in the order in which they depend on each other.

use super::StorageError;

/// A whole probe is over by then, whatever the place does: somebody waits before a terminal.
pub(super) const PROBE_MAX: std::time::Duration = std::time::Duration::from_millis(4_500);

/// A probe of ours that is older was left by one that was killed, in seconds.
pub(super) const LEFT_S: i64 = 3600;

/// What is asked of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Question {
    /// Somebody answers, and it is who should.
    Reachable,
    /// The login is taken.
    Authorised,
    /// The bucket or directory is there.
    Place,
    /// Whether a repository is there (its `config`).
    Repository,
    /// A file of ours can be put and read back.
    Writable,
    /// Whether that file can be deleted.
    Deletable,
    /// How far the clocks differ.
    Clock,
    /// How much room is left.
    Room,
    /// Whether what is locked stays; asked where that is declared.
    Locked,
}

use Question::{Authorised, Clock, Deletable, Locked, Place, Reachable, Repository, Room, Writable};

const ALL: [Question; 9] = [Reachable, Authorised, Place, Repository, Writable, Deletable, Clock, Room, Locked];

impl Question {
    /// One word for a line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Reachable => "reachable",
            Authorised => "authorised",
            Place => "place",
            Repository => "repository",
            Writable => "writable",
            Deletable => "deletable",
            Clock => "clock",
            Room => "room",
            Locked => "locked",
        }
    }
}

/// The answer to one question.
#[derive(Debug)]
pub enum Step {
    /// With what was found, for a line: that something cannot be deleted is an answer, too.
    Ok(String),
    Failed(StorageError),
    NotTried(String),
}

/// What a program decides by; none: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub has_repository: Option<bool>,
    pub is_deletable: Option<bool>,
    /// What is deleted stays, as a version with a lock.
    pub keeps_locked: Option<bool>,
    /// The storage's clock less this host's, in seconds.
    pub skew_s: Option<i64>,
    pub free_bytes: Option<u64>,
}

/// The answers, in the order of the questions.
#[derive(Debug)]
pub struct Probe {
    steps: [Option<Step>; 9],
    pub facts: Facts,
    asks_lock: bool,
}

impl Probe {
    pub(super) fn new() -> Self {
        Self { steps: [const { None }; 9], facts: Facts::default(), asks_lock: false }
    }

    /// The storage is declared to lock what is put.
    pub(super) fn ask_lock(&mut self) {
        self.asks_lock = true;
    }

    pub(super) fn set(&mut self, question: Question, step: Step) {
        if let Some(place) = self.steps.get_mut(question as usize) {
            *place = Some(step);
        }
    }

    pub(super) fn ok(&mut self, question: Question, detail: impl Into<String>) {
        self.set(question, Step::Ok(detail.into()));
    }

    pub(super) fn not_tried(&mut self, question: Question, why: impl Into<String>) {
        self.set(question, Step::NotTried(why.into()));
    }

    /// The storage says that the file stays: no fault, and what some want.
    pub(super) fn keeps(&mut self, detail: impl Into<String>) {
        self.facts.is_deletable = Some(false);
        self.ok(Deletable, detail);
    }

    pub(super) fn deletes(&mut self, detail: impl Into<String>) {
        self.facts.is_deletable = Some(true);
        self.ok(Deletable, detail);
    }

    pub(super) fn repository(&mut self, is_there: bool) {
        self.facts.has_repository = Some(is_there);
        self.ok(Repository, if is_there { "a repository is there" } else { "no repository yet" });
    }

    pub(super) fn skew(&mut self, skew_s: i64, shown: String) {
        self.facts.skew_s = Some(skew_s);
        self.ok(Clock, shown);
    }

    pub(super) fn room(&mut self, free_bytes: u64) {
        self.facts.free_bytes = Some(free_bytes);
        self.ok(Room, format!("{} free", crate::types::ByteSize(free_bytes)));
    }

    /// `error` came of asking `question`; it may be the answer to an earlier one.
    pub(super) fn failed(&mut self, question: Question, error: StorageError) {
        let meant = match &error {
            _ if error.is_of_the_way() && self.is_open(Reachable) => Reachable,
            _ if error.is_of_the_login() && self.is_open(Authorised) => Authorised,
            StorageError::BucketMissing { .. } | StorageError::DirectoryMissing { .. } if self.is_open(Place) => Place,
            _ => question,
        };
        for before in ALL.into_iter().take(meant as usize).take(2) {
            if self.is_open(before) {
                self.ok(before, "yes");
            }
        }
        self.set(meant, Step::Failed(error));
    }

    fn is_open(&self, question: Question) -> bool {
        self.steps.get(question as usize).is_some_and(Option::is_none)
    }

    /// With a reason for what was not asked.
    pub(super) fn done(mut self) -> Self {
        let failed = ALL.into_iter().find(|each| matches!(self.steps.get(*each as usize), Some(Some(Step::Failed(_)))));
        for question in ALL {
            let is_asked = question != Locked || self.asks_lock;
            if is_asked && self.is_open(question) {
                let why = match failed {
                    Some(failed) if question as usize > failed as usize => format!("`{}` failed", failed.word()),
                    _ => "the storage does not tell".to_owned(),
                };
                self.not_tried(question, why);
            }
        }
        self
    }

    /// Each question with its answer, in order.
    pub fn steps(&self) -> impl Iterator<Item = (Question, &Step)> {
        ALL.into_iter().zip(&self.steps).filter_map(|(question, step)| Some((question, step.as_ref()?)))
    }

    /// The answer to one of them.
    #[must_use]
    pub fn step(&self, question: Question) -> Option<&Step> {
        self.steps.get(question as usize)?.as_ref()
    }

    /// The first thing that is wrong.
    #[must_use]
    pub fn trouble(&self) -> Option<(Question, &StorageError)> {
        self.steps().find_map(|(question, step)| match step {
            Step::Failed(error) => Some((question, error)),
            _ => None,
        })
    }
}

/// A difference of clocks in words.
pub(super) fn skew_shown(skew_s: i64) -> String {
    let by = crate::types::show_duration(std::time::Duration::from_secs(skew_s.unsigned_abs()));
    match skew_s {
        -1..=1 => "the same to a second".to_owned(),
        ..=-2 => format!("the storage is {by} behind this host"),
        2.. => format!("the storage is {by} ahead of this host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_answer_to_the_question_that_it_is_about() {
        let place = || "nas".to_owned();
        let word = |error| {
            let mut probe = Probe::new();
            probe.failed(Place, error);
            let probe = probe.done();
            let words: Vec<_> = probe
                .steps()
                .map(|(_, step)| match step {
                    Step::Ok(_) => 'o',
                    Step::Failed(_) => 'F',
                    Step::NotTried(_) => '-',
                })
                .collect();
            words.into_iter().collect::<String>()
        };
        assert_eq!(word(StorageError::Refused { place: place() }), "F-------");
        assert_eq!(word(StorageError::Login { place: place(), detail: String::new() }), "oF------");
        assert_eq!(word(StorageError::BucketMissing { place: place() }), "ooF-----");
        assert_eq!(
            word(StorageError::Denied { place: place(), what: "list".to_owned(), detail: String::new() }),
            "ooF-----"
        );
        assert_eq!(skew_shown(-1200), "the storage is 20m behind this host");
    }
}
