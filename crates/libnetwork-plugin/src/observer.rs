//! Measuring requests.

use std::time::Duration;

use crate::wire::Method;

/// How a request of the protocol ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// With a result.
    Answered,
    /// With an error of the driver.
    Refused,
    /// With an error, because the body is not of the method's form.
    Undecodable,
    /// With an error at the deadline. The driver's method has ended only now, with any result.
    Late,
}

impl Outcome {
    /// Whether the engine got an error.
    pub fn is_error(self) -> bool {
        self != Outcome::Answered
    }
}

/// Receives every request of the protocol that reached a driver, after it ended. For metrics.
///
/// Called on the thread of the connection, before the answer is written: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// A request ended after `duration`, which includes decoding.
    fn request_ended(&self, method: Method, duration: Duration, outcome: Outcome);
}

impl<F: Fn(Method, Duration, Outcome) + Send + Sync + 'static> Observer for F {
    fn request_ended(&self, method: Method, duration: Duration, outcome: Outcome) {
        self(method, duration, outcome);
    }
}
