//! WebSocket frames (RFC 6455) as they pass by: every message is changed as a whole, everything else stays.
//!
//! Pure: bytes in, bytes out. Pings, closes and what breaks the rules go on to who speaks the protocol, in their order.

/// Longest header of a frame.
const HEADER_BYTES_MAX: usize = 14;

/// Instead of a short length: two or eight bytes with the length follow.
const MEDIUM: u8 = 0x7e;
const LONG: u8 = 0x7f;

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    change: fn(&[u8]) -> Vec<u8>,
    /// A longer message passes unchanged, so that not more than this is held.
    message_bytes_max: usize,
    /// What is not understood yet.
    held: Vec<u8>,
    /// The fragments of a message so far, and its kind.
    message: Option<(u8, Vec<u8>)>,
    /// Bytes of a frame that still pass unchanged.
    passing: u64,
    /// Fragments up to the next final one pass unchanged.
    too_long: bool,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    first: u8,
    mask: Option<[u8; 4]>,
    head_bytes: usize,
    payload_bytes: u64,
}

impl Frames {
    pub(super) fn new(message_bytes_max: usize, change: fn(&[u8]) -> Vec<u8>) -> Self {
        Self { change, message_bytes_max, held: Vec::new(), message: None, passing: 0, too_long: false }
    }

    /// Takes in `bytes` and gives out what is to be passed on by now.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        let mut held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        loop {
            if self.passing > 0 {
                let (pass, after) = rest.split_at(rest.len().min(usize::try_from(self.passing).unwrap_or(usize::MAX)));
                out.extend_from_slice(pass);
                self.passing -= pass.len() as u64;
                rest = after;
                if self.passing > 0 {
                    break;
                }
            }
            let Some(header) = Header::read(rest) else { break };
            let Some(after) = self.frame(header, rest, out) else { break };
            rest = after;
        }
        let used = held.len() - rest.len();
        held.drain(..used);
        self.held = held;
    }

    /// One frame; none when more of it must come first.
    fn frame<'a>(&mut self, header: Header, rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        let (is_last, kind) = (header.first & 0x80 != 0, header.first & 0x0f);
        let so_far = self.message.as_ref().map_or(0, |(_, text)| text.len() as u64);
        let too_long = so_far.saturating_add(header.payload_bytes) > self.message_bytes_max as u64;
        // Control frames come between fragments and belong to no message; reserved bits are nobody's business here.
        if kind & 0x08 != 0 || header.first & 0x70 != 0 || self.too_long || too_long {
            if kind & 0x08 == 0 {
                self.give_up(header, out);
                self.too_long = !is_last;
            }
            let (head, after) = rest.split_at_checked(header.head_bytes)?;
            out.extend_from_slice(head);
            self.passing = header.payload_bytes;
            return Some(after);
        }
        let whole = header.head_bytes + usize::try_from(header.payload_bytes).ok()?;
        let (frame, after) = rest.split_at_checked(whole)?;
        let (_, payload) = frame.split_at_checked(header.head_bytes)?;
        let (_, text) = self.message.get_or_insert_with(|| (kind, Vec::new()));
        text.extend(unmasked(payload, header.mask));
        if is_last && let Some((kind, text)) = self.message.take() {
            put(0x80 | kind, header.mask.is_some(), &(self.change)(&text), out);
        }
        Some(after)
    }

    /// A message turned out to be too long: what was held of it goes on first.
    fn give_up(&mut self, header: Header, out: &mut Vec<u8>) {
        if let Some((kind, text)) = self.message.take() {
            put(kind, header.mask.is_some(), &text, out);
        }
    }
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (payload_bytes, at) = match second & 0x7f {
            MEDIUM => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            LONG => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
            short => (u64::from(short), 2),
        };
        let mask: Option<[u8; 4]> = match second & 0x80 {
            0 => None,
            _ => Some(bytes.get(at..at + 4)?.try_into().ok()?),
        };
        let head_bytes = at + mask.map_or(0, |_| 4);
        Some(Self { first, mask, head_bytes, payload_bytes })
    }
}

fn unmasked(payload: &[u8], mask: Option<[u8; 4]>) -> impl Iterator<Item = u8> {
    let mask = mask.unwrap_or_default();
    payload.iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask)
}

/// Writes a frame; one that must be masked gets a mask that changes nothing.
fn put(first: u8, masked: bool, payload: &[u8], out: &mut Vec<u8>) {
    let flag = if masked { 0x80 } else { 0 };
    out.reserve(HEADER_BYTES_MAX + payload.len());
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => out.push(flag | short),
        (_, Ok(medium)) => {
            out.push(flag | MEDIUM);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(flag | LONG);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend_from_slice(&[0; 4]);
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loud(text: &[u8]) -> Vec<u8> {
        format!("<{}>", String::from_utf8_lossy(text)).into_bytes()
    }

    fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(first, mask.is_some(), payload, &mut bytes);
        if let Some(mask) = mask {
            let at = bytes.len() - payload.len();
            bytes.splice(at - 4..at, mask);
            let masked: Vec<u8> = unmasked(payload, Some(mask)).collect();
            bytes.truncate(at);
            bytes.extend(masked);
        }
        bytes
    }

    /// What comes out, fed in parts of `step` bytes.
    fn through(input: &[u8], step: usize, message_bytes_max: usize) -> Vec<u8> {
        let mut frames = Frames::new(message_bytes_max, loud);
        let mut out = Vec::new();
        for part in input.chunks(step) {
            frames.take(part, &mut out);
        }
        out
    }

    #[test]
    fn every_message_is_changed_as_a_whole_however_it_arrives() {
        let mask = Some([1, 2, 3, 4]);
        let long = vec![b'x'; 70_000];
        let mut input = Vec::new();
        let mut expected = Vec::new();
        for payload in [b"hello".as_slice(), b"", &long[..126], &long] {
            input.extend(frame(0x81, mask, payload));
            expected.extend(frame(0x81, Some([0; 4]), &loud(payload)));
        }
        // A message in three fragments, with a ping between.
        input.extend([frame(0x01, mask, b"ab"), frame(0x89, mask, b"ping"), frame(0x00, mask, b"cd")].concat());
        input.extend(frame(0x80, mask, b"e"));
        expected.extend(frame(0x89, mask, b"ping"));
        expected.extend(frame(0x81, Some([0; 4]), b"<abcde>"));
        input.extend(frame(0x88, mask, &[3, 232]));
        expected.extend(frame(0x88, mask, &[3, 232]));
        for step in [1, 2, 3, 7, 1000, input.len()] {
            assert!(through(&input, step, 1 << 20) == expected, "in steps of {step}");
        }
    }

    #[test]
    fn a_server_does_not_mask_and_a_binary_message_stays_one() {
        assert_eq!(through(&frame(0x82, None, b"x"), 1, 100), frame(0x82, None, b"<x>"));
    }

    #[test]
    fn a_message_that_is_too_long_passes_unchanged_and_the_next_is_changed_again() {
        let long = frame(0x81, None, b"123456");
        let after = frame(0x81, None, b"1");
        let input =
            [long.clone(), frame(0x01, None, b"123"), frame(0x00, None, b"456"), frame(0x80, None, b"7"), after]
                .concat();
        let expected = [
            long,
            frame(0x01, None, b"123"),
            frame(0x00, None, b"456"),
            frame(0x80, None, b"7"),
            frame(0x81, None, b"<1>"),
        ]
        .concat();
        for step in [1, 4, input.len()] {
            assert_eq!(through(&input, step, 5), expected, "in steps of {step}");
        }
    }
}
