//! A child process whose lines are kept.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::{Condvar, Mutex};

/// Lines that are kept; earlier ones are forgotten.
const KEPT: usize = 10_000;

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

/// A child process. It is killed and waited for when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    output: Arc<Output>,
}

impl Process {
    /// Starts `command` and reads what it writes.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = Arc::new(Output::default());
        let out = child.stdout.take().context("stdout is piped")?;
        let err = child.stderr.take().context("stderr is piped")?;
        keep(out, output.clone());
        keep(err, output.clone());
        Ok(Self {
            name,
            child,
            output,
        })
    }

    /// Waits for the first line of which `find` makes something; `what` names it.
    ///
    /// # Errors
    /// When there is none within `limit`; with what the process wrote.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        let mut lines = self.output.lines.lock();
        loop {
            if let Some(found) = lines.iter().find_map(|line| find(line)) {
                return Ok(found);
            }
            if self.output.more.wait_until(&mut lines, end).timed_out() {
                bail!(
                    "{} did not tell {what} within {limit:?}; it said:\n{}",
                    self.name,
                    lines.join("\n")
                );
            }
        }
    }

    /// What it has written.
    pub fn said(&self) -> String {
        self.output.lines.lock().join("\n")
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn keep(stream: impl Read + Send + 'static, output: Arc<Output>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut lines = output.lines.lock();
            if lines.len() == KEPT {
                lines.remove(0);
            }
            lines.push(line);
            output.more.notify_all();
        }
    });
}
