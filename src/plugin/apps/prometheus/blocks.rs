//! Blocks of time series: what makes a whole one.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::TSDB;
use super::promtool::{Promtool, is_ulid};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{CaptureFacts, Request, Verdict};

const INDEX_MAGIC: [u8; 4] = [0xBA, 0xAA, 0xD7, 0x00];
const CHUNKS_MAGIC: [u8; 4] = [0x85, 0xBD, 0x40, 0xDD];
/// A block has more files only if somebody put them there.
const FILES_MAX: usize = 8_000;

/// A whole block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) name: String,
    pub(super) samples: u64,
    pub(super) series: u64,
}

/// Every block below `directory`; refuses when one is not whole, or there is none.
pub(super) fn all(directory: &Path) -> Result<Vec<Block>, Failure> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_ulid(name))
        .collect();
    names.sort();
    let mut blocks = Vec::new();
    for name in names {
        let block = look(directory, &name).map_err(|why| {
            Failure::new(codes::BLOCK_DAMAGED, format!("the block {name} is not whole: {why}"))
                .hint("look in Prometheus's log; `promtool tsdb analyze` on its data directory says more")
        })?;
        blocks.push(block);
    }
    if blocks.is_empty() {
        return Err(Failure::new(codes::SNAPSHOT_EMPTY, "the snapshot holds no block at all")
            .hint("a server that was just started has no samples yet; else look in Prometheus's log"));
    }
    Ok(blocks)
}

fn look(directory: &Path, name: &str) -> Result<Block, String> {
    let block = directory.join(name);
    let meta = std::fs::read(block.join("meta.json")).map_err(|error| format!("meta.json: {error}"))?;
    let meta: Value = serde_json::from_slice(&meta).map_err(|_| "meta.json is no JSON".to_owned())?;
    let number = |pointer: &str| meta.pointer(pointer).and_then(Value::as_u64);
    if number("/version") != Some(1) || meta.get("ulid").and_then(Value::as_str) != Some(name) {
        return Err("meta.json is of another block or version".to_owned());
    }
    let samples = number("/stats/numSamples").unwrap_or(0);
    if samples == 0 {
        return Err("it has no samples".to_owned());
    }
    let magic = |path: PathBuf, wanted: [u8; 4]| {
        let mut head = [0; 4];
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut head));
        let shown = path.strip_prefix(&block).unwrap_or(&path).display().to_string();
        match read {
            Ok(()) if head == wanted => Ok(()),
            Ok(()) => Err(format!("{shown} does not begin as such a file does")),
            Err(error) => Err(format!("{shown}: {error}")),
        }
    };
    magic(block.join("index"), INDEX_MAGIC)?;
    magic(block.join("chunks").join("000001"), CHUNKS_MAGIC)?;
    Ok(Block { name: name.to_owned(), samples, series: number("/stats/numSeries").unwrap_or(0) })
}

/// Every file of the blocks, in order.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Failure::new(codes::PATH_UNREADABLE, format!("{} cannot be read: {error}", path.display()))
    };
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(place) = waiting.pop() {
        for entry in std::fs::read_dir(&place).map_err(|error| unreadable(&place, error))? {
            let entry = entry.map_err(|error| unreadable(&place, error))?;
            let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), error))?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
            if found.len() + waiting.len() > FILES_MAX {
                return Err(Failure::new(
                    codes::TOO_MANY_FILES,
                    format!("the blocks have more than {FILES_MAX} files"),
                )
                .hint("keep the data directory of a stopped server with `files` instead"));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Checks the blocks of the backup.
pub(super) fn judge(
    request: &Request,
    facts: &CaptureFacts,
    promtool: Option<&Promtool>,
    events: &mut EventWriter<'_>,
) {
    let directory = request.staging.join(TSDB);
    let found = match all(&directory) {
        Ok(found) => found,
        Err(failure) => {
            events.validation("every block is whole", Verdict::Failed, failure.trouble.message);
            return;
        }
    };
    let samples: u64 = found.iter().map(|block| block.samples).sum();
    let told = |name: &str| facts.figures.get(name).copied().unwrap_or(0);
    let same = (found.len() as u64, samples) == (told("blocks"), told("samples"));
    let verdict = if same { Verdict::Proven } else { Verdict::Failed };
    events.validation("every block is whole", verdict, format!("{} blocks, {samples} samples", found.len()));
    let (verdict, detail) = match promtool.map(|promtool| promtool.count_blocks(&directory)) {
        Some(Ok(listed)) if listed == found.len() => (Verdict::Proven, format!("{listed} blocks")),
        Some(Ok(listed)) => (Verdict::Failed, format!("it lists {listed} of {} blocks", found.len())),
        Some(Err(refusal)) => refusal,
        None => (Verdict::CouldNotVerify, "promtool is not on this host".to_owned()),
    };
    events.validation("promtool tsdb list opens them", verdict, detail);
}
