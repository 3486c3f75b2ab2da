//! Keys: the resources that a partition has seen, each interned once.
//!
//! A resource key is hashed once, as one slice, and found by its bytes. Nothing is allocated for a
//! key seen before.

use std::{collections::HashMap, sync::Arc};

use domain::{Sku, Tenant, Unit, name::NameError};
use proto::walk;

use super::{
    declarations::Declarations,
    index::{Index, NO_PLACE},
};

/// Bytes of a key beside those of its text, about: its names in three allocations, its places in the
/// index and the maps.
const KEY_BYTES: usize = 400;

/// All keys. What finding one reads stands apart from the names, which only a flush reads.
#[derive(Debug)]
pub(crate) struct Keys {
    index: Index,
    keys: Vec<Key>,
    names: Vec<Names>,
    bytes: Vec<u8>,
    tenants: HashMap<Tenant, u32>,
    skus: HashMap<(u32, Sku), u32>,
}

#[derive(Debug)]
struct Key {
    /// Its stretch of `Keys::bytes`.
    start: usize,
    end: usize,
    /// Place of its tenant.
    tenant: u32,
    /// Place of its tenant's SKU.
    sku: u32,
    /// What the SKU declares; usually nothing.
    declared: Option<Arc<[String]>>,
}

/// A key's names, checked.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) tenant: Tenant,
    pub(crate) product_sku: Sku,
    pub(crate) use_unity: Unit,
}

/// A name in a key is not one: the field, and why.
pub(crate) type BadName = (&'static str, NameError);

/// Why a key is not kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unkept {
    /// A name in it is not one.
    Name(BadName),
    /// Its tenant may have no further one.
    Full,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            index: Index::new(),
            keys: Vec::new(),
            names: Vec::new(),
            bytes: Vec::new(),
            tenants: HashMap::new(),
            skus: HashMap::new(),
        }
    }

    /// Bytes that they take, about.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.keys.len() * KEY_BYTES + self.bytes.len()
    }

    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        self.index.touch(hash)
    }

    /// The key that has this hash all but surely, or [`NO_PLACE`].
    #[inline]
    pub(crate) fn likely(&self, hash: u64) -> u32 {
        self.index.likely(hash)
    }

    /// Reads the first of a key's bytes, for who compares them soon.
    #[inline]
    pub(crate) fn touch_bytes(&self, key: u32) -> u8 {
        self.keys.get(key as usize).map_or(0, |key| self.bytes[key.start])
    }

    /// Finds or interns a key by its hash and bytes; `likely` is where it stands all but surely. A key
    /// whose names are not names, or whose tenant `is_full`, is refused and not kept.
    #[inline]
    pub(crate) fn find(
        &mut self,
        declarations: &Declarations,
        (hash, bytes, likely): (u64, &[u8], u32),
        is_full: impl Fn(u32) -> bool,
    ) -> Result<u32, Unkept> {
        if likely != NO_PLACE && self.is(likely, bytes) {
            return Ok(likely);
        }
        match self.index.find(hash, |key| self.is(key, bytes)) {
            Some(key) => Ok(key),
            None => self.intern(declarations, hash, bytes, is_full),
        }
    }

    #[inline]
    fn is(&self, key: u32, bytes: &[u8]) -> bool {
        let key = &self.keys[key as usize];
        &self.bytes[key.start..key.end] == bytes
    }

    #[cold]
    fn intern(
        &mut self,
        declarations: &Declarations,
        hash: u64,
        bytes: &[u8],
        is_full: impl Fn(u32) -> bool,
    ) -> Result<u32, Unkept> {
        let names = Names::parse(bytes).map_err(Unkept::Name)?;
        if self.tenants.get(&names.tenant).is_some_and(|tenant| is_full(*tenant)) {
            return Err(Unkept::Full);
        }
        let next = u32::try_from(self.tenants.len()).expect("fewer tenants than keys");
        let tenant = *self.tenants.entry(names.tenant.clone()).or_insert(next);
        let next = u32::try_from(self.skus.len()).expect("fewer SKUs than keys");
        let sku = *self.skus.entry((tenant, names.product_sku.clone())).or_insert(next);
        let place = u32::try_from(self.keys.len()).expect("a segment has below 2^32 keys");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let declared = declared(declarations, &names.product_sku);
        self.keys.push(Key { start, end: self.bytes.len(), tenant, sku, declared });
        self.names.push(names);
        self.index.insert(hash, place);
        Ok(place)
    }

    /// The properties that the key's SKU declares, if any.
    #[inline]
    pub(crate) fn declared(&self, key: u32) -> Option<&Arc<[String]>> {
        self.keys[key as usize].declared.as_ref()
    }

    /// Places of a key's tenant, and of its tenant's SKU.
    pub(crate) fn owner(&self, key: u32) -> (u32, u32) {
        let Key { tenant, sku, .. } = self.keys[key as usize];
        (tenant, sku)
    }

    /// By the place of a tenant, its rank in the order of names.
    pub(crate) fn tenant_ranks(&self) -> Vec<u32> {
        let mut tenants: Vec<_> = self.tenants.iter().collect();
        tenants.sort_unstable();
        let mut ranks = vec![0; tenants.len()];
        for (rank, (_, place)) in (0..).zip(tenants) {
            ranks[*place as usize] = rank;
        }
        ranks
    }

    /// Bytes of a key.
    pub(crate) fn length(&self, key: u32) -> usize {
        let Key { start, end, .. } = self.keys[key as usize];
        end - start
    }

    pub(crate) fn names(&self, key: u32) -> &Names {
        &self.names[key as usize]
    }

    /// Takes new declarations into account for the pulses to come.
    pub(crate) fn redeclare(&mut self, declarations: &Declarations) {
        for (key, names) in self.keys.iter_mut().zip(&self.names) {
            key.declared = declared(declarations, &names.product_sku);
        }
    }
}

impl Names {
    fn parse(key: &[u8]) -> Result<Self, BadName> {
        let names = walk::pulse(key).expect("a key is the first three fields of a pulse");
        let text = |bytes, field| domain::name::check_name(bytes).map_err(|error| (field, error));
        let name = |error| ("", error);
        Ok(Self {
            tenant: Tenant::new(text(names.tenant, "tenant")?).map_err(name)?,
            product_sku: Sku::new(text(names.product_sku, "product_sku")?).map_err(name)?,
            use_unity: Unit::new(text(names.use_unity, "use_unity")?).map_err(name)?,
        })
    }
}

fn declared(declarations: &Declarations, sku: &Sku) -> Option<Arc<[String]>> {
    let declaration = declarations.0.get(sku.as_str())?;
    (!declaration.dimensions.is_empty()).then(|| declaration.dimensions.clone().into())
}
