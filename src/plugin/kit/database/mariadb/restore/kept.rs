//! What is written down of a live database before it is touched, and how statements and dumps reach the server.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::feed::{Feed, Part, stream};
use super::invalid::hint_of;
use super::names::Names;
use super::swap::{Place, Swap};
use crate::error::{Kind, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::dump;
use crate::plugin::kit::database::mariadb::explain::explain;
use crate::plugin::kit::database::mariadb::reach::{Input, Program};
use crate::plugin::kit::database::mariadb::server::{PLAIN, identifier, literal};
use crate::plugin::kit::memory_file::MemoryFile;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends};
use crate::process::Exit;

/// Said first by every script and feed: which of them works is known by the lock, and a wait for the application ends.
const LOCK_WAIT_SECONDS: u32 = 60;

impl Swap<'_> {
    /// Writes the code of the live database down, durable. Views that are invalid already are named in the place.
    pub(super) fn keep_code(&self, place: &mut Place) -> Result<(), Failure> {
        place.invalid.clear();
        if !place.had.has_code() {
            return Ok(());
        }
        let Err(failure) = self.keep(place, &[]) else { return Ok(()) };
        // What is wrong with the live database is often why it is restored.
        let (views, tables) = (self.invalid_views(place), self.damaged_tables(place));
        if views.is_empty() && tables.is_empty() {
            return Err(failure);
        }
        place.invalid = views;
        self.keep(place, &tables).map_err(|second| match tables.as_slice() {
            [] => second,
            // Nobody reads the triggers of a table that is damaged, and no server drops them alone.
            _ => second.hint(hint_of(place, &tables)),
        })
    }

    /// Writes the live database down without its rows, without these tables, and without its invalid views.
    fn keep(&self, place: &Place, without: &[String]) -> Result<(), Failure> {
        let file = self.kept(place);
        let had = place.writable();
        let refuse = |why: String| {
            Failure::new(codes::NOT_KEPT, format!("{} cannot be written down before it is replaced: {why}", place.goal))
                .hint("nothing was changed; free space in the state directory, or give the user all rights on it")
        };
        let mut args = dump::all_of(self.server);
        args.insert(1, "--no-data".into());
        let at = args.len() - 1;
        let besides = place.stays.iter().chain(&place.invalid).chain(without);
        args.splice(at..at, besides.map(|name| format!("--ignore-table={}.{name}", place.goal).into()));
        args.extend(["--".into(), place.goal.clone().into()]);
        let ran = match self.server.reach {
            Some(reach) => {
                let mut into = File::create(&file).map_err(|error| refuse(error.to_string()))?;
                let mut written = Ok(());
                let hear = &mut |bytes: &[u8]| {
                    if written.is_ok() {
                        written = into.write_all(bytes);
                    }
                };
                let ran = reach.run(Program::Dump, args, None, hear, &mut || {})?;
                written.map_err(|error| refuse(error.to_string()))?;
                ran
            }
            None => {
                args.insert(1, format!("--result-file={}", file.display()).into());
                let tools = &self.server.tools;
                tools.run(&self.server.client.dump, args, &[], DEADLINE_OF_WORK, |_| {}, || {})
            }
        };
        if ran.exit != Exit::Success {
            let told = explain("the dump", &self.server.settings.place(), &place.goal, &ran);
            return Err(match told.trouble.hint {
                Some(hint) if told.trouble.is_of(Kind::Denied) => {
                    refuse(told.trouble.message).hint(format!("nothing was changed; {hint}"))
                }
                _ => refuse(told.trouble.message),
            });
        }
        let (scan, _) = dump::read_whole(&file, |_| {})?;
        let of_code = [
            ("triggers", scan.counts.triggers, had.triggers.len()),
            ("views", scan.counts.views, had.views.len()),
            ("routines", scan.counts.routines, had.routines.len()),
            ("events", scan.events.values().filter(|passes| !**passes).count() as u64, had.events.len()),
        ];
        if !scan.complete {
            return Err(refuse("its dump has no end".to_owned()));
        }
        if let Some((what, now, wanted)) = of_code.iter().find(|(_, now, wanted)| *now != *wanted as u64) {
            return Err(refuse(format!("{now} of {wanted} {what} are in it")));
        }
        File::open(&file).and_then(|file| file.sync_all()).map_err(|error| refuse(error.to_string()))
    }

    pub(super) fn feed(&self, place: &Place, file: &Path, part: Part) -> Result<(), Failure> {
        self.feed_as(place, file, part, None, |_| {})
    }

    /// Has the client read a dump, with one name of its database in place of another.
    pub(super) fn feed_as(
        &self,
        place: &Place,
        file: &Path,
        part: Part,
        names: Option<Names>,
        on_tick: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let is_beside = names.as_ref().is_some_and(|names| names.new == identifier(&place.beside));
        let mut args = self.server.shell_args();
        args.push(format!("--init-command={}", self.first(place)).into());
        if matches!(part, Part::Bodies | Part::Views) && !is_beside {
            args.push(format!("--database={}", place.goal).into());
        } else if matches!(part, Part::Bodies | Part::Views) {
            args.push(format!("--database={}", place.beside).into());
        }
        let ran = stream(self.server, Feed { file, part, names, is_beside, args }, on_tick)?;
        match ran.exit {
            Exit::Success => Ok(()),
            _ => Err(explain("the restore", &self.server.settings.place(), &place.goal, &ran)),
        }
    }

    /// Who works on a place holds its lock, so that is known after a kill. Rows that break a rule which came later, and
    /// tables that a stricter server would refuse, were there all the same.
    pub(in crate::plugin::kit::database::mariadb) fn first(&self, place: &Place) -> String {
        let lax =
            if self.server.version.is_mariadb { "check_constraint_checks = 0, innodb_strict_mode = 0, " } else { "" };
        format!(
            "SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}, foreign_key_checks = 0, {lax}@larder = GET_LOCK({}, {LOCK_WAIT_SECONDS})",
            literal(&place.beside)
        )
    }

    /// Runs statements one after the other, up to the first that fails.
    pub(super) fn script(&self, place: &Place, sql: &str) -> Result<(), Failure> {
        let broken = |error: std::io::Error| Failure::new(codes::INTERNAL, format!("a script cannot be made: {error}"));
        let text = format!("{};\n{PLAIN};\n{sql}", self.first(place));
        let file = MemoryFile::new(text.as_bytes()).map_err(broken)?;
        let (from, args) = (File::open(file.path()).map_err(broken)?, self.server.shell_args());
        let ran = match self.server.reach {
            Some(reach) => {
                let input = Some(Input { from, bytes: text.len() as u64 });
                reach.run(Program::Shell, args, input, &mut |_| {}, &mut || {})?
            }
            None => {
                let (tools, ends) = (&self.server.tools, Ends { stdin: Some(from), stdout: None });
                tools.pipe(&self.server.client.shell, args, &[], DEADLINE_OF_WORK, ends, || {})
            }
        };
        match ran.exit {
            Exit::Success => Ok(()),
            _ => Err(explain("the restore", &self.server.settings.place(), &place.goal, &ran)),
        }
    }
}
