//! I/O: single objects.

use super::compare::{stamp, stamp_of, stored, unchanged};
use crate::controller::function_app::memory::Settled;
use crate::controller::function_app::owned::owned_by;
use crate::controller::function_app::{Context, Error};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use maniple_crds::FunctionApp;
use maniple_crds::names::{APP_LABEL, FIELD_MANAGER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Writes the objects of one app.
pub(super) struct Writer<'a> {
    pub app: &'a FunctionApp,
    pub namespace: &'a str,
    pub ctx: &'a Context,
}

impl Writer<'_> {
    /// Objects of one kind in the app's namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.ctx.client.clone(), self.namespace)
    }

    /// Writes an object when it is not yet as intended. `cached` is what the watch saw last, if the app owns it.
    pub(super) async fn ensure<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        cached: Option<&K>,
        mut intent: K,
    ) -> Result<(), Error>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        stamp(&mut intent);
        if cached.is_some_and(|live| self.in_place(kind, live, &intent)) {
            return Ok(());
        }
        let live = self.live(api, kind, &intent.name_any()).await?;
        if live
            .as_ref()
            .is_some_and(|live| self.in_place(kind, live, &intent))
        {
            return Ok(());
        }
        self.write(api, kind, live.as_ref(), &intent).await
    }

    /// The stored object with this name.
    ///
    /// # Errors
    /// When it belongs to somebody else.
    pub(super) async fn live<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        name: &str,
    ) -> Result<Option<K>, Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        let live = api
            .get_opt(name)
            .await
            .map_err(|e| Error::read(kind, name, e))?;
        if let Some(live) = &live {
            check_owner(kind, live, self.app)?;
        }
        Ok(live)
    }

    /// True when the object is as intended, or a write is known to change nothing.
    pub(super) fn in_place<K>(&self, kind: &'static str, live: &K, intent: &K) -> bool
    where
        K: Resource + Serialize,
    {
        if unchanged(live, intent) {
            return true;
        }
        let key = (kind, intent.name_any());
        let settled = self
            .ctx
            .memory
            .of(self.app, |memory| memory.settled.get(&key).cloned());
        settled.is_some_and(|s| s.intent == stamp_of(intent) && s.stored == stored(live))
    }

    /// Applies the intent. When the stored object did not change by it, that is remembered.
    pub(super) async fn write<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        live: Option<&K>,
        intent: &K,
    ) -> Result<(), Error>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = intent.name_any();
        tracing::debug!(kind, name, "apply");
        self.ctx.metrics.writes(kind);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = api
            .patch(&name, &params, &Patch::Apply(intent))
            .await
            .map_err(|e| Error::write("applied", kind, &name, e))?;
        let same = live.is_some_and(|live| live.resource_version() == written.resource_version());
        self.ctx.memory.of(self.app, |memory| {
            if same {
                let settled = Settled {
                    intent: stamp_of(intent),
                    stored: stored(&written),
                };
                memory.settled.insert((kind, name), settled);
            } else {
                memory.settled.remove(&(kind, name));
            }
        });
        Ok(())
    }

    /// False when the object was gone or is going already.
    pub(super) async fn remove<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        object: &K,
    ) -> Result<bool, Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        if object.meta().deletion_timestamp.is_some() {
            return Ok(false);
        }
        let name = object.name_any();
        // An object of the same name that was made since belongs to somebody else.
        let preconditions = Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        });
        let params = DeleteParams {
            preconditions,
            ..DeleteParams::background()
        };
        tracing::info!(kind, name, "removing an object that is no longer wanted");
        self.ctx.metrics.writes(kind);
        match api.delete(&name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(false),
            Err(error) => Err(Error::write("deleted", kind, &name, error)),
        }
    }
}

/// An object of a deleted app of the same name is told apart from one of somebody else: it goes by itself.
fn check_owner<K: Resource>(kind: &'static str, live: &K, app: &FunctionApp) -> Result<(), Error> {
    let name = live.name_any();
    let ours = owned_by(live, app.uid().as_deref());
    let former = live.labels().get(APP_LABEL) == Some(&app.name_any())
        && live
            .owner_references()
            .iter()
            .any(|o| o.controller == Some(true) && o.kind == "FunctionApp");
    match (ours, live.meta().deletion_timestamp.is_some(), former) {
        (true, false, _) => Ok(()),
        (true, true, _) | (false, _, true) => Err(Error::Leaving { kind, name }),
        (false, _, false) => Err(Error::NameTaken { kind, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::function_app::fixtures::app;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    #[test]
    fn what_a_deleted_app_of_the_same_name_left_is_no_name_of_somebody_else() {
        let shop = app("shop", json!({}));
        let service = |label: &str, owner: Option<&str>, deleted: Value| -> Service {
            let owners: Vec<Value> = owner
                .map(|uid| {
                    json!({"apiVersion": "maniple.dev/v1alpha1", "kind": "FunctionApp", "name": "shop",
                        "uid": uid, "controller": true})
                })
                .into_iter()
                .collect();
            serde_json::from_value(
                json!({"metadata": {"name": "shop-http", "labels": {APP_LABEL: label},
                "ownerReferences": owners, "deletionTimestamp": deleted}}),
            )
            .unwrap()
        };
        let now = json!("2026-01-01T00:00:00Z");
        let cases = [
            (service("shop", Some("uid-of-shop"), Value::Null), None),
            (service("shop", Some("uid-of-shop"), now), Some("leaving")),
            (service("shop", Some("older"), Value::Null), Some("leaving")),
            (
                service("other", Some("older"), Value::Null),
                Some("name_taken"),
            ),
            (service("shop", None, Value::Null), Some("name_taken")),
        ];
        for (live, expected) in cases {
            let found = check_owner("Service", &live, &shop);
            assert_eq!(found.as_ref().err().map(Error::category), expected);
        }
    }
}
