//! Text that came in other clothes: packed by gzip though nobody asked for it, with a mark in front, in Latin-1 or UTF-16.
//!
//! It is read as what it is; what is kept stays as it came. An encoding that is not known here is said, never guessed.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// So much of the beginning tells the encoding.
const HEAD_BYTES: usize = 1024;
/// Gzip in gzip in gzip is no export.
const LAYERS_MAX: usize = 3;

/// How bytes become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// UTF-8, and whatever is not known to be another.
    Utf8,
    Latin1,
    Latin9,
    Windows1252,
    Utf16Little,
    Utf16Big,
}

/// Opens a file as the UTF-8 that it means: unpacked, without a mark in front.
///
/// # Errors
/// When it cannot be read; `Unsupported` when it names an encoding that is not known here.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut source: Box<dyn Read> = Box::new(BufReader::with_capacity(64 << 10, File::open(path)?));
    for _ in 0..LAYERS_MAX {
        let (head, whole) = peek(source)?;
        if !head.starts_with(&[0x1f, 0x8b, 8]) {
            return decoded(&head, whole);
        }
        source = Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 << 10, whole)));
    }
    Ok(source)
}

/// Whether the file is packed by gzip.
pub(crate) fn is_gzip(path: &Path) -> bool {
    crate::plugin::kit::archive::starts_with(path, &[0x1f, 0x8b, 8])
}

fn peek(mut source: Box<dyn Read>) -> io::Result<(Vec<u8>, Box<dyn Read>)> {
    let mut head = Vec::new();
    source.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    let whole = Cursor::new(head.clone()).chain(source);
    Ok((head, Box::new(whole)))
}

fn decoded(head: &[u8], mut whole: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    let (encoding, mark_bytes) = encoding_of(head)?;
    if mark_bytes > 0 {
        let mut mark = vec![0; mark_bytes];
        whole.read_exact(&mut mark)?;
    }
    Ok(match encoding {
        Encoding::Utf8 => whole,
        other => Box::new(Transcoded {
            source: whole,
            encoding: other,
            held: Vec::new(),
            ready: Vec::new(),
            at: 0,
            done: false,
        }),
    })
}

/// The encoding, and the length of the mark in front.
fn encoding_of(head: &[u8]) -> io::Result<(Encoding, usize)> {
    match head {
        [0xef, 0xbb, 0xbf, ..] => return Ok((Encoding::Utf8, 3)),
        [0xff, 0xfe, ..] => return Ok((Encoding::Utf16Little, 2)),
        [0xfe, 0xff, ..] => return Ok((Encoding::Utf16Big, 2)),
        [b'<' | b'{' | b'[', 0, ..] => return Ok((Encoding::Utf16Little, 0)),
        [0, b'<' | b'{' | b'[', ..] => return Ok((Encoding::Utf16Big, 0)),
        _ => {}
    }
    let Some(name) = declared(head) else { return Ok((Encoding::Utf8, 0)) };
    let encoding = match name.to_ascii_lowercase().as_str() {
        // A declaration that can be read byte by byte is not in UTF-16, whatever it says: it was converted on its way.
        "utf-8" | "utf8" | "us-ascii" | "ascii" | "utf-16" | "utf-16le" | "utf-16be" => Encoding::Utf8,
        "iso-8859-1" | "iso8859-1" | "iso_8859-1" | "latin1" | "latin-1" => Encoding::Latin1,
        "iso-8859-15" | "iso8859-15" | "iso_8859-15" | "latin9" | "latin-9" => Encoding::Latin9,
        "windows-1252" | "cp1252" => Encoding::Windows1252,
        _ => {
            let text = format!("it is written in {name}, which is not known here");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    };
    Ok((encoding, 0))
}

/// What an XML declaration says.
fn declared(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let declaration = text.trim_start().strip_prefix("<?xml")?;
    let declaration = declaration.get(..declaration.find("?>")?)?;
    let value = declaration.get(declaration.find("encoding")? + "encoding".len()..)?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    Some(value.get(1..)?.split(quote).next()?.trim().to_owned())
}

/// Gives UTF-8 of another encoding, piece by piece.
struct Transcoded {
    source: Box<dyn Read>,
    encoding: Encoding,
    /// Bytes that are no whole character yet.
    held: Vec<u8>,
    ready: Vec<u8>,
    at: usize,
    done: bool,
}

impl Read for Transcoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.ready.len() && !self.done {
            self.fill()?;
        }
        let rest = self.ready.get(self.at..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        self.at += length;
        Ok(length)
    }
}

