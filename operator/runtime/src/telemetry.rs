//! Log output on standard error, in text or JSON.

use std::{backtrace::Backtrace, io::IsTerminal};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{Error, LogArgs, LogFormat};

/// Sets up logging for the process and sends panics through it.
///
/// # Errors
/// When the filter cannot be read or logging is already set up.
pub fn init(args: &LogArgs) -> Result<(), Error> {
    let filter = filter(&args.filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let result = match args.format {
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(true)
                    .with_span_list(false)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    result.map_err(|error| Error::LogInit(error.to_string()))?;
    log_panics();
    Ok(())
}

/// kube prints the whole body of an answer that it cannot decode as a warning, clear-text settings of apps included.
const QUIET: &str = "kube_client::client";

fn filter(text: &str) -> Result<EnvFilter, Error> {
    let wrong = |message: String| Error::LogFilter {
        filter: text.to_owned(),
        message,
    };
    let filter = EnvFilter::builder()
        .parse(text)
        .map_err(|error| wrong(error.to_string()))?;
    if text.contains(QUIET) {
        return Ok(filter);
    }
    let quiet = format!("{QUIET}=error")
        .parse()
        .expect("the directive is one");
    Ok(filter.add_directive(quiet))
}

/// A panic becomes one log line in the chosen format, so that it is not lost between JSON lines.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string);
        let message = info.payload_as_str().unwrap_or("no message");
        tracing::error!(
            location,
            backtrace = %Backtrace::capture(),
            thread = std::thread::current().name(),
            "panic: {message}"
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(filter("info,kube=debug").is_ok());
        assert!(
            filter("debug")
                .unwrap()
                .to_string()
                .contains("kube_client::client=error")
        );
        let asked = filter("info,kube_client::client=debug")
            .unwrap()
            .to_string();
        assert!(!asked.contains("error"), "{asked}");
        let error = filter("info,kube=loud").unwrap_err();
        assert_eq!(error.category(), "log");
        assert!(error.to_string().contains("info,kube=loud"), "{error}");
    }
}
