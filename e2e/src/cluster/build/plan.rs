//! What has to be built for which cluster, and under which name it is kept in the cache.

use std::path::{Path, PathBuf};

use crate::cluster::versions::{self, Kubernetes};
use crate::image::sha256;

/// What a cluster needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Kubernetes release.
    pub kubernetes: Kubernetes,
    /// With KEDA.
    pub keda: bool,
    /// With Azurite.
    pub azurite: bool,
    /// kubectl is not on the machine.
    pub kubectl: bool,
}

/// One thing in the cache.
#[derive(Clone, Debug)]
pub struct Artefact {
    /// Name of the executable or folder.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// How it is made.
    pub source: Source,
}

/// Where an artefact comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A Go module of our own that only names what to build.
    GoFiles {
        /// Folder name below the cache's `src`.
        folder: String,
        /// File names and texts.
        files: Vec<(&'static str, &'static str)>,
        /// Package to build.
        package: String,
        /// Linker flags.
        ldflags: String,
    },
    /// A published Go module with replace directives, built from a writable copy.
    GoModule {
        /// `path@version`.
        module: String,
        /// Expected checksum.
        sum: &'static str,
        /// Package to build.
        package: &'static str,
        /// Linker flags.
        ldflags: String,
    },
    /// A package of the npm registry.
    Npm {
        /// `name@version`.
        package: String,
    },
    /// Packages of the Python registry.
    PyPi {
        /// Text of a requirements file: versions and checksums of all of them.
        requirements: &'static str,
    },
    /// The program that holds a pod's namespaces.
    Pause {
        /// C source.
        c: &'static str,
        /// Go source for machines without a C compiler.
        go: &'static str,
    },
    /// A folder of a published Go module.
    GoModuleFolder {
        /// `path@version`.
        module: String,
        /// Expected checksum.
        sum: &'static str,
        /// The folder.
        folder: &'static str,
    },
}

impl Artefact {
    /// Name and version for people.
    pub fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Place in the cache. It changes when the inputs do, so that a changed recipe is never served from an old build.
    pub fn path_in(&self, cache: &Path) -> PathBuf {
        let inputs = format!("{:?} {}", self.source, std::env::consts::ARCH);
        let short = &sha256(inputs.as_bytes())[..10];
        cache
            .join("parts")
            .join(format!("{}-{}-{short}", self.name, self.version))
            .join(self.name)
    }
}

macro_rules! go_files {
    ($folder:literal, $($file:literal),+) => {
        vec![$(($file, include_str!(concat!("../../../go/", $folder, "/", $file)))),+]
    };
}
pub(super) use go_files;

/// The artefacts of a cluster in the order in which they are built.
pub fn plan(wanted: Wanted) -> Vec<Artefact> {
    let mut plan = vec![pause(), etcd()];
    for name in [
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
    ] {
        plan.push(kubernetes(wanted.kubernetes, name));
    }
    if wanted.kubectl {
        plan.push(kubernetes(wanted.kubernetes, "kubectl"));
    }
    plan.push(coredns());
    if wanted.azurite {
        plan.push(Artefact {
            name: "azurite",
            version: versions::AZURITE,
            source: Source::Npm {
                package: format!("azurite@{}", versions::AZURITE),
            },
        });
    }
    if wanted.keda {
        plan.extend(keda());
    }
    plan
}

fn pause() -> Artefact {
    let source = Source::Pause {
        c: include_str!("../../../pause/pause.c"),
        go: include_str!("../../../pause/main.go"),
    };
    Artefact {
        name: "pause",
        version: versions::PAUSE,
        source,
    }
}

fn etcd() -> Artefact {
    Artefact {
        name: "etcd",
        version: versions::ETCD,
        source: Source::GoFiles {
            folder: format!("etcd-{}", versions::ETCD),
            files: go_files!("etcd-3.6.16", "go.mod", "go.sum", "tools.go"),
            package: "go.etcd.io/etcd/server/v3".to_owned(),
            ldflags: "-s -w".to_owned(),
        },
    }
}

