//! kubectl, which is how the harness talks to the API server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::command;

/// Field manager of everything that the harness applies.
const FIELD_MANAGER: &str = "maniple-e2e";

/// kubectl with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// kubectl of the machine, or `program` when it was built by us.
    pub fn new(program: Option<&Path>, kubeconfig: &Path) -> Self {
        let program = program
            .map(Path::to_owned)
            .or_else(|| command::find("kubectl"))
            .unwrap_or_else(|| "kubectl".into());
        Self {
            program,
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    fn command(&self) -> Command {
        let mut kubectl = Command::new(&self.program);
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig);
        kubectl
    }

    /// Runs kubectl with arguments and returns what it printed.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        command::run(self.command().args(args))
    }

    /// Applies manifests on the server's side.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let mut apply = self.command();
        apply.args([
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager",
            FIELD_MANAGER,
            "-f",
            "-",
        ]);
        command::run_with_input(&mut apply, Some(manifests))
    }

    /// Reads a JSON object.
    pub fn get(&self, args: &[&str]) -> Result<serde_json::Value> {
        let text = command::run(self.command().arg("get").args(args).args(["-o", "json"]))?;
        serde_json::from_str(&text).context("kubectl did not print JSON")
    }

    /// GET of a path of the API server.
    pub fn raw(&self, path: &str) -> Result<String> {
        self.run(&["get", "--raw", path])
    }

    /// Whether an object has a condition with status `True`.
    pub fn has_condition(&self, object: &[&str], condition: &str) -> Result<()> {
        let value = self.get(object)?;
        let conditions = value["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = conditions.iter().find(|c| c["type"] == condition);
        if found.is_some_and(|c| c["status"] == "True") {
            return Ok(());
        }
        let said = found
            .and_then(|c| c["message"].as_str())
            .unwrap_or("no such condition yet");
        anyhow::bail!("{} is not {condition}: {said}", object.join(" "))
    }
}
