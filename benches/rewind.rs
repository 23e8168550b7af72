//! What bringing back a large bucket, and looking at its locks, costs: time and memory, against a server that makes its lists up.
//!
//! `cargo bench --bench rewind` prints the figures of 100,000 objects; `cargo bench --bench rewind -- 1000000` those of as many.
//! Nothing here can fail by being slow. The server is another thread of this process: what it takes is in the figures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/it/support.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use larder::config::model::{BucketStyle, LockMode, ObjectLock, Tls};
use larder::storage::s3::{RewindAct, Rewound, Tally, extend_locks};
use larder::storage::{S3, S3Place};
use secrecy::SecretString;

/// Entries of a page, as S3 has them.
const PAGE: usize = 1_000;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let named = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let objects: usize = named.unwrap_or(100_000);
    let port = server(objects);
    let place = S3Place {
        endpoint: format!("http://127.0.0.1:{port}"),
        bucket: "vault".to_owned(),
        prefix: "home".to_owned(),
        region: "us-east-1".to_owned(),
        style: BucketStyle::Path,
        access_key: SecretString::from("access"),
        secret_key: SecretString::from("secret"),
        tls: Tls::default(),
        allow_http: false,
        locked: None,
    };
    let client = S3::open(&place, Duration::from_secs(60)).unwrap();
    let to: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    for (act, word) in [(RewindAct::Look, "dry run"), (RewindAct::BringBack, "bring back")] {
        let begun = Instant::now();
        let mut go = |_: &Rewound| ControlFlow::Continue(());
        let found = client.rewind(to, act, &mut go).unwrap();
        assert_eq!(found.sum(Tally::lost), objects as u64);
        println!(
            "{word:<11} {objects} objects, {} entries: {:.1} s, at most {} MiB of memory",
            found.looked_at,
            begun.elapsed().as_secs_f64(),
            peak_kib() / 1024
        );
    }
    let place = S3Place { prefix: "live".to_owned(), ..place };
    let rule = ObjectLock { mode: LockMode::Compliance, days: 30 };
    let begun = Instant::now();
    let found = extend_locks(&place, Duration::from_secs(60), rule, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((found.objects, found.extended, found.failed), (objects as u64, 0, 0));
    println!(
        "look at the locks of {objects} objects: {:.1} s, at most {} MiB of memory",
        begun.elapsed().as_secs_f64(),
        peak_kib() / 1024
    );
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// Every pack below `home` was deleted: a mark and a version each, in pages; what is to be removed is. Those below `live`
/// are there, and locked for long.
fn server(objects: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while let Some(head) = head(&mut stream) {
                    let body = answer(&head, objects);
                    let lock = "x-amz-object-lock-mode: COMPLIANCE\r\n\
                                x-amz-object-lock-retain-until-date: 2125-01-01T00:00:00Z\r\n";
                    let head = format!("HTTP/1.1 200 OK\r\n{lock}Content-Length: {}\r\n\r\n", body.len());
                    stream.write_all(head.as_bytes()).unwrap();
                    stream.write_all(body.as_bytes()).unwrap();
                }
            });
        }
    });
    port
}

/// The head of the next request, behind which its body was read.
fn head(stream: &mut std::net::TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}

fn answer(head: &str, objects: usize) -> String {
    if head.starts_with("post") {
        return "<DeleteResult></DeleteResult>".to_owned();
    }
    let front = if head.contains("prefix=live%2f") { "live" } else { "home" };
    if head.starts_with("head") {
        return String::new();
    }
    if !head.contains(&format!("prefix={front}%2fdata%2f")) {
        return "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>".to_owned();
    }
    let id = |n: usize| format!("{:02x}{n:062x}", n * 256 / objects);
    let marker = head.split_once("version-id-marker=").map(|(_, rest)| rest);
    let begin: usize =
        marker.map_or(0, |rest| rest.split(['&', ' ']).next().unwrap().trim_start_matches('v').parse().unwrap());
    let end = (begin + PAGE / 2).min(objects);
    let mut list = String::from("<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for n in begin..end {
        let key = format!("{front}/data/{}/{}", &id(n)[..2], id(n));
        let is_live = front == "live";
        if !is_live {
            list.push_str(&format!(
                "<DeleteMarker><Key>{key}</Key><VersionId>m{n}</VersionId><IsLatest>true</IsLatest>\
                 <LastModified>2026-01-03T00:00:00.000Z</LastModified><Owner><ID>o</ID></Owner></DeleteMarker>"
            ));
        }
        list.push_str(&format!(
            "<Version><Key>{key}</Key><VersionId>v{n}</VersionId><IsLatest>{is_live}</IsLatest>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag>\
             <Size>16777216</Size><StorageClass>STANDARD</StorageClass><Owner><ID>o</ID></Owner></Version>"
        ));
    }
    let is_cut = end < objects;
    list.push_str(&format!("<IsTruncated>{is_cut}</IsTruncated>"));
    if is_cut {
        let last = id(end - 1);
        let key = format!("{front}/data/{}/{last}", &last[..2]);
        list.push_str(&format!(
            "<NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>v{end}</NextVersionIdMarker>"
        ));
    }
    list.push_str("</ListVersionsResult>");
    list
}
