//! Check: is one pulse what the interface promises? Every field is looked at once, here, so that
//! what stands in the log needs no second look.
//!
//! The check answers with a value and not with text: text is written only for the faults that an
//! ack lists, so that a flood of bad pulses costs no more than good ones.

use domain::{
    Quantity, Timestamp,
    name::{NAME_BYTES_MAX, NameError, check_name, check_plain, check_text},
    quantity::QuantityError,
};
use edge::problem::reasons;
use proto::walk::{PulseWire, WireError};
use thiserror::Error;

use crate::scope::Scope;

/// Most properties of a pulse.
pub(crate) const PROPERTIES_MAX: usize = 64;
/// Most bytes of a property's key.
pub(crate) const PROPERTY_KEY_BYTES_MAX: usize = 64;
/// Most bytes of a property's value.
pub(crate) const PROPERTY_VALUE_BYTES_MAX: usize = 256;

/// Says which SKUs take no negative amounts. Asked only about negative amounts.
pub trait NegativePolicy: Send + Sync + 'static {
    /// Tells whether the SKU forbids them.
    fn refuses(&self, product_sku: &str) -> bool;
}

impl<F: Fn(&str) -> bool + Send + Sync + 'static> NegativePolicy for F {
    fn refuses(&self, product_sku: &str) -> bool {
        self(product_sku)
    }
}

/// What a pulse is held against.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Which tenants the request may send for.
    pub(crate) scope: &'a Scope,
    pub(crate) negative: &'a dyn NegativePolicy,
    pub(crate) time: TimeRule,
}

/// Whether a pulse may leave its time to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeRule {
    /// The whole batch has an identity, so every pulse needs its own time.
    Required,
    /// Only pulses with an id need their own time.
    RequiredWithId,
}

/// Why a pulse is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Fault {
    #[error("the pulse does not parse: {0}; encode it as pulso.v1.Pulse")]
    Undecodable(WireError),
    #[error("the pulse has {bytes} bytes; at most {bytes_max} are allowed, so send less in it")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("no tenant; name one, or send with a credential of one tenant")]
    TenantMissing,
    #[error("the credential is not for this tenant; name one that it is for")]
    TenantMismatch,
    #[error("{error}")]
    Name { field: &'static str, error: NameError },
    #[error("{0} bytes long; at most {NAME_BYTES_MAX} are allowed")]
    IdTooLong(usize, &'static str),
    #[error("no amount; send used_amount as unscaled and scale, {{0, 0}} for zero")]
    AmountMissing,
    #[error("{0}; at most 18 decimals are kept")]
    AmountScale(QuantityError),
    #[error("the amount is negative and this SKU takes no negative amounts")]
    NegativeRefused,
    #[error("no time; a pulse with an identity needs its own, so that a retry is known as one")]
    TimeMissing,
    #[error(
        "{seconds} seconds and {nanos} nanoseconds is no moment of the years 1 to 9998; nanoseconds are 0 to 999999999"
    )]
    TimeOutOfRange { seconds: i64, nanos: i32 },
    #[error("{0} properties; at most {PROPERTIES_MAX} are allowed")]
    PropertiesTooMany(usize),
    #[error(
        "the key {0:?} is not 1 to {PROPERTY_KEY_BYTES_MAX} bytes of plain text, as a name is (shown cut to that length)"
    )]
    PropertyKey(String),
    #[error(
        "the value of {0:?} is not at most {PROPERTY_VALUE_BYTES_MAX} bytes of plain text, as a name is"
    )]
    PropertyValue(String),
}

impl Fault {
    /// The word of the table of reasons.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => reasons::PULSE_UNDECODABLE,
            Self::TooLarge { .. } => reasons::PULSE_TOO_LARGE,
            Self::TenantMissing => reasons::TENANT_MISSING,
            Self::TenantMismatch => reasons::TENANT_MISMATCH,
            Self::Name { error, .. } => reasons::of_name(*error),
            Self::IdTooLong(..) => reasons::ID_TOO_LONG,
            Self::AmountMissing => reasons::AMOUNT_MISSING,
            Self::AmountScale(_) => reasons::AMOUNT_SCALE,
            Self::NegativeRefused => reasons::NEGATIVE_REFUSED,
            Self::TimeMissing => reasons::TIME_MISSING,
            Self::TimeOutOfRange { .. } => reasons::TIME_OUT_OF_RANGE,
            Self::PropertiesTooMany(_) => reasons::PROPERTIES_TOO_MANY,
            Self::PropertyKey(_) | Self::PropertyValue(_) => reasons::PROPERTY_INVALID,
        }
    }

    /// The field of the pulse; empty when it is about the pulse as a whole.
    pub(crate) const fn field(&self) -> &'static str {
        match self {
            Self::Undecodable(_) | Self::TooLarge { .. } => "",
            Self::TenantMissing | Self::TenantMismatch => "tenant",
            Self::Name { field, .. } | Self::IdTooLong(_, field) => field,
            Self::AmountMissing | Self::AmountScale(_) | Self::NegativeRefused => "used_amount",
            Self::TimeMissing | Self::TimeOutOfRange { .. } => "time",
            Self::PropertiesTooMany(_) | Self::PropertyKey(_) | Self::PropertyValue(_) => {
                "properties"
            }
        }
    }
}

