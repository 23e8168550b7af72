//! Asking the daemon over its Unix socket: one JSON-RPC call, one HTTP/1.1 request, no runtime.
//!
//! A Git hook is on the hot path of a push, so nothing is started for it. Whoever may open the socket needs no token.

use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Trouble, codes};
use crate::types::show_duration;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// Why a call has no result; told for people.
#[derive(Debug)]
pub enum SocketError {
    /// Nobody listens there.
    NotRunning(Trouble),
    /// Nobody can listen there: the directory is gone.
    StateMissing(Trouble),
    /// Nobody answered, or nothing that can be understood: `daemon_forbidden`, `daemon_slow`, `daemon_answer`.
    NotReachable(Trouble),
    /// The daemon's own word.
    Refused(Trouble),
}

impl SocketError {
    /// What, and what to do next.
    #[must_use]
    pub(crate) fn into_trouble(self) -> Trouble {
        match self {
            Self::NotRunning(trouble)
            | Self::StateMissing(trouble)
            | Self::NotReachable(trouble)
            | Self::Refused(trouble) => trouble,
        }
    }
}

/// Calls `method` of the daemon that listens on `socket` and waits for the result at most `deadline`.
///
/// # Errors
/// When nobody answers in time, or the daemon refuses.
pub fn call(socket: &Path, method: &str, params: &Value, deadline: Duration) -> Result<Value, SocketError> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let path = socket.to_owned();
    let (done, answer) = mpsc::channel();
    // A thread, since nothing else bounds `connect` to a daemon that hangs; it ends with this process.
    std::thread::spawn(move || {
        let _ = done.send(exchange(&path, &body, deadline).map_err(|error| unreachable(&path, &error, deadline)));
    });
    let answer = answer.recv_timeout(deadline).unwrap_or_else(|_| Err(SocketError::NotReachable(slow(deadline))));
    result_of(answer?).map_err(SocketError::Refused)
}

/// The result in a JSON-RPC answer.
///
/// # Errors
/// The daemon's refusal, or that the answer is none.
pub(crate) fn result_of(mut answer: Value) -> Result<Value, Trouble> {
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        let said = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let data = error.get("data");
        return Err(Trouble {
            code: said(data.and_then(|data| data.get("code"))).unwrap_or_else(|| "daemon_refused".to_owned()),
            message: said(data.and_then(|data| data.get("message")))
                .or_else(|| said(error.get("message")))
                .unwrap_or_else(|| "the daemon refused without a reason".to_owned()),
            hint: said(data.and_then(|data| data.get("hint"))),
        });
    }
    answer.get_mut("result").map(Value::take).ok_or_else(|| garbled("it has neither a result nor an error"))
}

fn unreachable(path: &Path, error: &io::Error, deadline: Duration) -> SocketError {
    SocketError::NotReachable(match error.kind() {
        io::ErrorKind::InvalidData => garbled(&error.to_string()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => slow(deadline),
        io::ErrorKind::PermissionDenied => {
            let message = format!("the daemon's socket {} may not be used by this user", path.display());
            Trouble::new(codes::DAEMON_FORBIDDEN, message).with_hint("run this as the daemon's user")
        }
        io::ErrorKind::NotFound if path.parent().is_some_and(|state| !state.exists()) => {
            let state = path.parent().unwrap_or(path).display();
            let missing = Trouble::new(
                codes::STATE_MISSING,
                format!("the state directory {state} is not there, so no daemon answers in it"),
            );
            return SocketError::StateMissing(missing.with_hint("start it with `larder serve`, or name its directory with --state; if it runs, its directory was taken away: bring that back, or restart the daemon"));
        }
        _ => {
            let down =
                Trouble::new(codes::DAEMON_NOT_RUNNING, format!("no daemon answers at {}: {error}", path.display()));
            return SocketError::NotRunning(down.with_hint("start it with `larder serve`"));
        }
    })
}

fn slow(deadline: Duration) -> Trouble {
    let message = format!("the daemon did not answer within {}", show_duration(deadline));
    Trouble::new(codes::DAEMON_SLOW, message).with_hint("look at the daemon's log")
}

/// The answer is none that this program knows.
pub(crate) fn garbled(detail: &str) -> Trouble {
    Trouble::new(codes::BAD_ANSWER, format!("the daemon's answer cannot be understood: {detail}"))
        .with_hint("check that the daemon and this program are of one version")
}

fn exchange(path: &Path, body: &str, deadline: Duration) -> io::Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    let request = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let (status, answer) = read_answer(stream)?;
    serde_json::from_slice(&answer).map_err(|e| bad(&format!("HTTP status {status}, and no JSON ({e})")))
}

