//! How a backup is put back: what is to be done is decided and said, and only then it is done.
//!
//! An application gives two functions. [`Restorer::plan`] looks at the backup and at the application and changes nothing
//! there; [`Restorer::execute`] does what was planned. The steps between them are said here, and a dry run ends here: that
//! it changes nothing holds because no application is ever asked for more, nor told that it is one. So the order itself,
//! and the journal that only a real restore has, do not reach a plan.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Trouble;
use crate::plugin::kit::asked;
use crate::plugin::kit::builtin::{self, Failure, Restore};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::{CaptureFacts, Request, Step};

/// What puts the backups of one plugin back.
pub(crate) trait Restorer {
    type Settings: DeserializeOwned;
    /// What the operator may choose.
    type Options: DeserializeOwned + JsonSchema;
    /// What was decided, as its own execution needs it.
    type Work;

    /// Decides what is to be done. It may look at the application, and changes nothing there.
    ///
    /// # Errors
    /// What keeps the backup from being put back at all; a dry run fails with it, too.
    fn plan(
        job: &RestoreJob<'_, Self::Settings, Self::Options>,
        events: &mut EventWriter<'_>,
    ) -> Result<Planned<Self::Work>, Failure>;

    /// Does it. With a journal, what is left by a kill is undone by `recover`.
    ///
    /// # Errors
    /// What kept it from its end; the application is what it was then, or the failure says what it is.
    fn execute(
        job: &RestoreJob<'_, Self::Settings, Self::Options>,
        work: Self::Work,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure>;
}

/// What was decided of a restore.
pub(crate) struct Planned<W> {
    /// What is done, in its order: said before any of it is.
    pub(crate) steps: Vec<Step>,
    /// What execution says itself when it comes to it, as far as it is known before.
    pub(crate) later: Vec<Step>,
    /// What must be otherwise first: a dry run says it, a real restore does nothing then.
    pub(crate) refusals: Vec<Failure>,
    pub(crate) work: W,
}

impl<W> Planned<W> {
    /// Nothing stands against it.
    pub(crate) fn of(steps: Vec<Step>, work: W) -> Self {
        Self { steps, later: Vec::new(), refusals: Vec::new(), work }
    }
}

/// A backup that is to be put back, or of which is to be said what that would do.
pub(crate) struct RestoreJob<'r, S, O> {
    pub(crate) settings: S,
    pub(crate) options: O,
    pub(crate) facts: &'r CaptureFacts,
    /// The target's name.
    pub(crate) target: &'r str,
    pub(crate) run: &'r str,
    /// Where the artifacts lie.
    pub(crate) staging: &'r Path,
    /// Below it lies each source at its absolute path.
    pub(crate) tree: &'r Path,
}

impl<'r, S: DeserializeOwned, O: DeserializeOwned> RestoreJob<'r, S, O> {
    /// # Errors
    /// `settings` or `restore_options` when they do not fit; `request` when it says nothing of the capture, or gives no
    /// order: nothing is put back, and nothing is called a dry run, that nobody asked for.
    fn of(request: &'r Request) -> Result<Self, Failure> {
        Ok(Self {
            settings: builtin::settings(request)?,
            options: builtin::options(request)?,
            facts: asked::facts(request)?,
            target: &request.target,
            run: &request.run,
            staging: &request.staging,
            tree: &asked::order(request)?.tree,
        })
    }
}

impl<'r, S, O> RestoreJob<'r, S, O> {
    /// The same for what puts a part of the backup back.
    ///
    /// # Errors
    /// `settings` or `restore_options` when they do not fit that part.
    pub(crate) fn part<T: DeserializeOwned, P: DeserializeOwned>(
        &self,
        settings: Value,
        options: Value,
        facts: &'r CaptureFacts,
    ) -> Result<RestoreJob<'r, T, P>, Failure> {
        let Self { target, run, staging, tree, .. } = *self;
        let (settings, options) = (builtin::settings_in(settings)?, builtin::options_in(options)?);
        Ok(RestoreJob { settings, options, facts, target, run, staging, tree })
    }
}

/// There is nothing to choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoOptions {}

impl Restore {
    pub(crate) const fn by<R: Restorer>() -> Self {
        Self { options: || schemars::schema_for!(R::Options).to_value(), run: run::<R> }
    }
}

