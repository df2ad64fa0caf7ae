//! Container images without a registry: a docker-archive made of files of this machine.
//!
//! Programs here are linked to glibc, so the lowest layer holds the few libraries that they name (`ldd`), a user list
//! with `nonroot` (65532) and the machine's certificate authorities. It is the same bytes for every image of one set of
//! libraries, so a container runtime keeps it once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The user that images run as unless told otherwise.
pub const NONROOT: &str = "65532:65532";

/// What goes into an image.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name with tag, for example `maniple.dev/maniple:dev`.
    pub name: String,
    /// Executables: file of this machine and absolute path in the image. Their libraries are added.
    pub binaries: Vec<(PathBuf, String)>,
    /// Other files or folders: path on this machine and absolute path in the image.
    pub files: Vec<(PathBuf, String)>,
    /// Program and arguments that a container starts.
    pub entrypoint: Vec<String>,
}

/// An image as one file that `ctr images import` and `docker load` read.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Name with tag.
    pub name: String,
    /// Digest of the image's configuration, which names all of its content.
    pub digest: String,
    /// The tar file's bytes.
    bytes: Vec<u8>,
}

impl Archive {
    /// Writes the tar file.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.bytes).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The description of an image with one executable at `/<file name>`, which is also what it starts, with `extra_files`.
pub fn from_binary(
    name: &str,
    binary: &Path,
    arguments: &[&str],
    extra_files: &[(PathBuf, String)],
) -> Result<Spec> {
    let file = binary
        .file_name()
        .with_context(|| format!("{} is not a file", binary.display()))?;
    let inside = format!("/{}", file.to_string_lossy());
    let mut entrypoint = vec![inside.clone()];
    entrypoint.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    Ok(Spec {
        name: name.to_owned(),
        binaries: vec![(binary.to_owned(), inside)],
        files: extra_files.to_vec(),
        entrypoint,
    })
}

/// Makes an image.
pub fn build(spec: &Spec) -> Result<Archive> {
    let base = base_layer(&spec.binaries)?;
    let mut top = Layer::default();
    for (from, inside) in spec.binaries.iter().chain(&spec.files) {
        top.add_path(from, inside)
            .with_context(|| format!("cannot put {} into {}", from.display(), spec.name))?;
    }
    assemble(spec, &[base.tar()?, top.tar()?])
}

fn assemble(spec: &Spec, layers: &[Vec<u8>]) -> Result<Archive> {
    let digests: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": NONROOT,
            "Entrypoint": spec.entrypoint,
            "WorkingDir": "/",
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
        },
        "rootfs": {"type": "layers", "diff_ids": digests.iter().map(|d| format!("sha256:{d}")).collect::<Vec<_>>()},
        "history": layers.iter().map(|_| json!({"created_by": "maniple e2e"})).collect::<Vec<_>>(),
    }))?;
    let digest = sha256(&config);
    let manifest = serde_json::to_vec(&json!([{
        "Config": format!("{digest}.json"),
        "RepoTags": [spec.name],
        "Layers": digests.iter().map(|d| format!("{d}/layer.tar")).collect::<Vec<_>>(),
    }]))?;
    let mut archive = Layer::default();
    archive.add_bytes("manifest.json", manifest, 0o644);
    archive.add_bytes(&format!("{digest}.json"), config, 0o644);
    for (digest, layer) in digests.iter().zip(layers) {
        archive.add_bytes(&format!("{digest}/layer.tar"), layer.clone(), 0o644);
    }
    Ok(Archive {
        name: spec.name.clone(),
        digest,
        bytes: archive.tar()?,
    })
}

/// Libraries, users, certificates and an empty `/tmp`.
fn base_layer(binaries: &[(PathBuf, String)]) -> Result<Layer> {
    let mut layer = Layer::default();
    layer.add_bytes(
        "etc/passwd",
        b"root:x:0:0:root:/:/\nnonroot:x:65532:65532:nonroot:/tmp:/\n".to_vec(),
        0o644,
    );
    layer.add_bytes(
        "etc/group",
        b"root:x:0:\nnonroot:x:65532:\n".to_vec(),
        0o644,
    );
    // Without it glibc asks DNS before /etc/hosts.
    layer.add_bytes("etc/nsswitch.conf", b"hosts: files dns\n".to_vec(), 0o644);
    let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if authorities.exists() {
        layer.add_path(authorities, "/etc/ssl/certs/ca-certificates.crt")?;
    }
    layer.add_folder("tmp", 0o1777);
    for (binary, _) in binaries {
        for library in libraries(binary)? {
            layer.add_path(&library, &library.display().to_string())?;
        }
    }
    Ok(layer)
}

/// The shared libraries and the loader of an executable; none for a static one.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    if !binary.is_file() {
        bail!("{} does not exist: build it first", binary.display());
    }
    let output = Command::new("ldd")
        .arg(binary)
        .output()
        .context("cannot start ldd: install libc-bin")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        if said.contains("not a dynamic executable") || said.contains("statically linked") {
            return Ok(Vec::new());
        }
        bail!("ldd cannot read {}: {}", binary.display(), said.trim());
    }
    parse_ldd(&text).with_context(|| format!("libraries of {}", binary.display()))
}

fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.contains("not found") {
            bail!("{line}: install the library");
        }
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, `linux-vdso.so.1 (0x…)`
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = path.split(" (").next().unwrap_or(path);
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

enum Entry {
    Folder,
    File(Vec<u8>),
}

/// A tar file in the making: sorted, without times and owners, so that equal content gives equal bytes.
#[derive(Default)]
struct Layer {
    entries: BTreeMap<String, (Entry, u32)>,
}

impl Layer {
    fn add_bytes(&mut self, path: &str, bytes: Vec<u8>, mode: u32) {
        self.add_parents(path);
        self.entries
            .insert(path.to_owned(), (Entry::File(bytes), mode));
    }

    fn add_folder(&mut self, path: &str, mode: u32) {
        self.add_parents(path);
        self.entries.insert(path.to_owned(), (Entry::Folder, mode));
    }

    fn add_parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries
                .entry(path[..at].to_owned())
                .or_insert((Entry::Folder, 0o755));
        }
    }

    fn add_path(&mut self, from: &Path, inside: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let Some(inside) = inside.strip_prefix('/') else {
            bail!("{inside:?} is not an absolute path in the image")
        };
        let metadata =
            fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
        if !metadata.is_dir() {
            let bytes =
                fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
            // Readable for everybody: the image's user is not the owner.
            let mode = (metadata.permissions().mode() & 0o111) | 0o644;
            self.add_bytes(inside, bytes, mode);
            return Ok(());
        }
        self.add_folder(inside, 0o755);
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            self.add_path(
                &entry.path(),
                &format!("/{inside}/{}", entry.file_name().to_string_lossy()),
            )?;
        }
        Ok(())
    }

    fn tar(&self) -> Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, (entry, mode)) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            match entry {
                Entry::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_size(0);
                    builder.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Entry::File(bytes) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(bytes.len() as u64);
                    builder.append_data(&mut header, path, bytes.as_slice())?;
                }
            }
        }
        let mut bytes = builder.into_inner()?;
        bytes.flush()?;
        Ok(bytes)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn contents(bytes: &[u8]) -> BTreeMap<String, (Vec<u8>, u32)> {
        let mut archive = tar::Archive::new(bytes);
        let mut found = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mode = entry.header().mode().unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.insert(path, (content, mode));
        }
        found
    }

    #[test]
    fn an_image_of_a_dynamic_program_has_its_libraries_and_right_digests() {
        let this = std::env::current_exe().unwrap();
        let archive = build(&Spec {
            name: "maniple.dev/test:1".to_owned(),
            binaries: vec![(this, "/bin/program".to_owned())],
            files: vec![],
            entrypoint: vec!["/bin/program".to_owned()],
        })
        .unwrap();
        let files = contents(&archive.bytes);
        let manifest: serde_json::Value =
            serde_json::from_slice(&files["manifest.json"].0).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "maniple.dev/test:1");
        let config_name = manifest[0]["Config"].as_str().unwrap();
        let config_bytes = &files[config_name].0;
        assert_eq!(format!("{}.json", sha256(config_bytes)), config_name);
        let config: serde_json::Value = serde_json::from_slice(config_bytes).unwrap();
        let layers = manifest[0]["Layers"].as_array().unwrap();
        let mut all = BTreeMap::new();
        for (index, layer) in layers.iter().enumerate() {
            let bytes = &files[layer.as_str().unwrap()].0;
            assert_eq!(
                config["rootfs"]["diff_ids"][index],
                format!("sha256:{}", sha256(bytes))
            );
            all.extend(contents(bytes));
        }
        assert!(
            all.keys().any(|path| path.ends_with("libc.so.6")),
            "{:?}",
            all.keys()
        );
        assert_eq!(all["bin/program"].1, 0o755);
        assert_eq!(all["tmp/"].1, 0o1777);
        assert!(String::from_utf8_lossy(&all["etc/passwd"].0).contains("65532"));
        assert_eq!(config["config"]["User"], NONROOT);
    }

    #[test]
    fn equal_content_gives_equal_bytes_and_other_content_another_digest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data");
        let spec = Spec {
            name: "maniple.dev/test:1".to_owned(),
            binaries: vec![],
            files: vec![(folder.path().to_owned(), "/data".to_owned())],
            entrypoint: vec![],
        };
        fs::write(&file, "one").unwrap();
        let first = build(&spec).unwrap();
        fs::write(&file, "one").unwrap();
        assert_eq!(first.bytes, build(&spec).unwrap().bytes);
        fs::write(&file, "two").unwrap();
        assert_ne!(first.digest, build(&spec).unwrap().digest);
    }

    #[test]
    fn ldd_output_is_read() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/a/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(
            parse_ldd(text).unwrap(),
            [
                PathBuf::from("/lib/a/libc.so.6"),
                PathBuf::from("/lib64/ld.so.2")
            ]
        );
        let missing = parse_ldd("\tlibx.so => not found\n")
            .unwrap_err()
            .to_string();
        assert!(missing.contains("libx.so"), "{missing}");
    }
}
