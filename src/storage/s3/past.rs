//! What was there at an instant, and what brings it back: from the versions of one name; pure.

use std::cmp::Reverse;

use jiff::Timestamp;

/// One version of a name, or a mark that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    /// The server's word for the content; empty of a mark.
    pub(super) etag: String,
    pub(super) at: Timestamp,
    pub(super) bytes: u64,
    pub(super) is_latest: bool,
    pub(super) is_mark: bool,
}

impl Entry {
    fn is_same_content(&self, other: &Self) -> bool {
        !self.is_mark
            && !other.is_mark
            && !self.etag.is_empty()
            && (&self.etag, self.bytes) == (&other.etag, other.bytes)
    }
}

/// What is to be done with one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It was there, and is there as it was.
    Unchanged,
    /// It was not there, and is now.
    CameLater,
    /// It was not there, came later, and was deleted again.
    CameAndWent,
    /// It was not there, and is not.
    NeverThere,
    /// It is there again without these marks.
    Uncover { marks: Vec<String>, bytes: u64 },
    /// It is there again as a copy of this version.
    Copy { id: String, bytes: u64 },
}

/// What brings a name back to what it was at `to`. `entries`, in the order of the server's list, are all that it has.
///
/// A mark or a version is newer than another by the server's word (the latest), else by its time, which is told in whole
/// seconds, else by the list's order. No remedy takes a version away. Where the one that lies on top has the content that
/// was there, that is as good: so what a rewind copied is not copied again.
pub(super) fn remedy(entries: &mut [Entry], to: Timestamp) -> Remedy {
    entries.sort_by_key(|entry| (Reverse(entry.is_latest), Reverse(entry.at)));
    let position = entries.iter().position(|entry| entry.at <= to);
    let (newer, then) = match position {
        Some(at) => (entries.get(..at).unwrap_or_default(), entries.get(at).filter(|then| !then.is_mark)),
        None => (&*entries, None),
    };
    let Some(then) = then else {
        return match newer.first() {
            Some(top) if !top.is_mark => Remedy::CameLater,
            Some(_) if newer.iter().any(|entry| !entry.is_mark) => Remedy::CameAndWent,
            _ => Remedy::NeverThere,
        };
    };
    let marks: Vec<String> = newer.iter().take_while(|entry| entry.is_mark).map(|entry| entry.id.clone()).collect();
    match newer.get(marks.len()) {
        Some(below) if !below.is_same_content(then) => Remedy::Copy { id: then.id.clone(), bytes: then.bytes },
        _ if marks.is_empty() => Remedy::Unchanged,
        _ => Remedy::Uncover { marks, bytes: then.bytes },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// Newest first: `V3a` is a version of second 3 with the content `a`, `M5` a mark of second 5.
    fn history(text: &str) -> Vec<Entry> {
        let mut entries: Vec<Entry> = text
            .split_whitespace()
            .map(|word| {
                let is_mark = word.starts_with('M');
                let (at, etag) = word[1..].split_at(1);
                let (at, etag) = (second(at.parse().unwrap()), etag.to_owned());
                let id = if etag == "0" { "null".to_owned() } else { word.to_owned() };
                Entry { id, etag, at, bytes: u64::from(!is_mark), is_latest: false, is_mark }
            })
            .collect();
        entries[0].is_latest = true;
        entries
    }

    fn uncover(marks: &[&str]) -> Remedy {
        Remedy::Uncover { marks: marks.iter().map(|mark| (*mark).to_owned()).collect(), bytes: 1 }
    }

    fn copy(id: &str) -> Remedy {
        Remedy::Copy { id: id.to_owned(), bytes: 1 }
    }

    #[test]
    fn what_was_there_at_second_5_is_brought_back_without_taking_a_version_away() {
        for (entries, wanted) in [
            ("V3a", Remedy::Unchanged),
            ("V5a", Remedy::Unchanged),
            ("V6a", Remedy::CameLater),
            ("M6 V3a", uncover(&["M6"])),
            ("M8 M7 M6 V3a V1b", uncover(&["M8", "M7", "M6"])),
            // Deleted already at that time, at its very second, or by a mark alone.
            ("M4 V3a", Remedy::NeverThere),
            ("M5 V3a", Remedy::NeverThere),
            ("M4", Remedy::NeverThere),
            ("M7 M6", Remedy::NeverThere),
            ("M7 M4 V3a", Remedy::NeverThere),
            ("V7b M4 V3a", Remedy::CameLater),
            ("M8 V7b M4 V3a", Remedy::CameAndWent),
            ("M8 V7b", Remedy::CameAndWent),
            // Put again behind a deletion.
            ("V4b M3 V2a", Remedy::Unchanged),
            ("M6 V4b M3 V2a", uncover(&["M6"])),
            // Overwritten, with deletions around it.
            ("V6b V3a", copy("V3a")),
            ("V7c V6b V3a", copy("V3a")),
            ("V7b M6 V3a", copy("V3a")),
            ("M8 V7b M6 V3a", copy("V3a")),
            // Restored already, and deleted once more.
            ("V9a V7b V3a", Remedy::Unchanged),
            ("V9a M8 V7b M6 V3a", Remedy::Unchanged),
            ("M9 V8a V7b V3a", uncover(&["M9"])),
            // From before the bucket kept versions.
            ("M6 V30", uncover(&["M6"])),
            ("V6b V30", copy("null")),
        ] {
            assert_eq!(remedy(&mut history(entries), second(5)), wanted, "{entries}");
        }
    }

    #[test]
    fn of_one_second_the_latest_is_the_newest_and_then_the_order_of_the_list_counts() {
        // A server that lists versions before marks.
        let mut apart = history("V6a M6");
        apart[0].is_latest = false;
        apart[1].is_latest = true;
        apart.push(Entry { at: second(3), ..history("V3b")[0].clone() });
        apart[2].is_latest = false;
        assert_eq!(remedy(&mut apart, second(5)), copy("V3b"));
        assert_eq!(remedy(&mut history("M6 V6a V3a"), second(5)), uncover(&["M6"]));
        let mut backwards: Vec<Entry> = history("M7 M6 V3a").into_iter().rev().collect();
        assert_eq!(remedy(&mut backwards, second(5)), uncover(&["M7", "M6"]));
        assert_eq!(remedy(&mut history("V4a M4"), second(5)), Remedy::Unchanged);
        assert_eq!(remedy(&mut history("M4 V4a"), second(5)), Remedy::NeverThere);
        // The server's clock went back: what is latest is, all the same.
        assert_eq!(remedy(&mut history("V2b V6a"), second(5)), Remedy::Unchanged);
        // No content is told: it is not taken for the same.
        let mut mute = history("V6b V3a");
        for entry in &mut mute {
            entry.etag.clear();
        }
        assert_eq!(remedy(&mut mute, second(5)), copy("V3a"));
    }

    /// What the name holds with these entries, newest first.
    fn content(entries: &[Entry]) -> Option<&str> {
        entries.first().filter(|top| !top.is_mark).map(|top| top.etag.as_str())
    }

    proptest! {
        #[test]
        fn behind_a_remedy_the_name_holds_what_it_held_then_and_needs_no_other(
            steps in prop::collection::vec((0_u8..4, 0_i64..3), 1..12),
            to in 0_i64..14,
            shuffle in any::<prop::sample::Index>(),
        ) {
            let mut at = 0;
            let mut entries: Vec<Entry> = Vec::new();
            for (index, (kind, pause)) in steps.iter().enumerate() {
                at += pause;
                let is_mark = *kind == 0;
                let etag = if is_mark { String::new() } else { kind.to_string() };
                let id = index.to_string();
                entries.insert(0, Entry { id, etag, at: second(at), bytes: 1, is_latest: false, is_mark });
            }
            let entries_then: Vec<Entry> =
                entries.iter().filter(|entry| entry.at <= second(to)).cloned().collect();
            let then = content(&entries_then).map(str::to_owned);
            let before = content(&entries).map(str::to_owned);
            entries[0].is_latest = true;
            // Where every instant differs, the list may come in any order.
            let mut listed = entries.clone();
            if steps.iter().skip(1).all(|(_, pause)| *pause > 0) {
                let by = shuffle.index(listed.len());
                listed.rotate_left(by);
            }
            let found = remedy(&mut listed, second(to));
            let mut after = entries.clone();
            after[0].is_latest = false;
            match &found {
                Remedy::Uncover { marks, .. } => {
                    prop_assert!(after.iter().filter(|entry| marks.contains(&entry.id)).all(|entry| entry.is_mark));
                    after.retain(|entry| !marks.contains(&entry.id));
                }
                Remedy::Copy { id, .. } => {
                    let copied = after.iter().find(|entry| &entry.id == id).unwrap().clone();
                    after.insert(0, Entry { id: "copy".to_owned(), at: second(99), ..copied });
                }
                _ => {}
            }
            match then {
                Some(then) => prop_assert_eq!(content(&after), Some(then.as_str())),
                None => prop_assert_eq!(content(&after), before.as_deref()),
            }
            after[0].is_latest = true;
            let again = remedy(&mut after, second(to));
            prop_assert!(!matches!(again, Remedy::Uncover { .. } | Remedy::Copy { .. }), "{:?}", again);
        }
    }
}
