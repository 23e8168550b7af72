//! Says whether two RDB files hold the same, by loading each into a private instance and asking that for a digest.
//!
//! The bytes of two files tell nothing: an instance writes the same keys in another order each time, and in another
//! encoding when its settings differ. `DEBUG DIGEST` goes by the values instead, but no server should have to allow it,
//! and it passes over when keys run out. So it is asked of a redis-server of our own, which listens on a socket in a
//! private directory only, saves nothing, and gets the times to live noted as values first. Keys that run out while
//! this goes on would make a difference that is none: what ends before `cutoff` is left out on both sides.
//!
//! One file is loaded at a time, and none that would not fit into the memory that is free.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::plugin::kit::database::redis::instance;
use crate::plugin::kit::tidy::tidy;
use crate::plugin::kit::tool::{DEADLINE_OF_QUESTION, DEADLINE_OF_WORK, Tools};
use crate::process::Exit;
use crate::types::ByteSize;

/// How long the keys that are compared still have, at least; the next one when the comparison took longer.
const MARGINS: [Duration; 3] = [Duration::from_secs(30), Duration::from_mins(10), Duration::from_hours(2)];
const LOAD_MAX: Duration = Duration::from_hours(1);
const POLL: Duration = Duration::from_millis(100);
/// An RDB file may use databases below this one; the times to live are noted in it.
const SPARE: u32 = 4096;
/// What an instance needs besides its data.
const OVERHEAD_BYTES: u64 = 64 << 20;

/// Leaves out what runs out before `ARGV[1]`, and notes when the rest does in the database `ARGV[2]`. Noting is the same when
/// SCAN shows a key twice.
const SCRIPT: &str = "
local cutoff, spare, out = tonumber(ARGV[1]), ARGV[2], {}
for db in string.gmatch(redis.call('INFO', 'keyspace'), 'db(%d+):') do
  local cursor, soon = '0', 0
  repeat
    redis.call('SELECT', db)
    local found = redis.call('SCAN', cursor, 'COUNT', 1000)
    local noted = {}
    cursor = found[1]
    for _, key in ipairs(found[2]) do
      local at = redis.call('PEXPIRETIME', key)
      if at >= 0 and at <= cutoff then soon = soon + redis.call('DEL', key)
      elseif at >= 0 then noted[#noted + 1] = {db .. ':' .. key, string.format('%.0f', at)} end
    end
    redis.call('SELECT', spare)
    for _, each in ipairs(noted) do redis.call('SET', each[1], each[2]) end
  until cursor == '0'
  redis.call('SELECT', db)
  out[#out + 1] = 'db ' .. db .. ' ' .. redis.call('DBSIZE') .. ' ' .. soon
end
out[#out + 1] = 'done'
return out";

/// What two files come to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::plugin) enum Compared {
    Same(String),
    Different(String),
    /// Why nobody here can tell.
    Unknown(String),
}

/// What is in a file, whatever its order and encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    values: String,
    functions: String,
    /// By database.
    keys: BTreeMap<u32, u64>,
    /// Left out.
    soon: u64,
}

/// Compares what is `there` with the `backup`; `used` is what the backup's data took in memory, where that is known.
pub(in crate::plugin) fn compare(bin_dir: Option<&Path>, backup: &Path, there: &Path, used: Option<u64>) -> Compared {
    try_compare(bin_dir, backup, there, used).unwrap_or_else(Compared::Unknown)
}

fn try_compare(bin_dir: Option<&Path>, backup: &Path, there: &Path, used: Option<u64>) -> Result<Compared, String> {
    let program = |names: &[&str]| {
        instance::program(bin_dir, names)
            .map_err(|failure| format!("{}: a private instance is needed to compare", failure.trouble.message))
    };
    let programs =
        Programs { server: program(&["redis-server", "valkey-server"])?, cli: program(&["redis-cli", "valkey-cli"])? };
    refuse_what_does_not_fit(backup, used)?;
    for margin in MARGINS {
        let cutoff = jiff::Timestamp::now() + margin;
        let wanted = programs.fingerprint(backup, cutoff)?;
        let found = programs.fingerprint(there, cutoff)?;
        if jiff::Timestamp::now() < cutoff {
            return Ok(judge(&wanted, &found, margin));
        }
    }
    Err("keys run out faster than they can be compared".to_owned())
}

fn refuse_what_does_not_fit(file: &Path, used: Option<u64>) -> Result<(), String> {
    let size = std::fs::metadata(file).map_or(0, |found| found.len());
    // Twice: the times to live are noted beside the data. A file is compressed, what is loaded is not.
    let needed = used.unwrap_or(size.saturating_mul(8)).saturating_mul(2).saturating_add(OVERHEAD_BYTES);
    match available() {
        Some(free) if free < needed => {
            Err(format!("loading it once more needs {}, of which {} are free", ByteSize(needed), ByteSize(free)))
        }
        _ => Ok(()),
    }
}

/// The memory that programs can still have, where the kernel tells.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn judge(wanted: &Fingerprint, found: &Fingerprint, margin: Duration) -> Compared {
    let (keys, soon) = (wanted.keys.values().sum::<u64>(), wanted.soon);
    let left_out = match soon {
        0 => String::new(),
        _ => format!("; {soon} more run out within {}", crate::types::show_duration(margin)),
    };
    if (&wanted.values, &wanted.functions) == (&found.values, &found.functions) {
        if keys == 0 && soon > 0 {
            return Compared::Unknown(format!("nothing but keys that end now{left_out}"));
        }
        return Compared::Same(format!("the values and times to live of {keys} keys{left_out}"));
    }
    let mut differences: Vec<String> = Vec::new();
    let databases: std::collections::BTreeSet<&u32> = wanted.keys.keys().chain(found.keys.keys()).collect();
    for db in databases {
        let (here, there) = (wanted.keys.get(db).unwrap_or(&0), found.keys.get(db).unwrap_or(&0));
        if here != there {
            differences.push(format!("database {db} has {there} keys, in the backup {here}"));
        }
    }
    if differences.is_empty() && wanted.values != found.values {
        differences.push(format!("of {keys} keys some have other names, values or times to live"));
    }
    if wanted.functions != found.functions {
        differences.push("the functions are others".to_owned());
    }
    Compared::Different(differences.join("; "))
}

