//! Reads through their doors and against the memory adapters: exact totals, pages that join to the
//! whole, answers that say what was wrong.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod blocks;
mod engine;
mod growth;
mod grpc;
mod http;
mod openapi;
mod operations;
mod support;
mod tenants;
