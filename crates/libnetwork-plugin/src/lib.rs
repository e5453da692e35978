//! Docker's remote driver protocol for networks and addresses, as a library.
//!
//! A plugin implements [`NetworkDriver`], [`IpamDriver`] or both, and hands them to a [`Server`]:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use libnetwork_plugin::network::{CreateEndpointRequest, CreateNetworkRequest, EndpointRequest, JoinRequest, NetworkRequest};
//! use libnetwork_plugin::{InterfaceAnswer, JoinAnswer, NetworkDriver, PluginSocket, Refusal, Server};
//!
//! struct Nothing;
//!
//! impl NetworkDriver for Nothing {
//!     fn create_network(&self, _: CreateNetworkRequest) -> Result<(), Refusal> { Ok(()) }
//!     fn delete_network(&self, _: NetworkRequest) -> Result<(), Refusal> { Ok(()) }
//!     fn create_endpoint(&self, _: CreateEndpointRequest) -> Result<InterfaceAnswer, Refusal> {
//!         Ok(InterfaceAnswer::default())
//!     }
//!     fn delete_endpoint(&self, _: EndpointRequest) -> Result<(), Refusal> { Ok(()) }
//!     fn join(&self, _: JoinRequest) -> Result<JoinAnswer, Refusal> { Ok(JoinAnswer::without_link()) }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let socket = PluginSocket::for_plugin("nothing")?;
//!     Server::new().network(Arc::new(Nothing)).run(socket)?;
//!     Ok(())
//! }
//! ```
//!
//! `docker network create -d nothing ...` then reaches this process.
//! `examples/bridge.rs` is a complete driver in about 60 lines of code.
//!
//! # What the server does for every driver
//!
//! - A request that must have a body and has none is refused: if a connection breaks, the engine repeats the
//!   request without its body, and a driver that treated it as an empty request would act on no data.
//! - Only results have status 200. A [`Refusal`] of a driver is an error text with status 200, as the engine
//!   expects; no driver can answer 404, which the engine treats as success in `ProgramExternalConnectivity` and
//!   `RevokeExternalConnectivity` and as a failure elsewhere.
//! - `EndpointOperInfo` always succeeds with an empty value: engines up to 26 refuse to start a container on any
//!   other answer, and no engine uses a value.
//! - The answers to `GetCapabilities` cannot fail: after one failure an engine does not register the driver
//!   until the engine itself is restarted.
//! - Every request has a deadline; each body, all bodies together, and the number of connections are limited.
//!   Idle connections are kept as long as the limit allows.
//! - A panic of a driver becomes an error answer, and the process continues.
//! - At shutdown the requests under way are answered first.
//!
//! # What a driver must do itself
//!
//! - **Be idempotent.** The engine repeats, reorders and omits calls. A method that is called again with the
//!   same ids must give the same answer; deletion of an unknown object is success.
//! - **Persist state across restarts.** The engine calls nothing after a restart of the plugin; what was created
//!   must still exist or be restored from the plugin's own records.
//! - **Allow concurrency.** Requests of different containers and networks arrive in parallel.
//! - **Never call the engine** from within a method: it holds locks while it waits for the answer.
//!
//! # Requests and answers
//!
//! [`network`], [`ipam`] and [`options`] contain the bodies of the protocol. Decoding is as lenient as the
//! engine's own decoder: unknown keys are ignored, and `null` and missing values are the zero value. Values are
//! strings there, as on the wire; the driver interprets them.

// Messages name the object and the remedy instead; clippy.toml lists the methods.
#![cfg_attr(
    not(test),
    warn(
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unwrap_used
    )
)]
#![deny(missing_docs)]

mod answer;
mod call;
mod driver;
mod observer;
mod refusal;
mod routes;
pub mod server;
mod socket;
mod unavailable;
mod values;
mod wire;

pub use answer::{AddressAnswer, InterfaceAnswer, JoinAnswer, PoolAnswer};
pub use call::call;
pub use driver::{IpamDriver, NetworkDriver};
pub use observer::{Observer, Outcome};
pub use refusal::{Refusal, RefusalKind};
pub use routes::{RouteAnswer, RouteRequest, Routes};
pub use server::Server;
pub use socket::{PluginSocket, SocketError, is_socket_activated, spec};
pub use unavailable::Unavailable;
pub use values::{Cidr, InvalidValue, MacAddress};
pub use wire::{Empty, Manifest, Method, ipam, network, options};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
