//! Taking in what the index sees: apps with their plans, Deployments, and outcomes of our own writes.

use super::group::Group;
use super::{Engine, forwarder};
use crate::book::AppPage;
use crate::index::apps::AppEvent;
use crate::index::{AppKey, AppPlan, GroupKey, Seen, Workload, WorkloadKey};
use crate::native::Written;
use k8s_openapi::api::apps::v1::Deployment;
use std::sync::Arc;

impl Engine {
    pub(super) fn app(&mut self, event: AppEvent) {
        match event {
            AppEvent::Planned(key, plan) => self.planned(&key, &plan),
            AppEvent::Gone(key) => {
                for group in self.apps.remove(&key).unwrap_or_default() {
                    self.remove(&group);
                }
                self.out.book.remove_app(&key);
            }
            AppEvent::Listed => {
                self.apps_listed = true;
                self.listed();
            }
        }
    }

    fn planned(&mut self, app: &AppKey, plan: &AppPlan) {
        let keys: Vec<_> = plan.groups.iter().map(|group| group.key.clone()).collect();
        let before = self
            .apps
            .insert(app.clone(), keys.clone())
            .unwrap_or_default();
        for gone in before.iter().filter(|key| !keys.contains(key)) {
            self.remove(gone);
        }
        for plan in &plan.groups {
            let key = &plan.key;
            let ready = self.workloads.get(&plan.workload).map_or(0, |w| w.ready);
            let now = self.clock.now();
            let group = self.groups.entry(key.clone()).or_insert_with(|| {
                let mut group = Group::new(Arc::clone(plan));
                group.starts.saw_ready(ready, now, &self.out.metrics);
                group.take_over(self.role.inherited(key, now), now);
                group
            });
            group.replan(Arc::clone(plan));
            if self.role.leads() {
                group.open(&*self.feeds, &forwarder(key, &self.dirty_sender));
            }
            self.by_workload.insert(plan.workload.clone(), key.clone());
            self.dirty.insert(key.clone());
        }
        let names = plan.groups.iter().map(|group| group.name.clone());
        let page = AppPage {
            generation: plan.generation,
            groups: keys.into_iter().zip(names).collect(),
        };
        self.out.book.write_app(app, page);
        self.count_groups();
    }

    fn remove(&mut self, key: &GroupKey) {
        if let Some(group) = self.groups.remove(key) {
            self.by_workload.remove(&group.plan.workload);
            self.out.wishes.withdraw(&group.plan.workload);
        }
        self.forget_demand(key);
        self.dirty.remove(key);
        self.wakes.set(key, None);
        self.out.book.remove(key);
        self.count_groups();
    }

    fn count_groups(&self) {
        let count = i64::try_from(self.groups.len()).unwrap_or(i64::MAX);
        self.out.metrics.groups.set(count);
    }

    pub(super) fn workload(&mut self, seen: Seen<Deployment>) {
        match seen {
            Seen::Object(deployment) => {
                if let Some((key, workload)) = Workload::read(&deployment) {
                    self.saw(&key, Some(workload));
                }
            }
            Seen::Unreadable {
                namespace,
                name,
                error,
            } => {
                tracing::warn!(namespace, name, "deployment cannot be read: {error}");
            }
            Seen::Gone { namespace, name } => self.saw(&WorkloadKey::new(namespace, name), None),
            Seen::Listed => {
                self.workloads_listed = true;
                self.listed();
            }
        }
    }

    fn saw(&mut self, key: &WorkloadKey, workload: Option<Workload>) {
        let ready = workload.as_ref().map_or(0, |workload| workload.ready);
        let known = self.workloads.get(key);
        match workload {
            Some(workload) => {
                // An event from before our own last write.
                let late = workload.version.is_some()
                    && workload.version < known.and_then(|known| known.version);
                if late {
                    return;
                }
                let unchanged = known.is_some_and(|known| known.same(&workload));
                self.workloads.insert(key.clone(), workload);
                if unchanged {
                    return;
                }
            }
            None => drop(self.workloads.remove(key)),
        }
        if let Some(group_key) = self.by_workload.get(key)
            && let Some(group) = self.groups.get_mut(group_key)
        {
            group
                .starts
                .saw_ready(ready, self.clock.now(), &self.out.metrics);
            self.dirty.insert(group_key.clone());
        }
    }

    pub(super) fn wrote(&mut self, written: &Written) {
        match &written.result {
            Ok(scale) => {
                self.out.metrics.wrote("ok");
                tracing::info!(
                    deployment = %written.workload,
                    replicas = scale.replicas,
                    "replica count written"
                );
                let Some(known) = self.workloads.get(&written.workload) else {
                    return;
                };
                let mut workload = known.clone();
                workload.replicas = scale.replicas;
                workload.version = scale.version.max(workload.version);
                self.saw(&written.workload, Some(workload));
            }
            Err(error) => {
                self.out.metrics.wrote(error.category());
                tracing::warn!(
                    deployment = %written.workload,
                    replicas = written.wanted,
                    category = error.category(),
                    "{error}"
                );
            }
        }
        // What was decided meanwhile may differ from what was written.
        if let Some(key) = self.by_workload.get(&written.workload) {
            self.dirty.insert(key.clone());
        }
    }
}
