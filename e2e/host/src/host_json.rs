//! host.json with the overrides of the environment (`AzureFunctionsJobHost__a__b=…`), and the parts that the
//! stand-in obeys.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::environment::Environment;
use crate::settings::Settings;
use crate::time_span::{format_time_span, parse_time_span};

/// Prefix of settings that override host.json.
const OVERRIDE_PREFIX: &str = "AzureFunctionsJobHost:";

/// The effective host.json: a value by its path in lower case (`extensions:queues:batchsize`).
#[derive(Debug, Clone, Default)]
pub struct HostJson {
    values: BTreeMap<String, String>,
}

/// host.json cannot be used; the host goes to state Error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostJsonError {
    /// It is not JSON, or not an object.
    #[error("host.json is not a JSON object: {0}; correct the file")]
    Malformed(String),
    /// A value has the wrong shape or is out of range.
    #[error("host.json {path} is {value:?}; {expected}")]
    Value {
        /// Where, with colons.
        path: String,
        /// What stands there.
        value: String,
        /// What may stand there.
        expected: &'static str,
    },
}

impl HostJsonError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "host-json-malformed",
            Self::Value { .. } => "host-json-value",
        }
    }
}

/// Limits of the HTTP extension. None is set by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// First segment of the routes, "api" by default, may be empty.
    pub route_prefix: String,
    /// Requests admitted in total; one more is answered 429. `None`: no limit.
    pub max_outstanding: Option<u64>,
    /// Requests that run at once; the rest waits without bound. `None`: no limit.
    pub max_concurrent: Option<u64>,
}

/// Options of the storage queue extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOptions {
    /// Messages fetched at once, 1 to 32.
    pub batch_size: u32,
    /// The next batch is fetched when no more than this many messages are being worked on.
    pub new_batch_threshold: u32,
    /// Tries before a message goes to the poison queue.
    pub max_dequeue_count: u32,
    /// How long a message stays invisible after a failed try.
    pub visibility_timeout: Duration,
    /// Longest wait between two looks into an empty queue, at least 100 ms.
    pub max_polling_interval: Duration,
    /// Messages are base64 text.
    pub base64: bool,
}

impl HostJson {
    /// Merges the text of host.json with the overrides of an environment.
    pub fn load(text: Option<&str>, environment: &Environment) -> Result<Self, HostJsonError> {
        let mut values = BTreeMap::new();
        if let Some(text) = text {
            let document: Value = serde_json::from_str(text)
                .map_err(|error| HostJsonError::Malformed(error.to_string()))?;
            if !document.is_object() {
                return Err(HostJsonError::Malformed(
                    "the root is not an object".to_owned(),
                ));
            }
            flatten(&document, String::new(), &mut values);
        }
        let settings = Settings::from_environment(environment);
        for (path, value) in settings.below(OVERRIDE_PREFIX) {
            values.insert(path.to_owned(), value.to_owned());
        }
        Ok(Self { values })
    }

    /// A value by its path (`a:b:c`, any case).
    pub fn get(&self, path: &str) -> Option<&str> {
        self.values.get(&path.to_lowercase()).map(String::as_str)
    }

    /// The `functions` list: only these functions are loaded. `None`: all of them.
    pub fn functions(&self) -> Option<Vec<&str>> {
        let names: Vec<&str> = self
            .values
            .iter()
            .filter(|(path, _)| {
                path.strip_prefix("functions:")
                    .is_some_and(|index| index.parse::<u32>().is_ok())
            })
            .map(|(_, name)| name.as_str())
            .collect();
        (!names.is_empty()).then_some(names)
    }

    /// Longest run of an invocation. `None`: no limit is written down.
    pub fn function_timeout(&self) -> Result<Option<Duration>, HostJsonError> {
        match self.get("functionTimeout") {
            None | Some("-1" | "-00:00:00.0010000") => Ok(None),
            Some(_) => self.time_span("functionTimeout", Duration::ZERO).map(Some),
        }
    }

    /// The limits of the HTTP extension.
    pub fn http(&self) -> Result<HttpOptions, HostJsonError> {
        let limit = |name| -> Result<Option<u64>, HostJsonError> {
            let path = format!("extensions:http:{name}");
            match self.get(&path) {
                None | Some("-1") => Ok(None),
                Some(_) => Ok(Some(u64::from(self.number(&path, 0, 1, u32::MAX)?))),
            }
        };
        Ok(HttpOptions {
            route_prefix: self
                .get("extensions:http:routePrefix")
                .unwrap_or("api")
                .trim_matches('/')
                .to_owned(),
            max_outstanding: limit("maxOutstandingRequests")?,
            max_concurrent: limit("maxConcurrentRequests")?,
        })
    }

