//! The real gRPC service over decisions that are written by hand, for tests of clients such as KEDA's.
//!
//! `PUT /groups/<namespace>/<app>/<group>` with `{"desired": 3, "observed": 0}`, `{"unknown": "why"}` or
//! `{"paused": "why"}` on the control address writes an answer, `DELETE` removes the group. When both ports are open, one
//! line with their addresses is printed: `grpc=127.0.0.1:41241 control=127.0.0.1:35127`.

mod book;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::put,
};
use book::ScriptedBook;
use clap::Parser;
use maniple_runtime::{Component, Runtime, RuntimeArgs};
use maniple_scaler::grpc::{Answer, GroupRef, GrpcArgs, GrpcServer};
use serde::Deserialize;
use tonic::service::Routes;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    grpc: GrpcArgs,
    /// Where decisions are written.
    #[arg(long, default_value = "127.0.0.1:0")]
    control_address: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Script {
    Known { desired: u32, observed: Option<u32> },
    Unknown { unknown: String },
    Paused { paused: String },
}

impl From<Script> for Answer {
    fn from(script: Script) -> Self {
        match script {
            Script::Known { desired, observed } => Self::Known { desired, observed },
            Script::Unknown { unknown } => Self::Unknown {
                reason: unknown.into(),
            },
            Script::Paused { paused } => Self::Paused {
                reason: paused.into(),
            },
        }
    }
}

type Names = Path<(String, String, String)>;

fn group(Path((namespace, app, group)): Names) -> Result<GroupRef, (StatusCode, String)> {
    let group = group
        .parse()
        .map_err(|error: maniple_crds::group::UnknownGroup| {
            (StatusCode::BAD_REQUEST, error.to_string())
        })?;
    Ok(GroupRef {
        namespace: namespace.into(),
        app: app.into(),
        group,
    })
}

async fn write(
    State(book): State<Arc<ScriptedBook>>,
    names: Names,
    Json(script): Json<Script>,
) -> Result<StatusCode, (StatusCode, String)> {
    book.write(&group(names)?, script.into());
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(book): State<Arc<ScriptedBook>>,
    names: Names,
) -> Result<StatusCode, (StatusCode, String)> {
    book.write(&group(names)?, Answer::NotFound);
    Ok(StatusCode::NO_CONTENT)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let component = Component::new("scripted-scaler", env!("CARGO_PKG_VERSION"));
    let mut runtime = Runtime::init(component, args.runtime)?;
    let book = Arc::new(ScriptedBook::default());

    let server = GrpcServer::bind(&args.grpc).await?;
    let control = tokio::net::TcpListener::bind(args.control_address).await?;
    runtime.serve_admin(Router::new()).await?;
    println!(
        "grpc={} control={}",
        server.local_address()?,
        control.local_addr()?
    );

    let stage = runtime
        .shutdown
        .stage("grpc server", Duration::from_secs(10));
    let (stop, readiness, metrics) = (
        stage.token(),
        runtime.readiness.clone(),
        runtime.metrics.clone(),
    );
    let answers = Arc::clone(&book);
    stage.spawn("grpc server", async move {
        server
            .serve(answers, Routes::default(), readiness, &metrics, stop)
            .await
    });

    let stage = runtime.shutdown.stage("control", Duration::from_secs(1));
    let stop = stage.token();
    let routes = Router::new()
        .route(
            "/groups/{namespace}/{app}/{group}",
            put(write).delete(remove),
        )
        .with_state(book);
    stage.spawn("control", async move {
        axum::serve(control, routes)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    });
    Ok(runtime.run().await?)
}
