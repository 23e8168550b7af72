//! Clients that mean no good, or are merely broken.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use jsonrpsee::core::client::{ClientT as _, Subscription, SubscriptionClientT as _};
use jsonrpsee::core::params::ObjectParams;
use larder::rpc::Bounds;
use larder::rpc::access::Tokens;
use larder::run::RunState;
use larder::runner::live::RunUpdate;
use larder::types::Outcome;
use serde_json::{Value, json};

use super::site::{CONTROL, READ, TestSite, body_of, status_of, tokens, update};

const JSON: &str = "Content-Type: application/json\r\n";
const STATUS: &str = r#"{"jsonrpc":"2.0","id":1,"method":"system.status"}"#;

fn bearer(token: &str) -> String {
    format!("{JSON}Authorization: Bearer {token}\r\n")
}

#[test]
fn without_the_right_token_nobody_gets_in() {
    let site = TestSite::start();
    for headers in [JSON.to_owned(), bearer("wrong"), format!("{JSON}Authorization: Basic {CONTROL}\r\n")] {
        let answer = site.post(&headers, STATUS);
        assert_eq!(status_of(&answer), 401, "{answer}");
        assert!(answer.contains("www-authenticate: Bearer") && answer.contains("hint:"), "{answer}");
    }
    let upgrade = "GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(status_of(&site.raw(upgrade)), 401);
}

#[test]
fn with_no_tokens_at_all_rpc_is_closed_and_pages_are_open() {
    let site = TestSite::with(Tokens::default(), Bounds::default());
    let answer = site.post(&bearer(""), STATUS);
    assert_eq!(status_of(&answer), 401);
    assert!(answer.contains("No token is configured"), "{answer}");
    assert_eq!(status_of(&site.get("/")), 200);
}

#[test]
fn a_read_token_reads_and_steers_nothing() {
    let site = TestSite::start();
    let document = site.call("rpc.discover", &json!({}));
    let methods = document["methods"].as_array().unwrap();
    let steering: Vec<&str> =
        methods.iter().filter(|m| m["x-access"] == "control").map(|m| m["name"].as_str().unwrap()).collect();
    assert!(steering.len() > 8);
    for method in steering {
        let answer = site.call_with(READ, method, &json!({"target": "photos"}));
        assert_eq!(answer["error"]["code"], -32003, "{method}: {answer}");
        assert!(answer["error"]["data"]["hint"].as_str().unwrap().contains("control token"));
    }
}

#[test]
fn a_page_of_another_site_cannot_reach_rpc() {
    let site = TestSite::start();
    let token = bearer(CONTROL);
    for extra in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(status_of(&site.post(&format!("{token}{extra}"), STATUS)), 403, "{extra}");
    }
    let own = format!("{token}Origin: http://{}\r\n", site.address);
    assert_eq!(status_of(&site.post(&own, STATUS)), 200);
    // What a form can send without a preflight.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let headers = format!("Content-Type: {kind}\r\nAuthorization: Bearer {CONTROL}\r\n");
        assert_eq!(status_of(&site.post(&headers, STATUS)), 415, "{kind}");
    }
}

#[test]
fn a_name_that_could_be_rebound_gets_nothing_but_health() {
    let site = TestSite::start();
    let get =
        |path: &str| site.raw(&format!("GET {path} HTTP/1.1\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n"));
    for path in ["/", "/status.json", "/metrics"] {
        let answer = get(path);
        assert_eq!(status_of(&answer), 421, "{path}");
        assert!(answer.contains("hint:"));
    }
    assert_eq!(status_of(&get("/healthz")), 200);
}