struct Programs {
    server: PathBuf,
    cli: PathBuf,
}

impl Programs {
    fn fingerprint(&self, file: &Path, cutoff: jiff::Timestamp) -> Result<Fingerprint, String> {
        let broken = |error: std::io::Error| format!("a private instance has no place: {error}");
        // Not in the run's directory: a socket's path has 107 bytes at most.
        let home = crate::process::scratch("redis").map_err(broken)?;
        let file = std::path::absolute(file).map_err(broken)?;
        std::os::unix::fs::symlink(file, home.path().join(super::FILE)).map_err(broken)?;
        let tools = || Tools::new(Vec::new(), Vec::new(), home.path()).map_err(|failure| failure.trouble.message);
        let (server, questions) = (tools()?, tools()?);
        let stop = server.stop();
        let mut arguments: Vec<OsString> = Vec::new();
        for (name, value) in [
            ("--port", "0"),
            ("--unixsocket", "s"),
            ("--unixsocketperm", "700"),
            ("--save", ""),
            ("--appendonly", "no"),
            ("--dbfilename", super::FILE),
            ("--databases", &(SPARE + 1).to_string()),
            ("--enable-debug-command", "yes"),
        ] {
            arguments.extend([OsString::from(name), OsString::from(value)]);
        }
        std::thread::scope(|scope| {
            let running = scope.spawn(move || {
                let mut last = String::new();
                let hear = |line: &str| {
                    if let Some((_, words)) = line.split_once(" # ") {
                        last = tidy(words, 300);
                    }
                };
                let ran = server.run(&self.server, arguments, &[], DEADLINE_OF_WORK, hear, || {});
                (ran, last)
            });
            let private = Private { cli: &self.cli, tools: questions };
            let result = private.wait(&|| running.is_finished()).and_then(|()| private.measure(cutoff));
            stop.cancel();
            let ended = running.join();
            result.map_err(|why| match ended {
                // It ended by itself: what it said is why.
                Ok((ran, said)) if ran.exit != Exit::Cancelled => {
                    format!("a private instance does not load it: {said} {}", tidy(&ran.stderr, 300)).trim().to_owned()
                }
                _ => why,
            })
        })
    }
}

/// An instance of our own.
struct Private<'a> {
    cli: &'a Path,
    tools: Tools,
}