/// The status and the body of an HTTP/1.1 answer.
fn read_answer(stream: impl Read) -> io::Result<(u16, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut head = reader.by_ref().take(HEAD_BYTES_MAX);
    let first = read_line(&mut head)?;
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| bad("no HTTP status"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let line = read_line(&mut head)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without a colon"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<u64>().map_err(|_| bad("no length"))?),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(&mut reader, &mut body)?;
    } else {
        let wanted = length.unwrap_or(ANSWER_BYTES_MAX + 1);
        reader.take(wanted.min(ANSWER_BYTES_MAX + 1)).read_to_end(&mut body)?;
        if body.len() as u64 > ANSWER_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        if length.is_some_and(|length| (body.len() as u64) < length) {
            return Err(bad("it ends too early"));
        }
    }
    Ok((status, body))
}

fn read_chunks(reader: &mut impl io::BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(&mut reader.by_ref().take(64))?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| bad("a chunk without a size"))?;
        if size == 0 {
            return Ok(());
        }
        if body.len() as u64 + size > ANSWER_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let before = body.len() as u64;
        reader.by_ref().take(size).read_to_end(body)?;
        if body.len() as u64 - before < size || !read_line(&mut reader.by_ref().take(2))?.is_empty() {
            return Err(bad("it ends too early"));
        }
    }
}

/// A line without its end; an error where there is none.
fn read_line(reader: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(bad("it ends too early"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| bad("a head that is not UTF-8"))
}

fn bad(detail: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead as _;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    const SOON: Duration = Duration::from_secs(5);

    /// A daemon that takes one request, gives `answer` and passes the request on.
    fn daemon(answer: &'static str) -> (tempfile::TempDir, PathBuf, std::thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("larder.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut request, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                request.push_str(&line);
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            request + &String::from_utf8(body).unwrap()
        });
        (dir, path, served)
    }

    #[test]
    fn a_call_is_one_request_and_gives_the_result() {
        let (_dir, path, served) =
            daemon("HTTP/1.1 200 OK\r\ncontent-length: 41\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":1}}");
        let result = call(&path, "config.status", &json!({"x": "y"}), SOON).unwrap();
        assert_eq!(result, json!({"a": 1}));
        let request = served.join().unwrap();
        assert!(request.starts_with("POST /rpc HTTP/1.1\r\nHost: localhost\r\n"), "{request}");
        assert!(request.contains(r#""method":"config.status","params":{"x":"y"}"#), "{request}");
    }

    #[test]
    fn a_chunked_answer_is_put_together() {
        let (_dir, path, _served) = daemon(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{\"id\":1,\"result\"\r\n6;x=y\r\n:true}\r\n0\r\n\r\n",
        );
        assert_eq!(call(&path, "x", &json!({}), SOON).unwrap(), json!(true));
    }

    #[test]
    fn a_refusal_keeps_the_daemons_words() {
        let trouble = r#"{"error":{"code":-32000,"message":"no","data":{"code":"held","message":"it is held","hint":"confirm it"}}}"#;
        let told = result_of(serde_json::from_str(trouble).unwrap()).unwrap_err();
        assert_eq!(told, Trouble::told("held", "it is held").with_hint("confirm it"));
        let plain = r#"{"error":{"code":-32601,"message":"Method not found"}}"#;
        let told = result_of(serde_json::from_str(plain).unwrap()).unwrap_err();
        assert!(told.message.contains("Method not found"));
    }

    #[test]
    fn what_is_no_answer_is_told_apart_from_nobody_there() {
        let gone = call(Path::new("/nonexistent.sock"), "x", &json!({}), SOON).unwrap_err();
        assert_eq!(gone.into_trouble().code, "daemon_not_running");
        let gone = call(Path::new("/nonexistent/larder.sock"), "x", &json!({}), SOON).unwrap_err().into_trouble();
        assert_eq!(gone.code, "state_missing");
        assert!(gone.message.contains("/nonexistent") && gone.hint.unwrap().contains("larder serve"));
        for nonsense in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\n\r\nnot json",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\nx",
            "HTTP/1.1 200 OK",
        ] {
            let (_dir, path, _served) = daemon(nonsense);
            let error = call(&path, "x", &json!({}), SOON).unwrap_err();
            assert_eq!(error.into_trouble().code, "bad_answer", "{nonsense:?}");
        }
        assert_eq!(result_of(json!({})).unwrap_err().code, "bad_answer");
    }

    #[test]
    fn a_daemon_that_hangs_does_not_hang_the_caller() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("larder.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = call(&path, "x", &json!({}), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.into_trouble().code, "daemon_slow");
    }

    #[test]
    fn an_endless_answer_is_cut() {
        let endless = b"HTTP/1.1 200 OK\r\n\r\n".chain(io::repeat(b'x'));
        assert_eq!(read_answer(endless).unwrap_err().to_string(), "it is too long");
        let endless = b"HTTP/1.1 200 OK\r\nx: ".chain(io::repeat(b'x'));
        assert_eq!(read_answer(endless).unwrap_err().to_string(), "it ends too early");
    }
}
