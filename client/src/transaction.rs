//! The two text forms of a transaction.
//!
//! As `etcdctl txn` reads it: comparisons, an empty line, what to do if all hold, an empty line, what to do else:
//!
//! ```text
//! value("balance") = "100"
//! version("lock") = 0
//!
//! put balance 90
//!
//! get balance
//! ```
//!
//! With labels, in which empty lines and lines that begin with `#` mean nothing:
//!
//! ```text
//! compare:
//!   value("balance") = "100"
//! success:
//!   put balance 90
//! failure:
//!   get balance
//! ```
//!
//! A comparison is `target("key") relation value`: target is `value`, `version`, `create`, `mod` or `lease`, or etcdctl's
//! short forms; relation is `=`, `!=`, `<` or `>`. An operation is `put KEY VALUE`, `get KEY [END] [--prefix] [--limit N]`
//! or `del KEY [END] [--prefix]`. See [`words`] for quoting.

use quorate_kv::{
    Compare, CompareTarget, DeleteRequest, KeyRange, PutRequest, RangeRequest, Relation, TxnOperation, TxnRequest,
};
use thiserror::Error;

pub mod words;

use words::{Word, split};

/// What is wrong with a transaction, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line} of the transaction: {problem}")]
pub struct TransactionError {
    /// From 1.
    pub line: usize,
    /// What is wrong there, and what would be right.
    pub problem: String,
}

/// The parts of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Compare,
    Success,
    Failure,
}

impl Part {
    fn next(self) -> Option<Part> {
        match self {
            Part::Compare => Some(Part::Success),
            Part::Success => Some(Part::Failure),
            Part::Failure => None,
        }
    }

    /// The part whose label begins the line, and the rest of the line.
    fn label(line: &str) -> Option<(Part, &str)> {
        let (label, rest) = line.split_once(':')?;
        let part = match label.trim().to_ascii_lowercase().as_str() {
            "compare" | "compares" => Part::Compare,
            "success" => Part::Success,
            "failure" => Part::Failure,
            _ => return None,
        };
        Some((part, rest.trim()))
    }
}

/// Reads a transaction in either form; the first line that says something decides which.
///
/// # Errors
/// The first line that cannot be read.
pub fn parse(text: &str) -> Result<TxnRequest, TransactionError> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    if first.is_some_and(|line| Part::label(line).is_some()) { parse_labelled(text) } else { parse_blocks(text) }
}

fn parse_labelled(text: &str) -> Result<TxnRequest, TransactionError> {
    let mut txn = TxnRequest::default();
    let mut part = Part::Compare;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let rest = match Part::label(line) {
            Some((labelled, rest)) => {
                part = labelled;
                rest
            }
            None => line,
        };
        if !rest.is_empty() {
            add(&mut txn, part, rest).map_err(|problem| TransactionError { line: index + 1, problem })?;
        }
    }
    Ok(txn)
}

fn parse_blocks(text: &str) -> Result<TxnRequest, TransactionError> {
    let mut txn = TxnRequest::default();
    let mut part = Some(Part::Compare);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            part = part.and_then(Part::next);
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let added = match part {
            Some(part) => add(&mut txn, part, line),
            None => Err("there are three blocks only: comparisons, success, failure".to_owned()),
        };
        added.map_err(|problem| TransactionError { line: index + 1, problem })?;
    }
    Ok(txn)
}

fn add(txn: &mut TxnRequest, part: Part, line: &str) -> Result<(), String> {
    match part {
        Part::Compare => txn.compare.push(parse_compare(line)?),
        Part::Success => txn.success.push(parse_operation(line)?),
        Part::Failure => txn.failure.push(parse_operation(line)?),
    }
    Ok(())
}

const COMPARE_FORM: &str = "a comparison is target(\"key\") = value, with target value, version, create, mod or lease";

