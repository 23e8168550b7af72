//! A text as somebody would read it who undoes one kind of escape, and where each byte of that stands in the text.
//!
//! Programs escape in more ways than can be listed (`%2f` and `%2F`, `\/` and `\u002f`), but undoing them has one result.

/// Decoded bytes with their places.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    /// Where each byte starts in the text, and behind the last where the text ends.
    pub(super) at: Vec<usize>,
}

/// A decoder: from bytes that start with an escape, how many it takes and what they mean.
type Decoder = fn(&[u8]) -> Option<(usize, Meaning)>;

enum Meaning {
    Byte(u8),
    Character(char),
}

impl View {
    pub(super) fn of(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), at: (0..=text.len()).collect() }
    }

    /// `%2F`.
    pub(super) fn percent(&self) -> Option<Self> {
        self.decoded(b"%", |bytes| match bytes {
            [b'%', high, low, ..] => Some((3, Meaning::Byte(pair(*high, *low)?))),
            _ => None,
        })
    }

    /// `a+b`, as forms write a space.
    pub(super) fn plus(&self) -> Option<Self> {
        self.decoded(b"+", |bytes| bytes.starts_with(b"+").then_some((1, Meaning::Byte(b' '))))
    }

    /// `\n`, `\"`, `\u00e9`, `\x41`, `\303`: JSON, C, `$'…'` of shells.
    pub(super) fn backslash(&self) -> Option<Self> {
        self.decoded(b"\\", backslash)
    }

    /// `'\''`, `'"'"'`, `''`, `""`: quoted text of shells, SQL, YAML, CSV, in which a backslash is itself.
    pub(super) fn doubled(&self) -> Option<Self> {
        self.decoded(b"'\"", quote)
    }

    /// The same, and `\ ` as shells write it outside of quotes.
    pub(super) fn quotes(&self) -> Option<Self> {
        self.decoded(b"\\'\"", |bytes| match bytes {
            [b'\\', next, ..] => Some((2, Meaning::Byte(*next))),
            _ => quote(bytes),
        })
    }

    /// `&amp;`, `&#39;`, `&#x27;`.
    pub(super) fn entities(&self) -> Option<Self> {
        self.decoded(b"&", entity)
    }

    /// As base64 with one alphabet; line ends within it mean nothing.
    pub(super) fn base64(&self) -> Self {
        self.kept(|byte| match byte {
            b'-' => Some(b'+'),
            b'_' => Some(b'/'),
            b'\r' | b'\n' => None,
            other => Some(other),
        })
    }

    /// Hexadecimal digits in lower case, without what people put between them.
    pub(super) fn hexadecimal(&self) -> Self {
        let bare = self.decoded(b"0", |bytes| match bytes {
            [b'0', b'x' | b'X', high, low, ..] if pair(*high, *low).is_some() => Some((2, Meaning::Byte(b' '))),
            _ => None,
        });
        bare.as_ref().unwrap_or(self).kept(|byte| match byte {
            b' ' | b':' | b'-' | b',' | b'\r' | b'\n' => None,
            other => Some(other.to_ascii_lowercase()),
        })
    }

    fn kept(&self, keep: impl Fn(u8) -> Option<u8>) -> Self {
        let mut kept = Self { bytes: Vec::with_capacity(self.bytes.len()), at: Vec::with_capacity(self.at.len()) };
        for (byte, at) in self.bytes.iter().zip(&self.at) {
            if let Some(byte) = keep(*byte) {
                kept.bytes.push(byte);
                kept.at.push(*at);
            }
        }
        kept.at.extend(self.at.last());
        kept
    }

    /// None when there is nothing to decode.
    fn decoded(&self, starts: &[u8], decode: Decoder) -> Option<Self> {
        if !self.bytes.iter().any(|byte| starts.contains(byte)) {
            return None;
        }
        let mut changed = false;
        let mut view = Self { bytes: Vec::with_capacity(self.bytes.len()), at: Vec::with_capacity(self.at.len()) };
        let mut index = 0;
        while let (Some(rest), Some(at)) = (self.bytes.get(index..).filter(|rest| !rest.is_empty()), self.at.get(index))
        {
            let found = rest.first().filter(|byte| starts.contains(byte)).and_then(|_| decode(rest));
            let (taken, meaning) = found.map_or((1, None), |(taken, meaning)| (taken, Some(meaning)));
            changed |= meaning.is_some();
            let mut room = [0; 4];
            let bytes: &[u8] = match meaning {
                Some(Meaning::Byte(byte)) => {
                    room[0] = byte;
                    &room[..1]
                }
                Some(Meaning::Character(character)) => character.encode_utf8(&mut room).as_bytes(),
                None => &rest[..1],
            };
            for byte in bytes {
                view.bytes.push(*byte);
                view.at.push(*at);
            }
            index += taken;
        }
        view.at.extend(self.at.last());
        changed.then_some(view)
    }

    /// Where the bytes from `start` to before `end` stand in the text.
    pub(super) fn place(&self, start: usize, end: usize) -> Option<(usize, usize)> {
        let from = *self.at.get(start)?;
        // The last byte's own end: bytes of one character share their start.
        let last = *self.at.get(end.checked_sub(1)?)?;
        let to = self.at.get(end..)?.iter().copied().find(|at| *at > last)?;
        Some((from, to))
    }
}

