//! Requests through the front end, and what the instances counted.

use super::{PLATFORM_NAMESPACE, PLATFORM_RELEASE, Suite};
use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest time for one request, cold start included.
const LIMIT: Duration = Duration::from_secs(120);

/// Domain of the apps' own hosts, as the platform is installed.
pub const DOMAIN: &str = "maniple.local";

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Everything behind the head.
    pub body: String,
    /// Instance that answered, when one did.
    pub instance: Option<String>,
    /// What it waited for, when the front end says so.
    pub server_timing: Option<String>,
    /// From the connection attempt to the last byte.
    pub took: Duration,
}

/// Where the front end takes requests: its Service.
///
/// # Errors
/// When the Service is missing.
pub async fn front(suite: &Suite) -> Result<SocketAddr> {
    let api: Api<Service> = Api::namespaced(suite.client.clone(), PLATFORM_NAMESPACE);
    let service = api.get(&format!("{PLATFORM_RELEASE}-front")).await?;
    let address = service.spec.and_then(|s| s.cluster_ip);
    let address: IpAddr = address.context("the Service has no address")?.parse()?;
    Ok(SocketAddr::new(address, 80))
}

/// One GET on a connection of its own.
///
/// # Errors
/// When the connection cannot be opened, breaks, or the answer is no HTTP.
pub async fn get(to: SocketAddr, host: &str, path: &str) -> Result<Answer> {
    let started = Instant::now();
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.context("not sent")?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&text).into_owned())
    };
    let text = tokio::time::timeout(LIMIT, exchange)
        .await
        .with_context(|| format!("no answer within {} s", LIMIT.as_secs()))??;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("the answer breaks off: {text:?}");
    };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let header = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case(wanted).then(|| value.to_owned())
        })
    };
    Ok(Answer {
        status: status.with_context(|| format!("no HTTP: {head}"))?,
        body: body.to_owned(),
        instance: header("x-standin-instance"),
        server_timing: header("server-timing"),
        took: started.elapsed(),
    })
}

/// What one instance counted since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Name of the pod.
    pub pod: String,
    /// Most invocations at a time.
    pub most: u64,
    /// All invocations.
    pub started: u64,
}

/// What the running instances of an app counted. Pods that do not answer are left out.
///
/// # Errors
/// When the pods cannot be listed.
pub async fn counted(suite: &Suite, namespace: &str, app: &str, port: u16) -> Result<Vec<Counted>> {
    let api: Api<Pod> = Api::namespaced(suite.client.clone(), namespace);
    let selector = format!("{}={app}", maniple_crds::names::APP_LABEL);
    let pods = api.list(&ListParams::default().labels(&selector)).await?;
    let mut counted = Vec::new();
    for pod in pods {
        let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref());
        let Some(Ok(ip)) = ip.map(str::parse::<IpAddr>) else {
            continue;
        };
        let address = SocketAddr::new(ip, port);
        let Ok(answer) = get(address, "localhost", "/standin/stats").await else {
            continue;
        };
        let Some(stats) = answer
            .body
            .find('{')
            .and_then(|at| serde_json::from_str::<Value>(answer.body[at..].trim_end()).ok())
        else {
            continue;
        };
        let number = |name: &str| stats["process"][name].as_u64().unwrap_or_default();
        counted.push(Counted {
            pod: pod.name_any(),
            most: number("maxInFlight"),
            started: number("started"),
        });
    }
    Ok(counted)
}

/// The value below which this share (0 to 1) of the sorted durations lies.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}