impl Private<'_> {
    fn ask(&self, command: &[&str], deadline: Duration, mut hear: impl FnMut(&str) + Send) -> Result<(), String> {
        let arguments = ["-s", "s"].iter().chain(command).map(OsString::from).collect();
        let mut first = String::new();
        let ran = self.tools.run(
            self.cli,
            arguments,
            &[],
            deadline,
            |line| {
                if first.is_empty() {
                    line.clone_into(&mut first);
                }
                hear(line);
            },
            || {},
        );
        match ran.exit {
            Exit::Success => Ok(()),
            _ => Err(format!("a private instance answered {}", tidy(&format!("{first} {}", ran.stderr), 300))),
        }
    }

    /// Until it has loaded its file.
    fn wait(&self, over: &dyn Fn() -> bool) -> Result<(), String> {
        let started = Instant::now();
        while !over() && started.elapsed() < LOAD_MAX {
            let mut up = false;
            // An error is one of a socket that is not there yet, or LOADING.
            let _ = self.ask(&["PING"], DEADLINE_OF_QUESTION, |line| up |= line == "PONG");
            if up {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        Err("a private instance did not start".to_owned())
    }

    fn measure(&self, cutoff: jiff::Timestamp) -> Result<Fingerprint, String> {
        let (mut keys, mut soon, mut done, mut refused) = (BTreeMap::new(), 0, false, String::new());
        let arguments = ["EVAL", SCRIPT, "0", &cutoff.as_millisecond().to_string(), &SPARE.to_string()];
        self.ask(&arguments, DEADLINE_OF_WORK, |line| {
            let mut words = line.split(' ');
            let kind = words.next().unwrap_or_default();
            let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            match (kind, numbers.as_slice()) {
                ("db", [db, left, ended]) => {
                    if let (Ok(db), true) = (u32::try_from(*db), *left > 0) {
                        keys.insert(db, *left);
                    }
                    soon += ended;
                }
                ("done", []) => done = true,
                _ => tidy(line, 300).clone_into(&mut refused),
            }
        })?;
        if !done {
            return Err(format!("a private instance cannot count: {refused}"));
        }
        let mut values = String::new();
        self.ask(&["DEBUG", "DIGEST"], DEADLINE_OF_WORK, |line| line.trim().clone_into(&mut values))?;
        if values.len() != 40 || !values.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("a private instance has no digest: {}", tidy(&values, 300)));
        }
        let mut functions: Vec<String> = Vec::new();
        // Older ones have no functions: their refusal is the same each time.
        self.ask(&["FUNCTION", "LIST", "WITHCODE"], DEADLINE_OF_QUESTION, |line| functions.push(line.to_owned()))?;
        functions.sort();
        let functions = hex::encode(Sha256::digest(functions.join("\n").as_bytes()));
        Ok(Fingerprint { values, functions, keys, soon })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(values: &str, keys: &[(u32, u64)], soon: u64) -> Fingerprint {
        let keys = keys.iter().copied().collect();
        Fingerprint { values: values.to_owned(), functions: "f".to_owned(), keys, soon }
    }

    #[test]
    fn only_what_is_the_same_to_the_last_value_is_the_same() {
        let backup = fingerprint("a", &[(0, 5), (3, 1)], 0);
        let to = |found: &Fingerprint| judge(&backup, found, MARGINS[0]);
        assert_eq!(to(&backup), Compared::Same("the values and times to live of 6 keys".to_owned()));
        let Compared::Different(why) = to(&fingerprint("b", &[(0, 5), (3, 1)], 0)) else { panic!("same counts") };
        assert!(why.contains("of 6 keys some"), "{why}");
        let Compared::Different(why) = to(&fingerprint("b", &[(0, 4)], 0)) else { panic!("fewer") };
        assert_eq!(why, "database 0 has 4 keys, in the backup 5; database 3 has 0 keys, in the backup 1");
        let other = Fingerprint { functions: "g".to_owned(), ..backup.clone() };
        assert_eq!(to(&other), Compared::Different("the functions are others".to_owned()));
    }

    #[test]
    fn what_runs_out_now_is_told_and_alone_is_no_proof() {
        let some = fingerprint("a", &[(0, 5)], 2);
        let Compared::Same(detail) = judge(&some, &some, MARGINS[0]) else { panic!("it is the same") };
        assert!(detail.ends_with("2 more run out within 30s"), "{detail}");
        let none = fingerprint("0", &[], 2);
        assert!(matches!(judge(&none, &none, MARGINS[0]), Compared::Unknown(_)));
        let empty = fingerprint("0", &[], 0);
        assert!(matches!(judge(&empty, &empty, MARGINS[0]), Compared::Same(_)));
    }

    #[test]
    fn what_would_not_fit_into_the_memory_is_not_loaded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(refuse_what_does_not_fit(file.path(), Some(u64::MAX)).unwrap_err().contains("are free"));
        refuse_what_does_not_fit(file.path(), Some(1 << 10)).unwrap();
    }
}
