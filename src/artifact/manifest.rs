//! `manifest.json`: what a publication is, so that it explains itself without the store.
//!
//! A file format of its own, apart from the types of plugins: version 1 only ever gains optional fields.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ArtifactError;
use crate::error::Trouble;
use crate::plugin::{ArtifactFile, CaptureFacts, Source, Validation, Verdict};
use crate::types::site::SiteId;
use crate::types::{JobId, Name, Revision, RunId};

/// The version that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;
/// Largest manifest that is written or read, in bytes.
pub const BYTES_MAX: u64 = 128 << 20;
/// In every publication; a plugin can't make a file of this name.
pub const FILE_NAME: &str = "manifest.json";

/// The manifest of one publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Larder artifact manifest, version 1")]
pub struct Manifest {
    /// Of this format.
    pub version: u32,
    /// The program that wrote it.
    pub larder: String,
    /// The identity of the site; none in manifests from before sites had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub site_id: Option<SiteId>,
    #[schemars(with = "String")]
    pub run: RunId,
    #[schemars(with = "String")]
    pub target: Name,
    #[schemars(with = "String")]
    pub policy: Name,
    /// The Git commit whose config was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub revision: Option<Revision>,
    #[schemars(with = "String")]
    pub plugin: Name,
    /// Of the application or database that was captured, as far as the plugin knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started: Timestamp,
    /// Everything that the plugin produced, sorted by path.
    pub files: Vec<ManifestFile>,
    /// What was shipped in place, without a copy here.
    #[serde(default)]
    pub sources: Vec<ManifestSource>,
    /// What the plugin counted: tables, rows, users.
    #[serde(default)]
    pub figures: BTreeMap<String, u64>,
    #[serde(default)]
    pub validations: Vec<ManifestValidation>,
    /// What is missing, or could not be done, although nobody accepted that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ManifestNotice>,
    /// What is not in the backup by design, by itself or because the config accepts it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<ManifestNotice>,
}

/// One file of a publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestFile {
    /// Below the publication, with `/`. Where the name is no UTF-8 this is for people, and `path_hex` is the name.
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// In bytes.
    pub size: u64,
    /// Hex.
    pub sha256: String,
    /// As the plugin announced it, such as `postgres-custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// A directory or file that was shipped where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestSource {
    /// Absolute.
    pub path: String,
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// What one validation found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestValidation {
    pub name: String,
    pub verdict: ManifestVerdict,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Something that is missing or left out and that people should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestNotice {
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Unknown is never green: there are three verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ManifestVerdict {
    Proven,
    Failed,
    CouldNotVerify,
}

impl Manifest {
    /// Whether it says that something is missing, and which proofs it lacks.
    pub(super) fn lacking(&self) -> (bool, Vec<String>) {
        let lacks = |verdict: ManifestVerdict| verdict == ManifestVerdict::CouldNotVerify;
        let unproven = self.validations.iter().filter(|each| lacks(each.verdict));
        (!self.warnings.is_empty(), unproven.map(|each| each.name.clone()).collect())
    }

    #[must_use]
    pub fn job(&self) -> JobId {
        JobId { target: self.target.clone(), policy: self.policy.clone() }
    }

    /// What the capture told.
    #[must_use]
    pub fn facts(&self) -> CaptureFacts {
        let artifacts = self.files.iter().filter_map(|file| {
            let format = file.format.clone().unwrap_or_default();
            Some(ArtifactFile { path: file.relative()?, format, sha256: Some(file.sha256.clone()) })
        });
        let sources = self
            .sources
            .iter()
            .map(|source| Source { path: source.path.clone().into(), exclude: source.exclude.clone() });
        CaptureFacts {
            artifacts: artifacts.collect(),
            sources: sources.collect(),
            app_version: self.app_version.clone(),
            figures: self.figures.clone(),
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is missing, no plain file, larger than [`BYTES_MAX`], damaged or of a newer version.
    pub fn load(path: &Path) -> Result<Self, ArtifactError> {
        let file = super::files::open_plain(path).map_err(|e| ArtifactError::read(path, e))?;
        let bytes = read_bounded(file).map_err(|e| ArtifactError::read(path, e))?;
        Self::parse(path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ArtifactError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let damaged = |source| ArtifactError::Manifest { path: path.to_owned(), source };
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.version > VERSION {
            return Err(ArtifactError::Newer { path: path.to_owned(), version: head.version });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// The manifest as it is written, with a last newline.
    pub(super) fn compose(&self) -> Result<Vec<u8>, ArtifactError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(ArtifactError::Compose)?;
        bytes.push(b'\n');
        if bytes.len() as u64 > BYTES_MAX {
            return Err(ArtifactError::ManifestTooLarge);
        }
        Ok(bytes)
    }

    /// The JSON Schema of this format, as `schema/manifest.schema.json` has it.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Manifest).to_value()
    }
}

impl ManifestFile {
    /// Names a file; a name that is no UTF-8 is kept exactly.
    pub(super) fn new(relative: &Path, size: u64, sha256: String, format: Option<String>) -> Self {
        let bytes = relative.as_os_str().as_bytes();
        Self {
            path: relative.to_string_lossy().into_owned(),
            path_hex: std::str::from_utf8(bytes).is_err().then(|| hex::encode(bytes)),
            size,
            sha256,
            format,
        }
    }

    /// The path below the publication; none when the manifest names something outside of it.
    #[must_use]
    pub fn relative(&self) -> Option<PathBuf> {
        let path = match &self.path_hex {
            Some(hex) => PathBuf::from(OsString::from_vec(hex::decode(hex).ok()?)),
            None => PathBuf::from(&self.path),
        };
        let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        (inside && path.components().next().is_some()).then_some(path)
    }
}

impl From<&Source> for ManifestSource {
    fn from(source: &Source) -> Self {
        Self { path: source.path.to_string_lossy().into_owned(), exclude: source.exclude.clone() }
    }
}

impl From<&Trouble> for ManifestNotice {
    fn from(trouble: &Trouble) -> Self {
        let Trouble { code, message, hint } = trouble.clone();
        Self { code, message, hint }
    }
}

impl From<&ManifestNotice> for Trouble {
    fn from(notice: &ManifestNotice) -> Self {
        let ManifestNotice { code, message, hint } = notice.clone();
        Self { code, message, hint }
    }
}

impl From<&Validation> for ManifestValidation {
    fn from(validation: &Validation) -> Self {
        Self {
            name: validation.name.clone(),
            verdict: match validation.verdict {
                Verdict::Proven => ManifestVerdict::Proven,
                Verdict::Failed => ManifestVerdict::Failed,
                Verdict::CouldNotVerify => ManifestVerdict::CouldNotVerify,
            },
            detail: Some(validation.detail.clone()).filter(|detail| !detail.is_empty()),
        }
    }
}

fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
