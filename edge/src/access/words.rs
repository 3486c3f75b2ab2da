//! Roles and tenants as entries and documents hold them: lists of words, in which all tenants are `*`.

use domain::Tenant;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::principal::{Role, Roles, Tenants};

/// All tenants, in lists of names and in claims.
pub(super) const ALL_TENANTS: &str = "*";

impl Serialize for Roles {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(Role::as_str))
    }
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(from)?;
        words.iter().map(|word| word.parse::<Role>().map_err(D::Error::custom)).collect()
    }
}

impl Serialize for Tenants {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.named() {
            None => to.collect_seq([ALL_TENANTS]),
            Some(named) => to.collect_seq(named.iter().map(Tenant::as_str)),
        }
    }
}

impl<'de> Deserialize<'de> for Tenants {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(from)?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        Self::of_words(&words).map_err(D::Error::custom)
    }
}

/// Words that are no tenants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenantWordsError {
    /// A word is no name.
    #[error("a tenant's name is {0}")]
    Name(domain::name::NameError),
    /// `*` beside names: one of the two is a mistake.
    #[error("`*` means all tenants; list no other tenant with it")]
    AllAndMore,
    /// None, or too many.
    #[error(transparent)]
    Count(#[from] super::principal::TenantsError),
}

impl Tenants {
    /// The tenants of a list of names, in which a lone `*` is all of them.
    ///
    /// # Errors
    /// See [`TenantWordsError`].
    pub fn of_words(words: &[&str]) -> Result<Self, TenantWordsError> {
        match words {
            [ALL_TENANTS] => return Ok(Self::ALL),
            words if words.contains(&ALL_TENANTS) => return Err(TenantWordsError::AllAndMore),
            _ => {}
        }
        let named: Result<Vec<_>, _> = words.iter().map(|word| Tenant::new(word)).collect();
        Ok(Self::these(named.map_err(TenantWordsError::Name)?)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, to_string};

    use super::*;

    #[test]
    fn roles_and_tenants_are_read_as_they_are_written() {
        for text in [r#"["admin","writer"]"#, "[]"] {
            assert_eq!(to_string(&from_str::<Roles>(text).unwrap()).unwrap(), text);
        }
        for text in [r#"["*"]"#, r#"["acme","umbrella"]"#] {
            assert_eq!(to_string(&from_str::<Tenants>(text).unwrap()).unwrap(), text);
        }
        for text in ["[]", r#"["*","acme"]"#, r#"[""]"#, "null", r#""*""#, r#"["*","*"]"#] {
            assert!(from_str::<Tenants>(text).is_err(), "{text}");
        }
        assert!(from_str::<Roles>(r#"["root"]"#).is_err());
    }
}
