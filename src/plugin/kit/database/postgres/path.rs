//! Puts a search_path in place of none at the head of a dump as SQL.
//!
//! A dump empties the path before it says anything of the application. So only what comes before the first statement of
//! another kind is looked at: behind it, the same line may stand in a text of the application.

use super::server::literal;

/// The statement by which a dump empties the path.
const EMPTIES_PATH: &[u8] = b"SELECT pg_catalog.set_config('search_path', '', false);";
/// How the lines in front of it begin.
const BEFORE: [&[u8]; 3] = [b"--", b"\\", b"SET "];
/// Where that statement stands at the latest, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Takes a dump as it comes.
pub(in crate::plugin) struct Changer {
    statement: String,
    /// What came and was not given on; none: the place was found, or there is none.
    head: Option<Vec<u8>>,
}

impl Changer {
    /// `path` is the setting's value.
    pub(in crate::plugin) fn new(path: &str) -> Self {
        // As a text: what stands in a path is no command to psql.
        let statement = format!("SELECT pg_catalog.set_config('search_path', {}, false);\n", literal(path));
        Self { statement, head: Some(Vec::new()) }
    }

    /// What is to be written for `bytes`.
    pub(in crate::plugin) fn push<'b>(&mut self, bytes: &'b [u8]) -> std::borrow::Cow<'b, [u8]> {
        let Some(head) = &mut self.head else { return bytes.into() };
        head.extend_from_slice(bytes);
        let (mut ready, mut is_done, mut at) = (Vec::new(), false, 0);
        while !is_done
            && let Some(line) = head.get(at..).and_then(|rest| rest.split_inclusive(|byte| *byte == b'\n').next())
        {
            if !line.ends_with(b"\n") {
                break;
            }
            at += line.len();
            let text = line.trim_ascii_end();
            if text == EMPTIES_PATH {
                ready.extend_from_slice(self.statement.as_bytes());
                is_done = true;
            } else {
                is_done = !text.is_empty() && !BEFORE.iter().any(|start| text.starts_with(start));
                ready.extend_from_slice(line);
            }
        }
        head.drain(..at);
        if is_done || head.len() > HEAD_BYTES_MAX {
            ready.append(head);
            self.head = None;
        }
        ready.into()
    }

    /// What was kept to the end.
    pub(in crate::plugin) fn finish(self) -> Vec<u8> {
        self.head.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(dump: &str, path: &str, step: usize) -> String {
        let (mut changer, mut out) = (Changer::new(path), Vec::new());
        dump.as_bytes().chunks(step).for_each(|piece| out.extend_from_slice(&changer.push(piece)));
        out.extend(changer.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_statement_that_empties_the_path_is_changed() {
        let line = "SELECT pg_catalog.set_config('search_path', '', false);\n";
        let wanted = "SELECT pg_catalog.set_config('search_path', E'a, \"b'' c\", \\\\!id', false);\n";
        let rest = format!("COPY t FROM stdin;\n{line}\\.\n");
        let dump = format!("-- x\n\\restrict y\n\nSET a = 0;\n{line}{rest}");
        for step in [1, 7, 4096] {
            let out = changed(&dump, "a, \"b' c\", \\!id", step);
            assert_eq!(out, format!("-- x\n\\restrict y\n\nSET a = 0;\n{wanted}{rest}"));
            // One without it says the same in a text of the application.
            let without = format!("SET a = 0;\nCREATE FUNCTION f() AS $$\n{line}$$;\n-- end");
            assert_eq!(changed(&without, "a", step), without);
        }
    }
}
