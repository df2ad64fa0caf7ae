//! The environment of an instance.
//!
//! For the Azure Functions host this is the combination that was verified on host 4.1037: an ordinary host which loads only
//! the functions of its group, opens its admin API to tokens signed with the app's key, and never sends its keys anywhere.

use super::Input;
use crate::controller::function_app::dereference::TIME_ZONE;
use crate::controller::function_app::validate::ValidGroup;
use k8s_openapi::api::core::v1::{ConfigMapKeySelector, EnvVar, EnvVarSource, SecretKeySelector};
use kube::ResourceExt;
use maniple_crds::function_app::{AppSetting, Host};
use maniple_crds::{GroupName, names};

/// Time that a host gets at SIGTERM for requests in flight, in seconds, in groups that are not called from outside.
const SHUTDOWN_SECONDS: i32 = 30;
/// What the process needs to end after that, in seconds: other work is cut after 10 s, and the exit itself takes time at 0.25 cores.
const EXIT_SECONDS: i64 = 15;

/// Start-up tuning of the .NET host: 20 to 35 % faster cold starts in measurements of the unmodified host. An app's own
/// setting of the same name wins.
const START_UP: [(&str, &str); 4] = [
    ("DOTNET_TieredCompilation", "1"),
    ("DOTNET_EnableWriteXorExecute", "0"),
    ("DOTNET_TieredPGO", "0"),
    ("DOTNET_gcServer", "0"),
];

/// Seconds that requests in flight get at SIGTERM.
pub(super) fn shutdown_seconds(input: &Input<'_>, group: &ValidGroup) -> i32 {
    if group.name == GroupName::Http {
        input.app.spec.http.request_timeout_seconds
    } else {
        SHUTDOWN_SECONDS
    }
}

/// `terminationGracePeriodSeconds` of the pods.
pub(super) fn grace_seconds(input: &Input<'_>, group: &ValidGroup) -> i64 {
    i64::from(shutdown_seconds(input, group)) + EXIT_SECONDS
}

/// All variables, sorted as written by the app and then by us; no name twice.
pub(super) fn build(input: &Input<'_>, group: &ValidGroup) -> Vec<EnvVar> {
    let mut env: Vec<EnvVar> = input
        .app
        .spec
        .app_settings
        .iter()
        .map(from_setting)
        .collect();
    let own = match input.app.spec.host {
        Host::AzureFunctions => functions_host(input, group),
        Host::Plain => vec![plain("PORT", input.app.spec.port)],
    };
    for variable in own {
        if !env
            .iter()
            .any(|e| e.name.eq_ignore_ascii_case(&variable.name))
        {
            env.push(variable);
        }
    }
    env
}

fn functions_host(input: &Input<'_>, group: &ValidGroup) -> Vec<EnvVar> {
    let app = input.app.name_any();
    let mut env = vec![
        plain("WEBSITE_SITE_NAME", &app),
        EnvVar {
            name: "CONTAINER_ENCRYPTION_KEY".into(),
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: names::keys_secret(&app),
                    key: names::HOST_KEY.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        },
        plain(
            "AzureFunctionsWebHost__hostid",
            names::host_id(&input.namespace, &app),
        ),
        plain(
            "ASPNETCORE_SHUTDOWNTIMEOUTSECONDS",
            shutdown_seconds(input, group),
        ),
        plain(
            "ASPNETCORE_URLS",
            format!("http://+:{}", input.app.spec.port),
        ),
    ];
    env.extend(group.loads.iter().enumerate().map(|(index, function)| {
        plain(
            &format!("AzureFunctionsJobHost__functions__{index}"),
            function,
        )
    }));
    if let Some(runtime) = &input.app.spec.function_app_config.runtime {
        env.push(plain("FUNCTIONS_WORKER_RUNTIME", runtime.name.as_str()));
    }
    env.extend(time_zone(input).map(|zone| plain("TZ", zone)));
    env.extend(START_UP.iter().map(|(name, value)| plain(name, value)));
    env
}

/// `TZ` for an app that sets `WEBSITE_TIME_ZONE`: a host in a Linux container reads only `TZ`, and only IANA names, while the
/// Azure setting may be a Windows name. Timers are woken by the same zone.
fn time_zone(input: &Input<'_>) -> Option<String> {
    let name = input.references.setting(input.app, TIME_ZONE)?.trim();
    let windows = name.parse::<windows_timezones::WindowsTimezone>();
    Some(windows.map_or_else(|_| name.to_owned(), |zone| zone.tzdb_id().to_owned()))
}

fn plain(name: &str, value: impl ToString) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(literal(&value.to_string())),
        ..Default::default()
    }
}

/// Kubernetes expands `$(NAME)` and makes one dollar of two; doubled, each of them comes out as it was.
fn literal(value: &str) -> String {
    value.replace('$', "$$")
}

fn from_setting(setting: &AppSetting) -> EnvVar {
    let source = setting.value_from.as_ref().map(|from| EnvVarSource {
        secret_key_ref: from.secret_key_ref.as_ref().map(|r| SecretKeySelector {
            name: r.name.clone(),
            key: r.key.clone(),
            ..Default::default()
        }),
        config_map_key_ref: from
            .config_map_key_ref
            .as_ref()
            .map(|r| ConfigMapKeySelector {
                name: r.name.clone(),
                key: r.key.clone(),
                ..Default::default()
            }),
        ..Default::default()
    });
    EnvVar {
        name: setting.name.clone(),
        value: setting.value.as_deref().map(literal),
        value_from: source,
    }
}
