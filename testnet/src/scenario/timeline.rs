//! Events as they are written: each begins something or ends it. What goes out is what lasts from when to when.
//!
//! | `do` | with | until |
//! |---|---|---|
//! | `crash`, `power-cut` | `replica` or `replicas` | `restart` |
//! | `partition` | `groups`; who is in none is alone | `heal` |
//! | `delay` | `by`, `jitter`; `replica` or all | `heal` |
//! | `loss` | `percent`; `replica` or all | `heal` |
//! | `fault` | `replica`, `behaviours` as for `up --fault`, under HotStuff `hotstuff.behaviours` if given | `honest` |
//! | `pause` | `replica` or `replicas` | `resume` |
//!
//! Everything that begins may have `for` instead, and is over at the end of the scenario, but for lies.

use std::time::Duration;

use quorate_crypto::Protocol;
use serde::Deserialize;
use toml::Spanned;

use super::file::{Time, Wrong, line_of, micros};
use crate::faults::Misbehaviour;
use crate::launcher::control;
use crate::sim::script::{Happening, Span};

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Do {
    Crash,
    PowerCut,
    Restart,
    Partition,
    Heal,
    Delay,
    Loss,
    Fault,
    Honest,
    Pause,
    Resume,
}

/// An event as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    at: Spanned<Time>,
    #[serde(rename = "do")]
    what: Spanned<Do>,
    replica: Option<usize>,
    replicas: Option<Vec<usize>>,
    groups: Option<Vec<Vec<usize>>>,
    behaviours: Option<Vec<String>>,
    hotstuff: Option<UnderHotStuff>,
    by: Option<Time>,
    jitter: Option<Time>,
    percent: Option<u32>,
    #[serde(rename = "for")]
    lasts: Option<Time>,
}

/// What holds in place of the event's own fields under HotStuff: a lie told in messages of PBFT means nothing there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnderHotStuff {
    behaviours: Vec<String>,
}

