//! The edge of a process: what every request passes before a stage sees it, and every answer after.
//!
//! In reading order: how errors are reported; how hosts are read; how a request is followed through the
//! logs and counted; what clients may take; who may call what; where calls compute; how parameters,
//! media types and pages are read; what a stage serves; the two doors, and how people log in at one of
//! them; and the server behind the listeners. Nothing here knows a stage, a log or an adapter.

pub mod problem;

pub mod host;

pub mod correlation;
pub mod requests;

pub mod listen;

pub mod access;

pub mod compute;

pub mod accept;
pub mod paging;
pub mod parameters;

pub mod grpc;

pub mod doors;
pub mod http;
pub mod login;
pub mod server;

pub use compute::Compute;
pub use correlation::CorrelationId;
pub use doors::{Doors, Routes};
pub use problem::{Problem, Violation};
pub use server::{Edge, Process, Served};
