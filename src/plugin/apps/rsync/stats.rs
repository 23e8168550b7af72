//! What `rsync --stats` tells, and the same counted in a directory.

use std::path::Path;

/// Deeper trees are not counted any further.
const DEPTH_MAX: usize = 256;

/// How much there is, and how much of it had to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    /// Regular files.
    pub(super) files: u64,
    /// Of all files together.
    pub(super) bytes: u64,
    /// Files that were sent, or would be.
    pub(super) transferred: u64,
    /// In the receiver.
    pub(super) deleted: u64,
    /// Whether any of it was told.
    pub(super) is_heard: bool,
}

impl Stats {
    /// Reads one line of `--stats`.
    pub(super) fn read(&mut self, line: &str) {
        let number = |text: &str| {
            let digits: String =
                text.trim().chars().take_while(|c| !c.is_whitespace()).filter(char::is_ascii_digit).collect();
            digits.parse().unwrap_or(0)
        };
        if let Some(rest) = line.strip_prefix("Number of files: ") {
            self.is_heard = true;
            // `11 (reg: 8, dir: 3)`; without the brackets all are of one kind, which then is a directory.
            self.files =
                rest.split("reg: ").nth(1).map_or(0, |rest| number(rest.split([')', ' ']).next().unwrap_or_default()));
        } else if let Some(rest) = line.strip_prefix("Total file size: ") {
            self.bytes = number(rest);
        } else if let Some(rest) = line.strip_prefix("Number of regular files transferred: ") {
            self.transferred = number(rest);
        } else if let Some(rest) = line.strip_prefix("Number of deleted files: ") {
            self.deleted = number(rest);
        }
    }
}

/// Adds what lies at `path`.
pub(super) fn count(path: &Path, stats: &mut Stats) {
    count_at(path, stats, 0);
}

fn count_at(path: &Path, stats: &mut Stats, depth: usize) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return };
    if metadata.is_dir() && depth < DEPTH_MAX {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            count_at(&entry.path(), stats, depth + 1);
        }
    } else if metadata.is_file() {
        stats.files += 1;
        stats.bytes += metadata.len();
    } else if metadata.is_symlink() {
        // rsync counts the length of what a link says.
        stats.bytes += metadata.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rsync_tells_is_read() {
        let mut stats = Stats::default();
        for line in [
            "Number of files: 1,011 (reg: 1,008, dir: 3)",
            "Number of created files: 3",
            "Number of deleted files: 12 (reg: 12)",
            "Number of regular files transferred: 1,000",
            "Total file size: 12,345,678 bytes",
            "Total transferred file size: 1 bytes",
        ] {
            stats.read(line);
        }
        assert_eq!(stats, Stats { files: 1008, bytes: 12_345_678, transferred: 1000, deleted: 12, is_heard: true });
        let mut empty = Stats::default();
        empty.read("Number of files: 1 (dir: 1)");
        assert_eq!(empty.files, 0);
    }
}
