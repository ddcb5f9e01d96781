//! `gauntlet`: progress, the table, the verdict.

use std::path::PathBuf;

use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report as Output;
use serde_json::{Value, json};

use super::bench::rounded;
use super::drill::{EXIT_MISSED, failure, spinner, until_signalled};
use super::screen::{self, Cell, Tone};
use crate::drill::Place;
use crate::drill::report::Kind;
use crate::gauntlet::Gauntlet;
use crate::gauntlet::verdict::{self, Column, FaultFree, Judged, Miss};

/// Runs the gauntlet; `named` is where its testnets are to be kept.
pub(super) async fn run(gauntlet: &Gauntlet, named: Option<PathBuf>, output: Output) -> Result<(), Failure> {
    let place = Place::new(named, gauntlet.common.protocol);
    let progress = spinner();
    let mut tell = |what: String| progress.set_message(what);
    let work = async { gauntlet.run(&place, &mut tell).await.map_err(failure) };
    let rows = until_signalled(work).await;
    progress.finish_and_clear();
    let rows = rows?;
    let fault_free = FaultFree::of(&rows);
    let judged = verdict::judge(&rows);
    if output.json {
        output.value(&to_json(gauntlet, &judged, fault_free.as_ref()))?;
    } else {
        say(gauntlet, &judged, fault_free.as_ref());
    }
    let counts = |miss: &&Miss| gauntlet.common.strict || miss.kind == Kind::Count;
    let missed: Vec<String> = judged
        .iter()
        .flat_map(|one| one.misses.iter().filter(counts).map(|miss| format!("{}: {}", one.row.name, miss.sentence)))
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure { code: EXIT_MISSED, sentence: format!("gauntlet missed {}", missed.join("; ")) })
}

/// What a column says: nothing where a row was not measured to its end, or has nothing to be put beside.
fn word(Judged { row, ratio, misses, .. }: &Judged, column: Column) -> &'static str {
    let judged = row.failure.is_none() && (column != Column::Throughput || ratio.is_some());
    if misses.iter().any(|miss| miss.column == column) {
        "missed"
    } else if judged {
        "ok"
    } else {
        "-"
    }
}

fn to_json(gauntlet: &Gauntlet, judged: &[Judged], fault_free: Option<&FaultFree>) -> Value {
    let rows = judged.iter().map(|one| {
        let Judged { row, ratio, cost, misses } = one;
        let mut object = json!(row);
        object["verdict"] = json!({
            "safe": word(one, Column::Safe),
            "clean": word(one, Column::Clean),
            "throughput": word(one, Column::Throughput),
            "gap": word(one, Column::Gap),
            "cost": cost.map(rounded),
            "ratio": ratio.map(rounded),
            "misses": misses.iter().map(|miss| &miss.sentence).collect::<Vec<_>>(),
        });
        object
    });
    json!({
        "v": 1,
        "seconds": gauntlet.time.as_secs_f64(),
        "n": gauntlet.common.replicas,
        "fault_free": fault_free.map(|fault_free| json!({
            "rows": fault_free.rows,
            "ops_per_s": fault_free.ops_per_s,
            "ops_per_s_min": fault_free.range.0,
            "ops_per_s_max": fault_free.range.1,
            "resident_mib": fault_free.resident_mib,
        })),
        "rows": rows.collect::<Vec<_>>(),
        "met": judged.iter().all(|one| one.misses.is_empty()),
    })
}

fn say(gauntlet: &Gauntlet, judged: &[Judged], fault_free: Option<&FaultFree>) {
    say!("gauntlet: {}", gauntlet.setting());
    let headings = [
        "BEHAVIOUR",
        "LIAR",
        "ACTED",
        "SAFE",
        "CLEAN",
        "OPS/S",
        "RATIO",
        "BAR",
        "",
        "LONGEST GAP",
        "",
        "VIEW CHANGES",
        "CPU/OP",
        "OTHERS",
        "BESIDES",
    ];
    let rows: Vec<Vec<Cell>> = judged.iter().map(cells).collect();
    screen::lines(&screen::table(&headings, &rows));
    if let Some(fault_free) = fault_free {
        let (least, most) = fault_free.range;
        say!(
            "fault-free: median {:.0} operations/s of {} ({least:.0} to {most:.0}), {:.0} MiB",
            fault_free.ops_per_s,
            fault_free.rows,
            fault_free.resident_mib
        );
    }
    for Judged { row, misses, .. } in judged {
        for miss in misses {
            screen::warn(&format!("{}: {}", row.name, miss.sentence));
        }
    }
}

fn number(number: Option<f64>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| format!("{number:.2}"))
}

fn cells(one: &Judged) -> Vec<Cell> {
    let Judged { row, ratio, cost, misses } = one;
    let judged = |column: Column| {
        let own = || misses.iter().filter(move |miss| miss.column == column);
        let tone = match (own().count(), own().any(|miss| miss.kind == Kind::Count)) {
            (0, _) => Tone::Good,
            (_, false) => Tone::Warning,
            (_, true) => Tone::Bad,
        };
        Cell::toned(word(one, column), tone)
    };
    let gap = row.longest_gap_ms.map_or_else(|| "never".to_owned(), |gap| format!("{gap:.0} ms"));
    let bar = if row.is_fault_free() { String::new() } else { verdict::throughput_bar(row).to_string() };
    vec![
        Cell::plain(&row.name),
        Cell::plain(row.liar.map_or_else(String::new, |liar| liar.to_string())),
        Cell::plain(row.acted),
        judged(Column::Safe),
        judged(Column::Clean),
        Cell::plain(format!("{:.0}", row.ops_per_s)),
        Cell::plain(number(*ratio)),
        Cell::plain(bar),
        judged(Column::Throughput),
        Cell::plain(gap),
        judged(Column::Gap),
        Cell::plain(row.view_changes),
        Cell::plain(number(*cost)),
        Cell::plain(number(row.foreign_cores)),
        Cell::plain(&row.occasion),
    ]
}