/// Checks every field and gives the tenant that the pulse counts for.
#[inline]
pub(crate) fn check<'a>(pulse: &PulseWire<'a>, rules: &Rules<'a>) -> Result<&'a [u8], Fault> {
    let tenant = tenant(pulse.tenant, rules.scope)?;
    let name = |bytes, field| check_name(bytes).map_err(|error| Fault::Name { field, error });
    let sku = name(pulse.product_sku, "product_sku")?;
    name(pulse.use_unity, "use_unity")?;
    amount(pulse.used_amount, sku, rules.negative)?;
    time(pulse, rules.time)?;
    if !(pulse.id.is_empty() && pulse.source.is_empty()) {
        identifier(pulse.id, "id")?;
        identifier(pulse.source, "source")?;
    }
    if !pulse.properties.is_empty() {
        properties(pulse)?;
    }
    Ok(tenant)
}

#[inline]
fn tenant<'a>(tenant: &'a [u8], scope: &'a Scope) -> Result<&'a [u8], Fault> {
    if tenant.is_empty() {
        // A scope's tenant is a checked name already.
        let only = scope.tenant().as_bytes();
        return if only.is_empty() { Err(Fault::TenantMissing) } else { Ok(only) };
    }
    let name = check_name(tenant).map_err(|error| Fault::Name { field: "tenant", error })?;
    if !scope.allows(name) {
        return Err(Fault::TenantMismatch);
    }
    Ok(tenant)
}

#[inline]
fn amount(
    decimal: Option<(i64, u32)>,
    sku: &str,
    negative: &dyn NegativePolicy,
) -> Result<(), Fault> {
    let (unscaled, scale) = decimal.ok_or(Fault::AmountMissing)?;
    Quantity::from_decimal(unscaled, scale).map_err(Fault::AmountScale)?;
    if unscaled < 0 && negative.refuses(sku) {
        return Err(Fault::NegativeRefused);
    }
    Ok(())
}

#[inline]
fn time(pulse: &PulseWire<'_>, rule: TimeRule) -> Result<(), Fault> {
    let Some((seconds, nanos)) = pulse.time else {
        let identified = rule == TimeRule::Required || !pulse.id.is_empty();
        return if identified { Err(Fault::TimeMissing) } else { Ok(()) };
    };
    match Timestamp::from_parts(seconds, nanos).and_then(Timestamp::of_usage) {
        Some(_) => Ok(()),
        None => Err(Fault::TimeOutOfRange { seconds, nanos }),
    }
}

fn identifier(bytes: &[u8], field: &'static str) -> Result<(), Fault> {
    check_text(bytes).map(drop).map_err(|error| match error {
        NameError::TooLong(length) => Fault::IdTooLong(length, field),
        error => Fault::Name { field, error },
    })
}

fn properties(pulse: &PulseWire<'_>) -> Result<(), Fault> {
    if pulse.properties.len() > PROPERTIES_MAX {
        return Err(Fault::PropertiesTooMany(pulse.properties.len()));
    }
    for (key, value) in pulse.properties.iter() {
        if key.is_empty() || !is_plain(key, PROPERTY_KEY_BYTES_MAX) {
            return Err(Fault::PropertyKey(shown(key)));
        }
        if !is_plain(value, PROPERTY_VALUE_BYTES_MAX) {
            return Err(Fault::PropertyValue(shown(key)));
        }
    }
    Ok(())
}

fn is_plain(bytes: &[u8], bytes_max: usize) -> bool {
    bytes.len() <= bytes_max && check_plain(bytes).is_ok()
}

/// A key as it may be repeated to the client.
fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[..key.len().min(PROPERTY_KEY_BYTES_MAX)]).into_owned()
}
