//! Configuration files and command lines of the cluster's parts.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::address::AddressPlan;
use super::build::Built;
use super::control::{Health, PartSpec};
use super::files;
use super::options::Options;
use super::paths::StateDir;
use super::pki::Pki;
use crate::image::sha256;

/// Image that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "maniple.dev/e2e/pause:1";
/// Name of the one real node.
pub const NODE: &str = "node-0";
/// Most pods on the real node.
const MAX_PODS: u32 = 250;
/// Ports of Azurite on the node's address: blob, queue, table.
pub const AZURITE_PORTS: [u16; 3] = [10000, 10001, 10002];
/// Port of the API server on the node's address.
pub const API_PORT: u16 = 6443;

/// Everything that decides how the parts are started.
pub(super) struct Setup<'a> {
    pub(super) options: &'a Options,
    pub(super) state: &'a StateDir,
    pub(super) built: &'a Built,
    pub(super) pki: &'a Pki,
}

impl Setup<'_> {
    fn plan(&self) -> AddressPlan {
        self.options.addresses
    }

    fn file(&self, name: &str) -> String {
        self.state.join("config").join(name).display().to_string()
    }

    /// URL of the API server.
    pub(super) fn server(&self) -> String {
        format!("https://{}:{API_PORT}", self.plan().node())
    }

    /// Writes every configuration file. Files that the parts read at start are part of their specification.
    pub(super) fn write(&self) -> Result<()> {
        let config = self.state.join("config");
        fs::create_dir_all(&config)?;
        for (user, name) in [
            ("controller-manager", "controller-manager.kubeconfig"),
            ("scheduler", "scheduler.kubeconfig"),
            ("proxy", "proxy.kubeconfig"),
            ("kubelet", "kubelet.kubeconfig"),
        ] {
            self.pki
                .kubeconfig(&config.join(name), &self.server(), user)?;
        }
        self.pki
            .kubeconfig(&self.state.kubeconfig(), &self.server(), "admin")?;
        let cni = config.join("cni");
        fs::create_dir_all(&cni)?;
        files::write(&cni.join("10-bridge.conflist"), &self.cni())?;
        files::write(&config.join("containerd.toml"), &self.containerd_toml())?;
        files::write(&config.join("kubelet.yaml"), &self.kubelet_yaml())?;
        files::write(&config.join("proxy.yaml"), &self.proxy_yaml())?;
        // No name outside of the cluster can be resolved: pods have no way out.
        files::write(&config.join("resolv.conf"), "nameserver 127.0.0.1\n")
    }

    fn cni(&self) -> String {
        serde_json::json!({
            "cniVersion": "0.4.0",
            "name": "maniple",
            "plugins": [
                {
                    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": self.plan().pod_cidr(), "gateway": self.plan().pod_gateway()}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        })
        .to_string()
    }

    fn containerd_toml(&self) -> String {
        // restrict_oom_score_adj: without CAP_SYS_RESOURCE runc may not lower the score, and every pod would fail.
        format!(
            r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  enable_selinux = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
            socket = self.state.containerd_socket().display(),
            cni = self.file("cni"),
        )
    }

    fn kubelet_yaml(&self) -> String {
        format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {ca}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDNS: [{dns}]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://{socket}
resolvConf: {resolv}
maxPods: {MAX_PODS}
registryPullQPS: 0
serializeImagePulls: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
volumePluginDir: /var/lib/kubelet/volume-plugins
logging: {{format: text}}
",
            ca = self.pki.cert("ca"),
            dns = self.plan().dns_service(),
            socket = self.state.containerd_socket().display(),
            resolv = self.file("resolv.conf"),
        )
    }

    fn proxy_yaml(&self) -> String {
        format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {kubeconfig}}}
mode: iptables
clusterCIDR: {cidr}
hostnameOverride: {NODE}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
iptables: {{syncPeriod: 30s, minSyncPeriod: 100ms}}
",
            kubeconfig = self.file("proxy.kubeconfig"),
            cidr = self.plan().cluster_cidr(),
        )
    }

    /// The parts that run as plain processes, in the order in which they are started.
    pub(super) fn parts(&self) -> Result<Vec<PartSpec>> {
        let mut parts = vec![self.etcd()?, self.containerd()?];
        if self.options.azurite {
            parts.push(self.azurite()?);
        }
        parts.extend([
            self.apiserver()?,
            self.controller_manager()?,
            self.scheduler()?,
            self.kubelet()?,
            self.proxy()?,
        ]);
        Ok(parts)
    }

    fn part(
        &self,
        name: &str,
        argv: Vec<String>,
        health: Health,
        inputs: &[&str],
    ) -> Result<PartSpec> {
        let mut contents = Vec::new();
        for input in inputs {
            contents.extend(
                fs::read(self.file(input)).with_context(|| format!("cannot read {input}"))?,
            );
        }
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        Ok(PartSpec {
            name: name.to_owned(),
            argv,
            env: BTreeMap::from([("PATH".to_owned(), path)]),
            log: self.state.log(name),
            health,
            inputs: sha256(&contents),
        })
    }

    fn argv(&self, part: &str, args: &[String]) -> Result<Vec<String>> {
        let program = self.built.path(part)?.display().to_string();
        Ok([&[program], args].concat())
    }

    fn etcd(&self) -> Result<PartSpec> {
        let args = [
            "--name=etcd".to_owned(),
            format!("--data-dir={}", self.state.join("etcd").display()),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--initial-cluster=etcd=http://127.0.0.1:2380".to_owned(),
            // Losing the data with the machine is fine here, waiting for the disk is not.
            "--unsafe-no-fsync".to_owned(),
            "--auto-compaction-retention=10m".to_owned(),
            "--quota-backend-bytes=4294967296".to_owned(),
        ];
        self.part(
            "etcd",
            self.argv("etcd", &args)?,
            Health::Http("127.0.0.1:2379".into(), "/health".into()),
            &[],
        )
    }

    fn containerd(&self) -> Result<PartSpec> {
        let argv = vec![
            program("containerd")?,
            "--config".to_owned(),
            self.file("containerd.toml"),
        ];
        self.part(
            "containerd",
            argv,
            Health::Unix(self.state.containerd_socket()),
            &["containerd.toml"],
        )
    }

    fn azurite(&self) -> Result<PartSpec> {
        let folder = self.built.path("azurite")?;
        let node =
            super::command::find("node").context("node is missing: install Node.js 20 or newer")?;
        let [blob, queue, table] = AZURITE_PORTS;
        let argv = vec![
            node.display().to_string(),
            folder
                .join("node_modules/azurite/dist/src/azurite.js")
                .display()
                .to_string(),
            "--location".to_owned(),
            self.state.join("azurite").display().to_string(),
            "--silent".to_owned(),
            "--skipApiVersionCheck".to_owned(),
            // The account is in the path, whatever name the client uses for the host.
            "--disableProductStyleUrl".to_owned(),
            "--disableTelemetry".to_owned(),
            format!("--blobHost={}", self.plan().node()),
            format!("--blobPort={blob}"),
            format!("--queueHost={}", self.plan().node()),
            format!("--queuePort={queue}"),
            format!("--tableHost={}", self.plan().node()),
            format!("--tablePort={table}"),
        ];
        self.part(
            "azurite",
            argv,
            Health::Tcp(format!("{}:{queue}", self.plan().node())),
            &[],
        )
    }

    fn apiserver(&self) -> Result<PartSpec> {
        let pki = self.pki;
        let args = [
            format!("--advertise-address={}", self.plan().node()),
            "--bind-address=0.0.0.0".to_owned(),
            format!("--secure-port={API_PORT}"),
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--anonymous-auth=true".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            format!("--client-ca-file={}", pki.cert("ca")),
            format!("--tls-cert-file={}", pki.cert("apiserver")),
            format!("--tls-private-key-file={}", pki.key("apiserver")),
            format!(
                "--kubelet-client-certificate={}",
                pki.cert("apiserver-kubelet")
            ),
            format!("--kubelet-client-key={}", pki.key("apiserver-kubelet")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!(
                "--service-account-key-file={}",
                self.state.join("pki/service-accounts.pub").display()
            ),
            format!(
                "--service-account-signing-key-file={}",
                pki.key("service-accounts")
            ),
            format!("--service-cluster-ip-range={}", self.plan().service_cidr()),
            format!(
                "--requestheader-client-ca-file={}",
                pki.cert("front-proxy-ca")
            ),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!("--proxy-client-cert-file={}", pki.cert("front-proxy")),
            format!("--proxy-client-key-file={}", pki.key("front-proxy")),
            "--profiling=false".to_owned(),
        ];
        let health = Health::Tcp(format!("127.0.0.1:{API_PORT}"));
        self.part(
            "apiserver",
            self.argv("kube-apiserver", &args)?,
            health,
            &[],
        )
    }

    fn controller_manager(&self) -> Result<PartSpec> {
        let mut args = vec![
            format!(
                "--kubeconfig={}",
                self.file("controller-manager.kubeconfig")
            ),
            "--use-service-account-credentials=true".to_owned(),
            // One instance; a killed one must not be waited for.
            "--leader-elect=false".to_owned(),
            format!("--root-ca-file={}", self.pki.cert("ca")),
            format!(
                "--service-account-private-key-file={}",
                self.pki.key("service-accounts")
            ),
            format!("--cluster-cidr={}", self.plan().cluster_cidr()),
            "--allocate-node-cidrs=false".to_owned(),
            format!("--service-cluster-ip-range={}", self.plan().service_cidr()),
            "--bind-address=127.0.0.1".to_owned(),
        ];
        if let Some(seconds) = self.options.hpa_sync_seconds {
            args.push(format!(
                "--horizontal-pod-autoscaler-sync-period={seconds}s"
            ));
        }
        if let Some(qps) = self.options.controller_qps {
            args.extend([
                format!("--kube-api-qps={qps}"),
                format!("--kube-api-burst={}", qps * 2),
            ]);
        }
        let health = Health::Tcp("127.0.0.1:10257".to_owned());
        self.part(
            "controller-manager",
            self.argv("kube-controller-manager", &args)?,
            health,
            &["controller-manager.kubeconfig"],
        )
    }

    fn scheduler(&self) -> Result<PartSpec> {
        let args = [
            format!("--kubeconfig={}", self.file("scheduler.kubeconfig")),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
        ];
        let health = Health::Tcp("127.0.0.1:10259".to_owned());
        self.part(
            "scheduler",
            self.argv("kube-scheduler", &args)?,
            health,
            &["scheduler.kubeconfig"],
        )
    }

    fn kubelet(&self) -> Result<PartSpec> {
        let args = [
            format!("--config={}", self.file("kubelet.yaml")),
            format!("--kubeconfig={}", self.file("kubelet.kubeconfig")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={}", self.plan().node()),
            "--cert-dir=/var/lib/kubelet/pki".to_owned(),
            "--v=1".to_owned(),
        ];
        let health = Health::Http("127.0.0.1:10248".to_owned(), "/healthz".to_owned());
        self.part(
            "kubelet",
            self.argv("kubelet", &args)?,
            health,
            &["kubelet.yaml", "kubelet.kubeconfig"],
        )
    }

    fn proxy(&self) -> Result<PartSpec> {
        let args = [format!("--config={}", self.file("proxy.yaml"))];
        let health = Health::Http("127.0.0.1:10256".to_owned(), "/healthz".to_owned());
        self.part(
            "proxy",
            self.argv("kube-proxy", &args)?,
            health,
            &["proxy.yaml", "proxy.kubeconfig"],
        )
    }
}

/// Full path of a program of the machine.
fn program(name: &str) -> Result<String> {
    let path =
        super::command::find(name).with_context(|| format!("{name} is missing on this machine"))?;
    Ok(path.display().to_string())
}
