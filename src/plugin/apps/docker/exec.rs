//! Programs run inside a container: their output comes as frames on one stream, their exit code is asked for after.

use std::fs::File;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::codes;
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::kit::builtin::Failure;
use crate::process::Redactor;

/// What is kept of standard error, in bytes.
const STDERR_BYTES_MAX: usize = 8 << 10;
/// How long the engine may take to tell the exit code after the output ended.
const EXIT_MAX: Duration = Duration::from_secs(30);
const EXIT_TICK: Duration = Duration::from_millis(100);
/// A frame longer than this is none of an engine.
const FRAME_BYTES_MAX: u32 = 256 << 20;

/// A program and what it is given.
pub(super) struct Program<'a> {
    pub(super) container: &'a str,
    pub(super) command: Vec<String>,
    /// Secrets go here, never into the command.
    pub(super) env: Vec<(String, SecretString)>,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Executed {
    pub(super) code: i64,
    /// The end of standard error, without the secrets of the environment.
    pub(super) stderr: String,
}

/// Runs a program to its end; `on_stdout` gets its standard output piece by piece.
pub(super) fn run(
    engine: &Engine,
    program: &Program<'_>,
    on_stdout: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Executed, Failure> {
    go(engine, program, None, on_stdout)
}

/// The same for a program that reads `input`. Its standard input does not end with that: a program that reads to the end
/// stands behind `head -c`.
pub(super) fn feed(
    engine: &Engine,
    program: &Program<'_>,
    input: File,
    on_stdout: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Executed, Failure> {
    go(engine, program, Some(input), on_stdout)
}

fn go(
    engine: &Engine,
    program: &Program<'_>,
    input: Option<File>,
    on_stdout: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Executed, Failure> {
    #[derive(Deserialize)]
    struct Made {
        #[serde(rename = "Id")]
        id: String,
    }
    const PERMISSION: &str = "EXEC, CONTAINERS and POST";
    let env: Vec<String> =
        program.env.iter().map(|(name, value)| format!("{name}={}", value.expose_secret())).collect();
    let order = json!({"AttachStdin": input.is_some(), "AttachStdout": true, "AttachStderr": true,
        "Cmd": program.command, "Env": env});
    let made: Made =
        engine.post_json(&format!("/containers/{}/exec", program.container), &order, PERMISSION)?.json()?;
    let start = json!({"Detach": false, "Tty": false});
    let at = format!("/exec/{}/start", made.id);
    let mut frames = Frames::default();
    let mut stderr: Vec<u8> = Vec::new();
    let mut on_bytes = |bytes: &[u8]| {
        frames.push(bytes, &mut |stream, piece| match stream {
            2 => {
                stderr.extend_from_slice(piece);
                let excess = stderr.len().saturating_sub(2 * STDERR_BYTES_MAX);
                stderr.drain(..excess);
                Ok(())
            }
            _ => on_stdout(piece),
        })
    };
    match input {
        Some(input) => engine.post_stream(&at, &start, PERMISSION)?.converse(input, &mut on_bytes)?,
        None => {
            let mut answer = engine.post_json(&at, &start, PERMISSION)?;
            while let Some(bytes) = answer.chunk()? {
                on_bytes(&bytes)?;
            }
        }
    }
    frames.ended()?;
    // Names of users and databases are no secrets; without them a message would say little.
    let is_secret = |name: &str| !matches!(name, "PGUSER" | "PGDATABASE");
    let secrets = program.env.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.clone());
    let redact = Redactor::new(secrets.collect());
    // Cut once more behind that, so that no secret that the first cut went through is left.
    let stderr = redact.redact(&String::from_utf8_lossy(&stderr)).into_owned();
    let stderr = stderr
        .get(stderr.ceil_char_boundary(stderr.len().saturating_sub(STDERR_BYTES_MAX))..)
        .unwrap_or_default()
        .to_owned();
    Ok(Executed { code: exit_code(engine, &made.id)?, stderr })
}

fn exit_code(engine: &Engine, exec: &str) -> Result<i64, Failure> {
    let started = Instant::now();
    loop {
        let told: Value = engine.get(&format!("/exec/{exec}/json"), &[], "EXEC")?;
        let running = told.get("Running").and_then(Value::as_bool).unwrap_or(false);
        match told.get("ExitCode").and_then(Value::as_i64).filter(|_| !running) {
            Some(code) => return Ok(code),
            None if started.elapsed() < EXIT_MAX => std::thread::sleep(EXIT_TICK),
            None => {
                return Err(Failure::new(
                    codes::EXEC_UNKNOWN_END,
                    "the engine does not tell how a program in a container ended",
                ));
            }
        }
    }
}

/// Gets each piece with its stream: 1 is standard output, 2 standard error.
type OnPiece<'p> = &'p mut dyn FnMut(u8, &[u8]) -> Result<(), Failure>;

/// Takes a stream of frames apart: 8 bytes of head (stream, three zeros, length), then the bytes.
#[derive(Default)]
struct Frames {
    head: Vec<u8>,
    stream: u8,
    left: usize,
}

impl Frames {
    fn push(&mut self, mut bytes: &[u8], on_piece: OnPiece<'_>) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let wanted = 8 - self.head.len();
                let (now, later) = bytes.split_at(wanted.min(bytes.len()));
                self.head.extend_from_slice(now);
                bytes = later;
                let &[stream, 0, 0, 0, a, b, c, d] = self.head.as_slice() else {
                    if self.head.len() < 8 {
                        continue;
                    }
                    return Err(broken("a frame has no head of one"));
                };
                let length = u32::from_be_bytes([a, b, c, d]);
                if stream > 2 || length > FRAME_BYTES_MAX {
                    return Err(broken("a frame has no head of one"));
                }
                self.head.clear();
                self.stream = stream;
                self.left = length as usize;
            } else {
                let (now, later) = bytes.split_at(self.left.min(bytes.len()));
                on_piece(self.stream, now)?;
                self.left -= now.len();
                bytes = later;
            }
        }
        Ok(())
    }

    fn ended(&self) -> Result<(), Failure> {
        if self.left == 0 && self.head.is_empty() { Ok(()) } else { Err(broken("it ends inside a frame")) }
    }
}