/// What an end event ends.
fn ends(end: Do, replica: Option<usize>, what: &Happening) -> bool {
    match (end, what) {
        (Do::Restart, Happening::Down { replica: one, .. })
        | (Do::Honest, Happening::Lies { replica: one, .. })
        | (Do::Resume, Happening::Frozen { replica: one }) => replica == Some(*one),
        (Do::Heal, Happening::Apart { .. } | Happening::Links { .. }) => true,
        _ => false,
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self.what.get_ref() {
            Do::Crash => "crash",
            Do::PowerCut => "power-cut",
            Do::Restart => "restart",
            Do::Partition => "partition",
            Do::Heal => "heal",
            Do::Delay => "delay",
            Do::Loss => "loss",
            Do::Fault => "fault",
            Do::Honest => "honest",
            Do::Pause => "pause",
            Do::Resume => "resume",
        }
    }

    /// That no field stands there which this event has no use for.
    fn check_fields(&self) -> Result<(), String> {
        let what = *self.what.get_ref();
        let is_end = matches!(what, Do::Restart | Do::Heal | Do::Honest | Do::Resume);
        let links = matches!(what, Do::Delay | Do::Loss);
        let fields = [
            ("replica", self.replica.is_some(), !matches!(what, Do::Partition | Do::Heal)),
            ("replicas", self.replicas.is_some(), !matches!(what, Do::Partition | Do::Heal) && !links),
            ("groups", self.groups.is_some(), what == Do::Partition),
            ("behaviours", self.behaviours.is_some(), what == Do::Fault),
            ("hotstuff", self.hotstuff.is_some(), what == Do::Fault),
            ("by", self.by.is_some(), what == Do::Delay),
            ("jitter", self.jitter.is_some(), what == Do::Delay),
            ("percent", self.percent.is_some(), what == Do::Loss),
            ("for", self.lasts.is_some(), !is_end),
        ];
        match fields.into_iter().find(|(_, given, useful)| *given && !useful) {
            Some((field, ..)) => Err(format!("`{field}` means nothing to `{}`", self.name())),
            None => Ok(()),
        }
    }

    /// The replicas it names, each of which exists.
    fn named(&self, replicas: usize) -> Result<Vec<usize>, String> {
        let named = match (self.replica, &self.replicas) {
            (Some(one), None) => vec![one],
            (None, Some(several)) if !several.is_empty() => several.clone(),
            (Some(_), Some(_)) => return Err("give `replica` or `replicas`, not both".to_owned()),
            _ => return Err(format!("`{}` needs `replica` or `replicas`", self.name())),
        };
        match named.iter().find(|replica| **replica >= replicas) {
            Some(unknown) => Err(format!("there is no replica {unknown}: they are 0 to {}", replicas - 1)),
            None => Ok(named),
        }
    }

    fn apart(&self, replicas: usize) -> Result<Happening, String> {
        let groups = self.groups.as_ref().ok_or("`partition` needs `groups`, as in [[0, 1], [2, 3]]")?;
        let mut group: Vec<Option<u8>> = vec![None; replicas];
        for (number, members) in groups.iter().enumerate() {
            for member in members {
                let place = group
                    .get_mut(*member)
                    .ok_or_else(|| format!("there is no replica {member}: they are 0 to {}", replicas - 1))?;
                if place.replace(number as u8).is_some() {
                    return Err(format!("replica {member} stands in two groups"));
                }
            }
        }
        let alone = |(replica, group): (usize, Option<u8>)| group.unwrap_or(100 + replica as u8);
        Ok(Happening::Apart { group: group.into_iter().enumerate().map(alone).collect() })
    }

    /// The lies told under `protocol`. Those for HotStuff are checked whatever is played.
    fn lies(&self, protocol: Protocol) -> Result<Vec<Misbehaviour>, String> {
        let read = |texts: &[String]| match texts {
            [] => Err("`fault` needs `behaviours`, as in [\"equivocate\"]".to_owned()),
            texts => control::misbehaviours(texts),
        };
        let on = read(self.behaviours.as_deref().unwrap_or_default())?;
        let under_hotstuff = self.hotstuff.as_ref().map(|other| read(other.behaviours.as_slice())).transpose()?;
        if let Some(other) = &under_hotstuff {
            check_meaning(other, Protocol::HotStuff)?;
        }
        let on = under_hotstuff.filter(|_| protocol == Protocol::HotStuff).unwrap_or(on);
        check_meaning(&on, protocol)?;
        Ok(on)
    }

    fn links(&self, replicas: usize) -> Result<Happening, String> {
        if let Some(unknown) = self.replica.filter(|replica| *replica >= replicas) {
            return Err(format!("there is no replica {unknown}: they are 0 to {}", replicas - 1));
        }
        let time = |time: Option<Time>| time.map_or(0, |time| micros(time.0));
        let (latency, jitter, loss_percent) = (time(self.by), time(self.jitter), self.percent.unwrap_or(0));
        if loss_percent > 100 {
            return Err(format!("{loss_percent} % cannot be lost"));
        }
        if latency + jitter == 0 && loss_percent == 0 {
            let needs = if *self.what.get_ref() == Do::Loss { "`percent`" } else { "`by` or `jitter`" };
            return Err(format!("`{}` needs {needs}", self.name()));
        }
        Ok(Happening::Links { replica: self.replica, latency, jitter, loss_percent })
    }

    /// What it begins; nothing, if it ends something.
    fn begins(&self, replicas: usize, protocol: Protocol) -> Result<Vec<Happening>, String> {
        self.check_fields()?;
        let each = |make: &dyn Fn(usize) -> Happening| Ok(self.named(replicas)?.into_iter().map(make).collect());
        match self.what.get_ref() {
            Do::Crash => each(&|replica| Happening::Down { replica, power_cut: false }),
            Do::PowerCut => each(&|replica| Happening::Down { replica, power_cut: true }),
            Do::Pause => each(&|replica| Happening::Frozen { replica }),
            Do::Fault => {
                let on = self.lies(protocol)?;
                each(&|replica| Happening::Lies { replica, on: on.clone() })
            }
            Do::Partition => Ok(vec![self.apart(replicas)?]),
            Do::Delay | Do::Loss => Ok(vec![self.links(replicas)?]),
            Do::Restart | Do::Honest | Do::Resume => self.named(replicas).map(|_| Vec::new()),
            Do::Heal => Ok(Vec::new()),
        }
    }
}

