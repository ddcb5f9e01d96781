//! Asking on the controlling terminal without echo.
//!
//! The terminal's own line editing and signals are off while a passphrase is typed, so that Ctrl-C is read like any
//! other key and the terminal is always put back as it was.

use std::fs::File;
use std::io::{self, Write as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{PASSPHRASE_BYTES_MAX, Passphrase, PassphraseError};

const INTERRUPT: u8 = 0x03;
const END_OF_INPUT: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const ERASE_LINE: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// Puts the terminal back as it was.
struct Restore<'a> {
    terminal: &'a File,
    before: Termios,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that went away.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Shows `prompt` and reads one line without echo.
pub(super) fn ask(prompt: &str) -> Result<Passphrase, PassphraseError> {
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|_| PassphraseError::NoSource)?;
    let before = tcgetattr(&terminal).map_err(|error| PassphraseError::Terminal(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    silent.special_codes[SpecialCodeIndex::VMIN] = 1;
    silent.special_codes[SpecialCodeIndex::VTIME] = 0;
    let restore = Restore { terminal: &terminal, before };
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| PassphraseError::Terminal(error.into()))?;
    (&terminal).write_all(prompt.as_bytes()).map_err(PassphraseError::Terminal)?;
    let line = read_line(&terminal);
    drop(restore);
    (&terminal).write_all(b"\n").map_err(PassphraseError::Terminal)?;
    Passphrase::new(line?)
}

/// Reads keys up to Enter; knows backspace, Ctrl-U, Ctrl-C and Ctrl-D.
fn read_line(mut keys: impl io::Read) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX));
    loop {
        // One key at a time: what is typed after Enter is not ours to take.
        let mut key = Zeroizing::new([0; 1]);
        match keys.read(key.as_mut_slice()) {
            Ok(0) => return Err(PassphraseError::Interrupted),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(PassphraseError::Terminal(error)),
        }
        match key[0] {
            b'\n' | b'\r' => return Ok(line),
            INTERRUPT => return Err(PassphraseError::Interrupted),
            END_OF_INPUT if line.is_empty() => return Err(PassphraseError::Interrupted),
            END_OF_INPUT => return Ok(line),
            BACKSPACE | DELETE => {
                // One whole character, which may be several bytes of UTF-8.
                while line.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {}
            }
            ERASE_LINE => line.clear(),
            _ if line.len() == PASSPHRASE_BYTES_MAX => return Err(PassphraseError::TooLong),
            byte => line.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Result<Vec<u8>, PassphraseError> {
        read_line(keys).map(|line| line.to_vec())
    }

    #[test]
    fn editing_keys_work() {
        assert_eq!(typed(b"hello\n").unwrap(), b"hello");
        assert_eq!(typed(b"hex\x7fllo\r").unwrap(), b"hello");
        assert_eq!(typed(b"wrong\x15right\n").unwrap(), b"right");
        assert_eq!(typed("a\u{e9}\u{7f}b\n".as_bytes()).unwrap(), b"ab");
        assert_eq!(typed(b"\x7fab\x04").unwrap(), b"ab");
    }

    #[test]
    fn interruption_and_excess_are_errors() {
        assert!(matches!(typed(b"abc\x03\n"), Err(PassphraseError::Interrupted)));
        assert!(matches!(typed(b"\x04"), Err(PassphraseError::Interrupted)));
        assert!(matches!(typed(b"abc"), Err(PassphraseError::Interrupted)));
        assert!(matches!(typed(&[b'a'; PASSPHRASE_BYTES_MAX + 1]), Err(PassphraseError::TooLong)));
    }
}
