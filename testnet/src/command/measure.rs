//! `simulate --measure`: the tables.

use super::screen::{self, Cell};
use crate::measure::{Figure, Row, Situation, crossings};

/// Prints the tables.
pub(crate) fn say(rows: &[Row]) {
    let (view_changes, batches): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.situation == Situation::LeaderDies);
    let number = |figure: Figure, row: &Row| figure.of(row).map_or_else(|| "?".to_owned(), short);
    let cells = |row: &&Row| {
        let operations = row.measured.operations as f64 / row.measured.batches.max(1) as f64;
        let each = |figure: Figure| figure.of_operation(row).map_or_else(|| "?".to_owned(), short);
        [
            row.protocol.name().to_owned(),
            row.replicas.to_string(),
            row.situation.name().to_owned(),
            short(operations),
            number(Figure::Messages, row),
            number(Figure::Bytes, row),
            number(Figure::Signed, row),
            number(Figure::Checked, row),
            each(Figure::Messages),
            each(Figure::Bytes),
            each(Figure::Signed),
            each(Figure::Checked),
            row.delays.map_or_else(|| "?".to_owned(), |delays| format!("{delays:.1}")),
        ]
        .into_iter()
        .map(Cell::plain)
        .collect::<Vec<Cell>>()
    };
    let headings = [
        "PROTOCOL",
        "N",
        "SITUATION",
        "OPS/BATCH",
        "MESSAGES/BATCH",
        "BYTES/BATCH",
        "SIGNED/BATCH",
        "CHECKED/BATCH",
        "MESSAGES/OP",
        "BYTES/OP",
        "SIGNED/OP",
        "CHECKED/OP",
        "DELAYS",
    ];
    screen::lines(&screen::table(&headings, &batches.iter().map(cells).collect::<Vec<_>>()));
    say!("");
    let cells = |row: &&Row| {
        [
            row.protocol.name().to_owned(),
            row.replicas.to_string(),
            number(Figure::Messages, row),
            number(Figure::Bytes, row),
            number(Figure::Signed, row),
            number(Figure::Checked, row),
            format!("{:.0} ms", row.measured.gap as f64 / 1e3),
        ]
        .into_iter()
        .map(Cell::plain)
        .collect::<Vec<Cell>>()
    };
    let headings = ["VIEW CHANGE", "N", "MESSAGES", "BYTES", "SIGNED", "CHECKED", "GAP"];
    screen::lines(&screen::table(&headings, &view_changes.iter().map(cells).collect::<Vec<_>>()));
    say!("");
    for sentence in crossings(rows) {
        say!("{sentence}");
    }
}

/// Three digits or so, with a unit prefix beyond ten thousand.
fn short(number: f64) -> String {
    match number {
        n if n >= 1e7 => format!("{:.1} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        n if n >= 100.0 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}
