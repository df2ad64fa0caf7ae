//! A collector that takes spans by the real protocol.

use std::{net::SocketAddr, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};

/// What it does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    /// Never answers.
    Hangs,
}

#[derive(Clone)]
struct Service {
    mood: Mood,
    spans: Arc<Mutex<Vec<(String, Span)>>>,
}

/// It listens until this is dropped.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    /// Service and span.
    pub(crate) spans: Arc<Mutex<Vec<(String, Span)>>>,
    _stop: DropGuard,
}

impl Collector {
    pub(crate) async fn start(mood: Mood) -> Self {
        Self::serve(mood, Server::builder()).await
    }

    /// With a certificate for `localhost`.
    pub(crate) async fn encrypted(certificate: &str, key: &str) -> Self {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        Self::serve(Mood::Takes, Server::builder().tls_config(tls).unwrap()).await
    }

    async fn serve(mood: Mood, mut server: Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (spans, stop) = (Arc::default(), CancellationToken::new());
        let service = Service {
            mood,
            spans: Arc::clone(&spans),
        };
        let serving = server
            .add_service(TraceServiceServer::new(service))
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        tokio::spawn(serving);
        Self {
            address,
            spans,
            _stop: stop.drop_guard(),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.mood == Mood::Hangs {
            std::future::pending::<()>().await;
        }
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes);
            let service = attributes.into_iter().flatten().find_map(|attribute| {
                let Value::StringValue(text) = attribute.value?.value? else {
                    return None;
                };
                (attribute.key == "service.name").then_some(text)
            });
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            let service = service.unwrap_or_default();
            self.spans
                .lock()
                .extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// An attribute of a span as text.
pub(crate) fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}
