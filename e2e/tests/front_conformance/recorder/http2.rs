//! The same for an instance that speaks HTTP/2: what it gets is shown as if it had come by HTTP/1.1.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use http::{HeaderMap, Request, Response, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;

use super::{ADDED, Received, Recorder, Seen, latin1};

/// Starts an instance that speaks nothing but HTTP/2 without TLS.
pub(crate) fn start() -> Result<Recorder> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = seen.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Ends with the test process.
    thread::spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let seen = shared.clone();
                let service = service_fn(move |request| answer(request, seen.clone()));
                tokio::spawn(
                    http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
            #[allow(unreachable_code, reason = "names the type of the errors above")]
            std::io::Result::Ok(())
        })
    });
    Ok(Recorder { address, seen })
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .filter(|(name, _)| !ADDED.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", latin1(value.as_bytes())))
        .collect();
    lines.sort();
    lines
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Seen>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str())
        .to_owned();
    let line = format!("{} {target} HTTP/1.1", parts.method);
    let Ok(body) = body.collect().await else {
        seen.lock().broken.push(line);
        return Ok(Response::default());
    };
    let trailers = body.trailers().map(lines).unwrap_or_default();
    let mut headers = lines(&parts.headers);
    match host(&parts.headers, &parts.uri) {
        Ok(host) => headers.push(format!("host: {host}")),
        Err(error) => seen.lock().wrong.push(format!("{line}: {error}")),
    }
    headers.sort();
    if parts.version != Version::HTTP_2 {
        seen.lock()
            .wrong
            .push(format!("{line}: {:?}", parts.version));
    }
    seen.lock().requests.push(Received {
        line,
        headers,
        body: latin1(&body.to_bytes()),
        trailers,
    });
    Ok(Response::new(Full::from(target)))
}

/// The authority, beside which there must be no host.
fn host(headers: &HeaderMap, uri: &http::Uri) -> Result<String> {
    anyhow::ensure!(
        !headers.contains_key(header::HOST),
        "a host beside the authority"
    );
    let authority = uri.authority().context("no authority")?;
    Ok(authority.to_string())
}
