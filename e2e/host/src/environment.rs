//! The environment variables of the process and the kind of environment that the host reads from them.
//!
//! Which combination of variables turns on what was recorded from the real host; the table test over
//! `environment-kinds.json` compares every case.

use std::collections::BTreeMap;

/// Environment variables, as given to the process. Names are compared exactly, as on Linux.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The variables of this process. Variables that are not valid UTF-8 are left out.
    pub fn from_process() -> Self {
        Self {
            variables: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        }
    }

    /// Exactly these variables.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self {
            variables: pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }

    /// The same variables and this one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The value of a variable; an empty value counts as not set, as in the host.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether a variable is set to something that is not empty.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A number in a variable, or `default` when the variable is not set or not a number.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        match self.get(name).map(|text| text.trim().parse::<u64>()) {
            Some(Ok(number)) => number,
            Some(Err(_)) => {
                tracing::warn!(variable = name, "not a whole number, using {default}");
                default
            }
            None => default,
        }
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name)
            .is_some_and(|text| text.eq_ignore_ascii_case(value))
    }

    /// App Service or anything that looks like it. In this mode the admin API is open to every
    /// request without `X-ARR-LOG-ID`, and the app is looked for where App Service keeps it.
    pub fn is_app_service(&self) -> bool {
        self.has("WEBSITE_INSTANCE_ID")
    }

    fn is_legion(&self) -> bool {
        self.has("WEBSITE_POD_NAME") && self.has("LEGION_SERVICE_HOST") && !self.is_app_service()
    }

    /// Flex mode: the group filter is active, bindings carry their group in sync payloads.
    pub fn is_flex_consumption(&self) -> bool {
        self.is("WEBSITE_SKU", "FlexConsumption") || self.is_legion()
    }

    /// A container app, or something that claims to be one.
    pub fn is_managed_app_environment(&self) -> bool {
        self.has("MANAGED_ENVIRONMENT")
    }

    /// The mode in which blob-lease locks are replaced by a leader service over HTTP.
    pub fn is_kubernetes_managed(&self) -> bool {
        self.has("KUBERNETES_SERVICE_HOST")
            && self.has("POD_NAMESPACE")
            && !self.is_managed_app_environment()
    }

    /// Linux Consumption.
    pub fn is_linux_consumption_on_atlas(&self) -> bool {
        self.has("CONTAINER_NAME") && !self.is_app_service() && !self.is_legion()
    }

    /// Any consumption plan on Linux outside a container app.
    pub fn is_any_linux_consumption(&self) -> bool {
        (self.is_linux_consumption_on_atlas() || self.is_flex_consumption())
            && !self.is_managed_app_environment()
    }

    /// Listeners are stopped when the process is asked to end.
    pub fn drains_on_sigterm(&self) -> bool {
        self.has("KUBERNETES_SERVICE_HOST")
            || self.is("FUNCTIONS_ENABLE_DRAIN_ON_APP_STOPPING", "true")
    }

    /// `FUNCTIONS_TARGET_GROUP` as it stands; a blank is a group without members.
    pub fn target_group(&self) -> Option<&str> {
        self.get("FUNCTIONS_TARGET_GROUP")
    }

    /// Listeners outside the target group do not start.
    pub fn is_group_filter_active(&self) -> bool {
        self.is_flex_consumption() && self.target_group().is_some()
    }

    /// `POST /admin/host/scale/status` answers.
    pub fn is_runtime_scale_monitoring(&self) -> bool {
        self.get("FUNCTIONS_RUNTIME_SCALE_MONITORING_ENABLED") == Some("1")
    }

    /// Every admin route refuses every credential.
    pub fn is_admin_isolated(&self) -> bool {
        self.get("FUNCTIONS_ADMIN_ISOLATION_ENABLED") == Some("1")
    }

    /// The platform has announced that the container may be used.
    pub fn is_container_ready(&self) -> bool {
        self.get("WEBSITE_CONTAINER_READY") == Some("1")
    }

    /// A pre-started instance without an app.
    pub fn is_placeholder(&self) -> bool {
        self.get("WEBSITE_PLACEHOLDER_MODE") == Some("1")
    }

    /// Whether the host may send its triggers, by itself or when asked.
    pub fn is_sync_triggers_allowed(&self) -> bool {
        let ready_needed = self.is_app_service() || self.is_any_linux_consumption();
        self.has("WEBSITE_AUTH_ENCRYPTION_KEY")
            && !self.has("FUNCTIONS_CORETOOLS_ENVIRONMENT")
            && !self.is_placeholder()
            && (!ready_needed || self.is_container_ready())
    }

    /// The name of the app, in the case in which it was given.
    pub fn site_name(&self) -> Option<&str> {
        self.get("WEBSITE_SITE_NAME")
    }

    /// `site` or `site-slot` in lower case; the production slot has no suffix.
    pub fn unique_slot_name(&self) -> Option<String> {
        let site = self.site_name()?;
        let name = match self.get("WEBSITE_SLOT_NAME") {
            Some(slot) if !slot.eq_ignore_ascii_case("production") => format!("{site}-{slot}"),
            _ => site.to_owned(),
        };
        Some(name.to_lowercase())
    }

    /// The name of this instance in results and statistics: the pod name.
    pub fn instance(&self) -> String {
        if let Some(name) = self
            .get("STANDIN_INSTANCE")
            .or_else(|| self.get("HOSTNAME"))
        {
            return name.to_owned();
        }
        std::fs::read_to_string("/etc/hostname")
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| format!("process-{}", std::process::id()))
    }
}
