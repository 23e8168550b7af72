//! A line as a person reads it: signs that look alike are one sign, and what isn't seen isn't there.
//!
//! A folded line is as long as the line itself, so that a place in one is the same place in the other.

/// Stands where a folded line has nothing: behind a sign that became shorter, for one that isn't seen.
pub(super) const NOTHING: char = '\u{1}';

/// The line with every sign as what it looks like, and with escapes as what they stand for.
pub(super) fn folded(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (sign, length) = escape(rest).unwrap_or_else(|| (alike(first), first.len_utf8()));
        let end = out.len() + length;
        out.push(if sign.len_utf8() <= length { sign } else { first });
        out.extend(std::iter::repeat_n(NOTHING, end.saturating_sub(out.len())));
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// `\x77`, `\u0077`, `\U00000077`, `%77` and `%2577`: what it stands for, and its length.
fn escape(rest: &str) -> Option<(char, usize)> {
    let is_hex = |at: usize, length: usize| {
        rest.as_bytes().get(at..at + length).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let (start, length) = match rest.as_bytes() {
        [b'\\', b'x', ..] => (2, 2),
        [b'\\', b'u', ..] => (2, 4),
        [b'\\', b'U', ..] => (2, 8),
        [b'%', ..] => {
            let mut start = 1;
            // Escaped twice and more often.
            while rest.get(start..start + 2) == Some("25") && is_hex(start + 2, 2) {
                start += 2;
            }
            (start, 2)
        }
        _ => return None,
    };
    let digits = rest.get(start..start + length).filter(|_| is_hex(start, length))?;
    let sign = alike(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
    // A quote or a bracket that is escaped doesn't end anything.
    let is_name = sign.is_alphanumeric() || matches!(sign, ':' | '@' | '=' | '_' | '-' | '.' | NOTHING);
    is_name.then_some((sign, start + length))
}

/// What a sign looks like, or means.
fn alike(sign: char) -> char {
    let letter = |first: char, number: u32| char::from_u32(u32::from(first) + number).unwrap_or(sign);
    let code = u32::from(sign);
    match sign {
        ' '..='~' => sign,
        '\u{ff01}'..='\u{ff5e}' => letter('!', code - 0xff01),
        // Soft hyphen, joiners, marks of direction, variants; accents that stand alone.
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{feff}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{300}'..='\u{36f}'
        | '\u{e0000}'..='\u{e0fff}' => NOTHING,
        _ if sign.is_whitespace() || matches!(sign, '\u{2800}' | '\u{3164}' | '\u{ffa0}') => ' ',
        _ if sign.is_control() => NOTHING,
        '\u{fe55}' | '\u{fe13}' | '\u{fe30}' | '\u{2236}' | '\u{205a}' | '\u{a789}' | '\u{2d0}' | '\u{2f8}'
        | '\u{589}' | '\u{5c3}' | '\u{703}' | '\u{704}' | '\u{1803}' | '\u{16ec}' | '\u{2254}' | '\u{2982}' => ':',
        '\u{fe54}' | '\u{fe14}' | '\u{37e}' | '\u{61b}' | '\u{204f}' => ';',
        '\u{fe66}' | '\u{207c}' | '\u{208c}' | '\u{a78a}' | '\u{2550}' | '\u{30a0}' | '\u{2248}'..='\u{226f}' => '=',
        '\u{fe50}' | '\u{fe51}' | '\u{3001}' | '\u{60c}' | '\u{201a}' => ',',
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2039}' | '\u{203a}' | '\u{2bc}' | '\u{b4}' => '\'',
        '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{300c}'..='\u{300f}' | '\u{301d}'..='\u{301f}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => '-',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{fe52}' | '\u{2024}' => '.',
        '\u{fe6b}' => '@',
        '\u{fe69}' => '$',
        '\u{1d400}'..='\u{1d6a3}' => match (code - 0x1d400) % 52 {
            number @ 0..=25 => letter('A', number),
            number => letter('a', number - 26),
        },
        '\u{24b6}'..='\u{24cf}' => letter('A', code - 0x24b6),
        '\u{24d0}'..='\u{24e9}' => letter('a', code - 0x24d0),
        '\u{e0}'..='\u{e5}' | '\u{101}' | '\u{103}' | '\u{105}' | '\u{430}' | '\u{3b1}' => 'a',
        '\u{441}' | '\u{e7}' | '\u{107}' | '\u{10d}' => 'c',
        '\u{501}' | '\u{10f}' => 'd',
        '\u{e8}'..='\u{eb}' | '\u{113}' | '\u{117}' | '\u{119}' | '\u{11b}' | '\u{435}' | '\u{451}' => 'e',
        '\u{4bb}' => 'h',
        '\u{ec}'..='\u{ef}' | '\u{131}' | '\u{456}' | '\u{457}' => 'i',
        '\u{43a}' | '\u{3ba}' => 'k',
        '\u{f1}' | '\u{144}' | '\u{148}' => 'n',
        '\u{f2}'..='\u{f6}' | '\u{f8}' | '\u{43e}' | '\u{3bf}' => 'o',
        '\u{440}' | '\u{3c1}' => 'p',
        '\u{155}' | '\u{159}' => 'r',
        '\u{455}' | '\u{15b}' | '\u{161}' | '\u{17f}' => 's',
        '\u{442}' | '\u{165}' => 't',
        '\u{51d}' | '\u{175}' => 'w',
        '\u{443}' | '\u{fd}' => 'y',
        _ => sign,
    }
}