/// That each of these lies is one under `protocol`.
fn check_meaning(lies: &[Misbehaviour], protocol: Protocol) -> Result<(), String> {
    lies.iter().find_map(|lie| lie.behaviour.refusal(protocol)).map_or(Ok(()), Err)
}

/// What the events of a scenario of that length come to under `protocol`.
pub(super) fn spans(
    text: &str,
    events: &[Event],
    replicas: usize,
    lasts: Duration,
    protocol: Protocol,
) -> Result<Vec<Span>, Wrong> {
    let end = micros(lasts);
    let mut spans: Vec<Span> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut ordered: Vec<&Event> = events.iter().collect();
    ordered.sort_by_key(|event| event.at.get_ref().0);
    for event in ordered {
        let line = line_of(text, event.at.span().start);
        let wrong = |sentence: String| (Some(line), sentence);
        let from = micros(event.at.get_ref().0);
        if from >= end {
            return Err(wrong("it would happen after the end of the scenario".to_owned()));
        }
        let begins = event.begins(replicas, protocol).map_err(wrong)?;
        for what in begins {
            let until = event.lasts.map(|lasts| from + micros(lasts.0)).filter(|until| *until < end);
            if until.is_none() && event.lasts.is_none() {
                open.push(spans.len());
            }
            spans.push(Span { from, until: until.unwrap_or(end), what, line });
        }
        let what = *event.what.get_ref();
        if matches!(what, Do::Restart | Do::Heal | Do::Honest | Do::Resume) {
            let named = if what == Do::Heal {
                vec![None]
            } else {
                event.named(replicas).map_err(wrong)?.into_iter().map(Some).collect()
            };
            for replica in named {
                let (ended, going_on): (Vec<usize>, Vec<usize>) =
                    open.iter().partition(|index| ends(what, replica, &spans[**index].what));
                if ended.is_empty() {
                    let whose = replica.map_or_else(String::new, |replica| format!(" of replica {replica}"));
                    return Err(wrong(format!("`{}` ends nothing{whose} that goes on by then", event.name())));
                }
                for index in ended {
                    spans[index].until = from;
                }
                open = going_on;
            }
        }
    }
    check_overlaps(&spans)?;
    Ok(spans)
}

/// That one replica is not taken down, frozen or turned twice at once: what ends one would end the other.
fn check_overlaps(spans: &[Span]) -> Result<(), Wrong> {
    let same = |one: &Happening, other: &Happening| match (one, other) {
        (
            Happening::Down { replica: one, .. } | Happening::Frozen { replica: one },
            Happening::Down { replica: other, .. } | Happening::Frozen { replica: other },
        )
        | (Happening::Lies { replica: one, .. }, Happening::Lies { replica: other, .. }) => one == other,
        (Happening::Links { replica: one, .. }, Happening::Links { replica: other, .. }) => {
            one == other || one.is_none() || other.is_none()
        }
        _ => false,
    };
    for (index, later) in spans.iter().enumerate() {
        let overlaps = |earlier: &&Span| earlier.until > later.from && same(&earlier.what, &later.what);
        if let Some(earlier) = spans[..index].iter().find(overlaps) {
            let sentence = format!("what began on line {} still goes on for the same replica or link", earlier.line);
            return Err((Some(later.line), sentence));
        }
    }
    Ok(())
}
