//! Proves the dump of a Redis or Valkey: by the tool that came with the server where its container works, by that of this host,
//! and by the file's own checksum, which every version writes alike.
//!
//! A tool that is older than the server stumbles over a file that is well: what it does not know it says nothing of.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use super::running;
use crate::plugin::apps::docker::database::words;
use crate::plugin::apps::docker::list::Dump;
use crate::plugin::apps::docker::rdb::{self, Look};
use crate::plugin::apps::docker::{exec, load, unwritable};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::redis::check::is_of_another_version;
use crate::plugin::kit::database::redis::checksum::Checksum;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tidy::tidy;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Tools};
use crate::plugin::protocol::{Request, Verdict};
use crate::process::Exit;

/// The tools, which are the same but for their names.
const TOOLS: [&str; 2] = ["redis-check-rdb", "valkey-check-rdb"];
/// Has the tool of a container read its standard input, and reads what that leaves.
const CHECK: &str = "for p in redis-check-rdb valkey-check-rdb; do command -v $p >/dev/null 2>&1 || continue; \
                     $p /dev/stdin; s=$?; cat >/dev/null; exit $s; done; exit 127";
/// What a shell says of a program that is not there.
const MISSING: i64 = 127;
/// What is kept of the output of a tool, in bytes.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// What a tool says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Sound,
    /// Why it is none, or not whole.
    Damaged(String),
    /// Why nobody asked it, or it could not tell.
    Nothing(String),
}

impl Told {
    /// From the output of a tool called `tool` that ended well or not.
    fn of(tool: &str, output: &str, stderr: &str, is_success: bool) -> Self {
        if is_success && output.contains("RDB looks OK") {
            return Self::Sound;
        }
        let mut lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
        // The trouble stands behind that; without it the tool did not come so far.
        let trouble = lines.by_ref().find(|line| line.contains("ERROR DETECTED")).and_then(|_| lines.next());
        let said = trouble
            .map(|line| line.split_once("] ").map_or(line, |(_, words)| words))
            .or_else(|| stderr.lines().rev().find(|line| !line.trim().is_empty()))
            .map_or_else(|| "it says nothing".to_owned(), |line| tidy(line, 300));
        let told = format!("{tool} cannot read it: {said}");
        if trouble.is_none() || is_of_another_version(&said) { Self::Nothing(told) } else { Self::Damaged(told) }
    }

    fn why(&self) -> &str {
        match self {
            Self::Sound => "",
            Self::Damaged(why) | Self::Nothing(why) => why,
        }
    }
}

/// Reads a dump to its end.
pub(super) fn prove(
    request: &Request,
    tools: &Tools,
    dump: &Dump,
    file: &Path,
    events: &mut EventWriter<'_>,
) -> (Verdict, String) {
    let look = match rdb::look(file) {
        Ok(look) => look,
        Err(error) => return (Verdict::Failed, unwritable(file, &error).trouble.message),
    };
    if look.format.is_none() {
        return (Verdict::Failed, "it does not start as an RDB file does".to_owned());
    }
    let own =
        of_container(request, dump, file, events).unwrap_or_else(|failure| Told::Nothing(failure.trouble.message));
    let host = if own == Told::Sound { Told::Nothing(String::new()) } else { of_host(tools, file) };
    judge(&look, &dump.container, &own, &host)
}