fn broken(why: &str) -> Failure {
    Failure::new(codes::EXEC_STREAM, format!("the output of a program in a container cannot be read: {why}"))
        .hint("look in the log of the container engine; it may have ended in between")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(stream: &[u8], step: usize) -> Result<Vec<(u8, Vec<u8>)>, Failure> {
        let mut frames = Frames::default();
        let mut got: Vec<(u8, Vec<u8>)> = Vec::new();
        for bytes in stream.chunks(step) {
            frames.push(bytes, &mut |stream, piece| {
                match got.last_mut().filter(|(last, _)| *last == stream) {
                    Some((_, all)) => all.extend_from_slice(piece),
                    None => got.push((stream, piece.to_vec())),
                }
                Ok(())
            })?;
        }
        frames.ended().map(|()| got)
    }

    #[test]
    fn frames_are_told_apart_however_they_arrive() {
        let stream = [
            &b"\x01\0\0\0\0\0\0\x03abc"[..],
            b"\x02\0\0\0\0\0\0\x01!",
            b"\x01\0\0\0\0\0\0\0",
            b"\x01\0\0\0\0\0\0\x01z",
        ]
        .concat();
        let wanted = vec![(1, b"abc".to_vec()), (2, b"!".to_vec()), (1, b"z".to_vec())];
        for step in 1..=stream.len() {
            assert_eq!(taken_apart(&stream, step).unwrap(), wanted, "{step}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_or_is_none_is_an_error() {
        assert!(taken_apart(b"\x01\0\0\0\0\0\0\x03ab", 3).is_err());
        assert!(taken_apart(b"\x01\0\0", 3).is_err());
        assert!(taken_apart(b"plain text, no frames", 5).is_err());
    }
}
