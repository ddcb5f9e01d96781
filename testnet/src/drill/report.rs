//! Figures, and bars they have to pass.

use std::time::Duration;

use quorate_crypto::Protocol;
use serde_json::{Map, Value, json};

/// Where leaders take turns, one view of so many may fail without a fault.
const VIEWS_PER_FAILURE: u64 = 50;

/// Whether a machine that is busy with something else may be to blame for a missed bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Safety, or a count that is exact on any machine.
    Count,
    /// A time, a throughput, a size.
    Measure,
}

/// What a figure has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// For people: `at most 400 ms`.
    pub limit: String,
    /// Whether it is.
    pub met: bool,
    /// How seriously a miss is to be taken.
    pub kind: Kind,
}

/// One number of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name in JSON, with the unit.
    pub key: &'static str,
    /// Its name for people.
    pub label: String,
    /// The number in JSON.
    pub value: Value,
    /// The number for people, with the unit.
    pub shown: String,
    /// What it has to be, if anything.
    pub bar: Option<Bar>,
}

/// Figures of one part of a drill: a replica, a behaviour, a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Its figures.
    pub figures: Vec<Figure>,
}

/// What a drill found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How it was taken, one line.
    pub setting: String,
    /// The figures of the whole.
    pub figures: Vec<Figure>,
    /// The figures of its parts.
    pub sections: Vec<Section>,
    /// Sentences worth reading: the first of what went wrong.
    pub notes: Vec<String>,
    /// What only programs want to know, such as every single measurement.
    pub details: Map<String, Value>,
}

impl Figure {
    /// A count.
    pub fn count(key: &'static str, label: &str, count: u64) -> Figure {
        Figure { key, label: label.to_owned(), value: count.into(), shown: count.to_string(), bar: None }
    }

    /// A time, in JSON as milliseconds. None if it was never measured: it did not happen in time.
    pub fn time(key: &'static str, label: &str, time: Option<Duration>) -> Figure {
        let millis = time.map(|time| rounded(time.as_secs_f64() * 1000.0));
        let shown = time.map_or_else(|| "never".to_owned(), shown_time);
        Figure { key, label: label.to_owned(), value: json!(millis), shown, bar: None }
    }

    /// Any number, with its unit for people.
    pub fn number(key: &'static str, label: &str, number: f64, unit: &str) -> Figure {
        let shown = if number.abs() >= 100.0 { format!("{number:.0}") } else { format!("{number:.2}") };
        let shown = format!("{shown} {unit}").trim_end().to_owned();
        Figure { key, label: label.to_owned(), value: json!(rounded(number)), shown, bar: None }
    }

    /// Words.
    pub fn text(key: &'static str, label: &str, value: Value, shown: String) -> Figure {
        Figure { key, label: label.to_owned(), value, shown, bar: None }
    }

    /// The same with a bar.
    #[must_use]
    pub fn with_bar(self, limit: impl Into<String>, met: bool, kind: Kind) -> Figure {
        Figure { bar: Some(Bar { limit: limit.into(), met, kind }), ..self }
    }

    /// A count that has to be 0.
    pub fn none_of(key: &'static str, label: &str, count: u64) -> Figure {
        Figure::count(key, label, count).with_bar("none", count == 0, Kind::Count)
    }

    /// View changes while `views` went by. A primary that stays until it is given up is never given up without need. Where
    /// leaders take turns a view is one block of many: the machine that runs late once, or a leader that is frozen when
    /// its turn comes, costs one or two, and it is their share that is bounded.
    pub fn view_changes(protocol: Protocol, count: u64, views: u64) -> Figure {
        if !protocol.leaders_take_turns() {
            return Figure::none_of("view_changes", "view changes", count);
        }
        let most = views / VIEWS_PER_FAILURE;
        let limit = format!("at most {most} of {views}");
        Figure::count("view_changes", "views given up", count).with_bar(limit, count <= most, Kind::Count)
    }

    /// A time that has to be at most `limit`.
    pub fn time_within(key: &'static str, label: &str, time: Option<Duration>, limit: Duration) -> Figure {
        let met = time.is_some_and(|time| time <= limit);
        Figure::time(key, label, time).with_bar(format!("at most {}", shown_time(limit)), met, Kind::Measure)
    }
}

impl Report {
    /// Every figure, those of the parts included, with the name of its part.
    pub fn all(&self) -> impl Iterator<Item = (Option<&str>, &Figure)> {
        let parts = self
            .sections
            .iter()
            .flat_map(|section| section.figures.iter().map(move |figure| (Some(section.name.as_str()), figure)));
        self.figures.iter().map(|figure| (None, figure)).chain(parts)
    }