#[test]
fn a_body_of_a_hundred_megabytes_is_refused_before_it_is_read() {
    let site = TestSite::start();
    for header in ["Content-Length: 104857600\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut stream = site.connect();
        let chunked = header.starts_with("Transfer");
        let head = format!("POST /rpc HTTP/1.1\r\nHost: localhost\r\n{}{header}\r\n", bearer(CONTROL));
        stream.write_all(head.as_bytes()).unwrap();
        let start = Instant::now();
        let mut reader = stream.try_clone().unwrap();
        let answer = std::thread::spawn(move || {
            let mut answer = Vec::new();
            let mut part = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut part) {
                answer.extend_from_slice(&part[..n]);
            }
            String::from_utf8_lossy(&answer).into_owned()
        });
        let piece = vec![b' '; 64 * 1024];
        let mut sent = 0;
        while sent < 100 << 20 {
            let written = if chunked {
                stream
                    .write_all(b"10000\r\n")
                    .and_then(|()| stream.write_all(&piece))
                    .and_then(|()| stream.write_all(b"\r\n"))
            } else {
                stream.write_all(&piece)
            };
            match written {
                Ok(()) => sent += piece.len(),
                Err(_) => break,
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let answer = answer.join().unwrap();
        assert_eq!(status_of(&answer), 413, "{header}: {answer}");
        assert!(sent < 32 << 20, "{sent} bytes were taken");
        assert!(start.elapsed() < Duration::from_mins(1), "nobody waits for the rest of it");
    }
}

#[test]
fn headers_that_trickle_in_are_cut_while_others_go_on() {
    let site = TestSite::with(tokens(), Bounds { header: Duration::from_secs(1), ..Bounds::default() });
    let mut slow = site.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    let start = Instant::now();
    let closed = loop {
        if slow.write_all(b"X-Slow: 1\r\n").is_err() {
            break true;
        }
        assert_eq!(status_of(&site.get("/healthz")), 200);
        std::thread::sleep(Duration::from_millis(100));
        if start.elapsed() > Duration::from_secs(10) {
            break false;
        }
    };
    assert!(closed, "the connection was still open after {:?}", start.elapsed());
}

#[test]
fn a_body_that_trickles_in_is_cut() {
    let site = TestSite::with(tokens(), Bounds { body: Duration::from_millis(500), ..Bounds::default() });
    let mut stream = site.connect();
    let head = format!("POST /rpc HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 1000\r\n\r\n", bearer(CONTROL));
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert_eq!(status_of(&answer), 408, "{answer}");
}

#[test]
fn more_connections_than_there_are_seats_are_closed_and_the_unix_socket_stays_open() {
    let site = TestSite::with(tokens(), Bounds { connections: 4, ..Bounds::default() });
    let held: Vec<_> = (0..4).map(|_| site.connect()).collect();
    std::thread::sleep(Duration::from_millis(200));
    let mut fifth = site.connect();
    let _ = fifth.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = Vec::new();
    let _ = fifth.read_to_end(&mut answer);
    assert!(answer.is_empty(), "the fifth gets nothing");
    let mut local = std::os::unix::net::UnixStream::connect(&site.socket).unwrap();
    local.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    local.read_to_string(&mut answer).unwrap();
    assert_eq!(status_of(&answer), 200);
    drop(held);
}

#[test]
fn a_websocket_that_stops_reading_is_dropped_while_others_go_on() {
    let bounds = Bounds { write_stall: Duration::from_secs(1), updates_buffered: 16, ..Bounds::default() };
    let site = TestSite::with(tokens(), bounds);
    let mut deaf = site.connect();
    let upgrade = format!(
        "GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer {READ}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    deaf.write_all(upgrade.as_bytes()).unwrap();
    let mut head = [0; 512];
    let n = deaf.read(&mut head).unwrap();
    assert!(String::from_utf8_lossy(&head[..n]).starts_with("HTTP/1.1 101"));
    deaf.write_all(&frame(r#"{"jsonrpc":"2.0","id":1,"method":"run.subscribe","params":{}}"#)).unwrap();

    site.runtime.block_on(async {
        let client = site.websocket().await;
        let mut updates: Subscription<RunUpdate> =
            client.subscribe("run.subscribe", ObjectParams::new(), "run.unsubscribe").await.unwrap();
        // Enough to fill every buffer between us and the one that does not read.
        let mut seen = 0;
        for n in 0..400_u64 {
            let mut update = update(site.runs[3], RunState::Shipping);
            update.detail = Some("x".repeat(50_000));
            update.bytes_done = n;
            site.live.publish(update);
            let next = tokio::time::timeout(Duration::from_secs(5), updates.next()).await;
            assert_eq!(next.expect("the other one goes on").unwrap().unwrap().bytes_done, n);
            seen += 1;
        }
        assert_eq!(seen, 400);
        site.live.publish(update(site.runs[3], RunState::Finished(Outcome::Success)));
        let _: Value = client.request("system.status", ObjectParams::new()).await.unwrap();
    });
    // The server hung up: reading what is left ends, and ends soon.
    std::thread::sleep(Duration::from_millis(1500));
    let start = Instant::now();
    let mut rest = vec![0; 1 << 16];
    let ended = loop {
        match deaf.read(&mut rest) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break false,
            Err(_) => break true,
        }
    };
    assert!(ended && start.elapsed() < Duration::from_secs(10), "the connection is still open");
}

/// A masked text frame, as a client sends it; the mask is zero.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126);
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

#[test]
fn paths_never_lead_out_of_the_pages() {
    let site = TestSite::start();
    for path in [
        "/../../secret",
        "/%2e%2e/%2e%2e/secret",
        "/targets/../../../secret",
        "/targets/..%2f..%2f..%2fsecret",
        "/..%5c..%5csecret",
        "//etc/passwd",
        "/targets/%00",
        "/.current",
    ] {
        let answer = site.get(path);
        assert!(!answer.contains("not for you") && !answer.contains("root:"), "{path}");
        assert!([400, 404].contains(&status_of(&answer)), "{path}: {answer}");
    }
}

#[test]
fn other_paths_and_methods_are_refused() {
    let site = TestSite::start();
    assert_eq!(status_of(&site.get("/nothing/here")), 404);
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"] {
        let answer = site.raw(&format!(
            "{method} /status.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(status_of(&answer), 405, "{method}");
        assert!(answer.contains("allow: GET, HEAD"));
    }
    assert_eq!(status_of(&site.get("/rpc")), 405);
    assert_eq!(status_of(&site.raw("BREW /coffee HTCPCP/1.0\r\n\r\n")), 400);
}

#[test]
fn nonsense_gets_a_json_rpc_error_with_a_hint() {
    let site = TestSite::start();
    for (method, params, code, word) in [
        ("no.such", json!({}), -32601, "not found"),
        ("target.get", json!({}), -32602, "target"),
        ("target.get", json!({"target": "../etc"}), -32602, "name"),
        ("target.get", json!({"target": "photos", "extra": 1}), -32602, "extra"),
        ("target.get", json!(["photos"]), -32602, "by name"),
        ("run.get", json!({"run": "x"}), -32602, "run id"),
        ("run.list", json!({"limit": 100_000}), -32602, "limit"),
        ("snapshot.list", json!({"cursor": "-1"}), -32602, "cursor"),
        ("run.get", json!({"run": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}), -32004, "no run"),
    ] {
        let error = site.call_with(CONTROL, method, &params)["error"].clone();
        assert_eq!(error["code"], code, "{method} {params}: {error}");
        assert!(error["message"].as_str().unwrap().to_lowercase().contains(word), "{method} {params}: {error}");
        assert!(code == -32601 || error["data"]["hint"].is_string(), "{method}: {error}");
    }
    let answer = site.post(&bearer(CONTROL), "{not json");
    assert!(body_of(&answer).contains("-32700"), "{answer}");
}

/// Ids as JSON allows them, each of which must come back as it was written.
const IDS: [&str; 14] = [
    "-1",
    "0",
    "1.5",
    "-0.25",
    "1e3",
    "1.0",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "123456789012345678901234567890",
    "null",
    "\"\"",
    "\"a \\\"b\\\" \\u00e9\"",
    "\"-1\"",
];

fn raw_id(answer: &str) -> String {
    let fields: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
    fields["id"].get().to_owned()
}

#[test]
fn any_id_is_echoed_and_its_call_is_made_alone_and_in_a_batch() {
    let site = TestSite::start();
    let call = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"config.status"}}"#);
    for id in IDS {
        let answer = site.post(&bearer(READ), &call(id));
        assert_eq!(status_of(&answer), 200);
        assert_eq!(raw_id(body_of(&answer)), id);
        assert!(body_of(&answer).contains(r#""state":"applied""#), "{id}: {answer}");
        let failed = site.post(&bearer(READ), &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"no.such"}}"#));
        assert_eq!(raw_id(body_of(&failed)), id);
    }
    let answer = site.post(&bearer(READ), &format!("[{}]", IDS.map(call).join(",")));
    let items: Vec<&serde_json::value::RawValue> = serde_json::from_str(body_of(&answer)).unwrap();
    assert_eq!(items.iter().map(|item| raw_id(item.get())).collect::<Vec<_>>(), IDS);

    for id in ["[1]", "{}", "true"] {
        let answer = site.post(&bearer(READ), &call(id));
        assert_eq!(raw_id(body_of(&answer)), "null", "{id}");
        assert!(body_of(&answer).contains("-32600"), "{id}: {answer}");
        let mixed = site.post(&bearer(READ), &format!("[{},{}]", call(id), call("-7")));
        let items: Vec<Value> = serde_json::from_str(body_of(&mixed)).unwrap();
        assert_eq!((&items[0]["error"]["code"], &items[1]["id"]), (&json!(-32600), &json!(-7)), "{id}");
    }
    let silent = site.post(&bearer(READ), r#"{"jsonrpc":"2.0","method":"config.status"}"#);
    assert_eq!((status_of(&silent), body_of(&silent)), (204, ""));
}

#[test]
fn any_id_is_echoed_over_a_websocket_on_the_port_and_on_the_local_socket() {
    let site = TestSite::start();
    let local = std::os::unix::net::UnixStream::connect(&site.socket).unwrap();
    local.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for mut stream in [Box::new(site.connect()) as Box<dyn ReadWrite>, Box::new(local)] {
        let upgrade = format!(
            "GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer {READ}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        for id in IDS {
            stream.write_all(&frame(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"policy.list"}}"#))).unwrap();
            let answer = message(&mut *stream);
            assert_eq!(raw_id(&answer), id);
            assert!(answer.contains("retention"), "{answer}");
        }
        // Two calls in one batch, in two fragments.
        let batch = frame(r#"[{"jsonrpc":"2.0","id":-1,"method":"no.such"},{"jsonrpc":"2.0","id":[],"method":"x"}]"#);
        let (first, second) = batch[6..].split_at(10);
        let fragment =
            |kind: u8, part: &[u8]| [&[kind, 0x80 | u8::try_from(part.len()).unwrap(), 0, 0, 0, 0], part].concat();
        stream.write_all(&fragment(0x01, first)).unwrap();
        stream.write_all(&fragment(0x80, second)).unwrap();
        let answer = message(&mut *stream);
        let items: Vec<Value> = serde_json::from_str(&answer).unwrap();
        assert_eq!((&items[0]["id"], &items[1]["error"]["code"]), (&json!(-1), &json!(-32600)), "{answer}");
    }
}

trait ReadWrite: std::io::Read + std::io::Write {}

impl<T: std::io::Read + std::io::Write> ReadWrite for T {}

/// The next message of a server; pings are passed over.
fn message(stream: &mut dyn ReadWrite) -> String {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                stream.read_exact(&mut long).unwrap();
                usize::from(u16::from_be_bytes(long))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        if head[0] == 0x81 {
            return String::from_utf8(payload).unwrap();
        }
    }
}

#[test]
fn a_batch_is_bounded() {
    let site = TestSite::start();
    let one = |id: usize| json!({"jsonrpc": "2.0", "id": id, "method": "config.status"});
    let answer = site.post(&bearer(READ), &json!((0..10).map(one).collect::<Vec<_>>()).to_string());
    let items: Vec<Value> = serde_json::from_str(body_of(&answer)).unwrap();
    assert_eq!(items.len(), 10);
    let answer = site.post(&bearer(READ), &json!((0..51).map(one).collect::<Vec<_>>()).to_string());
    assert!(body_of(&answer).contains("-32010"), "{answer}");
}

#[test]
fn subscriptions_of_one_connection_are_bounded() {
    let site = TestSite::with(tokens(), Bounds { subscriptions_per_connection: 2, ..Bounds::default() });
    site.runtime.block_on(async {
        let client = site.websocket().await;
        let mut kept: Vec<Subscription<RunUpdate>> = Vec::new();
        for _ in 0..2 {
            kept.push(client.subscribe("run.subscribe", ObjectParams::new(), "run.unsubscribe").await.unwrap());
        }
        let third: Result<Subscription<RunUpdate>, _> =
            client.subscribe("run.subscribe", ObjectParams::new(), "run.unsubscribe").await;
        assert!(third.is_err());
    });
}
