//! Answers in XML as a tree, within bounds.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// A page of 1,000 versions has some 10,000 elements.
const NODES_MAX: usize = 50_000;
const DEPTH_MAX: usize = 16;

/// An element; names without their prefix.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    content: String,
    children: Vec<Node>,
}

impl Node {
    /// The children of this name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of this name; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.all(name).next().map_or("", |child| child.content.trim())
    }

    pub(super) fn children(&self) -> &[Self] {
        &self.children
    }
}

/// The root of a whole document.
pub(super) fn read(bytes: &[u8]) -> Result<Node, String> {
    let mut reader = Reader::from_reader(bytes);
    let mut buffer = Vec::new();
    let mut open = vec![Node::default()];
    let mut count = 0;
    loop {
        buffer.clear();
        let event = reader
            .read_event_into(&mut buffer)
            .map_err(|_| format!("it is no XML at byte {}", reader.error_position()))?;
        match event {
            Event::Start(start) => {
                count += 1;
                if count > NODES_MAX || open.len() > DEPTH_MAX {
                    return Err("it has more elements than any honest answer".to_owned());
                }
                let name = start.local_name();
                let name: &str = name.as_ref();
                open.push(Node { name: name.to_owned(), ..Node::default() });
            }
            Event::Empty(start) => {
                count += 1;
                if count > NODES_MAX {
                    return Err("it has more elements than any honest answer".to_owned());
                }
                let name = start.local_name();
                let name: &str = name.as_ref();
                let node = Node { name: name.to_owned(), ..Node::default() };
                open.last_mut().ok_or("it ends too early")?.children.push(node);
            }
            Event::End(_) => {
                let node = open.pop().ok_or("it ends too early")?;
                open.last_mut().ok_or("it ends too early")?.children.push(node);
            }
            Event::Text(text) => {
                let text: &str = &text;
                open.last_mut().ok_or("it ends too early")?.content.push_str(text);
            }
            Event::CData(text) => {
                let text: &str = &text;
                open.last_mut().ok_or("it ends too early")?.content.push_str(text);
            }
            Event::GeneralRef(entity) => {
                let node = open.last_mut().ok_or("it ends too early")?;
                let name: &str = &entity;
                match (entity.resolve_char_ref(), resolve_predefined_entity(name)) {
                    (Ok(Some(character)), _) => node.content.push(character),
                    (_, Some(text)) => node.content.push_str(text),
                    _ => return Err(format!("it has the unknown entity &{name};")),
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some(mut outside), true) if outside.children.len() == 1 => {
            outside.children.pop().ok_or_else(|| "it is empty".to_owned())
        }
        _ => Err("it is no whole document".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_with_its_entities_and_one_that_is_cut_is_none() {
        let whole = "<?xml version=\"1.0\"?><L xmlns=\"http://s3\"><s:Contents xmlns:s='x'><Key>a&amp;b&#x41;</Key><ETag/>\
                     </s:Contents><Contents><Key><![CDATA[c<]]></Key></Contents></L>";
        let root = read(whole.as_bytes()).unwrap();
        assert_eq!(root.name, "L");
        let keys: Vec<_> = root.all("Contents").map(|each| each.text("Key")).collect();
        assert_eq!(keys, ["a&bA", "c<"]);
        for cut in 1..whole.len() {
            assert!(read(&whole.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read(b"<a>&bomb;</a>").is_err() && read(b"{}").is_err() && read(b"").is_err());
        assert!(read("<a>".repeat(40).as_bytes()).unwrap_err().contains("more elements"));
    }
}
