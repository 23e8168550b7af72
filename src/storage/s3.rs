//! A bucket: calls that are signed in their address, answers in XML.
//!
//! Signed addresses end after [`SIGNED_FOR_S`] and are in no message. A call that is refused without words (`HEAD` has no
//! body) is asked again as one that says why. In a bucket with versions, [`ControlClient::delete`] writes a mark and the
//! version stays: `versions` has what is done with those.

mod answer;
mod bulk;
mod extend;
mod horizon;
mod lock_probe;
mod names;
mod past;
mod rewind;
mod versions;
mod xml;

use std::time::Duration;

use data_encoding::BASE64;
use jiff::Timestamp;
use rusty_s3::{Bucket, Method, UrlStyle};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::http::Http;
use super::probe::{LEFT_S, Probe, Question};
use super::{ControlClient, LISTED_MAX, Listed, S3Place, Stat, StorageError, http, name};
use crate::config::model::{BucketStyle, LockMode};
use crate::web::Answer;

pub use bulk::{Kept, Removal};
pub use extend::{Extended, extend_locks};
pub use horizon::{Horizon, looked_at_every};
pub use names::Kind;
pub use rewind::{RewindAct, Rewound, Tally};
pub use versions::{Lock, Version, Versioning, VersionsPage};

/// Pages of a list that are asked for, some of them empty: a thousand files each make a tenth of it.
const PAGES_MAX: usize = 2_000;

/// How long a signed call may be on its way, and how far the clocks may differ, in seconds: as with signed headers.
const SIGNED_FOR_S: u64 = 900;
/// Longest answer in XML, in bytes: a page of 1,000 long keys has some 500 KiB.
const XML_BYTES_MAX: u64 = 4 << 20;
/// How much is read of an answer that tells of an error, in bytes.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;

/// A bucket, and the repository in it.
pub struct S3 {
    http: Http,
    bucket: Bucket,
    prefix: String,
    access_key: SecretString,
    secret_key: SecretString,
    /// What a probe tries.
    locked: Option<LockMode>,
}

/// A call that is yet to be signed.
struct Asked<'a> {
    method: Method,
    /// The whole key; empty: the bucket.
    key: &'a str,
    query: Vec<(&'a str, &'a str)>,
    /// Names in lower case.
    headers: Vec<(&'a str, String)>,
    body: Option<Vec<u8>>,
}

impl<'a> Asked<'a> {
    fn new(method: Method, key: &'a str) -> Self {
        Self { method, key, query: Vec::new(), headers: Vec::new(), body: None }
    }

    /// Of the bucket itself.
    fn bucket(query: Vec<(&'a str, &'a str)>) -> Self {
        Self { query, ..Self::new(Method::Get, "") }
    }
}

/// A page of a list.
struct Page {
    files: Vec<Listed>,
    next: Option<String>,
}

