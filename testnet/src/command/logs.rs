//! `logs`: what a replica wrote about itself.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use quorate_client::command::failure::Failure;

use super::arguments::Logs;
use super::launch_failure;
use crate::launcher::{Description, Directory, LaunchError};

/// How often a log that is followed is looked at.
const POLL: Duration = Duration::from_millis(100);

impl Logs {
    /// Ctrl-C ends the process, as it does for `tail`.
    pub(super) fn run(&self, directory: &Directory) -> Result<(), Failure> {
        let description = Description::load(directory).map_err(launch_failure)?;
        let (id, _) = description.replica(self.id).map_err(launch_failure)?;
        let path = directory.log(id);
        let unreadable = |error: io::Error| launch_failure(LaunchError::file(&path, &error));
        let mut file = File::open(&path).map_err(unreadable)?;
        let from = start(&mut file, self.lines).map_err(unreadable)?;
        file.seek(SeekFrom::Start(from)).map_err(unreadable)?;
        let mut out = io::stdout().lock();
        loop {
            match io::copy(&mut file, &mut out).and_then(|_| out.flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(unreadable(error)),
                Ok(()) if !self.follow => return Ok(()),
                Ok(()) => std::thread::sleep(POLL),
            }
        }
    }
}

/// Where the last `lines` lines begin; 0 lines means all.
fn start(file: &mut File, lines: usize) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(0);
    }
    let mut end = length;
    let mut found = 0;
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        io::Read::by_ref(file).take(end - begin).read_to_end(&mut block)?;
        for (offset, byte) in block.iter().enumerate().rev() {
            let position = begin + offset as u64;
            // The line feed at the very end begins no line.
            if *byte == b'\n' && position + 1 < length {
                found += 1;
                if found == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(text: &str, lines: usize) -> String {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let from = start(&mut file, lines).expect("readable");
        text[usize::try_from(from).expect("small")..].to_owned()
    }

    #[test]
    fn the_last_lines() {
        assert_eq!(last("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last("a\nb\nc", 1), "c");
        assert_eq!(last("a\nb\n", 9), "a\nb\n");
        assert_eq!(last("a\nb\n", 0), "a\nb\n");
        assert_eq!(last("", 3), "");
        let long = "x".repeat(100_000);
        assert_eq!(last(&format!("{long}\n{long}\nend\n"), 2).len(), 100_005);
    }
}
