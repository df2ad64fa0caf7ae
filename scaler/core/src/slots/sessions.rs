//! Front ends that come, report, return and leave.

use std::collections::BTreeSet;

use super::{
    books::{Life, Member, Need, Unseen},
    data_role::{DataRole, Effect, Effects, Touched},
    message::{
        DataRoleSays, FrontEndId, FrontEndSays, GroupId, Header, Hello, InstanceInfo, InstanceUid,
        MemberRecord, Seq, Session, Sync, ToDataRole,
    },
};

impl DataRole {
    pub(super) fn on_hello(
        &mut self,
        message: &ToDataRole,
        hello: &Hello,
        now_ms: u64,
        effects: &mut Effects,
    ) {
        let id = hello.member.id;
        let session = message.header.session;
        if self.buried.contains(&id) {
            return;
        }
        // One that is being forgotten although it lives joins anew, behind that.
        let leaving = |member: &&Member| !(member.removing && member.life == Life::Up);
        let Some(member) = self.members.get(&id).filter(leaving) else {
            // Granting waits until the record names it: a later data role has to know whom to wait for.
            let known = self
                .joining
                .get(&id)
                .and_then(|said| said.first())
                .map(|first| first.header.session);
            if known.is_none_or(|known| known < session)
                && self.joining.insert(id, vec![message.clone()]).is_none()
            {
                effects.push(Effect::AddMember(hello.member));
            }
            return;
        };
        if session <= member.session || member.life != Life::Up {
            return;
        }
        self.restarted(hello.member, now_ms, effects);
        let old = self.members[&id].lease.clone();
        for (uid, count) in old {
            self.lower_leased(uid, count);
        }
        let member = self.members.get_mut(&id).expect("looked up above");
        let first = !member.reported;
        member.reported = true;
        member.session = session;
        member.down_since_ms = None;
        member.sent = Seq(0);
        member.applied = message.header.seq;
        member.unseen.clear();
        member.trims.clear();
        member.lease = hello
            .slots
            .iter()
            .filter(|s| s.held > 0)
            .map(|s| (s.uid, s.held))
            .collect();
        member.needs = hello
            .demand
            .iter()
            .map(|d| {
                let need = Need {
                    waiting: d.waiting,
                    busy: d.busy,
                    oldest_wait_ms: d.oldest_wait_ms,
                    recall: (0, 0),
                };
                (d.group.clone(), need)
            })
            .collect();
        for slots in &hello.slots {
            *self.leased.entry(slots.uid).or_default() += u32::from(slots.held);
            if first && let Some(instance) = self.instances.get_mut(&slots.uid) {
                instance.accounted += u32::from(slots.held);
            }
        }
        let known: Vec<(InstanceInfo, bool)> = self
            .instances
            .values()
            .map(|i| (i.info(), i.drains()))
            .collect();
        for (info, draining) in known {
            let handle = info.handle;
            self.send(id, DataRoleSays::Instance(info), effects);
            if draining {
                self.send(id, DataRoleSays::Drain { handle }, effects);
            }
        }
        self.after_change(&Touched::All, now_ms, effects);
    }

    pub(super) fn on_sync(
        &mut self,
        from: FrontEndId,
        header: Header,
        sync: &Sync,
        now_ms: u64,
        effects: &mut Effects,
    ) {
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        if header.session != member.session
            || member.life != Life::Up
            || !member.reported
            || header.seq <= member.applied
        {
            return;
        }
        member.applied = header.seq;
        member.unseen.retain(|grant| grant.seq > header.ack);
        let mut touched: BTreeSet<GroupId> = sync.demand.iter().map(|d| d.group.clone()).collect();
        for demand in &sync.demand {
            let need = member.needs.entry(demand.group.clone()).or_default();
            need.waiting = demand.waiting;
            need.busy = demand.busy;
            need.oldest_wait_ms = demand.oldest_wait_ms;
        }
        for (handle, count) in &sync.released {
            if let Some(&uid) = self.handles.get(handle) {
                touched.extend(self.group_of(uid));
                self.returned(from, uid, *count);
            }
        }
        for handle in &sync.shed {
            if let Some(&uid) = self.handles.get(handle) {
                touched.extend(self.group_of(uid));
                self.shed(uid, now_ms);
            }
        }
        self.after_change(&Touched::These(touched), now_ms, effects);
    }

    pub(super) fn on_bye(&mut self, from: FrontEndId, header: Header, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        if header.session != member.session || member.life != Life::Up || !member.reported {
            return;
        }
        // It applied nothing after `ack` and never will.
        let lost: Vec<Unseen> = member
            .unseen
            .iter()
            .filter(|g| g.seq > header.ack)
            .cloned()
            .collect();
        member.life = Life::Left;
        for grant in lost {
            self.returned(from, grant.uid, grant.count);
        }
        self.leave_if_empty(effects);
    }

    pub(super) fn group_of(&self, uid: InstanceUid) -> Option<GroupId> {
        self.instances.get(&uid).map(|i| i.spec.group.clone())
    }

    fn returned(&mut self, from: FrontEndId, uid: InstanceUid, count: u16) {
        let group = self.group_of(uid);
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        let Some(row) = member.lease.get_mut(&uid) else {
            return;
        };
        let count = count.min(*row);
        *row -= count;
        if *row == 0 {
            member.lease.remove(&uid);
        }
        if let Some(trim) = member.trims.get_mut(&uid) {
            *trim = trim.saturating_sub(count);
        }
        if let Some(need) = group.and_then(|g| member.needs.get_mut(&g)) {
            need.recall.0 = need.recall.0.saturating_sub(u32::from(count));
            need.recall.1 = need.recall.1.saturating_sub(u32::from(count));
        }
        self.lower_leased(uid, count);
    }

    pub(super) fn lower_leased(&mut self, uid: InstanceUid, count: u16) {
        if let Some(sum) = self.leased.get_mut(&uid) {
            *sum -= u32::from(count);
            if *sum == 0 {
                self.leased.remove(&uid);
            }
        }
    }

    /// The stream of a front end's session ended. Its slots stay with it.
    pub fn on_disconnected(&mut self, from: FrontEndId, session: Session, now_ms: u64) {
        if let Some(member) = self.members.get_mut(&from)
            && member.session == session
            && member.down_since_ms.is_none()
        {
            member.down_since_ms = Some(now_ms);
        }
    }

    /// The record names `record` now: its Hello counts.
    pub fn on_member_added(&mut self, record: MemberRecord, now_ms: u64) -> Effects {
        let id = record.id;
        let mut effects = Effects::new();
        let said = self.joining.remove(&id).unwrap_or_default();
        if said.is_empty() && !self.members.contains_key(&id) {
            // It died before anything was lent to it.
            let member = Member {
                life: Life::Left,
                ..Member::new(record, now_ms)
            };
            self.members.insert(id, member);
            self.leave_if_empty(&mut effects);
        }
        for message in &said {
            match &message.body {
                FrontEndSays::Hello(hello) => {
                    self.turn.insert(0, id);
                    self.members.insert(id, Member::new(hello.member, now_ms));
                    self.on_hello(message, hello, now_ms, &mut effects);
                }
                FrontEndSays::Sync(sync) => {
                    self.on_sync(id, message.header, sync, now_ms, &mut effects);
                }
                FrontEndSays::Bye => self.on_bye(id, message.header, &mut effects),
                FrontEndSays::Stale => {}
            }
        }
        effects
    }
}