impl S3 {
    /// # Errors
    /// What is told of the place cannot be used.
    pub fn open(place: &S3Place, patience: Duration) -> Result<Self, StorageError> {
        let refuse = |what, value: &str, why: String| StorageError::BadPlace { what, value: value.to_owned(), why };
        let prefix = place.prefix.trim_matches('/');
        if !prefix.is_empty() {
            name::check(prefix).map_err(|_| refuse("the prefix", prefix, "it is no path of plain names".to_owned()))?;
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !(3..=63).contains(&place.bucket.len()) || !place.bucket.chars().all(is_name) {
            let why = "3 to 63 letters, digits, `.` and `-` make a name".to_owned();
            return Err(refuse("the bucket", &place.bucket, why));
        }
        if place.region.is_empty() || !place.region.chars().all(is_name) {
            return Err(refuse("the region", &place.region, "letters, digits and `-` make one".to_owned()));
        }
        // Once by our own rules, which hide what must not be shown.
        Http::open(&place.endpoint, &place.tls, place.allow_http, patience)?;
        let style = match place.style {
            BucketStyle::Path => UrlStyle::Path,
            BucketStyle::Virtual => UrlStyle::VirtualHost,
        };
        let endpoint = place.endpoint.parse();
        let bucket = endpoint
            .map_err(|_| rusty_s3::BucketError::MissingHost)
            .and_then(|endpoint| Bucket::new(endpoint, style, place.bucket.clone(), place.region.clone()));
        let bucket = bucket.map_err(|_| {
            let why = format!("the bucket {:?} cannot be a part of it: use `style: path`", place.bucket);
            refuse("the address", &place.endpoint, why)
        })?;
        let http = Http::open(bucket.base_url().as_str(), &place.tls, place.allow_http, patience)?;
        let (access_key, secret_key) = (place.access_key.clone(), place.secret_key.clone());
        Ok(Self { http, bucket, prefix: prefix.to_owned(), access_key, secret_key, locked: place.locked })
    }

    /// The key of what lies at `name` in the repository.
    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// Before every name: empty, or with a `/` at its end.
    fn front(&self) -> String {
        self.key("")
    }

    fn send(&self, asked: &Asked<'_>) -> Result<Answer<'_>, StorageError> {
        let url = if asked.key.is_empty() { self.bucket.base_url().clone() } else { self.bucket.object_url(asked.key) };
        let mut query = asked.query.clone();
        query.sort_unstable();
        let mut headers: Vec<(&str, &str)> =
            asked.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.sort_unstable();
        let signed = rusty_s3::signing::sign(
            &Timestamp::now(),
            asked.method,
            url,
            self.access_key.expose_secret(),
            self.secret_key.expose_secret(),
            None,
            self.bucket.region(),
            SIGNED_FOR_S,
            query.into_iter(),
            headers.iter().copied().filter(|(name, _)| name.starts_with("x-amz-")),
        );
        let below = self.bucket.base_url().path().trim_end_matches('/');
        let path = signed.path().strip_prefix(below).unwrap_or_default();
        let mut call = self.http.call(asked.method.to_str(), path).signed_query(signed.query().unwrap_or_default());
        for (name, value) in headers {
            call = call.header(name, value);
        }
        if let Some(body) = &asked.body {
            call = call.body("application/octet-stream", body.clone());
        }
        self.http.send(call)
    }

    /// What an answer that is none of those that were hoped for means.
    fn refusal(&self, answer: Answer<'_>, what: &str) -> StorageError {
        let region = answer.header("x-amz-bucket-region");
        let status = answer.status();
        let body = answer.bytes(REFUSAL_BYTES_MAX).unwrap_or_default();
        answer::refusal(&answer::Refused {
            place: &self.shown(),
            what,
            status,
            body: &body,
            region,
            given_region: self.bucket.region(),
            skew_s: self.http.skew_s(),
        })
    }

    /// Why a `HEAD` of this key was answered so: asked once more, as a call whose answer has words.
    fn why(&self, key: &str, status: u16, what: &str) -> Result<StorageError, StorageError> {
        let mut asked = Asked::new(Method::Get, key);
        // Of one that turns out to be there, no more than a byte.
        asked.headers.push(("range", "bytes=0-0".to_owned()));
        let answer = self.send(&asked)?;
        if answer.is_ok() || answer.status() == 416 {
            let detail = format!("HEAD answers {status} and GET {}", answer.status());
            return Ok(StorageError::Unexpected { place: self.shown(), what: what.to_owned(), detail });
        }
        Ok(self.refusal(answer, what))
    }

    /// The head of an object; none: it is not there (nor, perhaps, the bucket).
    fn head(&self, name: &str, query: Vec<(&str, &str)>) -> Result<Option<Answer<'_>>, StorageError> {
        let key = self.key(name);
        let answer = self.send(&Asked { query, ..Asked::new(Method::Head, &key) })?;
        match answer.status() {
            200 => Ok(Some(answer)),
            404 => Ok(None),
            status => Err(self.why(&key, status, &format!("look at {name}"))?),
        }
    }

    /// One page of what begins with `prefix`, without what lies deeper.
    fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page, StorageError> {
        let mut query = vec![("delimiter", "/"), ("list-type", "2"), ("max-keys", "1000"), ("prefix", prefix)];
        query.extend(token.map(|token| ("continuation-token", token)));
        let answer = self.send(&Asked::bucket(query))?;
        if !answer.is_ok() {
            return Err(self.refusal(answer, "list its files"));
        }
        let body = answer.bytes(XML_BYTES_MAX)?;
        let root = self.read(&body, "ListBucketResult", "a list")?;
        let files = root.all("Contents").filter_map(|each| {
            let name = each.text("Key").strip_prefix(prefix)?;
            let bytes = each.text("Size").parse().ok()?;
            let is_file = !name.is_empty() && !name.contains('/');
            is_file.then(|| Listed { name: name.to_owned(), bytes, modified: each.text("LastModified").parse().ok() })
        });
        let files = files.collect();
        let next = Some(root.text("NextContinuationToken")).filter(|_| root.text("IsTruncated") == "true");
        let next = next.map(str::to_owned);
        if next.as_deref().is_some_and(|next| next.is_empty() || Some(next) == token) {
            return Err(self.unexpected("a list", "it goes on and does not say where".to_owned()));
        }
        Ok(Page { files, next })
    }

    fn read(&self, body: &[u8], root: &str, what: &str) -> Result<xml::Node, StorageError> {
        let found = xml::read(body).map_err(|why| self.unexpected(what, why))?;
        if found.name == root {
            return Ok(found);
        }
        Err(self.unexpected(what, format!("<{}> is not <{root}>", found.name)))
    }

    fn unexpected(&self, what: &str, detail: String) -> StorageError {
        StorageError::Unexpected { place: self.shown(), what: what.to_owned(), detail }
    }

    /// Puts an object where the server itself refuses to overwrite, and answers with its status.
    fn put(&self, key: &str, bytes: &[u8], only_new: OnlyNew) -> Result<Answer<'_>, StorageError> {
        let mut headers = checksums(bytes);
        if only_new == OnlyNew::ByServer {
            headers.push(("if-none-match", "*".to_owned()));
        }
        self.send(&Asked { headers, body: Some(bytes.to_vec()), ..Asked::new(Method::Put, key) })
    }

