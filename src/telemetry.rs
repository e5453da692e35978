//! The log: its format and level. It goes to standard error, which systemd and a terminal show; that of a
//! managed plugin is split, see [`start`].

use std::io;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{LogFormat, LogLevel};

/// Starts logging. Called once, before anything else. For a managed plugin Docker adds the time to each line,
/// and reports lines of standard error as errors: so only warnings and errors go there, and the rest to standard
/// output.
pub fn start(level: LogLevel, format: LogFormat, managed: bool) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false);
    let split = io::stderr.with_max_level(Level::WARN).or_else(io::stdout);
    let layer = match (format, managed) {
        (LogFormat::Text, false) => lines.with_writer(io::stderr).boxed(),
        (LogFormat::Json, false) => lines.with_writer(io::stderr).json().flatten_event(true).boxed(),
        (LogFormat::Text, true) => lines.with_writer(split).without_time().boxed(),
        (LogFormat::Json, true) => lines.with_writer(split).without_time().json().flatten_event(true).boxed(),
    };
    // A second start (tests in one process) keeps the first configuration.
    let _ = tracing_subscriber::registry().with(layer.with_filter(level)).try_init();
}