impl Transcoded {
    fn fill(&mut self) -> io::Result<()> {
        const CHUNK_BYTES: usize = 32 << 10;
        let mut chunk = vec![0; CHUNK_BYTES];
        let length = self.source.read(&mut chunk)?;
        self.held.extend(chunk.get(..length).unwrap_or_default());
        self.done = length == 0;
        self.ready.clear();
        self.at = 0;
        let mut text = String::new();
        match self.encoding {
            Encoding::Utf8 => self.ready.append(&mut self.held),
            Encoding::Latin1 | Encoding::Latin9 | Encoding::Windows1252 => {
                text.extend(self.held.drain(..).map(|byte| single(self.encoding, byte)));
            }
            Encoding::Utf16Little | Encoding::Utf16Big => self.take_utf16(&mut text)?,
        }
        self.ready.extend(text.into_bytes());
        Ok(())
    }

    /// Takes the whole characters; a half of a pair waits for the next piece.
    fn take_utf16(&mut self, text: &mut String) -> io::Result<()> {
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "it is no whole UTF-16");
        let big = self.encoding == Encoding::Utf16Big;
        let units: Vec<u16> = self
            .held
            .chunks_exact(2)
            .filter_map(|pair| <[u8; 2]>::try_from(pair).ok())
            .map(|pair| if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
            .collect();
        let mut whole = units.len();
        if !self.done && units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) {
            whole -= 1;
        }
        for character in char::decode_utf16(units.into_iter().take(whole)) {
            text.push(character.map_err(|_| broken())?);
        }
        self.held.drain(..whole * 2);
        if self.done && !self.held.is_empty() { Err(broken()) } else { Ok(()) }
    }
}

fn single(encoding: Encoding, byte: u8) -> char {
    /// 0x80 to 0x9f.
    const WINDOWS: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match (encoding, byte) {
        (Encoding::Windows1252, 0x80..=0x9f) => {
            WINDOWS.get(usize::from(byte - 0x80)).copied().unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        (Encoding::Latin9, 0xa4) => '€',
        (Encoding::Latin9, 0xa6) => 'Š',
        (Encoding::Latin9, 0xa8) => 'š',
        (Encoding::Latin9, 0xb4) => 'Ž',
        (Encoding::Latin9, 0xb8) => 'ž',
        (Encoding::Latin9, 0xbc) => 'Œ',
        (Encoding::Latin9, 0xbd) => 'œ',
        (Encoding::Latin9, 0xbe) => 'Ÿ',
        (_, byte) => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut text = String::new();
        open(file.path())?.read_to_string(&mut text).map(|_| text)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn text_is_read_as_what_it_is_whatever_it_is_written_in() {
        let text = format!("<a>Bürö 😀 {}</a>", "ä".repeat(40_000));
        let utf16 = |big: bool| -> Vec<u8> {
            text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        let forms = [
            text.clone().into_bytes(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [b"\xff\xfe", utf16(false).as_slice()].concat(),
            [b"\xfe\xff", utf16(true).as_slice()].concat(),
            utf16(false),
            utf16(true),
            gzip(text.as_bytes()),
            gzip(&gzip(&[b"\xff\xfe", utf16(false).as_slice()].concat())),
        ];
        for form in forms {
            assert_eq!(read(&form).unwrap(), text);
        }
        let latin = b"<?xml version='1.0' encoding = 'ISO-8859-1' ?><a>B\xfcr\xf6 \xa4</a>";
        assert!(read(latin).unwrap().ends_with("<a>Bürö ¤</a>"));
        assert!(read(b"<?xml encoding=\"ISO-8859-15\"?><a>\xa4</a>").unwrap().ends_with("<a>€</a>"));
        assert!(read(b"<?xml encoding=\"windows-1252\"?><a>\x80\xfc</a>").unwrap().ends_with("<a>€ü</a>"));
    }

    #[test]
    fn what_is_cut_or_not_known_is_an_error() {
        assert_eq!(read(b"<?xml encoding=\"KOI8-R\"?><a/>").unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert!(read(b"\xff\xfe<\0a").is_err());
        assert!(read(b"\xff\xfe<\0\x00\xd8").is_err());
        let whole = gzip(b"<a>some text that is long enough</a>");
        assert!(read(&whole[..whole.len() - 4]).is_err());
    }
}