    fn asks(&self, probe: &mut Probe) -> Result<(), (Question, StorageError)> {
        let front = self.front();
        let page = self.page(&front, None).map_err(|error| (Question::Place, error))?;
        probe.ok(Question::Reachable, "it answers");
        probe.ok(Question::Authorised, "the keys are taken");
        probe.ok(Question::Place, "the bucket is there and can be listed");
        let is_there = match page.files.iter().any(|file| file.name == "config") {
            false if page.next.is_some() => {
                let head = self.head("config", Vec::new()).map_err(|error| (Question::Repository, error))?;
                head.is_some()
            }
            found => found,
        };
        probe.repository(is_there);
        for left in page.files.iter().filter(|file| file.name.starts_with(name::PROBE_PREFIX)) {
            if left.modified.is_some_and(|time| Timestamp::now().as_second() - time.as_second() > LEFT_S) {
                let _ = self.send(&Asked::new(Method::Delete, &self.key(&left.name)));
            }
        }
        let tried = match self.locked {
            Some(mode) => self.put_locked(probe, mode)?,
            None => None,
        };
        let name = match &tried {
            Some(tried) => tried.name.clone(),
            None => {
                let name = name::of_probe();
                self.put_new(&name, name.as_bytes()).map_err(|error| (Question::Writable, error))?;
                name
            }
        };
        let back = self.get(&name, 1 << 10).map_err(|error| (Question::Writable, error))?;
        if back.as_deref() != Some(name.as_bytes()) {
            let error = self.unexpected("a file that was just put", "it is not what was put".to_owned());
            return Err((Question::Writable, error));
        }
        probe.ok(Question::Writable, "a file was put and read back");
        let key = self.key(&name);
        let deleted = self.send(&Asked::new(Method::Delete, &key)).map_err(|error| (Question::Deletable, error))?;
        match deleted.status() {
            200 | 204 if deleted.header("x-amz-delete-marker").as_deref() == Some("true") => {
                probe.deletes("yes, and the bucket keeps the version");
            }
            200 | 204 => probe.deletes("yes"),
            _ => match self.refusal(deleted, "delete a file") {
                StorageError::Denied { .. } => probe.keeps("no: the keys may not delete"),
                StorageError::Unsupported { what, .. } => probe.keeps(format!("no: {what}")),
                error => return Err((Question::Deletable, error)),
            },
        }
        probe.not_tried(Question::Room, "a bucket has no end that it tells");
        if let Some(tried) = &tried {
            self.ask_lock(probe, tried).map_err(|error| (Question::Locked, error))?;
        }
        Ok(())
    }
}

