//! XML that applications export: read to its end, well-formed, with its root and what lies near it.
//!
//! Packed by gzip, with a mark in front, in Latin-1 or UTF-16 it is read as what it is (`plain`).
//! Entities are not expanded and nothing is fetched; what is deeper than a few levels is only counted.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::error::{chain, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::plain;

/// Elements down to here are counted by path: `filter/rule` below the root.
const LEVELS_COUNTED: usize = 2;
/// Deeper than this is no configuration.
const DEPTH_MAX: usize = 200;
/// More paths than this are not told apart.
const PATHS_MAX: usize = 2_000;
/// Longest text that is kept.
const TEXT_BYTES_MAX: usize = 200;

/// What a document looks like.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    pub(crate) root: String,
    pub(crate) elements: u64,
    /// How often each path below the root is there: `interfaces`, `interfaces/wan`.
    pub(crate) paths: BTreeMap<String, u64>,
    /// The text of the root's direct children that have a short one.
    pub(crate) texts: BTreeMap<String, String>,
}

impl Shape {
    pub(crate) fn count(&self, path: &str) -> u64 {
        self.paths.get(path).copied().unwrap_or(0)
    }

    /// How many elements lie directly in `path`.
    pub(crate) fn children(&self, path: &str) -> u64 {
        let below = format!("{path}/");
        self.paths.iter().filter(|(each, _)| each.starts_with(&below)).map(|(_, count)| count).sum()
    }
}

/// Reads the whole file.
pub(crate) fn read(path: &Path) -> Result<Shape, Failure> {
    let broken = |why: String| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Failure::new(codes::XML_BROKEN, format!("{name} is no whole XML document: {why}"))
            .hint("the export was cut or is something else; look at it in the application, and run it again")
    };
    let text = plain::open(path).map_err(|error| broken(error.to_string()))?;
    let mut reader = Reader::from_reader(BufReader::with_capacity(64 << 10, text));
    let mut buffer = Vec::new();
    let mut shape = Shape::default();
    let mut open: Vec<String> = Vec::new();
    loop {
        buffer.clear();
        let position = reader.buffer_position();
        let event = reader
            .read_event_into(&mut buffer)
            .map_err(|error| broken(format!("at byte {}: {}", reader.error_position(), chain(&error))))?;
        match event {
            Event::Start(start) => {
                shape.enter(&mut open, &start).map_err(broken)?;
            }
            Event::Empty(start) => {
                shape.enter(&mut open, &start).map_err(broken)?;
                open.pop();
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(text) => {
                let text: &str = &text;
                let trimmed = text.trim();
                if open.is_empty() && !trimmed.trim_start_matches('\u{feff}').is_empty() {
                    return Err(broken(format!("text outside of the root at byte {position}")));
                }
                if let [_, child] = open.as_slice()
                    && !trimmed.is_empty()
                    && trimmed.len() <= TEXT_BYTES_MAX
                {
                    shape.texts.entry(child.clone()).or_insert_with(|| trimmed.to_owned());
                }
            }
            Event::Eof if shape.root.is_empty() => return Err(broken("it has no element".to_owned())),
            Event::Eof if !open.is_empty() => {
                return Err(broken(format!("it ends within <{}>", open.last().map_or("", String::as_str))));
            }
            Event::Eof => return Ok(shape),
            _ => {}
        }
    }
}

impl Shape {
    fn enter(&mut self, open: &mut Vec<String>, start: &BytesStart<'_>) -> Result<(), String> {
        let name = start.name();
        let name: &str = name.as_ref();
        for attribute in start.attributes() {
            attribute.map_err(|error| format!("<{name}>: {}", chain(&error)))?;
        }
        match (open.is_empty(), self.root.is_empty()) {
            (true, true) => name.clone_into(&mut self.root),
            (true, false) => return Err(format!("a second root <{name}>")),
            _ => {}
        }
        self.elements += 1;
        if open.len() >= DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX}"));
        }
        open.push(name.to_owned());
        let below = open.get(1..).unwrap_or_default();
        if (1..=LEVELS_COUNTED).contains(&below.len()) {
            let path = below.join("/");
            if self.paths.len() < PATHS_MAX || self.paths.contains_key(&path) {
                *self.paths.entry(path).or_default() += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Result<Shape, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.xml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    const WHOLE: &str = "<?xml version=\"1.0\"?>\n<!-- x --><pfsense a='1'><version>23.3</version><filter><rule><x/></rule>\
                         <rule/></filter><interfaces><wan/><lan>&amp;</lan></interfaces></pfsense>\n";

    #[test]
    fn a_whole_document_is_counted() {
        let shape = shape(WHOLE).unwrap();
        assert_eq!((shape.root.as_str(), shape.elements), ("pfsense", 9));
        assert_eq!((shape.count("filter/rule"), shape.children("interfaces"), shape.count("x")), (2, 2, 0));
        assert_eq!(shape.texts["version"], "23.3");
    }

    #[test]
    fn a_document_that_is_cut_anywhere_is_not_whole() {
        for cut in 0..WHOLE.trim_end().len() {
            assert!(shape(&WHOLE[..cut]).is_err(), "cut at {cut}");
        }
        for bad in ["{}", "<a></b>", "<a/><b/>", "<a>&lt;</a>x", "<a b='1' b='2'/>", "<a b=1/>"] {
            assert_eq!(shape(bad).unwrap_err().trouble.code, "xml_broken", "{bad}");
        }
        assert!(shape(&"<a>".repeat(300)).unwrap_err().trouble.message.contains("deeper"));
    }
}
