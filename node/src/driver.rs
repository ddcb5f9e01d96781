//! The driver: one turn is *step, sync, publish*. It has no threads and no clock, so the simulator runs it as it is.
//!
//! ```text
//!   inputs ─► step* ─► records ─► one frame, one sync ─► publish: sends, decided batches, replies
//!                                                           │
//!                             results, new inputs ◄─────────┘ execution
//! ```
//!
//! There is one exit door, `Driver::publish`, with an assertion on it: nothing leaves before the record it waits for is
//! durable. Records nobody waits for ride along with the next frame. A storage error ends the turn, and the process.

use std::collections::{BTreeMap, HashMap, VecDeque};

use quorate_crypto::encoding::{DECODE_CEILING, decode, encode};
use quorate_crypto::merkle_tree::MerklePath;
use quorate_crypto::{Digest, PublicKey, ReplicaId, Seq, Signed, Verified};
use quorate_protocol::engine::{Busy, Decided, Engine, Halt, Input, Now, Recipients, RecordIndex, Send, Step};
use quorate_protocol::evidence::Evidence;
use quorate_protocol::execution::{Execution, Judgement, Service as _};
use quorate_protocol::message::Message;
use quorate_protocol::record::Record;
use quorate_protocol::reply::{Outcome, Refusal, Reply};
use quorate_protocol::request::Request;
use quorate_protocol::state::Snapshot;
use thiserror::Error;

use crate::disk::Disk;
use crate::key_value::KeyValue;
use crate::log::{FrameLog, FrameNumber, LogError};

/// A frame is closed when its records reach about this many bytes, so that every frame decodes within its limit.
const FRAME_BYTES: usize = 4 * 1024 * 1024;
/// Records nobody waits for are written after so many turns at the latest.
const LAZY_TURNS: u32 = 64;
/// Batches whose results can still be opened for receipts.
const RECEIPTS_KEPT: usize = 1024;

/// Bytes of recent replies kept for copies of requests that arrive late.
const RECENT_REPLY_BYTES: usize = 8 * 1024 * 1024;

