//! `{secret: NAME}` and `{secret: FILE#path.to.value}`: which file of the config, and which value in it. Pure.

/// The directory of the secrets that are named by one word.
pub const DIRECTORY: &str = "secrets";

/// How files with secrets end; such a file is no config document.
pub const ENDINGS: [&str; 2] = [".sops.yaml", ".sops.yml"];

/// The ending of those that are written here.
pub const ENDING: &str = ".sops.yaml";

/// The key of the value in a file that holds one secret.
pub const VALUE: &str = "value";

/// Longest reference, in bytes.
const REFERENCE_BYTES_MAX: usize = 400;

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Relative to the config root, with `/`.
    pub file: String,
    /// The keys to the value, joined by dots; none: the file's only value.
    pub path: Option<String>,
}

/// Says that a text is no reference to an encrypted secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`secret` must be a name (letters, digits, `.`, `_`, `-`, `/`) or FILE.sops.yaml#path.to.value")]
pub struct NoAddress;

impl Address {
    /// Reads a reference.
    ///
    /// # Errors
    /// When it is neither a name nor a file below the config root with a path in it.
    pub fn parse(text: &str) -> Result<Self, NoAddress> {
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(NoAddress);
        }
        let (file, path) = match text.split_once('#') {
            Some((file, path)) => (file.to_owned(), Some(path.to_owned())),
            None if is_sealed(text) => (text.to_owned(), None),
            None => (format!("{DIRECTORY}/{text}{ENDING}"), None),
        };
        let fits = is_sealed(&file) && file.split('/').all(is_part);
        let leads = path.as_ref().is_none_or(|path| !path.is_empty() && !path.chars().any(char::is_control));
        if fits && leads { Ok(Self { file, path }) } else { Err(NoAddress) }
    }

    /// As it is written in a document: the shortest form.
    #[must_use]
    pub fn written(&self) -> String {
        let inside = self.file.strip_prefix(DIRECTORY).and_then(|rest| rest.strip_prefix('/'));
        let name = inside.and_then(|rest| rest.strip_suffix(ENDING));
        match (&self.path, name) {
            (None, Some(name)) => name.to_owned(),
            (None, None) => self.file.clone(),
            (Some(path), _) => format!("{}#{path}", self.file),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written())
    }
}

/// Whether a file of this name holds secrets, and no config.
#[must_use]
pub fn is_sealed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    ENDINGS.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

fn is_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !part.is_empty() && !part.starts_with(['.', '-']) && !part.contains("..") && part.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, path: Option<&str>) -> Address {
        Address { file: file.to_owned(), path: path.map(str::to_owned) }
    }

    #[test]
    fn a_name_leads_to_its_own_file_and_a_file_to_a_value_in_it() {
        assert_eq!(Address::parse("nas"), Ok(at("secrets/nas.sops.yaml", None)));
        assert_eq!(Address::parse("db/main"), Ok(at("secrets/db/main.sops.yaml", None)));
        assert_eq!(Address::parse("apps/x.sops.yml#a.b.0"), Ok(at("apps/x.sops.yml", Some("a.b.0"))));
        assert_eq!(Address::parse("apps/x.sops.yaml"), Ok(at("apps/x.sops.yaml", None)));
    }

    #[test]
    fn what_leads_outside_or_holds_something_else_is_no_address() {
        for bad in ["", "../x", "a/../b", "/etc/x", "a b", "x.yaml#a", "x.sops.yaml#", ".x", "a//b", "pä", "-x", "a\nb"]
        {
            assert_eq!(Address::parse(bad), Err(NoAddress), "{bad:?}");
        }
    }

    #[test]
    fn it_is_written_as_it_was_read() {
        for text in ["nas", "db/main", "apps/x.sops.yml#a.b.0", "apps/x.sops.yaml"] {
            assert_eq!(Address::parse(text).unwrap().written(), text);
        }
    }
}
