//! The answer to ssh's question for a password, where this program is what ssh asks.
//!
//! ssh starts `SSH_ASKPASS` with its question as the only argument and reads one line. The password lies in a file that
//! only this user may read, whose path is in the environment, so it is in no argument and in no environment. ssh asks the
//! same program whether a host's key is right, and for passphrases: those get no answer.

use std::io::Write as _;
use std::process::ExitCode;

/// In the environment of ssh: the file that holds the password.
pub const ASKPASS_FILE: &str = "LARDER_ASKPASS_FILE";
/// Longest password, in bytes.
const PASSWORD_BYTES_MAX: u64 = 4096;
/// What a question for a password ends in: ssh's own, and that of PAM behind `keyboard-interactive`.
const QUESTION_END: &str = "password:";

/// Answers ssh and says how the program ends; none: ssh did not start it.
pub fn answer() -> Option<ExitCode> {
    let file = std::env::var_os(ASKPASS_FILE)?;
    let question = std::env::args().nth(1).unwrap_or_default();
    let answered = is_for_password(&question) && print(std::path::Path::new(&file)).is_ok();
    Some(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_for_password(question: &str) -> bool {
    question.trim_end().to_ascii_lowercase().ends_with(QUESTION_END)
}

fn print(file: &std::path::Path) -> std::io::Result<()> {
    use std::io::Read as _;

    use secrecy::zeroize::Zeroize as _;
    let mut line = Vec::with_capacity(usize::try_from(PASSWORD_BYTES_MAX).unwrap_or_default() + 1);
    std::fs::File::open(file)?.take(PASSWORD_BYTES_MAX).read_to_end(&mut line)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    let written = out.write_all(&line).and_then(|()| out.flush());
    line.zeroize();
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_question_for_a_password_is_answered() {
        for question in ["root@nas's password: ", "Password: ", "(me@nas) Password:", "(me@nas) PASSWORD: "] {
            assert!(is_for_password(question), "{question}");
        }
        for question in [
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            "Enter passphrase for key '/tmp/key': ",
            "Your password has expired. New password? ",
            "Verification code: ",
            "",
        ] {
            assert!(!is_for_password(question), "{question}");
        }
    }
}
