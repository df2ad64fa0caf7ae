//! The task beside the requests: follows the data role, returns slots, reports demand.
//!
//! What carries the messages is not its business: a stream is a number, a sender, and events.

use std::{collections::HashMap, time::Duration};

use maniple_core::slots::{
    front_end::{FrontEnd, LeadAnswer, Urgency},
    joint::GRID_MS,
    message::{DataRoleSays, InstanceUid, MemberRecord, ToDataRole, ToFrontEnd},
    pool::SlotPool,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cold::StartAges,
    pool::{Pool, now_ms},
};

/// One stream to one data role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What a stream tells the control task.
#[derive(Debug)]
pub enum StreamEvent {
    /// It is open; what is sent into `to` goes to the data role. Dropping `to` asks to close it.
    Up {
        /// Which.
        stream: StreamId,
        /// Towards the data role.
        to: mpsc::Sender<ToDataRole>,
    },
    /// A message came.
    Message {
        /// Which.
        stream: StreamId,
        /// What.
        message: ToFrontEnd,
    },
    /// The data role told how an instance started that it named before.
    Started {
        /// Which.
        stream: StreamId,
        /// The instance.
        uid: InstanceUid,
        /// Its times.
        ages: StartAges,
    },
    /// It is closed.
    Down {
        /// Which.
        stream: StreamId,
    },
}

/// Times of the control task.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// Changes are collected for this long while requests wait.
    pub batch: Duration,
    /// Demand is reported at least this often.
    pub rest: Duration,
    /// Slots that were in no use for this long go back.
    pub idle_return: Duration,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            batch: Duration::from_millis(5),
            rest: Duration::from_secs(1),
            idle_return: Duration::from_secs(2),
        }
    }
}

/// The control task of one front end.
#[derive(Debug)]
pub struct Control {
    state: FrontEnd,
    pool: Pool,
    settings: ControlSettings,
    streams: HashMap<StreamId, mpsc::Sender<ToDataRole>>,
    followed: Option<StreamId>,
    flushed: Instant,
    rested: Instant,
    idle_since: HashMap<InstanceUid, u32>,
}

impl Control {
    /// A front end that follows nobody yet.
    pub fn new(member: MemberRecord, pool: Pool, settings: ControlSettings) -> Self {
        let now = Instant::now();
        Self {
            state: FrontEnd::new(member),
            pool,
            settings,
            streams: HashMap::new(),
            followed: None,
            flushed: now,
            rested: now,
            idle_since: HashMap::new(),
        }
    }

    /// Runs until `stop`, then until every slot is back and the Bye is said, or nobody is there to say it to.
    pub async fn run(mut self, mut events: mpsc::Receiver<StreamEvent>, stop: CancellationToken) {
        let mut idle = tokio::time::interval(self.settings.idle_return / 2);
        let mut sample = tokio::time::interval(Duration::from_millis(GRID_MS));
        sample.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut leaving = false;
        loop {
            self.state.note(&mut self.pool);
            let due = self.due();
            let pool = self.pool.clone();
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return,
                },
                () = pool.changed() => {}
                () = tokio::time::sleep_until(due) => {}
                _ = idle.tick() => self.return_idle(),
                _ = sample.tick() => self.state.sample(now_ms(), &self.pool),
                () = stop.cancelled(), if !leaving => leaving = true,
            }
            self.flush_if_due(leaving);
            if leaving && self.leave() {
                return;
            }
        }
    }

    /// When the next report is due at the latest.
    fn due(&self) -> Instant {
        match self.state.urgency(&self.pool) {
            Urgency::Now => Instant::now(),
            Urgency::Batch => self.flushed + self.settings.batch,
            Urgency::Rest => self.rested + self.settings.rest,
        }
    }

    fn on_event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Up { stream, to } => {
                self.streams.insert(stream, to);
            }
            StreamEvent::Down { stream } => {
                self.streams.remove(&stream);
                if self.followed == Some(stream) {
                    self.followed = None;
                    self.state.on_disconnected();
                }
            }
            StreamEvent::Started { stream, uid, ages } => {
                if self.followed == Some(stream) {
                    self.pool.told(uid, &ages);
                }
            }
            StreamEvent::Message { stream, message } => self.on_message(stream, &message),
        }
    }

    fn on_message(&mut self, stream: StreamId, message: &ToFrontEnd) {
        if !self.streams.contains_key(&stream) {
            return;
        }
        if !matches!(message.body, DataRoleSays::Lead { .. }) {
            if self.followed == Some(stream) {
                self.state.on_message(message, &mut self.pool);
            }
            return;
        }
        match self.state.on_lead(message, &mut self.pool) {
            LeadAnswer::Follow(hello) => {
                // What the old data role still says must not be applied: its stream is closed before the Hello leaves.
                if let Some(old) = self.followed.replace(stream)
                    && old != stream
                {
                    self.streams.remove(&old);
                }
                self.send(stream, hello);
            }
            LeadAnswer::Stale(stale) => self.send(stream, stale),
            LeadAnswer::Ignore => {}
        }
    }

    fn send(&mut self, stream: StreamId, message: ToDataRole) {
        let full = self
            .streams
            .get(&stream)
            .is_some_and(|to| to.try_send(message).is_err());
        if full {
            // A stream that takes nothing is dead; the next Hello tells everything again.
            self.streams.remove(&stream);
            if self.followed == Some(stream) {
                self.followed = None;
                self.state.on_disconnected();
            }
        }
    }

    fn flush_if_due(&mut self, leaving: bool) {
        let now = Instant::now();
        if leaving {
            self.state.release_all(&mut self.pool);
        }
        let rest = now >= self.rested + self.settings.rest;
        self.state.note(&mut self.pool);
        let ready = match self.state.urgency(&self.pool) {
            Urgency::Now => true,
            Urgency::Batch => now >= self.flushed + self.settings.batch,
            Urgency::Rest => false,
        };
        // A recall is followed at once, whatever else there is to say.
        let recalled = self.state.recalls();
        if !ready && !rest && !recalled && !leaving {
            return;
        }
        self.flushed = now;
        if rest {
            self.rested = now;
        }
        let said = self.state.flush(&mut self.pool, rest);
        if let (Some(message), Some(stream)) = (said, self.followed) {
            self.send(stream, message);
        }
    }

    /// Gives back what was in no use over two looks.
    fn return_idle(&mut self) {
        let mut idle = HashMap::new();
        for (uid, held, peak) in self.pool.idle_window() {
            let unused = u32::from(held).saturating_sub(peak);
            if unused == 0 {
                continue;
            }
            let both = self
                .idle_since
                .get(&uid)
                .map_or(0, |before| unused.min(*before));
            let released = self
                .pool
                .release(uid, u16::try_from(both).unwrap_or(u16::MAX));
            if unused > u32::from(released) {
                idle.insert(uid, unused - u32::from(released));
            }
        }
        self.idle_since = idle;
    }

    /// Whether everything is given back and said, or nobody is there to say it to.
    fn leave(&mut self) -> bool {
        match (self.state.leave(&self.pool), self.followed) {
            (Some(bye), Some(stream)) => {
                self.send(stream, bye);
                true
            }
            (None, None) => self.streams.is_empty(),
            _ => false,
        }
    }
}
