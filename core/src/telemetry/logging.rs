//! Where the log goes: to standard error, as text or JSON; and spans to a collector, if one is
//! configured. Also makes a panic one line of the log instead of a report in the middle of it.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, Layer as _, Registry, layer::SubscriberExt as _};

use crate::{
    config::{Config, ConfigError, Format, Level, Logging, Problem},
    telemetry::spans::{self, Exporting},
};

/// What other people's crates may say below a level of `debug`: only what somebody must know.
const QUIET: &str = "hyper=warn,h2=warn,sqlx=warn,pingora=warn,pingora_core=warn,\
                     pingora_proxy=warn,pingora_cache=warn,rustls=warn,reqwest=warn,\
                     ruma_state_res=warn,ruma_signatures=warn";

/// What a collector is sent: spans of requests; not what the export itself does, nor libraries.
const SPANS: &str = "info,opentelemetry=off,ruma_state_res=off,ruma_signatures=off";

/// Starts the log of this process. The second call in a process changes nothing. Spans that wait are
/// sent when the result is dropped.
///
/// # Errors
/// When `logging.filter` or `tracing.otlp_endpoint` cannot be read.
pub fn start(config: &Config) -> Result<Option<Exporting>, ConfigError> {
    let filter = filter(&config.logging)?;
    let (layer, exporting) = spans::start(&config.tracing)?.unzip();
    let layer = layer.map(|layer| layer.with_filter(EnvFilter::new(SPANS)));
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.logging.format {
        Format::Text => lines.with_ansi(terminal).with_target(false).boxed(),
        Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let subscriber = Registry::default().with(layer).with(lines.with_filter(filter));
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(report_panic));
    }
    Ok(exporting)
}

fn filter(logging: &Logging) -> Result<EnvFilter, ConfigError> {
    let level = match logging.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let own = logging.filter.as_deref().unwrap_or_default();
    EnvFilter::builder().parse(format!("{level},{QUIET},{own}")).map_err(|error| {
        ConfigError::Problems(vec![Problem {
            place: "logging.filter".to_owned(),
            key: Some("logging.filter".to_owned()),
            problem: error.to_string(),
            mend: Some("write it like \"colonnade_core=debug,sqlx=info\"".to_owned()),
        }])
    })
}

fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(message, "a bug: panicked at {place}");
}
