//! The form of a scenario file. A field that is not known is a mistake, and every mistake names its line.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use quorate_keys::{Parameters, Protocol};
use quorate_node::setup::parameters_of;
use serde::Deserialize;
use toml::Spanned;

use super::Scenario;
use super::expectations::Expectations;
use super::timeline::{self, Event};
use crate::bench::fleet;
use crate::command::arguments::duration;
use crate::sim::script::{Load, Script};

/// A line, if one is to blame, and a sentence.
pub(super) type Wrong = (Option<usize>, String);

/// Sizes that can be played.
const REPLICAS: std::ops::RangeInclusive<usize> = 4..=16;
/// Longest scenario.
const DURATION_MAX: Duration = Duration::from_mins(10);
/// The longest pause between two requests of a client without another word.
const PAUSE: Duration = Duration::from_millis(20);
/// The shortest, in the simulator.
const PAUSE_LEAST: Duration = Duration::from_millis(1);

/// `20s`, `500ms`, `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Time(pub(super) Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Time, String> {
        // Events may happen at the very beginning.
        if ["0", "0s", "0ms"].contains(&text.as_str()) {
            return Ok(Time(Duration::ZERO));
        }
        duration(&text).map(Time)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    replicas: Spanned<usize>,
    #[serde(default = "first_seed")]
    seed: u64,
    protocol: Option<Spanned<String>>,
    duration: Spanned<Time>,
    #[serde(default)]
    parameters: BTreeMap<String, Spanned<u64>>,
    #[serde(default)]
    load: WrittenLoad,
    #[serde(default)]
    event: Vec<Event>,
    #[serde(default)]
    expect: Expectations,
}

const fn first_seed() -> u64 {
    1
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLoad {
    clients: Option<Spanned<usize>>,
    requests: Option<u64>,
    pause: Option<Time>,
    in_flight: Option<Spanned<usize>>,
}

/// The line that a byte stands on, from 1.
pub(super) fn line_of(text: &str, place: usize) -> usize {
    text.as_bytes().iter().take(place).filter(|byte| **byte == b'\n').count() + 1
}

/// Microseconds of a time, which no scenario's is too long for.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn parse(path: &Path, text: &str, asked_for: Option<Protocol>) -> Result<Scenario, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| {
        let sentence = error.message().lines().collect::<Vec<_>>().join(" ");
        (error.span().map(|span| line_of(text, span.start)), sentence)
    })?;
    let at = |place: usize| Some(line_of(text, place));
    let replicas = *file.replicas.get_ref();
    if !REPLICAS.contains(&replicas) {
        return Err((at(file.replicas.span().start), format!("{replicas} replicas cannot be played: give 4 to 16")));
    }
    let written = match &file.protocol {
        Some(named) => Protocol::from_name(named.get_ref())
            .ok_or_else(|| (at(named.span().start), format!("there is no protocol {:?}", named.get_ref())))?,
        None => Protocol::Pbft,
    };
    let protocol = asked_for.unwrap_or(written);
    let lasts = file.duration.get_ref().0;
    if lasts.is_zero() || lasts > DURATION_MAX {
        return Err((at(file.duration.span().start), "a scenario lasts 1ms to 10m".to_owned()));
    }
    let numbers = parameters(&file.parameters, &at)?;
    let spans = timeline::spans(text, &file.event, replicas, lasts, protocol)?;
    let script = Script {
        replicas,
        parameters: parameters_of(&numbers),
        load: load(&file.load, &at)?,
        spans,
        heals_at: micros(lasts),
    };
    let (liars, faults) = (script.liars(), (replicas - 1) / 3);
    if liars.len() > faults {
        let lie = |span: &&crate::sim::script::Span| matches!(span.what, crate::sim::script::Happening::Lies { .. });
        let line = script.spans.iter().filter(lie).map(|span| span.line).max();
        let sentence = format!("{} replicas lie, {replicas} tolerate {faults}", liars.len());
        return Err((line, sentence));
    }
    file.expect.check(replicas).map_err(|(place, sentence)| (at(place), sentence))?;
    let parameters = file.parameters.iter().map(|(name, value)| (name.clone(), *value.get_ref())).collect();
    Ok(Scenario {
        path: path.to_owned(),
        title: file.title,
        protocol,
        seed: file.seed,
        script,
        parameters,
        expectations: file.expect,
    })
}

/// Parameters as a genesis file has them, by the same names.
fn parameters(
    written: &BTreeMap<String, Spanned<u64>>,
    at: &impl Fn(usize) -> Option<usize>,
) -> Result<Parameters, Wrong> {
    let mut numbers = Parameters::default();
    for (name, value) in written {
        let line = at(value.span().start);
        if !numbers.set(name, *value.get_ref()) {
            let names: Vec<_> = numbers.rows().iter().map(|row| row.name).collect();
            return Err((line, format!("there is no parameter {name:?}; there are {}", names.join(", "))));
        }
        let row = numbers.rows().into_iter().find(|row| row.name == name);
        if let Some(row) = row.filter(|row| row.value < row.least || row.value > row.greatest) {
            return Err((line, format!("{name} = {} is out of bounds: {} to {}", row.value, row.least, row.greatest)));
        }
    }
    let last = written.values().map(|value| value.span().start).max();
    numbers.check().map_err(|error| (last.and_then(at), error.to_string()))?;
    Ok(numbers)
}

fn load(written: &WrittenLoad, at: &impl Fn(usize) -> Option<usize>) -> Result<Load, Wrong> {
    let clients = written.clients.as_ref().map_or(2, |clients| *clients.get_ref());
    if !(1..=fleet::CLIENTS_MAX).contains(&clients) {
        let line = written.clients.as_ref().and_then(|clients| at(clients.span().start));
        return Err((line, format!("{clients} clients are out of bounds: give 1 to {}", fleet::CLIENTS_MAX)));
    }
    let in_flight = written.in_flight.as_ref().map_or(1, |count| *count.get_ref());
    if !(1..=64).contains(&in_flight) {
        let line = written.in_flight.as_ref().and_then(|count| at(count.span().start));
        return Err((line, format!("{in_flight} requests in flight are out of bounds: give 1 to 64")));
    }
    let pause = written.pause.map_or(PAUSE, |pause| pause.0).max(PAUSE_LEAST);
    Ok(Load { clients, requests: written.requests, pause: micros(pause), in_flight })
}
