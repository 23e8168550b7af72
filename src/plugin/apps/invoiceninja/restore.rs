//! Imports an export into the company of the token. That deletes the company's data first, so it must be asked for.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Trouble, codes};
use crate::plugin::apps::invoiceninja::api::explain;
use crate::plugin::apps::invoiceninja::settings::NinjaSettings;
use crate::plugin::apps::invoiceninja::whole::Kept;
use crate::plugin::apps::invoiceninja::{FILE, FORMAT, contents};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::download;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{Step, Verb, Verdict};
use crate::web::{Upload, Web};

mod installation;

/// What an operator may choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NinjaRestore {
    /// Delete ALL data that the company of the token has now; there is no import without that.
    #[serde(default)]
    purge: bool,
    /// Of an installation: replace files that differ, and a database that has tables.
    #[serde(default)]
    overwrite: bool,
}

/// Lists that are worth a step of their own.
const TOLD: [&str; 8] = ["clients", "invoices", "quotes", "payments", "products", "expenses", "vendors", "users"];

type Job<'j> = RestoreJob<'j, NinjaSettings, NinjaRestore>;

/// Puts an installation back, or imports a company.
pub(super) struct PutBack;

/// What was decided.
pub(super) enum Work {
    Install(Box<installation::Work>),
    Company(Box<Import>),
}

/// An export and the company whose data it replaces.
pub(super) struct Import {
    zip: PathBuf,
    web: Web,
    goal: Goal,
}

impl Restorer for PutBack {
    type Settings = NinjaSettings;
    type Options = NinjaRestore;
    type Work = Work;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
        match job.settings.kept()? {
            Kept::Install(install) => {
                let Planned { steps, later, refusals, work } = installation::plan(install, job, events)?;
                Ok(Planned { steps, later, refusals, work: Work::Install(Box::new(work)) })
            }
            Kept::Company => {
                let Planned { steps, later, refusals, work } = plan(job, events)?;
                Ok(Planned { steps, later, refusals, work: Work::Company(Box::new(work)) })
            }
        }
    }

    fn execute(
        job: &Job<'_>,
        work: Work,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        match work {
            Work::Install(work) => installation::execute(job, *work, journal, events),
            Work::Company(work) => execute(&job.settings, &work, events),
        }
    }
}

fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Import>, Failure> {
    let RestoreJob { settings, options, facts, staging, .. } = job;
    let Some(artifact) = facts.artifacts.iter().find(|each| each.format == FORMAT) else {
        return Err(Failure::new(codes::NO_EXPORT, "the backup has no export of Invoice Ninja")
            .hint("a backup of its database is restored by the plugin that made it"));
    };
    let zip = staging.join(&artifact.path);
    let contents = contents::read(&zip)?;
    let web = settings.web(settings.wait)?;
    let goal = goal(settings, &web)?;
    if let Some(version) = &goal.version {
        events.version(format!("Invoice Ninja {version}"));
        if is_newer(&contents.app_version, version) {
            return Err(Failure::new(
                codes::BACKUP_NEWER,
                format!("the backup is of version {}, the application is {version}", contents.app_version),
            )
            .hint("update Invoice Ninja first; a newer export breaks an older one"));
        }
    }
    let mut steps = vec![Step::new(
        Verb::Delete,
        format!("ALL data of the company {:?}", goal.company),
        "the import begins with it, and nothing puts it back when it fails: keep its database first",
    )];
    for (name, count) in TOLD.iter().filter_map(|name| Some((name, contents.counts.get(*name)?))) {
        steps.push(Step::new(Verb::Create, *name, format!("{count}")));
    }
    let mail = "Invoice Ninja says only by mail whether it went well";
    steps.push(Step::new(Verb::Manual, "the mail of the import", mail));
    let documents = "they are not in the export: put public/storage back";
    steps.push(Step::new(Verb::Manual, "documents and logos", documents));
    let mut refusals = Vec::new();
    if !options.purge {
        let told = format!("an import deletes all data that the company {:?} has now", goal.company);
        refusals.push(
            Failure::new(codes::PURGE_NOT_ALLOWED, told).hint("look at a dry run; then say `--option purge=true`"),
        );
    }
    Ok(Planned { refusals, ..Planned::of(steps, Import { zip, web, goal }) })
}

fn execute(settings: &NinjaSettings, work: &Import, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let Import { zip, web, goal } = work;
    events.warning(
        Trouble::new(codes::PURGED, format!("ALL data of the company {:?} was deleted for the import", goal.company))
            .with_hint("wait for the mail of Invoice Ninja before you work with it"),
    );
    import(settings, web, zip)?;
    events.validation(
        "the import went well",
        Verdict::CouldNotVerify,
        "Invoice Ninja does it later and says only by mail how it went; look at the company then",
    );
    Ok(())
}

/// Into what would be imported.
struct Goal {
    company: String,
    version: Option<String>,
}

fn goal(settings: &NinjaSettings, web: &Web) -> Result<Goal, Failure> {
    let answer = settings.dress(web.get("/api/v1/ping")).send()?;
    if answer.status() != 200 {
        return Err(explain(answer, web));
    }
    let version = answer.header("x-app-version").filter(|version| version.len() < 30);
    let told: Value = answer.json()?;
    let company = told.get("company_name").and_then(Value::as_str).unwrap_or_default();
    Ok(Goal { company: company.chars().take(100).collect(), version })
}

fn import(settings: &NinjaSettings, web: &Web, zip: &std::path::Path) -> Result<(), Failure> {
    let file = Upload {
        field: "files".to_owned(),
        path: zip.to_owned(),
        file_name: FILE.to_owned(),
        content_type: "application/zip".to_owned(),
    };
    let call = web.post("/api/v1/import_json").upload(&[("import_settings", "true"), ("import_data", "true")], file);
    let answer = settings.dress(call).send()?;
    match answer.status() {
        200 if answer.content_type().contains("html") => Err(download::a_page(answer.what())),
        200 => Ok(()),
        413 => {
            Err(explain(answer, web).hint("raise upload_max_filesize and post_max_size of PHP, and the proxy's limit"))
        }
        422 => Err(explain(answer, web).hint("Invoice Ninja does not take the file for a zip of its own")),
        _ => Err(explain(answer, web)),
    }
}

/// Compares versions part by part.
fn is_newer(one: &str, other: &str) -> bool {
    let parts = |version: &str| -> Vec<u64> {
        version.trim_start_matches('v').split(['.', '-']).map_while(|part| part.parse().ok()).collect()
    };
    parts(one) > parts(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_part_by_part() {
        assert!(is_newer("5.10.17", "5.9.30") && is_newer("v5.11.0", "5.10.99"));
        assert!(!is_newer("5.10.17", "5.10.17") && !is_newer("5.9.30", "5.10.2"));
    }
}
