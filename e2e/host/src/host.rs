//! The host: the app as this instance sees it, the state of the host, drain and resume, and invocations.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use crate::activity::Activity;
use crate::app::{self, AppDefinition, AppError};
use crate::auth::Authorizer;
use crate::cores;
use crate::environment::Environment;
use crate::fault::{FaultError, Faults};
use crate::function::{Function, Scope, Trigger};
use crate::generation::Generation;
use crate::host_id::{HostId, host_id};
use crate::host_json::{HostJson, HostJsonError, HttpOptions, QueueOptions};
use crate::http::throttle::Throttle;
use crate::listeners::{self, Reports};
use crate::settings::Settings;
use crate::storage::Storage;
use crate::work::FunctionWork;

/// States of the host, as `/admin/host/status` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// Loading the app; the port is closed.
    Starting,
    /// Serving, or restarting.
    Running,
    /// Cannot serve; every request is answered 503.
    Error,
    /// Asked to end.
    Stopping,
}

impl HostState {
    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Error => "Error",
            Self::Stopping => "Stopping",
        }
    }
}

/// The state with what belongs to it.
#[derive(Debug, Clone)]
pub struct HostStatus {
    /// The state.
    pub state: HostState,
    /// Why the state is Error.
    pub errors: Vec<String>,
    /// The app is loaded. A restarting host says Running and holds requests until then.
    pub is_loaded: bool,
}

/// The stand-in cannot start at all. (A host that starts into state Error is a different thing.)
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The app definition is missing or wrong.
    #[error(transparent)]
    App(#[from] AppError),
    /// An unknown failure mode.
    #[error(transparent)]
    Fault(#[from] FaultError),
}

impl LoadError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::App(error) => error.category(),
            Self::Fault(error) => error.category(),
        }
    }
}

/// The host of one instance.
pub struct Host {
    /// The kind of environment.
    pub environment: Environment,
    /// App settings.
    pub settings: Settings,
    /// The effective host.json.
    pub host_json: HostJson,
    /// The language that the app reports.
    pub language: String,
    /// The folder of the app.
    pub script_root: PathBuf,
    /// The name of this instance: the pod.
    pub instance: String,
    /// Shared by all instances of the app, if all is well.
    pub host_id: HostId,
    /// All functions of the app by name, also those that are not served here.
    pub functions: Vec<Arc<Function>>,
    /// Who may do what.
    pub authorizer: Authorizer,
    /// Counters.
    pub activity: Arc<Activity>,
    /// Limits of HTTP.
    pub http: HttpOptions,
    /// Admission of requests under these limits.
    pub throttle: Throttle,
    /// Options of queue listeners.
    pub queues: QueueOptions,
    /// Processors that the process sees; defaults of host.json depend on it.
    pub cores: u32,
    /// Failure modes.
    pub faults: Faults,
    /// Access to the storage accounts that the settings name.
    pub storage: Storage,
    /// What the listeners say of themselves.
    pub reports: Reports,
    /// When the process began.
    pub started: Instant,
    /// Random: tells two processes of one pod apart.
    pub process: String,
    pub(crate) work: Arc<dyn FunctionWork>,
    pub(crate) function_timeout: Option<Duration>,
    load_time: Duration,
    start_errors: Vec<String>,
    status: watch::Sender<HostStatus>,
    generation: Mutex<Arc<Generation>>,
    drain_turn: Arc<Semaphore>,
    restart_turn: tokio::sync::Mutex<()>,
}

impl Host {
    /// Reads app, host.json and failure modes. The host is in state Starting afterwards.
    pub fn load(
        environment: Environment,
        work: Arc<dyn FunctionWork>,
    ) -> Result<Arc<Self>, LoadError> {
        let faults = Faults::from_environment(&environment)?;
        let script_root = app::script_root(&environment);
        let mut definition = AppDefinition::load(&environment)?;
        definition
            .functions
            .sort_by_key(|function| function.name.to_lowercase());
        let settings = Settings::from_environment(&environment);
        let cores = cores::visible(&environment);
        let mut start_errors = Vec::new();
        if faults.host_error {
            start_errors
                .push("The stand-in was told to fail (STANDIN_FAULT=host-error).".to_owned());
        }

        let text = app::host_json_text(&environment, &script_root)
            .or_else(|| Some(definition.host_json.as_ref()?.to_string()));
        let read = |text: Option<&str>| -> Result<_, HostJsonError> {
            let host_json = HostJson::load(text, &environment)?;
            let options = (
                host_json.http()?,
                host_json.queues(cores)?,
                host_json.function_timeout()?,
            );
            Ok((host_json, options))
        };
        let (host_json, (http, queues, function_timeout)) = match read(text.as_deref()) {
            Ok(parts) => parts,
            Err(error) => {
                start_errors.push(error.to_string());
                let fallback = HostJson::default();
                let http = fallback.http().expect("defaults are in range");
                let queues = fallback.queues(cores).expect("defaults are in range");
                (fallback, (http, queues, None))
            }
        };

        let instance = environment.instance();
        let host_id = host_id(&environment, &instance, &script_root.to_string_lossy());
        match &host_id {
            HostId::None => {
                start_errors.push("HostId=(null): set AzureFunctionsWebHost__hostid.".to_owned());
            }
            HostId::Local(id) => tracing::warn!(
                host_id = id,
                "the host id differs per instance, every instance will run every timer; set AzureFunctionsWebHost__hostid"
            ),
            HostId::Shared(_) => {}
        }

        let scope = Scope {
            environment: &environment,
            settings: &settings,
            host_json: &host_json,
        };
        let has_app = !faults.app_load && !environment.is_app_service();
        if !has_app {
            tracing::error!("the app could not be loaded: no functions found");
        }
        let functions: Vec<_> = definition
            .functions
            .iter()
            .filter(|_| has_app)
            .map(|definition| {
                let mut function = Function::new(definition, scope);
                if faults
                    .indexing
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(&function.name))
                {
                    function.fail(
                        "The stand-in was told to fail this function (STANDIN_FAULT=indexing)."
                            .to_owned(),
                    );
                }
                for error in &function.errors {
                    tracing::error!(function = function.name, "{error}");
                }
                Arc::new(function)
            })
            .collect();