fn run<R: Restorer>(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let job = RestoreJob::<R::Settings, R::Options>::of(request)?;
    let is_dry = asked::order(request)?.dry_run;
    let Planned { steps, later, refusals, work } = R::plan(&job, events)?;
    if is_dry {
        for step in steps.into_iter().chain(later) {
            events.planned(step);
        }
        for refusal in refusals {
            events.warning(refused(refusal));
        }
        return Ok(());
    }
    if let Some(refusal) = refusals.into_iter().next() {
        return Err(refusal);
    }
    for step in steps {
        events.planned(step);
    }
    let journal = request.journal.is_some().then(|| Journal::of(request)).transpose()?;
    R::execute(&job, work, journal.as_ref(), events)
}

/// What a dry run says of what stands against a restore.
fn refused(Failure { trouble, .. }: Failure) -> Trouble {
    Trouble { message: format!("this is refused as it is: {}", trouble.message), ..trouble }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::error::codes;
    use crate::plugin::protocol::{Action, RestoreOrder, Verb};

    thread_local! {
        static DONE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// An application whose settings are what stands against a restore.
    struct Noted;

    impl Restorer for Noted {
        type Settings = Vec<String>;
        type Options = NoOptions;
        type Work = String;

        fn plan(
            job: &RestoreJob<'_, Vec<String>, NoOptions>,
            _: &mut EventWriter<'_>,
        ) -> Result<Planned<String>, Failure> {
            let refusals = job.settings.iter().map(|why| Failure::new(codes::FILE_EXISTS, why).hint("look")).collect();
            let steps = vec![Step::new(Verb::Replace, "all", "")];
            let later = vec![Step::new(Verb::Manual, "start", "")];
            Ok(Planned { steps, later, refusals, work: job.run.to_owned() })
        }

        fn execute(
            _: &RestoreJob<'_, Vec<String>, NoOptions>,
            work: String,
            _: Option<&Journal>,
            events: &mut EventWriter<'_>,
        ) -> Result<(), Failure> {
            DONE.with_borrow_mut(|done| done.push(work));
            events.step(Verb::Manual, "start", "now");
            Ok(())
        }
    }

    fn asked(request: &Request) -> (Result<(), Failure>, String, Vec<String>) {
        let mut out = Vec::new();
        let result = (Restore::by::<Noted>().run)(request, &mut EventWriter { out: &mut out });
        (result, String::from_utf8(out).unwrap(), DONE.take())
    }

    fn request(dry_run: bool, refusals: &[&str]) -> Request {
        Request {
            run: "r".to_owned(),
            settings: serde_json::json!(refusals),
            capture: Some(CaptureFacts::default()),
            restore: Some(RestoreOrder { dry_run, ..RestoreOrder::default() }),
            ..Request::new(Action::Restore)
        }
    }

    #[test]
    fn a_dry_run_says_all_that_would_be_done_and_all_that_stands_against_it_and_does_nothing() {
        let (result, said, done) = asked(&request(true, &["one", "two"]));
        assert!(result.is_ok() && done.is_empty());
        let said: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<&str> =
            said.iter().filter_map(|event| event["thing"].as_str().or(event["message"].as_str())).collect();
        assert_eq!(
            told,
            ["all", "start", "this is refused as it is: one", "this is refused as it is: two"],
            "{said:#?}"
        );
    }

    #[test]
    fn a_real_restore_is_told_before_it_is_done_and_not_even_begun_where_something_stands_against_it() {
        let (result, said, done) = asked(&request(false, &[]));
        assert!(result.is_ok());
        assert_eq!(done, ["r"]);
        assert!(said.lines().count() == 2 && said.find("all") < said.find("now"), "{said}");
        let (result, said, done) = asked(&request(false, &["one", "two"]));
        assert_eq!(result.unwrap_err().trouble.message, "one");
        assert!(said.is_empty() && done.is_empty(), "{said}");
    }

    #[test]
    fn a_restore_without_an_order_or_without_a_capture_is_refused() {
        let refused = |request: &Request| asked(request).0.unwrap_err().trouble;
        let order = request(false, &[]);
        assert!(refused(&Request { capture: None, ..order.clone() }).message.contains("`capture`"));
        assert!(refused(&Request { restore: None, ..order.clone() }).message.contains("`restore`"));
        let options = serde_json::json!({"force": 1});
        let restore = Some(RestoreOrder { options, ..RestoreOrder::default() });
        assert_eq!(refused(&Request { restore, ..order }).code, "restore_options");
    }
}
