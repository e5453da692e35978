//! Errors that are sent to the engine.

use std::fmt;

use hyper::StatusCode;

/// Why a request is answered with an error.
///
/// The engine shows the message to its user, after `remote: `, and nothing else: write one line that names the
/// object and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    kind: RefusalKind,
    message: String,
}

/// The reason class of a refusal, which determines its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// An error of the driver. Status 200 with an error text, which is how the engine expects errors.
    Driver,
    /// The request cannot be decoded, or has no body where one is needed. Status 400.
    Undecodable,
    /// No such method. Status 404.
    NotFound,
    /// Not a POST request. Status 405.
    NotPost,
    /// Not a GET request, on a server that only reads. Status 405.
    NotGet,
    /// The body took too long to arrive. Status 408.
    SlowBody,
    /// The body is larger than the method allows. Status 413.
    LargeBody,
    /// A bug: a panic, or an answer that cannot be encoded. Status 200, as an error of the driver.
    Internal,
    /// Too many bytes of bodies at once, or the plugin cannot serve yet. Status 503.
    Unavailable,
}

impl Refusal {
    /// A refusal by the driver. Line breaks become spaces.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of(RefusalKind::Driver, message)
    }

    pub(crate) fn of(kind: RefusalKind, message: impl Into<String>) -> Self {
        let message = message.into();
        let message = if message.contains(['\n', '\r']) { message.replace(['\n', '\r'], " ") } else { message };
        Self { kind, message }
    }

    /// The kind of the refusal.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// The message for the engine's user.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self.kind {
            RefusalKind::Driver | RefusalKind::Internal => StatusCode::OK,
            RefusalKind::Undecodable => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::NotPost | RefusalKind::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            RefusalKind::SlowBody => StatusCode::REQUEST_TIMEOUT,
            RefusalKind::LargeBody => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The same refusal, with `what` prepended to its message.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_a_driver_never_chooses_the_status() {
        let refusal = Refusal::new("first\nsecond");
        assert_eq!((refusal.message(), refusal.status()), ("first second", StatusCode::OK));
        assert_eq!(Refusal::from("a").about("b").to_string(), "b: a");
        assert_eq!(Refusal::from(std::io::Error::other("c")).kind(), RefusalKind::Driver);
    }
}
