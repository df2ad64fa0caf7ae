//! Types and reasons of conditions and events. They are part of the API: scripts and alerts read them (docs/conditions.md).

/// Types of conditions.
pub mod condition {
    /// Everything below is as it should be.
    pub const READY: &str = "Ready";
    /// The Deployments exist and their instances become ready.
    pub const WORKLOAD_AVAILABLE: &str = "WorkloadAvailable";
    /// The hosts list the functions that were declared, without indexing errors.
    pub const FUNCTIONS_LOADED: &str = "FunctionsLoaded";
    /// Somebody decides and writes the instance counts of every group.
    pub const SCALING_CONFIGURED: &str = "ScalingConfigured";
    /// The functions are known and their settings and sources can be resolved.
    pub const TRIGGERS_RESOLVED: &str = "TriggersResolved";
    /// The counts are left as they are on purpose.
    pub const PAUSED: &str = "Paused";
}

/// Reasons of conditions.
pub mod reason {
    /// As it should be.
    pub const OK: &str = "Ok";
    /// The spec is wrong; the message names the field. The last good state keeps running.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A Secret, ConfigMap or key that the spec names does not exist.
    pub const REFERENCE_MISSING: &str = "ReferenceMissing";
    /// Another app has the same host name and path.
    pub const HOST_CONFLICT: &str = "HostConflict";
    /// The functions are not listed in the spec and could not be asked for.
    pub const FUNCTIONS_UNKNOWN: &str = "FunctionsUnknown";
    /// A Deployment could not be rolled out.
    pub const ROLLOUT_FAILED: &str = "RolloutFailed";
    /// Somebody has not taken in the last change yet: the scaler, KEDA, or a host that is starting.
    pub const PROGRESSING: &str = "Progressing";
    /// Instances end or are restarted again and again.
    pub const INSTANCES_FAILING: &str = "InstancesFailing";
    /// Instances do not become ready, or no node takes them.
    pub const INSTANCES_NOT_STARTING: &str = "InstancesNotStarting";
    /// An object could not be written.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// An object with the name that a group needs belongs to somebody else, or is still being removed.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// No instance runs, so nobody could be asked.
    pub const NO_INSTANCE: &str = "NoInstance";
    /// The host does not list a function that was declared.
    pub const FUNCTIONS_MISSING: &str = "FunctionsMissing";
    /// The host lists indexing errors of a function.
    pub const FUNCTION_ERRORS: &str = "FunctionErrors";
    /// The host did not answer.
    pub const HOST_UNREACHABLE: &str = "HostUnreachable";
    /// The host is not asked, because the app is no Azure Functions host.
    pub const NOT_A_FUNCTIONS_HOST: &str = "NotAFunctionsHost";
    /// A group is to be scaled by KEDA, and KEDA is not installed.
    pub const KEDA_NOT_INSTALLED: &str = "KedaNotInstalled";
    /// KEDA reports an error.
    pub const KEDA_NOT_READY: &str = "KedaNotReady";
    /// The scaler did not answer.
    pub const SCALER_UNREACHABLE: &str = "ScalerUnreachable";
    /// An event source could not be read.
    pub const SOURCE_UNREADABLE: &str = "SourceUnreadable";
    /// A trigger has no source yet; its group keeps one instance.
    pub const TRIGGER_UNSUPPORTED: &str = "TriggerUnsupported";
    /// `scaling.mode` is `Paused`.
    pub const PAUSED_BY_SPEC: &str = "PausedBySpec";
    /// `scaling.mode` is `Active`.
    pub const NOT_PAUSED: &str = "NotPaused";
}

/// Reasons of events.
pub mod event {
    /// A group has got its Deployment.
    pub const GROUP_CREATED: &str = "GroupCreated";
    /// The Deployment of a group that is no longer there was removed.
    pub const GROUP_REMOVED: &str = "GroupRemoved";
    /// The spec is wrong; the last good state keeps running.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// An error while applying; it is tried again.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// The host lists errors or misses functions.
    pub const FUNCTIONS_NOT_LOADED: &str = "FunctionsNotLoaded";
    /// An instance does not become ready, or no node takes it.
    pub const INSTANCE_NOT_STARTING: &str = "InstanceNotStarting";
    /// A Deployment could not be rolled out.
    pub const ROLLOUT_FAILED: &str = "RolloutFailed";
    /// An instance ended although nobody stopped it, also with exit code 0.
    pub const INSTANCE_EXITED: &str = "InstanceExited";
    /// On a Secret: a certificate between front ends and scaler was made or renewed, or the CAs beside it changed.
    pub const CERTIFICATE_WRITTEN: &str = "CertificateWritten";
    /// On a Secret: what it held was of no use and was made anew.
    pub const CERTIFICATE_REPLACED: &str = "CertificateReplaced";
}
