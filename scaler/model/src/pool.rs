//! Slot words without atomics, and a waiting room that only counts.

use std::collections::BTreeMap;

use maniple_core::slots::{
    message::{GroupId, InstanceInfo, InstanceUid},
    pool::SlotPool,
    word::{Bar, SlotWord},
};

/// One instance at one front end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    info: InstanceInfo,
    word: SlotWord,
    trim: u16,
}

/// Requests of one group that wait, and turns that end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Room {
    waiting: u32,
    must: u32,
}

/// The pool of one front end in the world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlainPool {
    entries: BTreeMap<InstanceUid, Entry>,
    rooms: BTreeMap<GroupId, Room>,
    started: Vec<InstanceUid>,
}

impl PlainPool {
    /// A request arrives: it starts or waits.
    pub fn arrive(&mut self, group: &GroupId) {
        self.rooms.entry(group.clone()).or_default().waiting += 1;
        self.serve();
    }

    /// A response is complete.
    pub fn complete(&mut self, uid: InstanceUid) {
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.word = entry
                .word
                .complete()
                .expect("only running requests complete");
            self.slot_free(uid);
        }
    }

    /// A client left while its request runs.
    pub fn abandon(&mut self, uid: InstanceUid) {
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.word = entry
                .word
                .abandon()
                .expect("only running requests are abandoned");
        }
    }

    /// An abandoned request is known to be over.
    pub fn settle(&mut self, uid: InstanceUid) {
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.word = entry.word.settle().expect("only lingering requests settle");
            self.slot_free(uid);
        }
    }

    fn slot_free(&mut self, uid: InstanceUid) {
        let entry = self.entries.get_mut(&uid).expect("the caller looked it up");
        let room = self.rooms.entry(entry.info.group.clone()).or_default();
        if entry.word.barred(Bar::Draining) || entry.trim > 0 || room.must > 0 {
            let (word, n) = entry.word.release(1);
            entry.word = word;
            entry.trim = entry.trim.saturating_sub(n);
            room.must = room.must.saturating_sub(u32::from(n));
        }
        self.serve();
    }

    fn serve(&mut self) {
        let mut order: Vec<_> = self
            .entries
            .values()
            .map(|e| (e.info.rank, e.info.uid))
            .collect();
        order.sort_unstable();
        for (_, uid) in order {
            let entry = self.entries.get_mut(&uid).expect("listed above");
            let room = self.rooms.entry(entry.info.group.clone()).or_default();
            while room.waiting > 0
                && let Some(word) = entry.word.acquire()
            {
                entry.word = word;
                room.waiting -= 1;
                self.started.push(uid);
            }
        }
    }

    /// Requests started since the last call, by instance.
    pub fn take_started(&mut self) -> Vec<InstanceUid> {
        std::mem::take(&mut self.started)
    }

    /// Every instance with its word.
    pub fn words(&self) -> impl Iterator<Item = (InstanceUid, SlotWord)> {
        self.entries.iter().map(|(uid, e)| (*uid, e.word))
    }
}

impl SlotPool for PlainPool {
    fn upsert(&mut self, instance: &InstanceInfo) {
        let fresh = Entry {
            info: instance.clone(),
            word: SlotWord::EMPTY,
            trim: 0,
        };
        self.entries.entry(instance.uid).or_insert(fresh).info = instance.clone();
    }

    fn remove(&mut self, uid: InstanceUid) {
        self.entries.remove(&uid);
    }

    fn grant(&mut self, uid: InstanceUid, count: u16) {
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.word = entry.word.grant(count);
            if entry.word.barred(Bar::Draining) {
                entry.word = entry.word.release(count).0;
            }
        }
        self.serve();
    }

    fn drain(&mut self, uid: InstanceUid) {
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.word = entry.word.bar(Bar::Draining).release(u16::MAX).0;
        }
    }

    fn trim(&mut self, uid: InstanceUid, excess: u16) {
        if let Some(entry) = self.entries.get_mut(&uid) {
            let (word, n) = entry.word.release(excess);
            entry.word = word;
            entry.trim = excess - n;
        }
    }

    fn release(&mut self, uid: InstanceUid, count: u16) -> u16 {
        self.entries.get_mut(&uid).map_or(0, |entry| {
            let (word, n) = entry.word.release(count);
            entry.word = word;
            n
        })
    }

    fn take_returned(&mut self, uid: InstanceUid) -> u16 {
        self.entries.get_mut(&uid).map_or(0, |entry| {
            let (word, n) = entry.word.take_returned();
            entry.word = word;
            n
        })
    }

    fn word(&self, uid: InstanceUid) -> SlotWord {
        self.entries.get(&uid).map_or(SlotWord::EMPTY, |e| e.word)
    }

    fn set_recall(&mut self, group: &GroupId, _want: u32, count: u32) {
        self.rooms.entry(group.clone()).or_default().must = count;
    }

    fn cap_recall(&mut self, group: &GroupId, _want: u32, count: u32) {
        let room = self.rooms.entry(group.clone()).or_default();
        room.must = room.must.min(count);
    }

    fn waiting(&self, group: &GroupId) -> u32 {
        self.rooms.get(group).map_or(0, |room| room.waiting)
    }

    fn load(&self, group: &GroupId) -> u32 {
        let entries = self.entries.values();
        let words = entries.filter(|e| e.info.group == *group).map(|e| e.word);
        let used: u32 = words
            .map(|word| u32::from(word.busy()) + u32::from(word.linger()))
            .sum();
        used + self.waiting(group)
    }

    fn oldest_wait_ms(&self, _group: &GroupId) -> u32 {
        0
    }

    fn take_shed(&mut self) -> Vec<InstanceUid> {
        Vec::new()
    }
}
