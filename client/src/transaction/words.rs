//! Words of a line, as a shell would have them: separated by spaces; in single quotes everything stands for itself; in
//! double quotes, and outside quotes, a backslash begins `\n`, `\t`, `\r`, `\0`, `\xHH` (a byte), or takes the next
//! character as it is.

/// A word: bytes, since keys and values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What it stands for.
    pub bytes: Vec<u8>,
    /// Whether it begins with a quote, so that it is never a flag.
    pub quoted: bool,
}

impl Word {
    /// For messages.
    pub fn shown(&self) -> String {
        format!("{:?}", String::from_utf8_lossy(&self.bytes))
    }
}

/// Splits a line into words.
///
/// # Errors
/// A quote that does not end, a backslash that stands for nothing.
pub fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = one(rest, char::is_whitespace)?;
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// The word up to `end` outside quotes, spaces around it aside, and what follows `end`.
pub fn quoted_until(text: &str, end: char) -> Option<(Vec<u8>, &str)> {
    let (word, after) = one(text.trim_start(), |character| character == end || character.is_whitespace()).ok()?;
    Some((word.bytes, after.trim_start().strip_prefix(end)?))
}

/// One word up to a character for which `ends` holds, and the rest from there on.
fn one(text: &str, ends: impl Fn(char) -> bool) -> Result<(Word, &str), String> {
    let mut bytes = Vec::new();
    let mut quote: Option<char> = None;
    let mut characters = text.char_indices();
    let quoted = text.starts_with(['"', '\'']);
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if character == open => quote = None,
            (Some('"') | None, '\\') => {
                let escaped = characters.next().map(|(_, escaped)| escaped);
                unescape(escaped, &mut characters, &mut bytes)?;
            }
            (None, _) if ends(character) => return Ok((Word { bytes, quoted }, &text[at..])),
            _ => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    match quote {
        Some(quote) => Err(format!("a {quote} is not closed")),
        None => Ok((Word { bytes, quoted }, "")),
    }
}

fn unescape(escaped: Option<char>, rest: &mut std::str::CharIndices<'_>, bytes: &mut Vec<u8>) -> Result<(), String> {
    match escaped.ok_or("a backslash at the end of the line")? {
        'n' => bytes.push(b'\n'),
        't' => bytes.push(b'\t'),
        'r' => bytes.push(b'\r'),
        '0' => bytes.push(0),
        'x' => {
            let digits: String = rest.by_ref().take(2).map(|(_, digit)| digit).collect();
            let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
            bytes.push(byte.ok_or("\\x needs two hexadecimal digits")?);
        }
        other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
    Ok(())
}
