//! Requests on the plugin socket that are not the engine's.

/// Answers paths outside the protocol: metrics, status, commands of an operator.
///
/// Such requests have the same limits and the same deadline as those of the engine. The protocol's own paths are
/// never passed here.
pub trait Routes: Send + Sync + 'static {
    /// Whether the path exists. Called before the body is read; if not, the answer is 404.
    fn has(&self, method: &str, path: &str) -> bool;

    /// Answers a request for which [`Routes::has`] was true. May block.
    fn respond(&self, request: RouteRequest<'_>) -> RouteAnswer;
}

/// A request outside the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRequest<'a> {
    /// The HTTP method, in upper case.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// What follows `?`, undecoded; empty without a query.
    pub query: &'a str,
    /// The complete body.
    pub body: &'a [u8],
}

/// The answer to such a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteAnswer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl RouteAnswer {
    /// Status 200 with a body that is already JSON.
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, content_type: crate::server::PLUGIN_JSON, body: body.into() }
    }

    /// Status 200 with a text.
    pub fn text(content_type: &'static str, body: impl Into<String>) -> Self {
        Self { status: 200, content_type, body: body.into().into_bytes() }
    }

    /// An error: `{"Err": message}`. A status outside 400..=599 counts as 500.
    pub fn error(status: u16, message: &str) -> Self {
        let status = if (400..600).contains(&status) { status } else { 500 };
        Self { status, ..Self::json(serde_json::json!({ "Err": message }).to_string()) }
    }
}
