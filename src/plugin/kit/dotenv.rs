//! `.env` files: a `NAME=value` a line, as people and applications write them.

use std::io::Read as _;
use std::path::Path;

/// The file's text, up to `bytes_max`.
pub(crate) fn read(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(bytes_max).read_to_string(&mut text)?;
    Ok(text)
}

/// Names and values in their order; quotes around a value are taken off, and a comment behind a bare one. The error is
/// the line's number.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(index + 1)?;
        let name = name.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) || value.contains('\0') {
            return Err(index + 1);
        }
        variables.push((name.to_owned(), unquoted(value.trim()).to_owned()));
    }
    Ok(variables)
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            let end = rest.rfind(quote).filter(|end| {
                let behind = rest.get(end + 1..).unwrap_or_default().trim_start();
                behind.is_empty() || behind.starts_with('#')
            });
            return end.and_then(|end| rest.get(..end)).unwrap_or(value);
        }
    }
    value.split_once(" #").map_or(value, |(bare, _)| bare.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_file_reads_as_people_write_it() {
        let text = "# site\nLARDER_LISTEN=127.0.0.1:1\nexport A=\"b c\"\n\nQ='x=y'\nKEY=base64:ab/+c=\nN=\"a#b\" # why\n\
                    M=plain # why\nE=\nO=\"half\n";
        let expected = [
            ("LARDER_LISTEN", "127.0.0.1:1"),
            ("A", "b c"),
            ("Q", "x=y"),
            ("KEY", "base64:ab/+c="),
            ("N", "a#b"),
            ("M", "plain"),
            ("E", ""),
            ("O", "\"half"),
        ];
        let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse("A=1\nnonsense\n"), Err(2));
        assert_eq!(parse("A B=1\n"), Err(1));
    }
}
