//! What is known of the requests of HTTP groups, and what the data role has to know of decisions.

use super::{Engine, SlotsLink};
use crate::index::{GroupKey, GroupPlan};
use crate::slots::{Aim, DemandEvent, GroupView, PodCounts, RoleView, Wanted};
use jiff::Timestamp;
use maniple_core::decision::SourceReading;
use std::collections::HashMap;

/// The engine's side of the data role.
#[derive(Default)]
pub(super) struct Http {
    link: Option<SlotsLink>,
    role: RoleView,
    groups: HashMap<GroupKey, GroupView>,
    wanted: HashMap<GroupKey, Aim>,
    pending_since: Option<Timestamp>,
}

impl Http {
    pub(super) fn new(link: SlotsLink) -> Self {
        Self {
            link: Some(link),
            role: RoleView::Pending,
            ..Self::default()
        }
    }

    /// The next news; never ends.
    pub(super) async fn recv(&mut self) -> Option<DemandEvent> {
        let event = match &mut self.link {
            Some(link) => link.demand.recv().await,
            None => None,
        };
        match event {
            Some(event) => Some(event),
            None => std::future::pending().await,
        }
    }

    pub(super) fn try_recv(&mut self) -> Option<DemandEvent> {
        self.link.as_mut()?.demand.try_recv().ok()
    }

    /// What the data role counts for a group; none when nothing counts its requests.
    pub(super) fn reading(&mut self, key: &GroupKey, now: Timestamp) -> Option<SourceReading> {
        match self.role {
            RoleView::Off | RoleView::Uncounted => None,
            RoleView::Pending => Some(unknown(*self.pending_since.get_or_insert(now))),
            RoleView::Counting => Some(match self.groups.get(key) {
                Some(view) => view.reading(),
                // The data role has not seen its plan yet.
                None => unknown(now),
            }),
        }
    }

    /// The pods of a group whose instances leave by their slots.
    pub(super) fn pods(&self, plan: &GroupPlan) -> Option<PodCounts> {
        plan.http.as_ref()?;
        if self.role != RoleView::Counting {
            return None;
        }
        self.groups.get(&plan.key).map(|view| view.pods)
    }

    /// Tells the data role how many instances are to serve.
    pub(super) fn want(&mut self, key: &GroupKey, aim: Option<Aim>) {
        if self.wanted.get(key).copied() == aim {
            return;
        }
        match aim {
            Some(aim) => self.wanted.insert(key.clone(), aim),
            None => self.wanted.remove(key),
        };
        if let Some(link) = &self.link {
            let group = key.clone();
            let _ = link.wanted.send(Wanted { group, aim });
        }
    }
}

fn unknown(since: Timestamp) -> SourceReading {
    SourceReading::Unknown {
        error: "the requests of this group are not known yet: this replica has only begun to lead"
            .to_owned(),
        since,
        last_good: None,
    }
}

impl Engine {
    pub(super) fn demand(&mut self, event: DemandEvent) {
        match event {
            DemandEvent::Role(role) => {
                if role == RoleView::Pending {
                    self.http.groups.clear();
                }
                self.http.pending_since = None;
                self.http.role = role;
                let http = self.groups.iter().filter(|(_, g)| g.plan.http.is_some());
                self.dirty.extend(http.map(|(key, _)| key.clone()));
            }
            DemandEvent::Group(key, view) => {
                self.http.groups.insert(key.clone(), view);
                if self.groups.contains_key(&key) {
                    self.dirty.insert(key);
                }
            }
        }
    }

    /// A group is gone. Its last view stays until the data role begins anew: one of the same name may have come meanwhile.
    pub(super) fn forget_demand(&mut self, key: &GroupKey) {
        self.http.wanted.remove(key);
    }
}