    /// The bars that were missed and count: those of [`Kind::Measure`] only if `strict`.
    pub fn missed(&self, strict: bool) -> Vec<String> {
        let counts = |bar: &Bar| !bar.met && (strict || bar.kind == Kind::Count);
        let missed = self.all().filter(|(_, figure)| figure.bar.as_ref().is_some_and(counts));
        let named = missed.map(|(part, figure)| {
            let part = part.map_or_else(String::new, |part| format!(", {part}"));
            format!("{} ({}{part})", figure.label, figure.shown)
        });
        named.collect()
    }

    /// One object: the figures by their names, the parts as a list, and every bar.
    pub fn to_json(&self, drill: &str, replicas: usize) -> Value {
        let fields = |figures: &[Figure]| -> Map<String, Value> {
            figures.iter().map(|figure| (figure.key.to_owned(), figure.value.clone())).collect()
        };
        let bars = self.all().filter_map(|(part, figure)| {
            let bar = figure.bar.as_ref()?;
            let kind = if bar.kind == Kind::Count { "count" } else { "measure" };
            Some(json!({
                "figure": figure.key, "part": part, "value": figure.value, "bar": bar.limit, "kind": kind,
                "verdict": verdict(bar),
            }))
        });
        let mut object = Map::new();
        object.insert("v".to_owned(), 1.into());
        object.insert("drill".to_owned(), drill.into());
        object.insert("n".to_owned(), replicas.into());
        object.extend(fields(&self.figures));
        if !self.sections.is_empty() {
            let parts = self.sections.iter().map(|section| {
                let mut part = fields(&section.figures);
                part.insert("name".to_owned(), section.name.clone().into());
                Value::Object(part)
            });
            object.insert("parts".to_owned(), parts.collect());
        }
        object.extend(self.details.clone());
        object.insert("notes".to_owned(), json!(self.notes));
        object.insert("bars".to_owned(), bars.collect());
        object.insert("met".to_owned(), self.missed(true).is_empty().into());
        Value::Object(object)
    }
}

/// `ok` or `missed`.
pub const fn verdict(bar: &Bar) -> &'static str {
    if bar.met { "ok" } else { "missed" }
}

/// A time as people read it.
pub fn shown_time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

/// To three decimals: more is noise.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: u64, gap: u64) -> Report {
        let gap =
            Figure::time_within("gap_p50_ms", "gap", Some(Duration::from_millis(gap)), Duration::from_millis(400));
        let lost = Figure::none_of("lost", "lost writes", lost);
        let sections = vec![Section { name: "replica 2".to_owned(), figures: vec![lost] }];
        Report { figures: vec![gap], sections, ..Report::default() }
    }

    #[test]
    fn a_missed_count_always_counts_and_a_missed_time_only_if_asked() {
        assert!(report(0, 400).missed(true).is_empty());
        assert!(report(0, 401).missed(false).is_empty());
        assert_eq!(report(0, 401).missed(true), ["gap (401 ms)"]);
        assert_eq!(report(2, 1).missed(false), ["lost writes (2, replica 2)"]);
        let never = Figure::time_within("ms", "time", None, Duration::from_secs(5));
        assert!(never.bar.is_some_and(|bar| !bar.met) && never.value.is_null());
    }

    #[test]
    fn views_that_are_one_block_each_may_fail_now_and_then() {
        let met = |protocol, count| Figure::view_changes(protocol, count, 199).bar.map(|bar| (bar.limit, bar.met));
        assert_eq!(met(Protocol::HotStuff, 3), Some(("at most 3 of 199".to_owned(), true)));
        assert_eq!(met(Protocol::HotStuff, 4).map(|bar| bar.1), Some(false));
        assert_eq!([0, 1].map(|count| met(Protocol::Pbft, count).map(|bar| bar.1)), [Some(true), Some(false)]);
    }

    #[test]
    fn json_has_figures_parts_and_bars() {
        let object = report(1, 300).to_json("kill-primary", 4);
        assert_eq!((&object["v"], &object["gap_p50_ms"], &object["met"]), (&json!(1), &json!(300.0), &json!(false)));
        assert_eq!(object["parts"][0]["lost"], 1);
        assert_eq!((&object["bars"][0]["verdict"], &object["bars"][1]["verdict"]), (&json!("ok"), &json!("missed")));
        assert_eq!(object["bars"][1]["part"], "replica 2");
    }
}
