//! What OPNsense and pfSense have in common: one config.xml that is everything, judged, and put back by hand.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::codes;
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::restore::{NoOptions, Planned, RestoreJob};
use crate::plugin::kit::{archive, digest, download, xml};
use crate::plugin::protocol::{Request, Step, Verb, Verdict};

pub(super) const FILE: &str = "config.xml";
/// Real ones have up to some MiB; with embedded RRD data tens of them.
pub(super) const XML_BYTES_MAX: u64 = 512 << 20;

/// What a configuration must be.
pub(super) struct Kind {
    /// Of the firewall, for people.
    pub(super) name: &'static str,
    pub(super) format: &'static str,
    pub(super) root: &'static str,
    /// Elements directly below the root without which it is no whole configuration.
    pub(super) needed: &'static [&'static str],
    /// What is counted: the figure and its path.
    pub(super) counted: &'static [(&'static str, &'static str)],
}

impl Kind {
    /// Reads the whole document and judges it.
    pub(super) fn read(&self, path: &Path) -> Result<xml::Shape, Failure> {
        if archive::starts_with(path, b"---- BEGIN config.xml ----") {
            return Err(Failure::new(
                codes::EXPORT_ENCRYPTED,
                format!("{} exported an encrypted configuration", self.name),
            )
            .hint("larder encrypts all that it keeps: switch the encryption of the export off"));
        }
        if download::is_a_page(path) {
            return Err(download::a_page(&format!("the export of {}", self.name)));
        }
        let shape = xml::read(path)?;
        if shape.root != self.root {
            return Err(Failure::new(
                codes::WRONG_ROOT,
                format!("the root of the export is <{}>, not <{}>", shape.root, self.root),
            )
            .hint(format!("is it {} that answers at this address?", self.name)));
        }
        match self.needed.iter().find(|name| shape.count(name) == 0) {
            Some(name) => Err(Failure::new(codes::EXPORT_INCOMPLETE, format!("the configuration has no <{name}>"))
                .hint(format!("look at the configuration history of {}", self.name))),
            None => Ok(shape),
        }
    }

    pub(super) fn figures(&self, shape: &xml::Shape, events: &mut EventWriter<'_>) {
        events.figure("elements", shape.elements);
        events.figure("interfaces", shape.children("interfaces"));
        for (figure, path) in self.counted {
            events.figure(*figure, shape.count(path));
        }
    }

    /// `S`: the settings of the plugin.
    pub(super) fn validate<S: DeserializeOwned>(
        &self,
        request: &Request,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let ValidateJob::<S> { facts, .. } = ValidateJob::of(request)?;
        for artifact in &facts.artifacts {
            let path = request.staging.join(&artifact.path);
            digest::check(artifact, &path, events)?;
            match self.read(&path) {
                Ok(shape) => {
                    let same = facts.figures.get("elements") == Some(&shape.elements);
                    let verdict = if same { Verdict::Proven } else { Verdict::Failed };
                    let detail = format!("{} elements, with {}", shape.elements, self.needed.join(", "));
                    events.validation(format!("it is a whole configuration of {}", self.name), verdict, detail);
                }
                Err(failure) => events.validation(
                    format!("it is a whole configuration of {}", self.name),
                    Verdict::Failed,
                    failure.trouble.message,
                ),
            }
        }
        Ok(())
    }

    /// Neither has an API that takes a configuration: it is checked, and a person is told what to do.
    pub(super) fn plan<S>(
        &self,
        job: &RestoreJob<'_, S, NoOptions>,
        by_hand: &[(&str, &str)],
    ) -> Result<Planned<()>, Failure> {
        let Some(artifact) = job.facts.artifacts.iter().find(|each| each.format == self.format) else {
            return Err(Failure::new(codes::NO_EXPORT, format!("the backup has no configuration of {}", self.name))
                .hint("is it one of another plugin?"));
        };
        let shape = self.read(&job.staging.join(&artifact.path))?;
        let mut steps = vec![Step::new(Verb::Keep, FILE, format!("it is whole: {} elements", shape.elements))];
        steps.extend(by_hand.iter().map(|(thing, detail)| Step::new(Verb::Manual, *thing, *detail)));
        Ok(Planned::of(steps, ()))
    }

    /// Says that the rest is a person's.
    pub(super) fn execute(&self, events: &mut EventWriter<'_>) {
        events.validation(
            "the configuration is in force",
            Verdict::CouldNotVerify,
            format!("{} takes a configuration only from a person: follow the steps", self.name),
        );
    }
}