/// Decides by the file's own frame, the tool in `container`, and that of this host. A tool reads to the end of the data:
/// that it finds all well says nothing of what is behind it, or of an end that was lost.
fn judge(look: &Look, container: &str, own: &Told, host: &Told) -> (Verdict, String) {
    let format = look.format.as_deref().unwrap_or_default();
    let told = |sign: &str| {
        let parts = [&format!("format {format}"), sign, own.why(), host.why()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    };
    let is_damaged = matches!(own, Told::Damaged(_));
    match (host, &look.checksum) {
        _ if *own == Told::Sound && !look.is_damaged() => {
            (Verdict::Proven, format!("the tool in {container} reads it"))
        }
        // Whole as the server wrote it, and the same server cannot read it.
        (_, Checksum::Right) if is_damaged => (Verdict::CouldNotVerify, told("its checksum is right")),
        (Told::Sound, _) if !is_damaged && !look.is_damaged() => {
            (Verdict::Proven, "redis-check-rdb of this host reads it".to_owned())
        }
        (_, Checksum::Right) => (Verdict::Proven, told("its checksum is right")),
        _ if look.is_damaged() => {
            let sign = if look.ends { "its checksum is wrong" } else { "it does not end where its data ends" };
            (Verdict::Failed, told(sign))
        }
        _ if is_damaged => (Verdict::Failed, told("")),
        (Told::Damaged(_), _) if !look.is_newer() => (Verdict::Failed, told("")),
        _ => (Verdict::CouldNotVerify, told("its checksum does not tell")),
    }
}

/// Asks the tool in the container that the dump is of: it came with the server.
fn of_container(request: &Request, dump: &Dump, file: &Path, events: &mut EventWriter<'_>) -> Result<Told, Failure> {
    let Some((engine, container)) = running(request, &dump.container)? else {
        return Ok(Told::Nothing(format!("{} does not run", dump.container)));
    };
    let unreadable = |error: std::io::Error| unwritable(file, &error);
    let input = File::open(file).map_err(unreadable)?;
    let bytes = input.metadata().map_err(unreadable)?.len().to_string();
    let command = words(&["sh", "-c", load::TICKING, "larder", &bytes, "sh", "-c", CHECK]);
    let program = exec::Program { container: &container.id, command, env: Vec::new() };
    let mut output = Vec::new();
    let ran = exec::feed(&engine, &program, input, &mut |piece| {
        events.progress(0, 0);
        output.extend_from_slice(piece);
        let excess = output.len().saturating_sub(OUTPUT_BYTES_MAX);
        output.drain(..excess);
        Ok(())
    })?;
    let output = String::from_utf8_lossy(&output);
    Ok(match ran.code {
        MISSING => Told::Nothing(format!("no {} is in {}", TOOLS.join(" or "), dump.container)),
        code => Told::of(&format!("the tool in {}", dump.container), &output, &ran.stderr, code == 0),
    })
}

fn of_host(tools: &Tools, file: &Path) -> Told {
    for tool in TOOLS {
        let mut output = String::new();
        let hear = |line: &str| {
            if output.len() < OUTPUT_BYTES_MAX {
                output.push_str(line);
                output.push('\n');
            }
        };
        let ran = tools.run(Path::new(tool), vec![OsString::from(file)], &[], DEADLINE_OF_WORK, hear, || {});
        if !matches!(ran.exit, Exit::NotStarted { .. }) {
            return Told::of(&format!("{tool} of this host"), &output, &ran.stderr, ran.exit == Exit::Success);
        }
    }
    Told::Nothing("redis-check-rdb is not installed here (package redis-tools)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Told {
        let output =
            format!("[offset 0] Checking RDB file /dev/stdin\n--- RDB ERROR DETECTED ---\n[offset 9] {line}\n");
        Told::of("it", &output, "", false)
    }

    #[test]
    fn what_a_tool_does_not_know_it_says_nothing_of() {
        for line in [
            "Can't handle RDB format version 99",
            "Wrong signature trying to load DB from file: VALKEY080",
            "Invalid object type: 26",
            "Internal error in RDB reading offset 0, function at rdb.c:1 -> Unknown RDB encoding type 28",
        ] {
            assert!(matches!(said(line), Told::Nothing(why) if why.contains(line)), "{line}");
        }
        assert_eq!(
            said("Unexpected EOF reading RDB file"),
            Told::Damaged("it cannot read it: Unexpected EOF reading RDB file".to_owned())
        );
        assert!(matches!(Told::of("it", "", "sh: killed", false), Told::Nothing(_)));
        assert!(matches!(Told::of("it", "Cannot open file /dev/stdin", "", false), Told::Nothing(_)));
        assert_eq!(Told::of("it", "[offset 99] \\o/ RDB looks OK! \\o/\n[info] 1 keys read\n", "", true), Told::Sound);
    }

    #[test]
    fn nothing_fails_because_a_tool_is_old_and_nothing_is_proven_that_the_server_cannot_read() {
        let nothing = || Told::Nothing("not known".to_owned());
        let damaged = || Told::Damaged("EOF".to_owned());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump.rdb");
        let head = |magic: &str| [magic.as_bytes(), b"\xfa\x05redis-ver"].concat();
        let whole = |magic: &str| [head(magic), b"\xff\0\0\0\0\0\0\0\0".to_vec()].concat();
        let verdict = |bytes: Vec<u8>, own: Told, host: Told| {
            std::fs::write(&path, bytes).unwrap();
            judge(&rdb::look(&path).unwrap(), "app", &own, &host).0
        };
        for magic in ["REDIS0012", "REDIS0099", "VALKEY080", "VALKEY099"] {
            assert_eq!(verdict(whole(magic), nothing(), nothing()), Verdict::CouldNotVerify, "{magic}");
            assert_eq!(verdict(whole(magic), damaged(), nothing()), Verdict::Failed, "{magic}");
            assert_eq!(verdict(whole(magic), nothing(), Told::Sound), Verdict::Proven, "{magic}");
            let is_newer = magic.ends_with("99");
            let wanted = if is_newer { Verdict::CouldNotVerify } else { Verdict::Failed };
            assert_eq!(verdict(whole(magic), nothing(), damaged()), wanted, "{magic}");
            assert_eq!(verdict([head(magic), vec![0; 8]].concat(), nothing(), nothing()), wanted, "{magic}, cut");
            let wrong = [head(magic), b"\xff12345678".to_vec()].concat();
            assert_eq!(verdict(wrong.clone(), nothing(), nothing()), wanted, "{magic}, its checksum is wrong");
            assert_eq!(verdict(whole(magic), Told::Sound, nothing()), Verdict::Proven, "{magic}");
            let behind = [whole(magic), b"more".to_vec()].concat();
            let wanted = if is_newer { Verdict::Proven } else { Verdict::Failed };
            for (bytes, what) in [(wrong, "its checksum is wrong"), (behind, "more stands behind its end")] {
                assert_eq!(verdict(bytes.clone(), Told::Sound, nothing()), wanted, "{magic}, {what}");
                assert_eq!(verdict(bytes, nothing(), Told::Sound), wanted, "{magic}, {what}");
            }
        }
    }
}
