//! Running programs of the machine.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Finds a program in `PATH` or in the system folders that a user's `PATH` often lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(
            [
                "/usr/local/sbin",
                "/usr/sbin",
                "/sbin",
                "/usr/local/bin",
                "/usr/bin",
                "/bin",
            ]
            .map(PathBuf::from),
        )
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Runs a command to its end and returns what it printed; the error carries what it said.
pub fn run(command: &mut Command) -> Result<String> {
    run_with_input(command, None)
}

/// As [`run`], with text for the standard input.
pub fn run_with_input(command: &mut Command, input: Option<&str>) -> Result<String> {
    let shown = shown(command);
    let stdin = if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| {
            format!("cannot start `{shown}`: install the program or add it to PATH")
        })?;
    let writer = input
        .map(str::to_owned)
        .zip(child.stdin.take())
        .map(|(text, mut stdin)| {
            // A thread, because a child that prints much before it has read everything would block us both.
            std::thread::spawn(move || {
                let _ = stdin.write_all(text.as_bytes());
            })
        });
    let output = child
        .wait_with_output()
        .with_context(|| format!("lost `{shown}`"))?;
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    if !output.status.success() {
        bail!(
            "`{shown}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `program` with `args`.
pub fn call<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
    run(Command::new(find(program).unwrap_or_else(|| program.into())).args(args))
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
