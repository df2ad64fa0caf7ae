//! Building the parts of the cluster into the cache, once per version, with visible progress.

mod go;
mod plan;
mod suites;

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{files, paths};
pub(super) use go::copy_tree;
pub use plan::{Artefact, Source, Wanted, plan};

/// Time between two progress lines when the output is not a terminal.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// The built parts that a cluster uses.
#[derive(Clone, Debug)]
pub struct Built {
    parts: Vec<(String, PathBuf)>,
}

impl Built {
    /// The executable or folder of a part of the plan.
    pub fn path(&self, name: &str) -> Result<&Path> {
        self.parts
            .iter()
            .find(|(part, _)| part == name)
            .map(|(_, path)| path.as_path())
            .with_context(|| format!("{name} is not part of the build plan"))
    }
}

/// Builds what is missing and returns where everything is.
pub fn ensure(wanted: Wanted) -> Result<Built> {
    make(&plan(wanted))
}

/// Builds Helm when it is missing and returns its executable.
pub fn helm() -> Result<PathBuf> {
    alone(plan::helm())
}

/// Builds h2spec when it is missing and returns its executable.
pub fn h2spec() -> Result<PathBuf> {
    alone(suites::h2spec())
}

/// Builds gRPC's interoperability suite when it is missing and returns its executable.
pub fn grpc_interop() -> Result<PathBuf> {
    alone(suites::grpc_interop())
}

/// Installs the WebSocket suite and its echo server's library when they are missing; returns the folder for `PYTHONPATH`.
pub fn websocket_suite() -> Result<PathBuf> {
    alone(suites::websocket_suite())
}

fn alone(artefact: Artefact) -> Result<PathBuf> {
    // Suites run in several processes, and two builds would write into the same place.
    let cache = paths::cache_dir()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = fs::File::create(cache.join(format!("{}.lock", artefact.name)))?;
    lock.lock()
        .with_context(|| format!("cannot lock the build of {}", artefact.name))?;
    let name = artefact.name;
    make(&[artefact])?.path(name).map(Path::to_owned)
}

fn make(plan: &[Artefact]) -> Result<Built> {
    let cache = paths::cache_dir()?;
    let missing: Vec<&Artefact> = plan
        .iter()
        .filter(|artefact| !artefact.path_in(&cache).exists())
        .collect();
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(|a| a.title()).collect();
        say(&format!(
            "building {} of {} parts into {}: {}",
            missing.len(),
            plan.len(),
            cache.display(),
            names.join(", ")
        ));
        say(
            "this happens once per version; all parts of a cluster take about 30 minutes on 2 cores",
        );
    }
    let begin = Instant::now();
    for (index, artefact) in missing.iter().enumerate() {
        let next = missing
            .get(index + 1)
            .map_or_else(|| "nothing, this is the last".to_owned(), |a| a.title());
        let heading = format!("[{}/{}] {}", index + 1, missing.len(), artefact.title());
        artefact
            .build(
                &cache,
                &Progress {
                    heading: heading.clone(),
                    next,
                },
            )
            .with_context(|| format!("could not build {}", artefact.title()))?;
    }
    if !missing.is_empty() {
        say(&format!("built everything in {}", minutes(begin.elapsed())));
    }
    Ok(Built {
        parts: plan
            .iter()
            .map(|a| (a.name.to_owned(), a.path_in(&cache)))
            .collect(),
    })
}

