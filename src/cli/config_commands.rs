//! The commands about config: check, plan, and plugins. They need no daemon, but `plan` uses one where it can.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::cli::args::{Check, Global, Output, Plan, Plugin};
use crate::cli::client::{CallError, Client};
use crate::cli::{Code, Done, output};
use crate::config::{Colour, Loaded, Loader};
use crate::error::{Trouble, codes};
use crate::plugin::Catalogue;
use crate::runner::control::PlanText;
use crate::secret::identity::Sources;
use crate::secret::keyring::Keyring;
use crate::source::FileSet;
use crate::source::bare::Bare;
use crate::source::directory::Directory;
use crate::types::Revision;

pub(crate) fn check(global: &Global, args: &Check) -> Done {
    let catalogue = catalogue(args.plugins.as_deref())?;
    let loaded = match &args.revision {
        Some(revision) => {
            let bare = Bare::open(&args.path).map_err(|error| error.trouble())?;
            let revision = resolve(&bare, revision)?;
            load(catalogue, &bare.files(&revision, "").map_err(|error| error.trouble())?)
        }
        None => load(catalogue, &Directory::open(&args.path).map_err(|error| error.trouble())?),
    };
    let errors = loaded.diagnostics.iter().filter(|each| each.is_error()).count();
    match global.output {
        Output::Json => output::json(&json!({
            "valid": errors == 0,
            "files": loaded.files,
            "documents": loaded.documents,
            "diagnostics": loaded.diagnostics,
        })),
        Output::Github => loaded.diagnostics.iter().for_each(|each| output::line(&each.github())),
        Output::Text => {
            for each in &loaded.diagnostics {
                output::line(&each.render(colour()));
            }
            output::line(&summary(&loaded, errors));
        }
    }
    Ok(if errors == 0 { Code::Done } else { Code::Invalid })
}

fn colour() -> Colour {
    if output::terminal() && std::env::var_os("NO_COLOR").is_none() { Colour::Always } else { Colour::Never }
}

fn summary(loaded: &Loaded, errors: usize) -> String {
    let warnings = loaded.diagnostics.len() - errors;
    let mut text = format!("{} in {}: ", count(loaded.documents, "document"), count(loaded.files, "file"));
    match (errors, warnings) {
        (0, 0) => text.push_str("all valid"),
        (0, _) => text.push_str(&format!("valid, {}", count(warnings, "warning"))),
        (_, 0) => text.push_str(&count(errors, "error")),
        _ => text.push_str(&format!("{}, {}", count(errors, "error"), count(warnings, "warning"))),
    }
    text
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn resolve(bare: &Bare, text: &str) -> Result<Revision, Trouble> {
    if let Ok(revision) = Revision::parse(text) {
        return Ok(revision);
    }
    bare.head(text).map_err(|error| error.trouble())?.ok_or_else(|| {
        Trouble::new(codes::BRANCH_MISSING, format!("there is no branch {text}"))
            .with_hint("give a branch or a whole commit id")
    })
}

fn load(catalogue: Catalogue, files: &dyn FileSet) -> Loaded {
    let keyring = Keyring { sources: Sources::of_process(None), ..Keyring::default() };
    Loader::new(Arc::new(catalogue)).with_keyring(keyring).load(files)
}

fn catalogue(plugins: Option<&Path>) -> Result<Catalogue, Trouble> {
    let program = std::env::current_exe()
        .map_err(|error| Trouble::new(codes::NO_PROGRAM, format!("cannot tell where larder itself is: {error}")))?;
    Catalogue::discover(crate::plugin::ALL, plugins, &program)
}

pub(crate) fn plan(global: &Global, args: &Plan) -> Done {
    let params = match &args.path {
        Some(path) => {
            let loaded =
                load(catalogue(args.plugins.as_deref())?, &Directory::open(path).map_err(|error| error.trouble())?);
            let Some(config) = loaded.config else {
                for each in loaded.diagnostics.iter().filter(|each| each.is_error()) {
                    output::line(&each.render(colour()));
                }
                return Ok(Code::Invalid);
            };
            json!({"config": config})
        }
        None => json!({}),
    };
    let answer = Client::connect(global)?.call("config.plan", params)?;
    if global.output == Output::Json {
        output::json(&answer);
        return Ok(Code::Done);
    }
    let plan: PlanText = serde_json::from_value(answer).map_err(|error| {
        CallError::Refused(Trouble::new(codes::BAD_ANSWER, format!("the answer is not understood: {error}")))
    })?;
    if plan.lines.is_empty() {
        output::line("nothing would change");
    }
    plan.lines.iter().for_each(|line| output::line(line));
    Ok(Code::Done)
}

pub(crate) fn plugin(args: &Plugin) -> Done {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            let catalogue = catalogue(args.plugins.as_deref())?;
            for name in crate::config::SettingsSchemas::names(&catalogue) {
                output::line(&name);
            }
            for trouble in catalogue.broken() {
                output::trouble(trouble);
            }
            Ok(Code::Done)
        }
        ["describe", name] => {
            let catalogue = catalogue(args.plugins.as_deref())?;
            let text = catalogue.describe_text(name)?;
            output::line(text.trim_end());
            Ok(Code::Done)
        }
        [name] => {
            let code = crate::plugin::builtin_main(name);
            Ok(if code == ExitCode::SUCCESS { Code::Done } else { Code::Failed })
        }
        _ => Err(Trouble::new(
            codes::USAGE,
            "say `larder plugin list`, `larder plugin describe NAME`, or a plugin's name alone",
        )
        .into()),
    }
}
