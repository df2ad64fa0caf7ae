//! Plans, pods and decisions of groups, as the books hear of them.

use super::books::Books;
use super::cluster::Cluster;
use super::groups::Declared;
use super::outside::Outside;
use super::pods::{InstancePod, PodName, group_id};
use super::role::Aim;
use crate::index::{GroupKey, GroupPlan};
use k8s_openapi::api::core::v1::Pod;
use maniple_core::slots::message::GroupId;

fn id_of(key: &GroupKey) -> GroupId {
    group_id(&key.app.namespace, &key.app.name, key.group())
}

impl<C: Cluster> Books<C> {
    /// The plan of a group.
    pub(super) fn plan(&mut self, plan: &GroupPlan, now_ms: u64) {
        let Some(http) = &plan.http else {
            return;
        };
        let group = id_of(&plan.key);
        let known = self.groups.entry(&group);
        known.declared = Some(Declared {
            key: plan.key.clone(),
            http: http.clone(),
            always_ready: plan.spec.always_ready as usize,
        });
        self.role.set_replaced(&group, known.is_ours());
        let limit = u64::try_from(http.drain_limit.as_millis()).unwrap_or(u64::MAX);
        self.role.set_drain_limit(&group, limit);
        self.arrange(&group, now_ms);
        self.tell(&group, now_ms);
    }

    /// There is no such group any more. Its instances stay in the books until their pods are gone.
    pub(super) fn unplan(&mut self, key: &GroupKey) {
        let group = id_of(key);
        self.groups.undeclare(&group);
        self.role.set_replaced(&group, false);
        self.metrics.forget(&group);
    }

    /// The number that was decided.
    pub(super) fn want(&mut self, key: &GroupKey, aim: Option<Aim>, now_ms: u64) {
        let group = id_of(key);
        // Where somebody else writes the count nobody would make another instance.
        self.role.set_replaced(&group, aim.is_some());
        if let Some(known) = self.groups.get_mut(&group) {
            known.want(aim);
            self.shrink(&group, now_ms);
        }
    }

    /// A pod of an instance, or that it is gone.
    pub(super) fn pod(&mut self, name: &PodName, pod: Option<&Pod>, now_ms: u64) {
        let pod = pod.and_then(InstancePod::read).filter(|pod| !pod.ended);
        let news = self.groups.see(name, pod);
        if news.departed {
            self.metrics.removal("gone");
        }
        if let Some((group, uid)) = news.gone {
            let effects = self.role.on_instance_gone(uid, now_ms);
            self.act(effects);
            if news.there.as_ref() != Some(&group) {
                self.arrange(&group, now_ms);
                self.tell(&group, now_ms);
            }
        }
        if let Some(uid) = news.unclaimed {
            // Long before it has an address, so that no request waits for this write.
            self.write(uid, Outside::claim);
        }
        if let Some(group) = news.there {
            self.arrange(&group, now_ms);
            self.tell(&group, now_ms);
        }
    }

    /// Tells the books of every instance of a group that changed.
    fn arrange(&mut self, group: &GroupId, now_ms: u64) {
        let changed = self.groups.get_mut(group).map(|known| known.arrange(group));
        for spec in changed.unwrap_or_default() {
            let effects = self.role.on_instance(spec, now_ms);
            self.act(effects);
        }
    }

    /// Lets go what is more than wanted.
    pub(super) fn shrink(&mut self, group: &GroupId, now_ms: u64) {
        let leaving = self
            .groups
            .get(group)
            .map(|known| known.surplus(&self.role));
        let leaving = leaving.unwrap_or_default();
        if leaving.is_empty() {
            return;
        }
        for uid in leaving {
            tracing::info!(group = group.as_str(), instance = ?uid, "slots: more instances than wanted, this one drains");
            let effects = self.role.remove(uid, now_ms);
            self.act(effects);
        }
        self.tell(group, now_ms);
    }
}
