//! Running an invocation: counted, limited by functionTimeout, cut with its worker.

use std::sync::Arc;
use std::time::Duration;

use crate::activity::{Outcome, Running};
use crate::function::Function;
use crate::host::Host;
use crate::work::{Input, Invocation, Reply, WorkError};

/// How an invocation ended when there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The function failed.
    #[error(transparent)]
    Failed(#[from] WorkError),
    /// It ran longer than functionTimeout.
    #[error("timeout value of {0:?} exceeded by the function")]
    TimedOut(Duration),
    /// It was cut by a restart, a resume or the end of the process.
    #[error("the invocation was cut")]
    Lost,
}

impl InvokeError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Failed(error) => error.category(),
            Self::TimedOut(_) => "function-timeout",
            Self::Lost => "invocation-cut",
        }
    }
}

impl Host {
    /// Runs a function to its end. The run goes on when the caller goes away.
    pub async fn invoke(
        self: &Arc<Self>,
        function: &Arc<Function>,
        input: Input,
    ) -> Result<(Reply, Running), InvokeError> {
        let mut running = self.activity.start(&function.name);
        let worker = self.generation().worker.clone();
        let work = Arc::clone(&self.work);
        let timeout = self.function_timeout;
        let invocation = Invocation {
            id: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            function: Arc::clone(function),
            instance: self.instance.clone(),
            in_flight: running.in_flight,
            input,
        };
        let run = tokio::spawn(async move {
            let limit = async {
                match timeout {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            let result = tokio::select! {
                biased;
                () = worker.cancelled() => Err(InvokeError::Lost),
                result = work.run(invocation) => result.map_err(InvokeError::Failed),
                () = limit => Err(InvokeError::TimedOut(timeout.unwrap_or_default())),
            };
            running.finish(match &result {
                Ok(_) => Outcome::Succeeded,
                Err(InvokeError::Lost) => Outcome::Lost,
                Err(_) => Outcome::Failed,
            });
            result.map(|reply| (reply, running))
        });
        run.await
            .unwrap_or_else(|error| Err(InvokeError::Failed(WorkError::Broken(error.to_string()))))
    }
}
