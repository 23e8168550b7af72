//! Every code of a trouble or a finding, each once. A problem of the pages that is no trouble has a word of its own
//! (`missed`, `overdue`), and what an external plugin tells may have others.

mod asked;
mod failed;
mod lacking;
mod reached;

pub use asked::*;
pub use failed::*;
pub use lacking::*;
pub use reached::*;

use super::code::Code;

/// Makes a constant for each line, and the list of all of the file.
macro_rules! codes {
    ($($constant:ident = $name:literal, $kind:ident, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $constant: Code = Code::new($name, Kind::$kind, $meaning);
        )*

        pub(super) const HERE: &[Code] = &[$($constant),*];
    };
}
use codes;

/// All of them, by kind and name.
pub fn all() -> impl Iterator<Item = Code> {
    [asked::HERE, reached::HERE, lacking::HERE, failed::HERE].into_iter().flatten().copied()
}

/// The code of this name.
#[must_use]
pub fn find(name: &str) -> Option<Code> {
    all().find(|code| code.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_is_there_once_and_says_what_it_means() {
        let mut seen = BTreeSet::new();
        for code in all() {
            assert!(seen.insert(code.name()), "{code} stands twice");
            assert!(code.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
            assert!(!code.meaning().is_empty() && !code.meaning().ends_with('.'), "{code}: {}", code.meaning());
            assert_eq!(find(code.name()), Some(code));
        }
        assert!(seen.len() > 600 && find("no_such_code").is_none());
    }
}