/// Why a turn failed. The process must end; nothing of the turn was published but what `leave` was given.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A state that was certified or loaded cannot be used.
    #[error("the state at {seq} cannot be restored: {reason}")]
    State {
        /// The checkpoint.
        seq: Seq,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a turn publishes.
#[derive(Debug, Default)]
pub struct Published {
    /// Messages to peers, in order.
    pub sends: Vec<(Recipients, Message)>,
    /// Answers to clients.
    pub replies: Vec<(PublicKey, Reply)>,
    /// Requests refused before they were ordered.
    pub refused: Vec<(PublicKey, Digest, Refusal)>,
    /// Requests that found no room.
    pub busy: Vec<Busy>,
    /// Fresh evidence.
    pub evidence: Vec<Evidence>,
    /// Snapshots to make durable; [`Driver::checkpoint_stored`] is owed for each.
    pub snapshots: Vec<Snapshot>,
    /// Batches executed in this turn.
    pub executed: Vec<ExecutedBatch>,
    /// Set when a fetched state replaced the executed one.
    pub installed: Option<Seq>,
    /// The replica must stop.
    pub halt: Option<Halt>,
}

/// One executed batch, for metrics and watchers.
#[derive(Debug, Clone, Copy)]
pub struct ExecutedBatch {
    /// Its number.
    pub seq: Seq,
    /// Requests in it.
    pub requests: usize,
    /// The service's revision after it.
    pub revision: u64,
}

/// A replica with its log and its state.
pub struct Driver<D, E> {
    engine: E,
    execution: Execution<KeyValue>,
    log: FrameLog<D>,
    checkpoint_interval: u64,
    /// How far apart the clocks of honest replicas may be, milliseconds.
    clock_bound: u64,

    inputs: VecDeque<Input>,
    unwritten: Vec<Record>,
    lazy_turns: u32,
    next_record: u64,
    durable: RecordIndex,
    /// The first record of each frame still in the log.
    frames: VecDeque<(RecordIndex, FrameNumber)>,
    cut: Option<RecordIndex>,
    /// The log is to be marked as trusted once this record is durable.
    trust: Option<RecordIndex>,
    waiting_sends: Vec<Send>,
    waiting_decided: Vec<Decided>,
    receipts: BTreeMap<Seq, quorate_protocol::execution::BatchOutcome>,
    recent: RecentReplies,
    syncs: u64,
    frame_bytes: u64,
}

/// The records of a log, each with the index it has from now on.
pub fn read_records(frames: &[(FrameNumber, Vec<u8>)]) -> Result<RecoveredRecords, String> {
    let mut recovered = RecoveredRecords::default();
    let mut next = 1;
    for (number, payload) in frames {
        let records: Vec<Record> =
            decode(payload, DECODE_CEILING).map_err(|error| format!("frame {number} does not decode: {error}"))?;
        recovered.frames.push_back((RecordIndex(next), *number));
        for record in records {
            recovered.records.push((RecordIndex(next), record));
            next += 1;
        }
    }
    Ok(recovered)
}

/// What [`read_records`] found.
#[derive(Debug, Default)]
pub struct RecoveredRecords {
    /// The records, in order.
    pub records: Vec<(RecordIndex, Record)>,
    /// The first record of each frame.
    pub frames: VecDeque<(RecordIndex, FrameNumber)>,
}

impl<D: Disk, E: Engine> Driver<D, E> {
    /// A driver around an engine that was made from exactly `records_read` records of `log`. Clocks of honest replicas are
    /// `clock_bound` milliseconds apart at most.
    pub fn new(
        engine: E,
        execution: Execution<KeyValue>,
        log: FrameLog<D>,
        checkpoint_interval: u64,
        clock_bound: u64,
        frames: VecDeque<(RecordIndex, FrameNumber)>,
        records_read: u64,
    ) -> Driver<D, E> {
        let inputs = VecDeque::from(state_of(&execution));
        Driver {
            engine,
            execution,
            log,
            checkpoint_interval,
            clock_bound,
            inputs,
            unwritten: Vec::new(),
            lazy_turns: 0,
            next_record: records_read + 1,
            durable: RecordIndex(records_read),
            frames,
            cut: None,
            trust: None,
            waiting_sends: Vec::new(),
            waiting_decided: Vec::new(),
            receipts: BTreeMap::new(),
            recent: RecentReplies::default(),
            syncs: 0,
            frame_bytes: 0,
        }
    }

    /// The engine.
    pub const fn engine(&self) -> &E {
        &self.engine
    }

    /// The engine, for behaviours that wrap it.
    pub const fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// The executed state.
    pub const fn execution(&self) -> &Execution<KeyValue> {
        &self.execution
    }

    /// The log, for its size and its upkeep between turns.
    pub const fn log_mut(&mut self) -> &mut FrameLog<D> {
        &mut self.log
    }

    /// Bytes of log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.log.size_on_disk()
    }

    /// Syncs of the log and bytes of records written since the process began.
    pub const fn log_work(&self) -> (u64, u64) {
        (self.syncs, self.frame_bytes)
    }

    /// Gives an input to the next turn.
    pub fn input(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    /// A client's request: answered at once if it executed or would be refused, else given to the next turn.
    pub fn submit(&mut self, request: Verified<Request>, wall: u64, published: &mut Published) {
        let client = request.content().client;
        let digest = request.digest();
        if self.engine.wants(&digest) {
            return self.input(Input::Requests { from: None, requests: vec![request] });
        }
        // Taken only if a primary whose clock is slow takes it as well: a lifetime that is not too long by this clock alone
        // would start a timer for what nobody may propose yet. What peers relay they have judged so.
        match self.execution.judge(&request, wall.saturating_sub(self.clock_bound)) {
            Judgement::Fresh => self.input(Input::Requests { from: None, requests: vec![request] }),
            Judgement::Executed(reply) => {
                let reply = self.recent.get(&digest).cloned().unwrap_or(reply);
                published.replies.push((client, reply));
            }
            Judgement::Refused(refusal) => published.refused.push((client, digest, refusal)),
        }
    }

    /// Requests a peer relayed or was asked for.
    pub fn relayed(&mut self, from: ReplicaId, requests: Vec<Verified<Request>>, wall: u64) {
        let requests: Vec<_> = requests
            .into_iter()
            .filter(|request| {
                self.engine.wants(&request.digest()) || self.execution.judge(request, wall) == Judgement::Fresh
            })
            .collect();
        if !requests.is_empty() {
            self.input(Input::Requests { from: Some(from), requests });
        }
    }

    /// A snapshot named in [`Published::snapshots`] is durable.
    pub fn checkpoint_stored(&mut self, snapshot: Snapshot) {
        let root = snapshot.header().digest();
        self.input(Input::CheckpointStored { snapshot, root });
    }

    /// EXECUTED and the path that opens one result against it, while they are kept. EXECUTED is a promise like a vote:
    /// its record is durable before it is handed out.
    ///
    /// # Errors
    /// Any [`DriverError::Log`]; the process must end.
    pub fn receipt(&mut self, seq: Seq, index: u32) -> Result<Option<(Signed, MerklePath)>, DriverError> {
        let path = self.receipts.get(&seq).and_then(|outcome| outcome.path(index));
        let receipt = self.engine.executed_statement(seq).zip(path);
        if receipt.is_some() && !self.unwritten.is_empty() {
            self.flush()?;
        }
        Ok(receipt)
    }

    /// One turn: steps all waiting inputs, syncs, publishes, executes; then again while execution gave new inputs. Each
    /// time `leave` gets the messages that may leave before anything is executed: peers must not wait for that, and a
    /// primary that executes a large batch before its next proposal goes out looks slow.
    pub fn turn(
        &mut self,
        now: Now,
        published: &mut Published,
        mut leave: impl FnMut(&mut Vec<(Recipients, Message)>),
    ) -> Result<(), DriverError> {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                let step = self.engine.step(now, input);
                self.collect(step, published)?;
            }
            self.drop_refused(now, published)?;
            let step = self.engine.step(now, Input::TurnEnd);
            self.collect(step, published)?;
            self.sync()?;
            self.trust_log()?;
            self.publish(published);
            leave(&mut published.sends);
            self.execute(published);
            self.cut_log()?;
            if self.inputs.is_empty() {
                return Ok(());
            }
        }
    }

    /// What execution would refuse now gives the primary no reason to propose it, and the timers no reason to run.
    fn drop_refused(&mut self, now: Now, published: &mut Published) -> Result<(), DriverError> {
        while let Some(request) = self.engine.oldest_pending()
            && self.execution.judge(request, now.wall) != Judgement::Fresh
        {
            let digest = request.digest();
            let step = self.engine.step(now, Input::Refused(digest));
            self.collect(step, published)?;
            if self.engine.oldest_pending().is_some_and(|next| next.digest() == digest) {
                // A halted engine takes no more inputs.
                return Ok(());
            }
        }
        Ok(())
    }

    fn collect(&mut self, step: Step, published: &mut Published) -> Result<(), DriverError> {
        self.next_record += step.records.len() as u64;
        self.unwritten.extend(step.records);
        self.waiting_sends.extend(step.sends);
        published.evidence.extend(step.evidence);
        published.busy.extend(step.busy);
        if step.distrust_log {
            // Whoever starts this replica again must not start it with a log that is known to lack promises.
            self.log.set_trusted(false)?;
        }
        self.trust = self.trust.max(step.trust_log);
        if step.cut.is_some() {
            self.cut = step.cut;
        }
        if let Some(snapshot) = step.install {
            self.install(snapshot, published)?;
        }
        self.waiting_decided.extend(step.decided);
        if step.halt.is_some() {
            published.halt = step.halt;
        }
        Ok(())
    }

    fn install(&mut self, snapshot: Snapshot, published: &mut Published) -> Result<(), DriverError> {
        self.execution = Execution::from_snapshot(&snapshot)
            .map_err(|error| DriverError::State { seq: snapshot.seq, reason: error.to_string() })?;
        self.waiting_decided.retain(|decided| decided.seq > snapshot.seq);
        self.inputs.extend(state_of(&self.execution));
        published.installed = Some(snapshot.seq);
        published.snapshots.push(snapshot);
        Ok(())
    }

    /// Writes what somebody waits for; what nobody waits for goes along, or waits for the next frame.
    fn sync(&mut self) -> Result<(), DriverError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let sends = self.waiting_sends.iter().filter_map(|send| send.after).max();
        let decided = self.waiting_decided.iter().filter_map(|decided| decided.after).max();
        let awaited =
            sends.max(decided).max(self.trust).is_some_and(|record| record > self.durable) || self.cut.is_some();
        self.lazy_turns += 1;
        if !awaited && self.lazy_turns < LAZY_TURNS {
            return Ok(());
        }
        self.flush()
    }

    /// Writes every record and syncs. Also called before a graceful stop.
    pub fn flush(&mut self) -> Result<(), DriverError> {
        self.lazy_turns = 0;
        let mut first = RecordIndex(self.next_record - self.unwritten.len() as u64);
        let mut frame = Vec::new();
        let mut bytes = 0;
        for record in std::mem::take(&mut self.unwritten) {
            let weight = weight(&record);
            if bytes + weight > FRAME_BYTES && !frame.is_empty() {
                first = self.write_frame(first, std::mem::take(&mut frame))?;
                bytes = 0;
            }
            bytes += weight;
            frame.push(record);
        }
        if !frame.is_empty() {
            self.write_frame(first, frame)?;
        }
        Ok(())
    }

    fn write_frame(&mut self, first: RecordIndex, records: Vec<Record>) -> Result<RecordIndex, DriverError> {
        let payload = encode(&records);
        if payload.len() > DECODE_CEILING {
            // It could be written and never be read again: better to stop now than not to start tomorrow.
            return Err(LogError::TooLong(payload.len()).into());
        }
        let number = self.log.append(&payload)?;
        self.log.sync()?;
        self.syncs += 1;
        self.frame_bytes += payload.len() as u64;
        self.frames.push_back((first, number));
        let next = RecordIndex(first.0 + records.len() as u64);
        self.durable = RecordIndex(next.0 - 1);
        Ok(next)
    }

    /// A rejoin is complete when its record is durable and the log is marked, in this order: a log that is marked holds
    /// everything that was signed in the new life.
    fn trust_log(&mut self) -> Result<(), DriverError> {
        if self.trust.is_some_and(|record| record <= self.durable) {
            self.trust = None;
            self.log.set_trusted(true)?;
            self.inputs.push_back(Input::LogTrusted);
        }
        Ok(())
    }

    /// The one exit door.
    fn publish(&mut self, published: &mut Published) {
        for send in std::mem::take(&mut self.waiting_sends) {
            assert!(send.after.is_none_or(|record| record <= self.durable), "a message leaves only after its record");
            published.sends.push((send.to, send.message));
        }
    }

    fn execute(&mut self, published: &mut Published) {
        for decided in std::mem::take(&mut self.waiting_decided) {
            assert!(decided.after.is_none_or(|record| record <= self.durable), "a decision counts only durable votes");
            let outcome = self.execution.apply(decided.seq, &decided.proposal, &decided.requests);
            published.executed.push(ExecutedBatch {
                seq: decided.seq,
                requests: decided.requests.len(),
                revision: outcome.revision,
            });
            for (client, reply) in &outcome.replies {
                self.recent.keep(reply);
                published.replies.push((*client, reply.clone()));
            }
            if outcome.rejoined {
                self.inputs.push_back(Input::Rejoined(self.execution.rejoined()));
            }
            self.inputs.push_back(Input::Executed {
                seq: decided.seq,
                results: outcome.results_root,
                next_deadline: outcome.next_deadline,
            });
            self.receipts
                .insert(decided.seq, quorate_protocol::execution::BatchOutcome { replies: Vec::new(), ..outcome });
            while self.receipts.len() > RECEIPTS_KEPT {
                self.receipts.pop_first();
            }
            if decided.seq.0.is_multiple_of(self.checkpoint_interval) {
                published.snapshots.push(self.execution.snapshot());
            }
        }
    }

    fn cut_log(&mut self) -> Result<(), DriverError> {
        let Some(cut) = self.cut.take() else { return Ok(()) };
        let keep_from = self.frames.iter().rposition(|(first, _)| *first <= cut).unwrap_or(0);
        if keep_from > 0
            && let Some((_, number)) = self.frames.get(keep_from).copied()
        {
            self.log.cut(number)?;
            self.frames.drain(..keep_from);
        }
        Ok(())
    }
}

