//! The words for whether clients of the listeners have to show a certificate.

use std::fmt;

use super::value::{Setting, words};

words! {
    /// Whether clients have to show a certificate.
    ClientAuth {
        /// A handshake without one fails.
        Required = "required",
        /// A client without one has no names.
        Optional = "optional",
    }
}