fn kubernetes(release: Kubernetes, name: &'static str) -> Artefact {
    let files = match release {
        Kubernetes::V1_36 => go_files!("kubernetes-1.36.3", "go.mod", "go.sum", "tools.go"),
        Kubernetes::V1_35 => go_files!("kubernetes-1.35.4", "go.mod", "go.sum", "tools.go"),
    };
    // Without these the server calls itself v0.0.0 and clients refuse to talk to it.
    let variable = "k8s.io/component-base/version";
    let ldflags = format!(
        "-s -w -X {variable}.gitVersion=v{} -X {variable}.gitMajor=1 -X {variable}.gitMinor={}",
        release.version(),
        release.minor()
    );
    Artefact {
        name,
        version: release.version(),
        source: Source::GoFiles {
            folder: format!("kubernetes-{}", release.version()),
            files,
            package: format!("k8s.io/kubernetes/cmd/{name}"),
            ldflags,
        },
    }
}

fn coredns() -> Artefact {
    Artefact {
        name: "coredns",
        version: versions::COREDNS,
        source: Source::GoFiles {
            folder: format!("coredns-{}", versions::COREDNS),
            files: go_files!("coredns-1.15.0", "go.mod", "go.sum", "main.go"),
            package: ".".to_owned(),
            ldflags: "-s -w".to_owned(),
        },
    }
}

fn keda() -> Vec<Artefact> {
    let module = format!("github.com/kedacore/keda/v2@v{}", versions::KEDA);
    let ldflags = format!(
        "-s -w -X github.com/kedacore/keda/v2/version.Version={}",
        versions::KEDA
    );
    let go = |name, package| Artefact {
        name,
        version: versions::KEDA,
        source: Source::GoModule {
            module: module.clone(),
            sum: versions::KEDA_SUM,
            package,
            ldflags: ldflags.clone(),
        },
    };
    vec![
        Artefact {
            name: "keda-config",
            version: versions::KEDA,
            source: Source::GoModuleFolder {
                module: module.clone(),
                sum: versions::KEDA_SUM,
                folder: "config",
            },
        },
        go("keda", "./cmd/operator"),
        go("keda-adapter", "./cmd/adapter"),
    ]
}

/// Helm, which installs the chart. Not part of a cluster.
pub(super) fn helm() -> Artefact {
    Artefact {
        name: "helm",
        version: versions::HELM,
        source: Source::GoFiles {
            folder: format!("helm-{}", versions::HELM),
            files: go_files!("helm-4.3.1", "go.mod", "go.sum", "tools.go"),
            package: "helm.sh/helm/v4/cmd/helm".to_owned(),
            ldflags: format!(
                "-s -w -X helm.sh/helm/v4/internal/version.version=v{}",
                versions::HELM
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(kubernetes: Kubernetes) -> Wanted {
        Wanted {
            kubernetes,
            keda: true,
            azurite: true,
            kubectl: false,
        }
    }

    #[test]
    fn the_plan_follows_what_is_wanted() {
        let names = |w: Wanted| plan(w).iter().map(|a| a.name).collect::<Vec<_>>();
        let all = names(wanted(Kubernetes::V1_36));
        assert!(all.contains(&"keda") && all.contains(&"azurite") && !all.contains(&"kubectl"));
        let bare = names(Wanted {
            keda: false,
            azurite: false,
            kubectl: true,
            ..wanted(Kubernetes::V1_36)
        });
        assert!(!bare.contains(&"keda") && !bare.contains(&"azurite") && bare.contains(&"kubectl"));
    }

    #[test]
    fn two_releases_never_share_a_place_and_etcd_is_shared() {
        let cache = Path::new("/c");
        let place = |release, name: &str| {
            plan(wanted(release))
                .iter()
                .find(|a| a.name == name)
                .map(|a| a.path_in(cache))
                .expect("in the plan")
        };
        assert_ne!(
            place(Kubernetes::V1_36, "kubelet"),
            place(Kubernetes::V1_35, "kubelet")
        );
        assert_eq!(
            place(Kubernetes::V1_36, "etcd"),
            place(Kubernetes::V1_35, "etcd")
        );
        assert_eq!(
            place(Kubernetes::V1_36, "kubelet")
                .file_name()
                .and_then(|n| n.to_str()),
            Some("kubelet")
        );
    }

    #[test]
    fn go_modules_pin_the_version_that_the_plan_names() {
        for release in [Kubernetes::V1_36, Kubernetes::V1_35] {
            for artefact in plan(wanted(release)).into_iter().chain([helm()]) {
                let Source::GoFiles { files, .. } = &artefact.source else {
                    continue;
                };
                let (_, go_mod) = files
                    .iter()
                    .find(|(name, _)| *name == "go.mod")
                    .expect("has a go.mod");
                assert!(
                    go_mod.contains(&format!("v{}", artefact.version)),
                    "{}",
                    artefact.title()
                );
            }
        }
    }
}