/// Replies of the last moments by request digest, read results included, which execution does not cache: a client's own
/// copy of a request may arrive after the others have ordered and executed it. Bounded in bytes. Looked up only, never walked
/// through, so the order of the hash map shows nowhere.
#[derive(Default)]
struct RecentReplies {
    replies: HashMap<Digest, Reply>,
    order: VecDeque<(Digest, usize)>,
    bytes: usize,
}

impl RecentReplies {
    fn get(&self, request: &Digest) -> Option<&Reply> {
        self.replies.get(request)
    }

    fn keep(&mut self, reply: &Reply) {
        let Outcome::Results(results) = &reply.outcome else { return };
        let bytes = 128 + results.iter().map(Vec::len).sum::<usize>();
        if self.replies.insert(reply.request, reply.clone()).is_none() {
            self.order.push_back((reply.request, bytes));
            self.bytes += bytes;
        }
        while self.bytes > RECENT_REPLY_BYTES
            && let Some((request, bytes)) = self.order.pop_front()
        {
            self.replies.remove(&request);
            self.bytes -= bytes;
        }
    }
}

/// What a state that was loaded or fetched tells the engine: who rejoined, and above all the deadline it waits for, which
/// nothing else would bring up before the next batch.
fn state_of(execution: &Execution<KeyValue>) -> [Input; 2] {
    let next_deadline = execution.service().next_deadline();
    let executed = Input::Executed { seq: execution.seq(), results: Digest::ZERO, next_deadline };
    [Input::Rejoined(execution.rejoined()), executed]
}

/// About how many bytes a record takes.
fn weight(record: &Record) -> usize {
    match record {
        Record::Requests(requests) => requests.iter().map(Request::weight).sum(),
        Record::PrePrepare(message) => 200 + 32 * message.proposal.requests().len(),
        Record::Prepared { proposal, prepares, .. } => {
            400 + 32 * proposal.requests().len() + 80 * prepares.endorsements.len()
        }
        Record::Committed(committed) => {
            200 + 32 * committed.proposal.requests().len() + 80 * committed.certificate.endorsements.len()
        }
        Record::Block(block) => 600 + 32 * block.proposal.requests().len() + 160 * block.justify.signers(),
        Record::HotStuff(promise) => 600 + 160 * promise.high_qc.signers(),
        // Rare, and anything between a kilobyte and the frame cap times the quorum.
        Record::NewView { .. } | Record::Base { .. } | Record::LeftView(_) | Record::HotStuffBase { .. } => {
            encode(record).len()
        }
        _ => 256,
    }
}

#[cfg(test)]
mod tests;