/// A bucket that locks what is put into it wants one.
fn checksums(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let sum = BASE64.encode(&Sha256::digest(bytes));
    vec![("x-amz-checksum-sha256", sum), ("x-amz-sdk-checksum-algorithm", "SHA256".to_owned())]
}

/// Who sees to it that nothing is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnlyNew {
    ByServer,
    /// It was looked before.
    ByUs,
}

impl ControlClient for S3 {
    fn stat(&self, name: &str) -> Result<Option<Stat>, StorageError> {
        let name = name::laid_out(name)?;
        let answer = match self.head(&name, Vec::new())? {
            Some(answer) => answer,
            // 404 is also the answer of a bucket that is not there.
            None => match self.why(&self.key(&name), 404, &format!("look at {name}"))? {
                StorageError::NotFound { .. } => return Ok(None),
                // Somebody put it there between the two questions.
                error @ StorageError::Unexpected { .. } => self.head(&name, Vec::new())?.ok_or(error)?,
                error => return Err(error),
            },
        };
        let Some(bytes) = answer.announced() else {
            return Err(self.unexpected(&name, "it does not say how long it is".to_owned()));
        };
        Ok(Some(Stat { bytes, modified: answer.header("last-modified").and_then(|date| http::moment(&date)) }))
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError> {
        name::check_directory(directory)?;
        let prefix = if directory.is_empty() { self.front() } else { format!("{}/", self.key(directory)) };
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        let mut pages = 0;
        loop {
            let page = self.page(&prefix, token.as_deref())?;
            all.extend(page.files);
            pages += 1;
            if all.len() > LISTED_MAX || pages > PAGES_MAX {
                let (place, directory) = (self.shown(), directory.to_owned());
                return Err(StorageError::TooMany { place, directory, count_max: LISTED_MAX });
            }
            token = page.next;
            if token.is_none() {
                return Ok(all);
            }
        }
    }

    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
        let name = name::laid_out(name)?;
        let answer = self.send(&Asked::new(Method::Get, &self.key(&name)))?;
        if answer.is_ok() {
            return match answer.bytes(bytes_max) {
                Err(crate::web::WebError::TooLarge { .. }) => {
                    Err(StorageError::TooLarge { place: self.shown(), name, bytes_max })
                }
                read => Ok(Some(read?)),
            };
        }
        match self.refusal(answer, &format!("read {name}")) {
            StorageError::NotFound { .. } => Ok(None),
            error => Err(error),
        }
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let name = name::laid_out(name)?;
        let key = self.key(&name);
        let exists = || StorageError::Exists { place: self.shown(), name: name.clone() };
        // Some servers do not know the condition and overwrite.
        if self.head(&name, Vec::new())?.is_some() {
            return Err(exists());
        }
        let mut answer = self.put(&key, bytes, OnlyNew::ByServer)?;
        if answer.status() == 501 {
            answer = self.put(&key, bytes, OnlyNew::ByUs)?;
        }
        match answer.status() {
            200 | 201 | 204 => Ok(()),
            412 => Err(exists()),
            _ => Err(self.refusal(answer, &format!("put {name}"))),
        }
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        let name = name::laid_out(name)?;
        // A bucket says that all is well also where nothing was.
        if self.stat(&name)?.is_none() {
            return Err(StorageError::NotFound { place: self.shown(), name });
        }
        let answer = self.send(&Asked::new(Method::Delete, &self.key(&name)))?;
        if answer.is_ok() { Ok(()) } else { Err(self.refusal(answer, &format!("delete {name}"))) }
    }

    fn probe(&self) -> Probe {
        self.http.probed(|probe| {
            if self.locked.is_some() {
                probe.ask_lock();
            }
            self.asks(probe)
        })
    }

    fn shown(&self) -> String {
        let base = self.http.shown();
        if self.prefix.is_empty() { base } else { format!("{base}/{}", self.prefix) }
    }
}
