//! The process table, read from `/proc`.

use std::io::Read as _;

/// Longest line of `/proc/PID/stat`: a name of 64 bytes and 51 numbers.
const STAT_BYTES_MAX: usize = 2048;

/// Largest environment that is looked through.
const ENVIRONMENT_BYTES_MAX: u64 = 4 << 20;

/// One process, as `/proc/PID/stat` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// Ticks since boot; with the pid it names one process for good.
    pub(super) started: u64,
    /// Dead, but not yet reaped by its parent.
    pub(super) zombie: bool,
    /// The program's name, at most 15 bytes.
    pub(super) name: String,
}

/// Every process that can be seen.
pub(super) fn read() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| one(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The process `pid`, if there is one.
pub(super) fn one(pid: i32) -> Option<Process> {
    // Hundreds of them are read behind every child; a line has some 300 bytes, and the kernel gives it at once.
    let mut line = [0_u8; STAT_BYTES_MAX];
    let mut file = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?;
    let read = loop {
        match file.read(&mut line) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => break read.ok()?,
        }
    };
    parse(&String::from_utf8_lossy(line.get(..read)?))
}

/// Ticks a second in `/proc`: 100 on every Linux, whatever the kernel's own timer does.
const TICKS_PER_SECOND: u64 = 100;

/// A process of this machine, as somebody else who only knows its pid needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSeen {
    /// The program's name, at most 15 bytes.
    pub name: String,
    pub started: jiff::Timestamp,
    /// Its start in ticks since boot: with the pid and the [`Habitat`] it names one process for good.
    pub ticks: u64,
}

/// Where pids mean what they mean: the boot of the machine, and in it the namespace of pids.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Habitat {
    pub boot: String,
    pub namespace: String,
}

/// The habitat of this process; none where the kernel does not tell.
pub fn habitat() -> Option<Habitat> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned();
    Some(Habitat { boot, namespace })
}

/// The living processes that have the pid `pid` here or in a namespace below, such as a container's.
pub fn seen_inside(pid: i64) -> Vec<ProcessSeen> {
    let inner = |process: &Process| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.to_owned();
        pids.split_ascii_whitespace().last()?.parse::<i64>().ok()
    };
    let found = read().into_iter().filter(|process| inner(process) == Some(pid));
    found.filter_map(|process| seen(i64::from(process.pid))).collect()
}

/// The living process `pid`, if there is one. Its start is as exact as the clock was steady since.
pub fn seen(pid: i64) -> Option<ProcessSeen> {
    let process = one(i32::try_from(pid).ok()?).filter(|process| !process.zombie)?;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let after = i64::try_from(process.started / TICKS_PER_SECOND).ok()?;
    let started = jiff::Timestamp::from_second(boot.checked_add(after)?).ok()?;
    Some(ProcessSeen { name: process.name, started, ticks: process.started })
}

/// Reads a line of `/proc/PID/stat`. The name stands in parentheses and may itself hold some, and spaces.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Process {
        pid: pid.parse().ok()?,
        zombie: matches!(state, "Z" | "X" | "x"),
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        session: fields.next()?.parse().ok()?,
        // The 22nd of the line.
        started: fields.nth(15)?.parse().ok()?,
        name: name.to_owned(),
    })
}

/// The value of `variable` in the environment that `pid` was started with; none where that can't be read.
pub(super) fn environment(pid: i32, variable: &str) -> Option<String> {
    let file = std::fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    let mut bytes = Vec::new();
    file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    bytes.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_no_trap() {
        let line = "42 (a) Z (b c) S 1 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 2";
        let process = parse(line).unwrap();
        assert_eq!((process.pid, process.parent, process.group, process.session), (42, 1, 40, 39));
        assert_eq!((process.started, process.zombie, process.name.as_str()), (98765, false, "a) Z (b c"));
        assert_eq!(parse(""), None);
        assert_eq!(parse("42 (x"), None);
    }

    #[test]
    fn this_process_is_in_the_table() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(read().iter().any(|process| process.pid == own && !process.zombie));
        assert_eq!(environment(own, "NO_SUCH_VARIABLE_HERE"), None);
    }
}
