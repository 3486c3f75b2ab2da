//! Keys: the resources that a partition has seen, each interned once.
//!
//! A resource key is hashed once, as one slice, and found by its bytes. Nothing is allocated for a
//! key seen before.

use std::sync::Arc;

use domain::{Sku, Tenant, Unit, name::NameError};
use proto::walk;

use super::{
    index::{Index, NO_PLACE},
    state::Declarations,
};

/// All keys. What finding one reads stands apart from the names, which only a flush reads.
#[derive(Debug)]
pub(crate) struct Keys {
    index: Index,
    keys: Vec<Key>,
    names: Vec<Names>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Key {
    /// Its stretch of `Keys::bytes`.
    start: usize,
    end: usize,
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

impl Keys {
    pub(crate) fn new() -> Self {
        Self { index: Index::new(), keys: Vec::new(), names: Vec::new(), bytes: Vec::new() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.keys.len()
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
    /// whose names are not names is refused and not kept.
    #[inline]
    pub(crate) fn find(
        &mut self,
        declarations: &Declarations,
        (hash, bytes, likely): (u64, &[u8], u32),
    ) -> Result<u32, BadName> {
        if likely != NO_PLACE && self.is(likely, bytes) {
            return Ok(likely);
        }
        match self.index.find(hash, |key| self.is(key, bytes)) {
            Some(key) => Ok(key),
            None => self.intern(declarations, hash, bytes),
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
    ) -> Result<u32, BadName> {
        let names = Names::parse(bytes)?;
        let place = u32::try_from(self.keys.len()).expect("a segment has below 2^32 keys");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let declared = declared(declarations, &names.product_sku);
        self.keys.push(Key { start, end: self.bytes.len(), declared });
        self.names.push(names);
        self.index.insert(hash, place);
        Ok(place)
    }

    /// The properties that the key's SKU declares, if any.
    #[inline]
    pub(crate) fn declared(&self, key: u32) -> Option<&Arc<[String]>> {
        self.keys[key as usize].declared.as_ref()
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
