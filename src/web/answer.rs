//! One answer: its head is here, its body is read bit by bit.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::web::{Web, WebError};

/// Longest body that is read into memory when nobody says otherwise, in bytes.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// How much of an unexpected body is quoted, in characters.
const QUOTED_CHARS_MAX: usize = 200;

/// The head of an answer, with its body still to come.
pub(crate) struct Answer<'w> {
    web: &'w Web,
    response: reqwest::Response,
    /// `GET https://host/path`.
    what: String,
    got: u64,
}

/// A body in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) bytes: u64,
    /// In hex.
    pub(crate) sha256: String,
}

impl<'w> Answer<'w> {
    pub(super) fn new(web: &'w Web, response: reqwest::Response, what: String) -> Self {
        Self { web, response, what, got: 0 }
    }

    pub(super) fn web(&self) -> &'w Web {
        self.web
    }

    pub(super) fn into_response(self) -> reqwest::Response {
        self.response
    }

    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Whether the status is 200 to 299; that proves nothing about the body.
    pub(crate) fn is_ok(&self) -> bool {
        self.response.status().is_success()
    }

    /// `GET https://host/path`, for messages.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = self.response.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// All values of a header, such as `set-cookie`.
    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        let values = self.response.headers().get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// The media type without parameters, in lower case; empty when there is none.
    pub(crate) fn content_type(&self) -> String {
        let whole = self.header("content-type").unwrap_or_default();
        whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// What the server says the body has, in bytes.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// `Silent`, `Cut`.
    pub(crate) fn chunk(&mut self) -> Result<Option<Vec<u8>>, WebError> {
        let next = self.web.runtime.block_on(self.response.chunk());
        match next {
            Ok(Some(bytes)) => {
                self.got += bytes.len() as u64;
                Ok(Some(bytes.to_vec()))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(match WebError::of_call(&error, &self.web.shown(), &self.what, self.web.silence) {
                WebError::Silent { what, silence } => WebError::Silent { what, silence },
                // While a body is read every other failure means that it is not whole.
                _ => WebError::Cut { what: self.what.clone(), got: self.got, announced: self.announced() },
            }),
        }
    }

    /// The whole body, at most `bytes_max`.
    ///
    /// # Errors
    /// `TooLarge` as soon as it is announced or seen; `Silent`, `Cut`.
    pub(crate) fn bytes(mut self, bytes_max: u64) -> Result<Vec<u8>, WebError> {
        self.check_announced(bytes_max)?;
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk()? {
            whole.extend_from_slice(&chunk);
            if whole.len() as u64 > bytes_max {
                return Err(self.too_large(bytes_max));
            }
        }
        Ok(whole)
    }

    /// The whole body as JSON, at most 16 MiB.
    ///
    /// # Errors
    /// As [`Answer::bytes`]; `NotJson` when it is something else, such as a login page.
    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T, WebError> {
        self.json_up_to(TEXT_BYTES_MAX)
    }

    /// The same with another bound.
    ///
    /// # Errors
    /// As [`Answer::json`].
    pub(crate) fn json_up_to<T: DeserializeOwned>(self, bytes_max: u64) -> Result<T, WebError> {
        let (what, content_type) = (self.what.clone(), self.content_type());
        let bytes = self.bytes(bytes_max)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let detail = match error.classify() {
                // The body may hold secrets: only the place and what was expected are told.
                serde_json::error::Category::Data => {
                    format!("other fields than expected at line {} column {}", error.line(), error.column())
                }
                _ if bytes.is_empty() => "it is empty".to_owned(),
                _ if bytes.trim_ascii_start().starts_with(b"<") => {
                    format!("it is a page ({content_type}), perhaps of a login or a proxy")
                }
                _ => format!("it is {content_type:?} and breaks at line {} column {}", error.line(), error.column()),
            };
            WebError::NotJson { what, detail }
        })
    }

    /// The start of a body that tells of an error, in one line for a message; empty when there is nothing to show.
    pub(crate) fn said(self) -> String {
        let page = self.content_type().contains("html");
        let bytes = self.bytes(64 << 10).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        if page || text.trim_start().starts_with('<') {
            return "a page in HTML".to_owned();
        }
        let told = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|json| {
            let nested = ["/error/message", "/message", "/error", "/errorMessage", "/detail"];
            nested.iter().find_map(|pointer| Some(json.pointer(pointer)?.as_str()?.to_owned()))
        });
        let text = told.unwrap_or_else(|| text.into_owned());
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED_CHARS_MAX).collect();
        line.trim().to_owned()
    }

    /// Writes the body to a new file, flushed to the disk; what was written of a body that is not whole is removed.
    ///
    /// `on_bytes` gets what is written so far and what the server announced (0: unknown).
    ///
    /// # Errors
    /// `TooLarge` as soon as it is announced or seen; `Silent`, `Cut`, `Write`.
    pub(crate) fn save(
        mut self,
        path: &Path,
        bytes_max: u64,
        mut on_bytes: impl FnMut(u64, u64),
    ) -> Result<Saved, WebError> {
        self.check_announced(bytes_max)?;
        let saved = self.save_here(path, bytes_max, &mut on_bytes);
        if saved.is_err() {
            let _ = std::fs::remove_file(path);
        }
        saved
    }

    fn save_here(
        &mut self,
        path: &Path,
        bytes_max: u64,
        on_bytes: &mut dyn FnMut(u64, u64),
    ) -> Result<Saved, WebError> {
        let write = |source| WebError::Write { path: path.to_owned(), source };
        let total = self.announced().unwrap_or(0);
        let mut file = File::create_new(path).map_err(write)?;
        let mut hash = Sha256::new();
        while let Some(chunk) = self.chunk()? {
            if self.got > bytes_max {
                return Err(self.too_large(bytes_max));
            }
            file.write_all(&chunk).map_err(write)?;
            hash.update(&chunk);
            on_bytes(self.got, total);
        }
        file.sync_all().map_err(write)?;
        Ok(Saved { bytes: self.got, sha256: hex::encode(hash.finalize()) })
    }

    fn check_announced(&self, bytes_max: u64) -> Result<(), WebError> {
        match self.announced() {
            Some(announced) if announced > bytes_max => Err(self.too_large(bytes_max)),
            _ => Ok(()),
        }
    }

    fn too_large(&self, bytes_max: u64) -> WebError {
        WebError::TooLarge { what: self.what.clone(), bytes_max }
    }
}
