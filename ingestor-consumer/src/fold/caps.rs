//! Caps: how many resources of a tenant, and values of a declared dimension, one segment may have.
//!
//! They guard against a request id that is sent as a SKU or as a dimension: a row a pulse, for ever. What
//! a cap decides depends on the segment alone, so nothing here outlives it.

use std::collections::{HashMap, HashSet};

use domain::{Dimensions, FoldLimits, hash};

/// What is counted of the open segment.
#[derive(Debug)]
pub(crate) struct Caps {
    /// Resources that have a row: key and set of dimensions.
    resources: HashSet<(u32, u32)>,
    /// How many of them each tenant has, by the tenant's place.
    of_tenant: Vec<u32>,
    /// Hashes of the values of each dimension of a tenant's SKU.
    values: HashMap<(u32, String), HashSet<u64>>,
    seed: u64,
}

/// A cap is reached. Which one is not told: while a group is looked up both may come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capped;

/// A resource by its places: of its tenant, its tenant's SKU, its key, its set of dimensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourcePlace {
    pub(crate) tenant: u32,
    pub(crate) sku: u32,
    pub(crate) key: u32,
    pub(crate) dimensions: u32,
}

impl Caps {
    pub(crate) fn new(seed: u64) -> Self {
        let (resources, values) = (HashSet::new(), HashMap::new());
        Self { resources, of_tenant: Vec::new(), values, seed }
    }

    /// Whether a tenant may have no further resource.
    #[inline]
    pub(crate) fn is_full(&self, tenant: u32, limits: &FoldLimits) -> bool {
        self.of_tenant.get(tenant as usize).is_some_and(|count| *count >= limits.keys_per_tenant)
    }

    /// Whether dimensions that no resource of the segment has yet would pass a cap.
    pub(crate) fn check_values(
        &self,
        sku: u32,
        dimensions: &Dimensions,
        limits: &FoldLimits,
    ) -> Result<(), Capped> {
        let most = limits.values_per_dimension as usize;
        let is_full = |(name, value): (String, u64)| {
            let known = self.values.get(&(sku, name));
            known.is_some_and(|known| known.len() >= most && !known.contains(&value))
        };
        if self.hashed(dimensions).into_iter().any(is_full) { Err(Capped) } else { Ok(()) }
    }

    fn hashed(&self, dimensions: &Dimensions) -> Vec<(String, u64)> {
        if dimensions.is_empty() {
            return Vec::new();
        }
        let hash = |value: String| hash::bytes64(self.seed, value.as_bytes());
        dimensions.pairs().into_iter().map(|(name, value)| (name, hash(value))).collect()
    }

    /// Takes a resource that is to have a row.
    ///
    /// # Errors
    /// The cap that it would pass; nothing was taken.
    pub(crate) fn admit(
        &mut self,
        place: ResourcePlace,
        dimensions: &Dimensions,
        limits: &FoldLimits,
    ) -> Result<(), Capped> {
        let ResourcePlace { tenant, sku, key, dimensions: set } = place;
        if self.resources.contains(&(key, set)) {
            return Ok(());
        }
        if self.is_full(tenant, limits) {
            return Err(Capped);
        }
        self.check_values(sku, dimensions, limits)?;
        self.resources.insert((key, set));
        let tenant = tenant as usize;
        if self.of_tenant.len() <= tenant {
            self.of_tenant.resize(tenant + 1, 0);
        }
        self.of_tenant[tenant] += 1;
        for (name, value) in self.hashed(dimensions) {
            self.values.entry((sku, name)).or_default().insert(value);
        }
        Ok(())
    }

    /// Resources that were taken.
    pub(crate) fn len(&self) -> usize {
        self.resources.len()
    }

    /// Starts the next segment.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.seed);
    }
}
