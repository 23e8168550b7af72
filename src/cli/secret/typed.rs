//! A value from standard input: all of it, or what somebody types unseen, twice.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::error::{Trouble, chain, codes};
use crate::secret::SECRET_BYTES_MAX;

/// Reads the value of `what`; one newline at its end is not part of it.
///
/// # Errors
/// When it is empty, too long or no text, or the two that were typed differ.
pub(super) fn value(what: &str) -> Result<SecretString, Trouble> {
    if std::io::stdin().is_terminal() {
        let first = unseen(&format!("{what}: "))?;
        let second = unseen("once more: ")?;
        if *first != *second {
            return Err(Trouble::new(codes::SECRET_REFERENCE, "the two are not the same").with_hint("type it again"));
        }
        return checked(&first, what);
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let read = std::io::stdin().lock().take(SECRET_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| unreadable(what, &error))?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        let message = format!("{what} is longer than {SECRET_BYTES_MAX} bytes");
        return Err(Trouble::new(codes::SECRET_REFERENCE, message).with_hint("keep large files elsewhere"));
    }
    checked(text.strip_suffix('\n').unwrap_or(&text), what)
}

fn checked(text: &str, what: &str) -> Result<SecretString, Trouble> {
    if text.is_empty() {
        let hint = "type it, or send it by standard input: `larder secret set NAME < FILE`";
        return Err(Trouble::new(codes::SECRET_REFERENCE, format!("{what} is empty")).with_hint(hint));
    }
    Ok(SecretString::from(text))
}

/// One line, while the terminal shows nothing.
fn unseen(prompt: &str) -> Result<Zeroizing<String>, Trouble> {
    let stdin = std::io::stdin();
    let _ = write!(std::io::stderr().lock(), "{prompt}").and_then(|()| std::io::stderr().flush());
    let shown = Silenced::begin().map_err(|error| unreadable("the terminal", &error))?;
    let mut line = Zeroizing::new(String::with_capacity(1024));
    let read = stdin.lock().take(SECRET_BYTES_MAX).read_line(&mut line);
    drop(shown);
    let _ = writeln!(std::io::stderr().lock());
    read.map_err(|error| unreadable("the terminal", &error))?;
    Ok(Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// The terminal as it was, put back when dropped.
struct Silenced(Termios);

impl Silenced {
    fn begin() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

fn unreadable(what: &str, error: &std::io::Error) -> Trouble {
    Trouble::new(codes::FILE_UNREADABLE, format!("{what} cannot be read: {}", chain(error)))
}
