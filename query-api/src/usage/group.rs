//! Groups: what an answer keeps apart, and the key that its rows are sorted and paged by.

use std::collections::HashMap;

use domain::{Dimensions, ResourceKey, Sku, Tenant, Timestamp, Unit};

/// Projections remembered before they are forgotten all at once: bounds memory, and a question that
/// meets more sets of dimensions than this is slow for other reasons.
const PROJECTIONS_MAX: usize = 16_384;

/// What is kept apart. What is not, is added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupBy {
    /// Keeps tenants apart.
    pub tenant: bool,
    /// Keeps SKUs apart.
    pub product_sku: bool,
    /// Keeps units apart. Without it amounts of different units are added up, which only the
    /// asker can know to make sense.
    pub use_unity: bool,
    /// Which dimensions are kept apart.
    pub dimensions: KeptDimensions,
}

/// Which dimensions are kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptDimensions {
    /// All that the rows have.
    All,
    /// Those with these names; a row without one of them stands with the others that lack it.
    Named(Vec<String>),
}

impl GroupBy {
    /// Everything apart: resources as they are stored.
    pub const RESOURCE: Self =
        Self { tenant: true, product_sku: true, use_unity: true, dimensions: KeptDimensions::All };
}

/// Key of a row of an answer, in the order of its rows. `None` where that field is added up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// Who used it.
    pub tenant: Option<Tenant>,
    /// What was used.
    pub product_sku: Option<Sku>,
    /// What the amounts count.
    pub use_unity: Option<Unit>,
    /// The dimensions kept apart.
    pub dimensions: Dimensions,
    /// Start of the row's window.
    pub window_start: Timestamp,
}

impl std::fmt::Display for GroupKey {
    /// Names the group for an error: `tenant "a", product_sku "b", {"region":"c"}, window 2024-..`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(tenant) = &self.tenant {
            write!(f, "tenant {:?}, ", tenant.as_str())?;
        }
        if let Some(sku) = &self.product_sku {
            write!(f, "product_sku {:?}, ", sku.as_str())?;
        }
        if let Some(unit) = &self.use_unity {
            write!(f, "use_unity {:?}, ", unit.as_str())?;
        }
        write!(f, "dimensions {}, window {}", self.dimensions, self.window_start)
    }
}

impl GroupKey {
    /// Writes the key for a page token.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.window_start.micros().to_le_bytes().to_vec();
        let texts = [
            self.tenant.as_ref().map_or("", Tenant::as_str),
            self.product_sku.as_ref().map_or("", Sku::as_str),
            self.use_unity.as_ref().map_or("", Unit::as_str),
            self.dimensions.as_str(),
        ];
        for text in texts {
            let length =
                u32::try_from(text.len()).expect("names and dimensions are far below 4 GiB");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    /// Reads what [`GroupKey::encode`] wrote, or `None`.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (micros, mut rest) = bytes.split_first_chunk::<8>()?;
        let mut text = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (text, after) = after.split_at_checked(length)?;
            rest = after;
            std::str::from_utf8(text).ok()
        };
        let (tenant, sku, unit, dimensions) = (text()?, text()?, text()?, text()?);
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            tenant: optional(tenant, Tenant::new)?,
            product_sku: optional(sku, Sku::new)?,
            use_unity: optional(unit, Unit::new)?,
            dimensions: Dimensions::from_canonical(dimensions)?,
            window_start: Timestamp::from_micros(i64::from_le_bytes(*micros))?,
        })
    }
}

/// A name is never empty, so empty text stands for none. The outer `None` is a broken name.
fn optional<T, E>(text: &str, name: fn(&str) -> Result<T, E>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { name(text).ok().map(Some) }
}

/// Turns the keys of stored rows into the keys of their groups, moving names rather than copying.
#[derive(Debug)]
pub struct Projection {
    group_by: GroupBy,
    none: Dimensions,
    known: HashMap<Dimensions, Dimensions>,
}

impl Projection {
    /// Starts with nothing remembered.
    #[must_use]
    pub fn new(group_by: GroupBy) -> Self {
        Self { group_by, none: Dimensions::none(), known: HashMap::new() }
    }

    /// The key of the group that a resource belongs to in a window.
    pub fn key_of(&mut self, resource: ResourceKey, window_start: Timestamp) -> GroupKey {
        let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource;
        GroupKey {
            tenant: self.group_by.tenant.then_some(tenant),
            product_sku: self.group_by.product_sku.then_some(product_sku),
            use_unity: self.group_by.use_unity.then_some(use_unity),
            dimensions: self.kept_of(dimensions),
            window_start,
        }
    }

    fn kept_of(&mut self, dimensions: Dimensions) -> Dimensions {
        let names = match &self.group_by.dimensions {
            KeptDimensions::All => return dimensions,
            KeptDimensions::Named(names) => names,
        };
        if names.is_empty() || dimensions.is_empty() {
            return self.none.clone();
        }
        if let Some(kept) = self.known.get(&dimensions) {
            return kept.clone();
        }
        let pairs = dimensions.pairs();
        let wanted = pairs.iter().filter(|(name, _)| names.contains(name));
        let kept = Dimensions::from_pairs(wanted.map(|(n, v)| (n.as_str(), v.as_str())));
        if self.known.len() >= PROJECTIONS_MAX {
            self.known.clear();
        }
        self.known.insert(dimensions, kept.clone());
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_token_and_shows_damage() {
        let mut key = GroupKey {
            tenant: Some(Tenant::new("acme \u{e9}").unwrap()),
            product_sku: None,
            use_unity: Some(Unit::new("GiB/Second-Months").unwrap()),
            dimensions: Dimensions::from_pairs([("region", "br\"se1")]),
            window_start: Timestamp::MIN,
        };
        let bytes = key.encode();
        assert_eq!(GroupKey::decode(&bytes), Some(key.clone()));
        for end in 0..bytes.len() {
            assert_eq!(GroupKey::decode(&bytes[..end]), None, "{end}");
        }
        assert_eq!(GroupKey::decode(&[bytes, vec![0]].concat()), None);
        key.dimensions = Dimensions::none();
        assert_eq!(GroupKey::decode(&key.encode()), Some(key));
    }
}
