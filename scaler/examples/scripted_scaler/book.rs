//! A book of decisions that is written by hand.

use std::{collections::HashMap, sync::Mutex};

use maniple_scaler::grpc::{Answer, DecisionBook, GroupRef};
use tokio::sync::watch;

/// Every group is [`Answer::NotFound`] until something else is written.
#[derive(Debug, Default)]
pub(crate) struct ScriptedBook {
    groups: Mutex<HashMap<GroupRef, watch::Sender<Answer>>>,
}

impl ScriptedBook {
    /// From now on this is the answer for `group`.
    pub(crate) fn write(&self, group: &GroupRef, answer: Answer) {
        self.with(group, |sender| sender.send_replace(answer));
    }

    fn with<T>(&self, group: &GroupRef, work: impl FnOnce(&watch::Sender<Answer>) -> T) -> T {
        let mut groups = self.groups.lock().expect("no holder of the lock panics");
        work(
            groups
                .entry(group.clone())
                .or_insert_with(|| watch::Sender::new(Answer::NotFound)),
        )
    }
}

impl DecisionBook for ScriptedBook {
    fn answer(&self, group: &GroupRef) -> Answer {
        self.with(group, |sender| sender.borrow().clone())
    }

    fn changes(&self, group: &GroupRef) -> watch::Receiver<Answer> {
        self.with(group, watch::Sender::subscribe)
    }
}
