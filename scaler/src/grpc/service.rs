//! The five calls.

use std::{pin::Pin, sync::Arc, time::Instant};

use futures::{Stream, stream};
use maniple_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, ScaledObjectRef,
    external_scaler_server::{ExternalScaler, ExternalScalerServer},
};
use tokio::{sync::watch, time::Instant as TokioInstant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    Answer, DecisionBook, GroupRef, METRIC_NAME,
    book::BadReference,
    incoming::ConnectionInfo,
    metrics::{CallMetrics, OpenStream},
    push::{Push, Step},
};

/// The waits of a stream differ from others by up to this share.
const JITTER: f64 = 0.1;

/// KEDA's `ExternalScaler`, answered from a [`DecisionBook`].
#[derive(Clone)]
pub(super) struct ExternalScalerService {
    book: Arc<dyn DecisionBook>,
    metrics: CallMetrics,
    stop: CancellationToken,
}

impl ExternalScalerService {
    /// Streams end cleanly when `stop` is cancelled.
    pub(super) fn new(
        book: Arc<dyn DecisionBook>,
        metrics: CallMetrics,
        stop: CancellationToken,
    ) -> Self {
        Self {
            book,
            metrics,
            stop,
        }
    }

    /// As a tonic service.
    pub(super) fn into_server(self) -> ExternalScalerServer<Self> {
        ExternalScalerServer::new(self)
    }

    fn desired(&self, object: &ScaledObjectRef) -> Result<u32, Status> {
        let group = group_of(object)?;
        match self.book.answer(&group) {
            Answer::Known { desired, .. } => Ok(desired),
            Answer::Unknown { reason } => Err(Status::unavailable(format!("{group}: {reason}"))),
            Answer::Paused { reason } => Err(Status::failed_precondition(format!(
                "{group} is paused: {reason}"
            ))),
            Answer::NotFound => Err(Status::not_found(format!(
                "{group}: there is no such function group; check app and group in the trigger's metadata"
            ))),
        }
    }

    fn life(&self, connection: Option<&ConnectionInfo>) -> Life {
        Life {
            stop: self.stop.clone(),
            ends_at: connection.map(ConnectionInfo::stream_end),
        }
    }
}

impl std::fmt::Debug for ExternalScalerService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalScalerService")
            .finish_non_exhaustive()
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for ExternalScalerService {
    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let start = Instant::now();
        let answer = self
            .desired(request.get_ref())
            .map(|desired| IsActiveResponse {
                result: desired > 0,
            });
        self.metrics.answered("IsActive", start, &answer);
        answer.map(Response::new)
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let start = Instant::now();
        // Also for groups that are not known: the target is the same for all, and a failure here would break every
        // metric of the ScaledObject and keep KEDA's fallback from starting (keda #8056).
        let answer = group_of(request.get_ref()).map(|_| specs());
        self.metrics.answered("GetMetricSpec", start, &answer);
        answer.map(Response::new)
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let start = Instant::now();
        let GetMetricsRequest {
            scaled_object_ref,
            metric_name,
        } = request.into_inner();
        let answer = scaled_object_ref
            .as_ref()
            .ok_or_else(|| refuse(&BadReference::NoObject))
            .and_then(|object| self.desired(object))
            .map(|desired| GetMetricsResponse {
                metric_values: vec![MetricValue {
                    metric_name,
                    metric_value: i64::from(desired),
                    metric_value_float: f64::from(desired),
                }],
            });
        self.metrics.polled();
        self.metrics.answered("GetMetrics", start, &answer);
        answer.map(Response::new)
    }

    type StreamIsActiveStream = Answers<IsActiveResponse>;

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let life = self.life(request.extensions().get());
        let group = group_of(request.get_ref())
            .inspect_err(|status| self.metrics.refused("StreamIsActive", status))?;
        let pusher = Pusher {
            changes: self.book.changes(&group),
            push: Push::new(1.0 - JITTER + 2.0 * JITTER * fastrand::f64()),
            unread: true,
            life,
            metrics: self.metrics.clone(),
            open: self.metrics.opened("StreamIsActive"),
        };
        let answers = stream::unfold(pusher, |mut pusher| async {
            pusher
                .next()
                .await
                .map(|()| (Ok(IsActiveResponse { result: true }), pusher))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type StreamMetricSpecStream = Answers<GetMetricSpecResponse>;

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        let life = self.life(request.extensions().get());
        group_of(request.get_ref())
            .inspect_err(|status| self.metrics.refused("StreamMetricSpec", status))?;
        // The spec never changes: one message, then silence until the end.
        let state = (false, life, self.metrics.opened("StreamMetricSpec"));
        let answers = stream::unfold(state, |(sent, life, mut open)| async move {
            if sent {
                life.over().await;
                open.end();
                None
            } else {
                Some((Ok(specs()), (true, life, open)))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// How long a stream may live: until the process stops, or until its connection is to be closed.
struct Life {
    stop: CancellationToken,
    ends_at: Option<TokioInstant>,
}

impl Life {
    async fn over(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = until(self.ends_at) => {}
        }
    }
}

/// One open `StreamIsActive`. No task: it lives and dies with the response body.
struct Pusher {
    changes: watch::Receiver<Answer>,
    push: Push,
    /// The present value was not looked at yet.
    unread: bool,
    life: Life,
    metrics: CallMetrics,
    open: OpenStream,
}

impl Pusher {
    /// Waits until a `true` is to be sent; `None` ends the stream with OK.
    async fn next(&mut self) -> Option<()> {
        loop {
            if std::mem::take(&mut self.unread) {
                let answer = self.changes.borrow_and_update().clone();
                match self.push.observe(&answer, TokioInstant::now()) {
                    Step::Send => return self.send(),
                    Step::End => break,
                    Step::Wait => {}
                }
            }
            let due = self.push.due();
            tokio::select! {
                biased;
                () = self.life.over() => break,
                changed = self.changes.changed() => match changed {
                    Ok(()) => self.unread = true,
                    Err(_) => break,
                },
                () = until(due) => {
                    self.push.repeat(TokioInstant::now());
                    return self.send();
                }
            }
        }
        self.open.end();
        None
    }

    #[allow(
        clippy::unnecessary_wraps,
        reason = "so that `next` reads as what it returns"
    )]
    fn send(&self) -> Option<()> {
        self.metrics.pushed();
        Some(())
    }
}

async fn until(instant: Option<TokioInstant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn group_of(object: &ScaledObjectRef) -> Result<GroupRef, Status> {
    GroupRef::parse(&object.namespace, &object.scaler_metadata).map_err(|error| refuse(&error))
}

fn refuse(error: &BadReference) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The value is the wanted count itself, so the target is 1. KEDA up to 2.16 reads the integer, later ones the float.
fn specs() -> GetMetricSpecResponse {
    #[allow(deprecated, reason = "read by KEDA up to 2.16")]
    let spec = MetricSpec {
        metric_name: METRIC_NAME.to_owned(),
        target_size: 1,
        target_size_float: 1.0,
    };
    GetMetricSpecResponse {
        metric_specs: vec![spec],
    }
}
