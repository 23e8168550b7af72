//! Many versions at once: marks of deletions removed by the thousand, and an old version's bytes put on top again.

use data_encoding::BASE64;
use md5::{Digest as _, Md5};
use quick_xml::escape::escape;
use rusty_s3::Method;

use super::{Asked, REFUSAL_BYTES_MAX, S3, XML_BYTES_MAX, answer, checksums, xml};
use crate::storage::{ControlClient as _, StorageError, name};

/// What one call may remove, by S3's own rule.
pub(super) const REMOVED_MAX: usize = 1_000;

/// One version, or mark, that is to go for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Relative to the repository.
    pub name: String,
    pub id: String,
}

/// One that did not go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    /// The server's words.
    pub why: String,
}

impl S3 {
    /// Removes versions or marks for good, as many as there are; answers with those that stay. What is gone already is
    /// fine.
    ///
    /// # Errors
    /// When a call as a whole is refused.
    pub fn remove_versions(&self, removals: &[Removal]) -> Result<Vec<Kept>, StorageError> {
        let mut kept = Vec::new();
        for some in removals.chunks(REMOVED_MAX) {
            match self.remove_some(some) {
                Ok(stay) => kept.extend(stay),
                // Not every server has the call.
                Err(StorageError::Unsupported { .. }) => kept.extend(self.remove_each(some)?),
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    }

    fn remove_some(&self, removals: &[Removal]) -> Result<Vec<Kept>, StorageError> {
        let mut body = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
        for Removal { name, id } in removals {
            name::check(name)?;
            let (key, id) = (self.key(name), escape(id.as_str()));
            body.push_str(&format!("<Object><Key>{}</Key><VersionId>{id}</VersionId></Object>", escape(key.as_str())));
        }
        body.push_str("</Delete>");
        let mut headers = checksums(body.as_bytes());
        // Servers that do not know the newer checksum want this one.
        headers.push(("content-md5", BASE64.encode(&Md5::digest(body.as_bytes()))));
        let query = vec![("delete", "")];
        let asked = Asked { query, headers, body: Some(body.into_bytes()), ..Asked::new(Method::Post, "") };
        let answer = self.send(&asked)?;
        if !answer.is_ok() {
            return Err(self.refusal(answer, "remove marks of deletions"));
        }
        let root = self.read(&answer.bytes(XML_BYTES_MAX)?, "DeleteResult", "what was removed")?;
        let front = self.front();
        let kept = root.all("Error").filter(|each| !matches!(each.text("Code"), "NoSuchVersion" | "NoSuchKey"));
        Ok(kept
            .map(|each| Kept {
                name: each.text("Key").strip_prefix(&front).unwrap_or_default().to_owned(),
                why: answer::detail(each.text("Code"), each.text("Message"), 200),
            })
            .collect())
    }

    fn remove_each(&self, removals: &[Removal]) -> Result<Vec<Kept>, StorageError> {
        let mut kept = Vec::new();
        for Removal { name, id } in removals {
            match self.delete_version(name, id) {
                Ok(()) | Err(StorageError::NotFound { .. }) => {}
                Err(StorageError::Denied { detail, .. }) => kept.push(Kept { name: name.clone(), why: detail }),
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    }

    /// Puts the bytes of one version on top as a new one; they do not leave the server.
    ///
    /// # Errors
    /// `NotFound` where it is not there; as every call.
    pub fn copy_back(&self, name: &str, id: &str) -> Result<(), StorageError> {
        name::check(name)?;
        let key = self.key(name);
        let below = self.bucket.base_url().path().trim_end_matches('/').to_owned();
        let url = self.bucket.object_url(&key);
        let path = url.path().strip_prefix(below.as_str()).unwrap_or_default();
        let source = format!("/{}{path}?versionId={}", self.bucket.name(), encoded(id));
        let headers = vec![("x-amz-copy-source", source)];
        let what = format!("bring back {name}");
        let answer = self.send(&Asked { headers, ..Asked::new(Method::Put, &key) })?;
        if !answer.is_ok() {
            return Err(self.refusal(answer, &what));
        }
        // A copy that failed on its way has the status of a good one.
        let body = answer.bytes(REFUSAL_BYTES_MAX)?;
        let root = xml::read(&body).map_err(|why| self.unexpected(&what, why))?;
        if root.name == "CopyObjectResult" {
            return Ok(());
        }
        let (place, given_region, skew_s) = (&self.shown(), self.bucket.region(), self.http.skew_s());
        let (body, what) = (body.as_slice(), what.as_str());
        Err(answer::refusal(&answer::Refused { place, what, status: 200, body, region: None, given_region, skew_s }))
    }
}

/// For a part of an address.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_version_is_a_part_of_an_address_whatever_it_is_made_of() {
        assert_eq!(encoded("3sL4kqtJlcpXroDTDm.J-w_~"), "3sL4kqtJlcpXroDTDm.J-w_~");
        assert_eq!(encoded("a+b/c=?&é"), "a%2Bb%2Fc%3D%3F%26%C3%A9");
    }
}
