//! The table's making: what a setting is, and the macros that make types, defaults and words of one
//! line each.

use super::Config;
use crate::config::value::Setting;

/// One setting.
#[derive(Clone, Copy)]
pub struct Key {
    /// Its name in a file: `section.key`, or `key` at the top.
    pub path: &'static str,
    /// What it does, line by line.
    pub docs: &'static [&'static str],
    /// Its default as text.
    pub default: &'static str,
    /// What is accepted.
    pub expects: fn() -> String,
    /// Sets it from text.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
    /// Its value as text, which `set` reads back.
    pub text: fn(&Config) -> String,
}

impl Key {
    /// The environment variable that sets it: `PULSO_SECTION__KEY`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("PULSO_{}", self.path.replace('.', "__").to_uppercase())
    }
}

pub(super) fn default_of<S: Setting>(text: &str) -> S {
    S::parse(text).unwrap_or_else(|problem| panic!("the default `{text}` {problem}"))
}

/// Makes sections: each a type with its defaults, its words and its settings. A section whose words
/// fill a screen has a file of its own.
macro_rules! sections {
    ( $(
        $(#[doc = $section_doc:literal])+ $section:ident: $Section:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $Type:ty = $default:literal; )+
        }
    )+ ) => { $(
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Section {
            $( $(#[doc = $doc])+ pub $key: $Type, )+
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $( $key: default_of($default), )+ }
            }
        }

        impl $Section {
            pub(in crate::config::keys) const DOCS: &'static [&'static str] = &[$($section_doc),+];
            pub(in crate::config::keys) const KEYS: &'static [Key] = &[ $( Key {
                path: concat!(stringify!($section), ".", stringify!($key)),
                docs: &[$($doc),+],
                default: $default,
                expects: <$Type as Setting>::expects,
                set: |config, text| {
                    <$Type as Setting>::parse(text).map(|value| config.$section.$key = value)
                },
                text: |config| config.$section.$key.to_string(),
            }, )+ ];
        }
    )+ };
}

/// Makes the configuration out of settings at the top and sections.
macro_rules! configuration {
    (
        { $( $(#[doc = $top_doc:literal])+ $top:ident: $Top:ty = $top_default:literal; )+ }
        $( $section:ident: $Section:ident, )+
    ) => {
        /// The whole configuration, valid by its types.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config {
            $( $(#[doc = $top_doc])+ pub $top: $Top, )+
            $( #[doc = concat!("The section `", stringify!($section), "`.")] pub $section: $Section, )+
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $( $top: default_of($top_default), )+
                    $( $section: $Section::default(), )+
                }
            }
        }

        /// Every section with its words, in the order of a file.
        pub const SECTIONS: &[(&str, &[&str])] =
            &[ $( (stringify!($section), $Section::DOCS), )+ ];

        const GROUPS: &[&[Key]] = &[
            &[ $( Key {
                path: stringify!($top),
                docs: &[$($top_doc),+],
                default: $top_default,
                expects: <$Top as Setting>::expects,
                set: |config, text| <$Top as Setting>::parse(text).map(|value| config.$top = value),
                text: |config| config.$top.to_string(),
            }, )+ ],
            $( $Section::KEYS, )+
        ];

        /// Every setting, in the order of a file: those at the top, then section by section.
        pub const KEYS: &[Key] = &joined::<{ count(GROUPS) }>(GROUPS);
    };
}

pub(super) const fn count(groups: &[&[Key]]) -> usize {
    let (mut count, mut group) = (0, 0);
    while group < groups.len() {
        count += groups[group].len();
        group += 1;
    }
    count
}

/// The keys of all groups in one list. Constants can be joined by indices only.
pub(super) const fn joined<const N: usize>(groups: &[&[Key]]) -> [Key; N] {
    let (mut all, mut place, mut group) = ([groups[0][0]; N], 0, 0);
    while group < groups.len() {
        let mut key = 0;
        while key < groups[group].len() {
            all[place] = groups[group][key];
            (place, key) = (place + 1, key + 1);
        }
        group += 1;
    }
    all
}
