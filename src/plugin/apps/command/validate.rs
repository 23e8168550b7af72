//! What the files of a program must be, as far as the config says.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::settings::CommandSettings;
use crate::error::codes;
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::json::{self, Probe};
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Tools};
use crate::plugin::kit::{digest, plain};
use crate::plugin::protocol::{Request, Verdict};
use crate::process::Exit;

const CHUNK_BYTES: usize = 1 << 20;
/// Longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<CommandSettings> { settings, facts } = ValidateJob::of(request)?;
    let checks = &settings.checks;
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        let shown = artifact.path.display();
        digest::check(artifact, &path, events)?;
        let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let size = if bytes > 0 && bytes >= checks.min_size.0 { Verdict::Proven } else { Verdict::Failed };
        events.validation(
            format!("{shown} is large enough"),
            size,
            format!("{bytes} bytes, at least {}", checks.min_size.0.max(1)),
        );
        if checks.json {
            let read = plain::open(&path).map_err(|error| error.to_string()).and_then(json::export);
            let read = read.map(|probe| match probe {
                Probe::Object(count) => format!("an object with {count} fields"),
                Probe::List(count) => format!("a list of {count}"),
                Probe::Text(_) | Probe::Other => "one value".to_owned(),
            });
            tell(events, format!("{shown} is JSON"), read);
        }
        if checks.gzip {
            tell(events, format!("{shown} is whole gzip"), gzip(&path, &request.staging)?);
        }
        if let Some(text) = &checks.contains {
            let found = contains(&path, text.as_bytes()).map_err(|error| error.to_string());
            let found =
                found.and_then(|found| if found { Ok(String::new()) } else { Err(format!("{text:?} is not in it")) });
            tell(events, format!("{shown} contains what it must"), found);
        }
        let inside = [checks.inside.as_ref(), settings.inside.as_ref()];
        for inside in inside.into_iter().flatten() {
            inside.tell(&path, &request.staging, events);
        }
        if !checks.is_any() && settings.inside.is_none() {
            events.validation(format!("{shown} was checked"), Verdict::CouldNotVerify, "`checks` asks for nothing");
        }
    }
    Ok(())
}

fn tell(events: &mut EventWriter<'_>, name: String, found: Result<String, String>) {
    match found {
        Ok(detail) => events.validation(name, Verdict::Proven, detail),
        Err(why) => events.validation(name, Verdict::Failed, why),
    }
}

fn gzip(path: &Path, staging: &Path) -> Result<Result<String, String>, Failure> {
    let tools = Tools::new(Vec::new(), Vec::new(), staging)?;
    let args = vec!["--test".into(), "--".into(), path.into()];
    let ran = tools.run(Path::new("gzip"), args, &[], DEADLINE_OF_WORK, |_| {}, || {});
    Ok(match ran.exit {
        Exit::Success => Ok("read to its end".to_owned()),
        Exit::NotStarted { detail, .. } => {
            return Err(
                Failure::new(codes::NO_CLIENT, format!("gzip cannot be started: {detail}")).hint("apt install gzip")
            );
        }
        _ => Err(crate::plugin::kit::tidy::tidy(&ran.stderr, 300)),
    })
}

/// Looks for `text` piece by piece, also across the border of two.
fn contains(path: &Path, text: &[u8]) -> std::io::Result<bool> {
    let text = text.get(..TEXT_BYTES_MAX).unwrap_or(text);
    if text.is_empty() {
        return Ok(true);
    }
    let mut file = File::open(path)?;
    let mut held: Vec<u8> = Vec::new();
    loop {
        let read = file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut held)?;
        if held.windows(text.len()).any(|part| part == text) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        held.drain(..held.len().saturating_sub(text.len() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_across_the_border_of_two_pieces() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![b'x'; CHUNK_BYTES - 3];
        bytes.extend(b"needle and more");
        std::fs::write(file.path(), &bytes).unwrap();
        assert!(contains(file.path(), b"needle").unwrap());
        assert!(!contains(file.path(), b"noodle").unwrap());
    }
}
