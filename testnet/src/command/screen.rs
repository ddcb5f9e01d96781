//! What people see: steps with a tick, tables, one line that is drawn again and again. Colour only on a terminal, and
//! never with `NO_COLOR`.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use owo_colors::OwoColorize as _;

/// A step that was done: `  ok  keys, genesis and config           11 ms`.
pub(super) fn step(what: &str, detail: &str) {
    say!("  {}  {what:<36} {}", "ok".green().bold(), detail.dimmed());
}

/// A time as people read it: `2.1 ms`, `140 ms`, `3.2 s`.
pub(super) fn time(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else if millis < 10_000.0 {
        format!("{millis:.0} ms")
    } else {
        format!("{:.1} s", millis / 1000.0)
    }
}

/// How a cell is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// Worth a look.
    Warning,
    /// Not well.
    Bad,
}

/// A cell of a table.
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// An unpainted cell.
    pub(super) fn plain(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), tone: Tone::Plain }
    }

    /// A painted cell.
    pub(super) fn toned(text: impl ToString, tone: Tone) -> Cell {
        Cell { text: text.to_string(), tone }
    }
}

/// The lines of a table, columns as wide as they must be, two spaces between them and before the first.
pub(super) fn table(headings: &[&str], rows: &[Vec<Cell>]) -> Vec<String> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let heading: Vec<String> =
        headings.iter().zip(&widths).map(|(heading, width)| format!("{heading:<width$}")).collect();
    let mut lines = vec![format!("  {}", heading.join("  ").trim_end().dimmed())];
    for row in rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let last = index + 1 == row.len();
            let padding = if last { 0 } else { width.saturating_sub(cell.text.chars().count()) };
            line.push_str("  ");
            line.push_str(&paint(&cell.text, cell.tone));
            line.extend(std::iter::repeat_n(' ', padding));
        }
        lines.push(line);
    }
    lines
}

fn paint(text: &str, tone: Tone) -> String {
    match tone {
        Tone::Plain => text.to_owned(),
        Tone::Good => text.green().to_string(),
        Tone::Warning => text.yellow().to_string(),
        Tone::Bad => text.red().bold().to_string(),
    }
}

/// Prints lines to stdout, painted if it is a terminal that takes it.
pub(super) fn lines(lines: &[String]) {
    for line in lines {
        say!("{line}");
    }
}

/// A line to a person at a terminal, on stderr.
pub(super) fn warn(sentence: &str) {
    anstream::eprintln!("{} {sentence}", "warning:".yellow().bold());
}

/// A line at the bottom that is drawn again and again. Off a terminal it is not drawn at all.
pub(super) struct Ticker {
    on: bool,
    drawn: bool,
}

impl Ticker {
    /// A ticker on stdout.
    pub(super) fn new() -> Ticker {
        Ticker { on: io::stdout().is_terminal(), drawn: false }
    }

    /// Whether anybody sees it.
    pub(super) const fn is_on(&self) -> bool {
        self.on
    }

    /// Draws the line in place of the one before, cut to the terminal's width.
    pub(super) fn draw(&mut self, line: &str) {
        if !self.on {
            return;
        }
        let width = width();
        let cut: String = line.chars().take(width.saturating_sub(1)).collect();
        let mut out = io::stdout().lock();
        // A terminal that went away is noticed elsewhere.
        let _ = write!(out, "\r\x1b[2K{cut}").and_then(|()| out.flush());
        self.drawn = true;
    }

    /// Leaves the line as it is and goes to the next.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let mut out = io::stdout().lock();
            let _ = writeln!(out).and_then(|()| out.flush());
        }
    }
}

fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col);
    if columns == 0 { 80 } else { usize::from(columns) }
}

/// How the client is called: through cargo in a checkout, else by its name.
pub(super) fn client_command() -> &'static str {
    if is_under_cargo() { "cargo client" } else { "quorate" }
}

/// How this program is called.
pub(super) fn testnet_command() -> &'static str {
    if is_under_cargo() { "cargo testnet" } else { "quorate-testnet" }
}

fn is_under_cargo() -> bool {
    std::env::var_os("CARGO_MANIFEST_DIR").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = vec![
            vec![Cell::plain(0), Cell::plain("primary"), Cell::plain("honest")],
            vec![Cell::plain(10), Cell::plain("backup"), Cell::plain("equivocate")],
        ];
        let lines: Vec<String> = table(&["ID", "ROLE", "BEHAVIOUR"], &rows)
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        assert_eq!(lines, ["  ID  ROLE     BEHAVIOUR", "  0   primary  honest", "  10  backup   equivocate"]);
    }

    #[test]
    fn times_for_people() {
        let shown = |micros| time(Duration::from_micros(micros));
        assert_eq!([shown(2_140), shown(140_200), shown(12_300_000)], ["2.1 ms", "140 ms", "12.3 s"]);
    }
}