        Ok(Arc::new(Self {
            authorizer: Authorizer::new(&environment),
            activity: Arc::new(Activity::new(
                functions.iter().map(|function| function.name.clone()),
            )),
            throttle: Throttle::new(&http),
            load_time: Duration::from_millis(environment.number("STANDIN_LOAD_MS", 0)),
            status: watch::Sender::new(HostStatus {
                state: HostState::Starting,
                errors: Vec::new(),
                is_loaded: false,
            }),
            generation: Mutex::default(),
            storage: Storage::new(&environment),
            reports: Reports::default(),
            drain_turn: Arc::new(Semaphore::new(1)),
            restart_turn: tokio::sync::Mutex::default(),
            started: Instant::now(),
            process: format!("{:016x}", fastrand::u64(..)),
            language: definition.language,
            environment,
            settings,
            host_json,
            script_root,
            instance,
            host_id,
            functions,
            http,
            queues,
            cores,
            faults,
            work,
            function_timeout,
            start_errors,
        }))
    }

    /// The time that the first start takes: `STANDIN_START_MS` for the host, `STANDIN_LOAD_MS` for the app.
    pub fn start_time(&self) -> Duration {
        Duration::from_millis(self.environment.number("STANDIN_START_MS", 0)) + self.load_time
    }

    /// Ends the first start attempt: Running with listeners, or Error.
    pub fn finish_start(self: &Arc<Self>) {
        let failed = !self.start_errors.is_empty();
        self.status.send_replace(HostStatus {
            state: if failed {
                HostState::Error
            } else {
                HostState::Running
            },
            errors: self.start_errors.clone(),
            is_loaded: !failed,
        });
        if !failed {
            listeners::start_all(self, &self.generation());
        }
    }

    /// The state now.
    pub fn status(&self) -> HostStatus {
        self.status.borrow().clone()
    }

    /// The present life of the app.
    pub fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generation.lock())
    }

    /// The function of this name (any case), if the app has one.
    pub fn function(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions
            .iter()
            .find(|function| function.name.eq_ignore_ascii_case(name))
    }

    /// The effective host.json as the host formats it.
    pub fn config(&self) -> Result<Value, HostJsonError> {
        let has_queues = self
            .functions
            .iter()
            .any(|function| matches!(function.trigger, Trigger::Queue { .. }));
        self.host_json.effective(self.cores, has_queues)
    }

    /// The element of `/admin/functions` for a function.
    pub fn metadata(&self, function: &Function, base_url: &str) -> Value {
        let root = self.script_root.to_string_lossy();
        function.metadata(base_url, &self.http.route_prefix, &self.language, &root)
    }

    /// Waits until the app is loaded. False: it will not be, or not within `limit`.
    pub async fn wait_loaded(&self, limit: Duration) -> bool {
        let mut status = self.status.subscribe();
        let settled =
            status.wait_for(|status| status.is_loaded || status.state == HostState::Error);
        matches!(tokio::time::timeout(limit, settled).await, Ok(Ok(status)) if status.is_loaded)
    }

    /// Stops taking work. The first call returns at once; a call while listeners are still stopping waits for them.
    pub async fn drain(&self) {
        let Ok(turn) = Arc::clone(&self.drain_turn).acquire_owned().await else {
            return;
        };
        let generation = self.generation();
        generation.drain();
        tracing::info!("drain mode enabled");
        tokio::spawn(async move {
            generation.listeners.wait().await;
            drop(turn);
        });
    }

    /// Takes work again after a drain. HTTP requests in flight are lost. False: not possible in this state.
    pub async fn resume(self: &Arc<Self>) -> bool {
        let _turn = self.restart_turn.lock().await;
        if self.status().state != HostState::Running {
            return false;
        }
        if self.generation().is_draining() {
            self.renew().await;
        }
        true
    }

    /// Starts the app anew in the same process. Everything in flight is lost; requests are held until the app
    /// has loaded, while the state says Running.
    pub async fn restart(self: &Arc<Self>) {
        let _turn = self.restart_turn.lock().await;
        if self.status().state != HostState::Running {
            return;
        }
        self.status.send_modify(|status| status.is_loaded = false);
        tokio::time::sleep(self.load_time).await;
        self.renew().await;
        self.status.send_modify(|status| status.is_loaded = true);
    }

    async fn renew(self: &Arc<Self>) {
        let next = Arc::new(Generation::default());
        let old = std::mem::replace(&mut *self.generation.lock(), Arc::clone(&next));
        old.cut().await;
        listeners::start_all(self, &next);
        tracing::info!("the app was started anew");
    }

    /// Takes no more work and says so.
    pub fn stop_listeners(&self) -> Arc<Generation> {
        self.status
            .send_modify(|status| status.state = HostState::Stopping);
        let generation = self.generation();
        generation.stop();
        generation
    }
}