    /// The options of the queue extension; `cores` multiplies the default threshold.
    pub fn queues(&self, cores: u32) -> Result<QueueOptions, HostJsonError> {
        let batch_size = self.number("extensions:queues:batchSize", 16, 1, 32)?;
        Ok(QueueOptions {
            batch_size,
            new_batch_threshold: self.number(
                "extensions:queues:newBatchThreshold",
                (batch_size / 2) * cores,
                0,
                i32::MAX as u32,
            )?,
            max_dequeue_count: self.number(
                "extensions:queues:maxDequeueCount",
                5,
                1,
                i32::MAX as u32,
            )?,
            visibility_timeout: self
                .time_span("extensions:queues:visibilityTimeout", Duration::ZERO)?,
            max_polling_interval: self
                .time_span(
                    "extensions:queues:maxPollingInterval",
                    Duration::from_mins(1),
                )?
                .max(Duration::from_millis(100)),
            base64: !self
                .get("extensions:queues:messageEncoding")
                .is_some_and(|encoding| encoding.eq_ignore_ascii_case("none")),
        })
    }

    /// The effective values as the host formats them in `/admin/host/config` and in sync payloads.
    pub fn effective(&self, cores: u32, has_queues: bool) -> Result<Value, HostJsonError> {
        let http = self.http()?;
        let unlimited = |limit: Option<u64>| limit.map_or(json!(-1), |number| json!(number));
        let mut config = json!({
            "extensions": { "http": {
                "dynamicThrottlesEnabled": false,
                "enableChunkedRequestBinding": false,
                "maxConcurrentRequests": unlimited(http.max_concurrent),
                "maxOutstandingRequests": unlimited(http.max_outstanding),
                "routePrefix": http.route_prefix,
            }},
            "concurrency": {
                "dynamicConcurrencyEnabled": self.flag("concurrency:dynamicConcurrencyEnabled", false),
                "maximumFunctionConcurrency": 500,
                "cpuThreshold": 0.8,
                "snapshotPersistenceEnabled": self.flag("concurrency:snapshotPersistenceEnabled", true),
            },
        });
        if has_queues {
            let queues = self.queues(cores)?;
            config["extensions"]["queues"] = json!({
                "batchSize": queues.batch_size,
                "newBatchThreshold": queues.new_batch_threshold,
                "maxPollingInterval": format_time_span(queues.max_polling_interval),
                "maxDequeueCount": queues.max_dequeue_count,
                "visibilityTimeout": format_time_span(queues.visibility_timeout),
            });
        }
        Ok(config)
    }

    fn flag(&self, path: &str, default: bool) -> bool {
        self.get(path)
            .map_or(default, |text| text.eq_ignore_ascii_case("true"))
    }

    fn number(
        &self,
        path: &str,
        default: u32,
        least: u32,
        most: u32,
    ) -> Result<u32, HostJsonError> {
        let Some(text) = self.get(path) else {
            return Ok(default);
        };
        match text.trim().parse::<u32>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(HostJsonError::Value {
                path: path.to_owned(),
                value: text.to_owned(),
                expected: "use a whole number within the documented range",
            }),
        }
    }

    fn time_span(&self, path: &str, default: Duration) -> Result<Duration, HostJsonError> {
        let Some(text) = self.get(path) else {
            return Ok(default);
        };
        parse_time_span(text).ok_or_else(|| HostJsonError::Value {
            path: path.to_owned(),
            value: text.to_owned(),
            expected: "use a time of the form hh:mm:ss or d.hh:mm:ss",
        })
    }
}

fn flatten(value: &Value, path: String, values: &mut BTreeMap<String, String>) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_lowercase()
        } else {
            format!("{path}:{}", name.to_lowercase())
        }
    };
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                flatten(member, below(name), values);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(item, below(&index.to_string()), values);
            }
        }
        Value::String(text) => {
            values.insert(path, text.clone());
        }
        Value::Null => {}
        other => {
            values.insert(path, other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, pairs: &[(&str, &str)]) -> HostJson {
        HostJson::load(Some(text), &Environment::from_pairs(pairs.iter().copied())).unwrap()
    }

    #[test]
    fn the_environment_overrides_the_file_in_any_case() {
        let config = load(
            r#"{"extensions":{"queues":{"batchSize":8,"maxPollingInterval":"00:00:02"}}}"#,
            &[
                ("AzureFunctionsJobHost__Extensions__Queues__BatchSize", "4"),
                (
                    "AzureFunctionsJobHost__extensions__queues__visibilityTimeout",
                    "00:00:05",
                ),
            ],
        );
        let queues = config.queues(2).unwrap();
        assert_eq!(queues.batch_size, 4);
        assert_eq!(
            queues.new_batch_threshold, 4,
            "half of the batch, times the cores"
        );
        assert_eq!(queues.max_polling_interval, Duration::from_secs(2));
        assert_eq!(queues.visibility_timeout, Duration::from_secs(5));
        assert_eq!(queues.max_dequeue_count, 5);
        assert!(queues.base64);
    }

    #[test]
    fn lists_merge_by_index() {
        let config = load(
            r#"{"functions":["a","b","c"]}"#,
            &[("AzureFunctionsJobHost__functions__0", "z")],
        );
        assert_eq!(config.functions(), Some(vec!["z", "b", "c"]));
        assert_eq!(load("{}", &[]).functions(), None);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let config = load(r#"{"extensions":{"queues":{"batchSize":33}}}"#, &[]);
        let error = config.queues(1).unwrap_err();
        assert_eq!(error.category(), "host-json-value");
        assert!(error.to_string().contains("extensions:queues:batchSize"));
        assert!(HostJson::load(Some("[1]"), &Environment::default()).is_err());
    }
}