impl Artefact {
    fn build(&self, cache: &Path, progress: &Progress) -> Result<()> {
        let target = self.path_in(cache);
        let parent = target.parent().context("every artefact lies in a folder")?;
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
        // Built beside its place and moved there, so that an interrupted build never looks finished.
        let partial = target.with_extension("partial");
        remove(&partial)?;
        match &self.source {
            Source::GoFiles {
                folder,
                files,
                package,
                ldflags,
            } => {
                let work = cache.join("src").join(folder);
                write_files(&work, files)?;
                go::build(&work, package, ldflags, &partial, progress)?;
            }
            Source::GoModule {
                module,
                sum,
                package,
                ldflags,
            } => {
                let work = go::writable_copy(cache, module, sum, progress)?;
                go::build(&work, package, ldflags, &partial, progress)?;
            }
            Source::Npm { package } => {
                fs::create_dir_all(&partial)?;
                let mut npm = Command::new("npm");
                npm.args([
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--omit=dev",
                    "--loglevel=error",
                    "--prefix",
                ])
                .arg(&partial)
                .arg(package);
                progress.run(&mut npm)?;
            }
            Source::PyPi { requirements } => {
                let work = cache.join("src").join(self.name);
                write_files(&work, &[("requirements.txt", requirements)])?;
                let mut pip = Command::new("python3");
                // Each package is named with its checksum, and nothing else is resolved.
                pip.args(["-m", "pip", "--disable-pip-version-check", "install"])
                    .args(["--quiet", "--no-deps", "--require-hashes", "--target"])
                    .arg(&partial)
                    .arg("--requirement")
                    .arg(work.join("requirements.txt"));
                progress.run(&mut pip)?;
            }
            Source::Pause { c, go } => {
                let work = cache.join("src").join("pause");
                write_files(
                    &work,
                    &[
                        ("pause.c", c),
                        ("main.go", go),
                        ("go.mod", "module maniple.dev/e2e/pause\n\ngo 1.24\n"),
                    ],
                )?;
                if tool_exists("gcc") {
                    let mut gcc = Command::new("gcc");
                    gcc.args(["-Os", "-static", "-s", "-o"])
                        .arg(&partial)
                        .arg(work.join("pause.c"));
                    progress.run(&mut gcc)?;
                } else {
                    go::build(&work, ".", "-s -w", &partial, progress)?;
                }
            }
            Source::GoModuleFolder {
                module,
                sum,
                folder,
            } => {
                let source = go::writable_copy(cache, module, sum, progress)?;
                go::copy_tree(&source.join(folder), &partial)?;
            }
        }
        if !partial.exists() {
            bail!(
                "the build ended without an error but {} is not there",
                partial.display()
            );
        }
        fs::rename(&partial, &target)
            .with_context(|| format!("cannot move the result to {}", target.display()))
    }
}

/// Says on one line what is being built, for how long, and what comes next.
#[derive(Debug)]
pub struct Progress {
    heading: String,
    next: String,
}

impl Progress {
    /// Runs a build command; its lines are counted while it works and shown only when it fails.
    pub fn run(&self, command: &mut Command) -> Result<String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}: install it or add it to PATH"))?;
        let lines = Arc::new(AtomicUsize::new(0));
        let finished = Arc::new(AtomicBool::new(false));
        let stdout = child.stdout.take().context("stdout is piped")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let out = thread::spawn(move || std::io::read_to_string(stdout).unwrap_or_default());
        let counted = Arc::clone(&lines);
        let err = thread::spawn(move || {
            let mut all = Vec::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
                all.push(line);
            }
            all
        });
        let ticker = {
            let (heading, next) = (self.heading.clone(), self.next.clone());
            let (lines, finished) = (Arc::clone(&lines), Arc::clone(&finished));
            thread::spawn(move || tick(&heading, &next, &lines, &finished))
        };
        let status = child.wait();
        finished.store(true, Ordering::Release);
        ticker.thread().unpark();
        let _ = ticker.join();
        let output = out.join().unwrap_or_default();
        let errors = err.join().unwrap_or_default();
        if !status.with_context(|| format!("lost {program}"))?.success() {
            let tail = errors[errors.len().saturating_sub(40)..].join("\n");
            bail!("{program} failed, its last words:\n{tail}\n{output}");
        }
        Ok(output)
    }
}

fn tick(heading: &str, next: &str, lines: &AtomicUsize, finished: &AtomicBool) {
    let begin = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let mut last = None::<Instant>;
    loop {
        let done = finished.load(Ordering::Acquire);
        let due = last.is_none_or(|at: Instant| at.elapsed() >= LOG_EVERY);
        if terminal || due || done {
            let elapsed = minutes(begin.elapsed());
            let count = lines.load(Ordering::Relaxed);
            let state = if done {
                "done".to_owned()
            } else {
                format!("{count} packages, next: {next}")
            };
            let line = format!("{heading}  {elapsed}  {state}");
            if terminal && !done {
                eprint!("\r\x1b[K{line}");
                let _ = std::io::stderr().flush();
            } else {
                eprintln!("{}{line}", if terminal { "\r\x1b[K" } else { "" });
            }
            last = Some(Instant::now());
        }
        if done {
            return;
        }
        thread::park_timeout(Duration::from_secs(1));
    }
}

/// Prints a line for the person who waits.
pub(super) fn say(text: &str) {
    eprintln!("{text}");
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

fn tool_exists(name: &str) -> bool {
    super::command::find(name).is_some()
}

fn write_files(folder: &Path, texts: &[(&str, &str)]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, text) in texts {
        files::write(&folder.join(name), text)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let result = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the unfinished {}", path.display()))
        }
        _ => Ok(()),
    }
}
