//! Cuts a stream of bytes into lines of bounded length.

use std::io::BufRead as _;

/// Collects bytes until a line is whole. Memory is bounded by the longest allowed line.
pub(super) struct Lines {
    partial: Vec<u8>,
    /// Bytes of the current line that were not kept.
    dropped: u64,
    bytes_max: usize,
}

/// One line, without its end.
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// How many bytes of the line's tail are missing here.
    pub(super) dropped: u64,
}

impl Lines {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { partial: Vec::new(), dropped: 0, bytes_max }
    }

    /// Takes the next bytes of the stream and hands out each line that they complete.
    pub(super) fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Line<'_>)) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let before = rest;
            // The standard library's search, which is fast; reading a slice can't fail.
            let length = rest.skip_until(b'\n').unwrap_or(before.len());
            let Some(line) = before.get(..length).and_then(|line| line.strip_suffix(b"\n")) else {
                self.keep(before);
                return;
            };
            if self.partial.is_empty() && self.dropped == 0 && line.len() <= self.bytes_max {
                each(Line { bytes: trimmed(line), dropped: 0 });
            } else {
                self.keep(line);
                self.hand_out(&mut each);
            }
        }
    }

    /// Hands out what came after the last line end, if anything did.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() {
            self.hand_out(&mut each);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.bytes_max.saturating_sub(self.partial.len()).min(bytes.len());
        let (kept, lost) = bytes.split_at(room);
        self.partial.extend_from_slice(kept);
        self.dropped = self.dropped.saturating_add(lost.len() as u64);
    }

    fn hand_out(&mut self, each: &mut impl FnMut(Line<'_>)) {
        each(Line { bytes: trimmed(&self.partial), dropped: self.dropped });
        self.partial.clear();
        self.dropped = 0;
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]], bytes_max: usize) -> Vec<(String, u64)> {
        let mut lines = Lines::new(bytes_max);
        let mut found = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |line| found.push((String::from_utf8_lossy(line.bytes).into_owned(), line.dropped)));
        }
        lines.finish(|line| found.push((String::from_utf8_lossy(line.bytes).into_owned(), line.dropped)));
        found
    }

    #[test]
    fn a_line_is_put_together_across_chunks() {
        let found = lines_of(&[b"on", b"e\r\ntwo\n\nth", b"ree"], 100);
        let expected: Vec<(String, u64)> = ["one", "two", "", "three"].iter().map(|t| ((*t).to_owned(), 0)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_counted_wherever_the_chunks_end() {
        let text = b"abcdefghij\nxy\n";
        for size in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(lines_of(&chunks, 4), [("abcd".to_owned(), 6), ("xy".to_owned(), 0)], "chunks of {size}");
        }
    }
}
