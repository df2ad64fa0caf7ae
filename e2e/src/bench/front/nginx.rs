//! nginx: the instances that answer, and the peer that proxies to them.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::Result;

use super::process::{Process, free_port};

/// Instances of the group that answers ordinary requests, each at an address of its own.
const INSTANCES: u8 = 8;

/// Body sizes in bytes, by path.
pub(super) const BODIES: [(&str, usize); 3] = [("small", 2), ("kib", 1024), ("mib", 1024 * 1024)];

/// What both configurations begin with.
fn head(folder: &Path, name: &str, workers: usize) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes {workers};
worker_rlimit_nofile 20000;
pid {folder}/{name}.pid;
error_log stderr error;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-fastcgi;
  uwsgi_temp_path {folder}/{name}-uwsgi;
  scgi_temp_path {folder}/{name}-scgi;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=10;
"
    )
}

fn start(folder: &Path, name: &str, core: usize, config: &str, at: SocketAddr) -> Result<Process> {
    let path = folder.join(format!("{name}.conf"));
    fs::write(&path, config)?;
    let log = folder.join(format!("{name}.log"));
    let args = ["-e", "stderr", "-c", &path.display().to_string()];
    let mut process = Process::start(core, "nginx", &args, &log)?;
    process.ready(at, &log)?;
    Ok(process)
}

/// The instances: one fast fixed server for all contestants.
pub(super) fn instances(folder: &Path, core: usize) -> Result<(Process, Vec<SocketAddr>)> {
    let port = free_port()?;
    let addresses: Vec<SocketAddr> = (0..INSTANCES)
        .map(|number| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + number)), port))
        .collect();
    let files = folder.join("files");
    fs::create_dir_all(&files)?;
    for (name, bytes) in BODIES {
        fs::write(files.join(name), "x".repeat(bytes))?;
    }
    let mut config = head(folder, "instances", 1);
    config.push_str("  server {\n");
    for address in &addresses {
        writeln!(config, "    listen {address};")?;
    }
    write!(
        config,
        "    root {};
    location = / {{ return 200 \"ok\"; }}
  }}
}}
",
        files.display()
    )?;
    let process = start(folder, "instances", core, &config, addresses[0])?;
    Ok((process, addresses))
}

/// nginx as the proxy: keep-alive to the instances, nothing logged, bodies streamed and not kept in files. Returns its HTTP/1.1 and its HTTP/2 address.
pub(super) fn proxy(
    folder: &Path,
    core: usize,
    instances: &[SocketAddr],
    others: SocketAddr,
) -> Result<(Process, SocketAddr, SocketAddr)> {
    let http1 = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let http2 = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut config = head(folder, "proxy", 1);
    config.push_str("  upstream instances {\n");
    for address in instances {
        writeln!(config, "    server {address};")?;
    }
    write!(
        config,
        "    keepalive 256;
    keepalive_requests 1000000000;
  }}
  upstream others {{
    server {others};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {http1};
    listen {http2} http2;
    http2_max_concurrent_streams 250;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    location / {{
      proxy_pass http://instances;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
    }}
    location /upload {{
      proxy_pass http://others;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
    }}
    location /socket {{
      proxy_pass http://others;
      proxy_set_header Connection upgrade;
      proxy_set_header Upgrade $http_upgrade;
      proxy_read_timeout 1h;
    }}
  }}
}}
"
    )?;
    let process = start(folder, "proxy", core, &config, http1)?;
    Ok((process, http1, http2))
}
