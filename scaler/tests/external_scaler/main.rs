//! The external scaler on a real port, called by the generated client.

#![allow(clippy::unwrap_used, reason = "tests; a failure here is their result")]

#[path = "../../examples/scripted_scaler/book.rs"]
mod book;
mod calls;
mod server;
mod streams;
mod tls;

use std::{collections::HashMap, sync::Arc, time::Duration};

use book::ScriptedBook;
use maniple_proto::externalscaler::{
    ScaledObjectRef, external_scaler_client::ExternalScalerClient,
};
use maniple_runtime::{Component, Metrics, Readiness, install_tls_provider};
use maniple_scaler::grpc::{Answer, GroupRef, GrpcArgs, GrpcError, GrpcServer};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint},
};

/// Nothing here takes that long unless it hangs.
const HANG: Duration = Duration::from_secs(60);

struct Bench {
    book: Arc<ScriptedBook>,
    readiness: Readiness,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<Result<(), GrpcError>>,
    port: u16,
}

impl Bench {
    async fn start() -> Self {
        Self::start_with(GrpcArgs::plain(([127, 0, 0, 1], 0).into())).await
    }

    async fn start_with(args: GrpcArgs) -> Self {
        install_tls_provider();
        let server = GrpcServer::bind(&args).await.unwrap();
        let port = server.local_address().unwrap().port();
        let book = Arc::new(ScriptedBook::default());
        let readiness = Readiness::default();
        let metrics = Metrics::new(Component::new("test", "0"));
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (book, readiness, metrics, stop) = (
                Arc::clone(&book),
                readiness.clone(),
                metrics.clone(),
                stop.clone(),
            );
            async move {
                server
                    .serve(book, Routes::default(), readiness, &metrics, stop)
                    .await
            }
        });
        Self {
            book,
            readiness,
            metrics,
            stop,
            task,
            port,
        }
    }

    async fn channel(&self) -> Channel {
        let url = format!("http://127.0.0.1:{}", self.port);
        Endpoint::from_shared(url).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> ExternalScalerClient<Channel> {
        ExternalScalerClient::new(self.channel().await)
    }

    fn write(&self, app: &str, answer: Answer) {
        let group = GroupRef {
            namespace: "ns".into(),
            app: app.into(),
            group: "http".parse().unwrap(),
        };
        self.book.write(&group, answer);
    }

    /// Value of a metric line that begins with `name`.
    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.encode();
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    async fn finish(self) {
        self.stop.cancel();
        tokio::time::timeout(HANG, self.task)
            .await
            .expect("the server stops")
            .unwrap()
            .unwrap();
    }
}

fn known(desired: u32, observed: impl Into<Option<u32>>) -> Answer {
    Answer::Known {
        desired,
        observed: observed.into(),
    }
}

fn unknown() -> Answer {
    Answer::Unknown {
        reason: "queue `work` cannot be read: 403; check the connection string".into(),
    }
}

/// The reference that KEDA sends for the http group of `app`.
fn object(app: &str) -> ScaledObjectRef {
    let metadata = [
        ("app", app),
        ("group", "http"),
        ("scalerAddress", "scaler:6000"),
    ];
    ScaledObjectRef {
        name: format!("{app}-http"),
        namespace: "ns".into(),
        scaler_metadata: HashMap::from(
            metadata.map(|(key, value)| (key.to_owned(), value.to_owned())),
        ),
    }
}