fn quote(bytes: &[u8]) -> Option<(usize, Meaning)> {
    for quoted in [b"'\\''".as_slice(), b"'\"'\"'"] {
        if bytes.starts_with(quoted) {
            return Some((quoted.len(), Meaning::Byte(b'\'')));
        }
    }
    match bytes {
        [quote @ (b'\'' | b'"'), next, ..] if quote == next => Some((2, Meaning::Byte(*quote))),
        _ => None,
    }
}

fn backslash(bytes: &[u8]) -> Option<(usize, Meaning)> {
    let [b'\\', next, rest @ ..] = bytes else { return None };
    let simple = |byte| Some((2, Meaning::Byte(byte)));
    match next {
        b'n' => simple(b'\n'),
        b'r' => simple(b'\r'),
        b't' => simple(b'\t'),
        b'b' => simple(8),
        b'f' => simple(12),
        b'v' => simple(11),
        b'a' => simple(7),
        b'e' | b'E' => simple(27),
        b'x' => Some((4, Meaning::Byte(pair(*rest.first()?, *rest.get(1)?)?))),
        b'u' => {
            let (taken, unit) = match rest.first()? {
                b'{' => {
                    let length = rest.iter().position(|byte| *byte == b'}')?;
                    (3 + length, number(rest.get(1..length)?)?)
                }
                _ => (6, number(rest.get(..4)?)?),
            };
            if let Some(character) = char::from_u32(unit) {
                return Some((taken, Meaning::Character(character)));
            }
            let low = rest.get(4..10).filter(|low| low.starts_with(b"\\u")).and_then(|low| number(low.get(2..)?))?;
            let code = 0x1_0000 + ((unit.checked_sub(0xd800)? & 0x3ff) << 10) + (low.checked_sub(0xdc00)? & 0x3ff);
            Some((12, Meaning::Character(char::from_u32(code)?)))
        }
        b'U' => Some((10, Meaning::Character(char::from_u32(number(rest.get(..8)?)?)?))),
        b'0'..=b'7' => {
            let digits = bytes.iter().skip(1).take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
            let value = bytes.get(1..=digits)?.iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
            Some((1 + digits, Meaning::Byte(u8::try_from(value).ok()?)))
        }
        other => simple(*other),
    }
}

fn entity(bytes: &[u8]) -> Option<(usize, Meaning)> {
    let end = bytes.iter().take(12).position(|byte| *byte == b';')?;
    let character = match bytes.get(1..end)? {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        [b'#', b'x' | b'X', digits @ ..] => char::from_u32(number(digits)?)?,
        [b'#', digits @ ..] => char::from_u32(std::str::from_utf8(digits).ok()?.parse().ok()?)?,
        _ => return None,
    };
    Some((end + 1, Meaning::Character(character)))
}

fn pair(high: u8, low: u8) -> Option<u8> {
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    digits.iter().try_fold(0_u32, |sum, byte| Some((sum << 4) | digit(*byte)?))
}

fn digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}