fn parse_compare(line: &str) -> Result<Compare, String> {
    let (target, rest) = line.split_once('(').ok_or(COMPARE_FORM)?;
    let (key, rest) = words::quoted_until(rest, ')').ok_or(COMPARE_FORM)?;
    let rest = rest.trim_start();
    let (relation, rest) = [
        ("!=", Relation::NotEqual),
        ("==", Relation::Equal),
        ("=", Relation::Equal),
        ("<", Relation::Less),
        (">", Relation::Greater),
    ]
    .into_iter()
    .find_map(|(sign, relation)| rest.strip_prefix(sign).map(|rest| (relation, rest)))
    .ok_or("a comparison needs =, !=, < or > after the key")?;
    let values = split(rest)?;
    let [value] = values.as_slice() else {
        return Err("a comparison has one value on its right; put it in quotes if it has spaces".to_owned());
    };
    let number = || {
        let text = std::str::from_utf8(&value.bytes).ok();
        text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("{} is not a number", value.shown()))
    };
    let target = match target.trim().to_ascii_lowercase().as_str() {
        "value" | "val" => CompareTarget::Value(value.bytes.clone()),
        "version" | "ver" => CompareTarget::Version(number()?),
        "create" | "c" => CompareTarget::CreateRevision(number()?),
        "mod" | "m" => CompareTarget::ModRevision(number()?),
        "lease" => CompareTarget::Lease(number()?),
        other => return Err(format!("there is no target {other:?}: {COMPARE_FORM}")),
    };
    Ok(Compare { range: KeyRange::single(key), relation, target })
}

fn parse_operation(line: &str) -> Result<TxnOperation, String> {
    let words = split(line)?;
    let Some((verb, arguments)) = words.split_first() else { return Err("an operation is missing".to_owned()) };
    match verb.bytes.as_slice() {
        b"put" => match arguments {
            [key, value] => Ok(TxnOperation::Put(PutRequest::new(key.bytes.clone(), value.bytes.clone()))),
            _ => Err("put needs a key and a value: put KEY VALUE; put what has spaces in quotes".to_owned()),
        },
        b"get" => {
            let (range, limit) = parse_range("get", arguments)?;
            Ok(TxnOperation::Range(RangeRequest { limit, ..RangeRequest::new(range) }))
        }
        b"del" | b"delete" => match parse_range("del", arguments)? {
            (range, 0) => Ok(TxnOperation::Delete(DeleteRequest::new(range))),
            _ => Err("del has no --limit".to_owned()),
        },
        _ => Err(format!("there is no operation {}: use put, get or del", verb.shown())),
    }
}

/// `KEY [END] [--prefix] [--limit N]`.
fn parse_range(verb: &str, arguments: &[Word]) -> Result<(KeyRange, u64), String> {
    let mut plain: Vec<Vec<u8>> = Vec::new();
    let (mut prefix, mut limit) = (false, 0);
    let mut arguments = arguments.iter();
    while let Some(word) = arguments.next() {
        if word.quoted || !word.bytes.starts_with(b"--") {
            plain.push(word.bytes.clone());
            continue;
        }
        let (flag, value) = match word.bytes.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word.bytes[..at], Some(word.bytes[at + 1..].to_vec())),
            None => (&word.bytes[..], None),
        };
        match flag {
            b"--prefix" => prefix = true,
            b"--limit" => {
                let value = value.or_else(|| arguments.next().map(|word| word.bytes.clone()));
                let text = value.and_then(|value| String::from_utf8(value).ok());
                limit = text.and_then(|text| text.parse().ok()).ok_or("--limit needs a number")?;
            }
            _ => return Err(format!("{verb} has no flag {}", word.shown())),
        }
    }
    let range = match (plain.as_slice(), prefix) {
        ([key], false) => KeyRange::single(key.clone()),
        ([key], true) => KeyRange::prefix(key.clone()),
        ([key, end], false) => KeyRange::interval(key.clone(), end.clone()),
        _ => return Err(format!("{verb} needs a key, and at most an end or --prefix: {verb} KEY [END] [--prefix]")),
    };
    Ok((range, limit))
}

#[cfg(test)]
mod tests;
