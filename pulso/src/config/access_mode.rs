//! The words for whether requests need a credential.

use std::fmt;

use super::value::{Setting, words};

words! {
    /// Whether requests need a credential.
    AccessMode {
        /// No, and the process listens on loopback only.
        Off = "off",
        /// No, wherever it listens.
        Open = "open",
        /// Yes.
        Required = "required",
    }
}
