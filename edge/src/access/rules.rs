//! Rules: the one table that says which roles may call a method, and for which tenants.
//!
//! A gRPC method goes by its path, `/pulso.v1.QueryService/QueryUsage`; an HTTP route by its verb and
//! its pattern, `GET /v1/usage` or `GET /v1/catalog/{version}`. What is not in the table is denied,
//! and [`Rules::check`] fails a start (and a test) when the table and the registered methods differ.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt::Write as _,
    sync::Arc,
};

use http::Method;

use super::principal::{Principal, Roles};
use crate::{Problem, problem::reasons};

/// What a method has to do with tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TenantRule {
    /// Nothing: it neither shows nor changes what belongs to a tenant.
    Any,
    /// The request says for which tenants, and the handler narrows that to the principal's.
    FromRequest,
    /// It shows or changes what belongs to all, so only a principal for all tenants may call it.
    AllTenants,
    /// It needs no credential: a probe.
    Open,
}

impl TenantRule {
    /// The words of the printed table.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::FromRequest => "those of the request, narrowed to the credential's",
            Self::AllTenants => "a credential for all",
            Self::Open => "no credential needed",
        }
    }
}

/// Who may call one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The method: `/package.Service/Method`, or `VERB /pattern`.
    pub method: &'static str,
    /// The roles that may call it; one of them is enough.
    pub roles: Roles,
    /// What it has to do with tenants.
    pub tenants: TenantRule,
}

impl Rule {
    /// A rule for a method that needs a credential.
    #[must_use]
    pub const fn new(method: &'static str, roles: Roles, tenants: TenantRule) -> Self {
        Self { method, roles, tenants }
    }

    /// A rule for a method that needs none.
    #[must_use]
    pub const fn open(method: &'static str) -> Self {
        Self { method, roles: Roles::NONE, tenants: TenantRule::Open }
    }

    /// Tells whether the method needs no credential.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.tenants, TenantRule::Open)
    }

    /// Checks that a principal may call the method.
    ///
    /// # Errors
    /// PERMISSION_DENIED: `ROLE_MISSING`, or `TENANT_FORBIDDEN` when the method is about all tenants
    /// and the credential names some.
    pub fn authorise(&self, principal: &Principal) -> Result<(), Problem> {
        let denied =
            |reason, message| Err(Problem::new(tonic::Code::PermissionDenied, reason, message));
        if self.is_open() {
            return Ok(());
        }
        if !self.roles.intersects(principal.roles) {
            let message = format!(
                "{} needs one of the roles {}, and {} has {}; use another credential",
                self.method, self.roles, principal.name, principal.roles
            );
            return denied(reasons::ROLE_MISSING, message);
        }
        if self.tenants == TenantRule::AllTenants && !principal.tenants.is_all() {
            let message = format!(
                "{} is about all tenants, and {} is for {} only; use a credential for all",
                self.method, principal.name, principal.tenants
            );
            return denied(reasons::TENANT_FORBIDDEN, message);
        }
        Ok(())
    }
}

/// A table that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Two rules for one method.
    #[error("two access rules for {0}; keep one")]
    Repeated(&'static str),
    /// Neither a gRPC path nor a verb and a pattern, or a pattern that conflicts with another.
    #[error("{method:?} is no method: {message}; write /package.Service/Method or GET /v1/usage")]
    Malformed {
        /// As it was given.
        method: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A rule that lets nobody in.
    #[error("the access rule of {0} names no role; name one, or remove the method")]
    NoRole(&'static str),
    /// Rules and methods differ.
    #[error(
        "methods without an access rule: {without_rule:?}; rules without a method: {without_method:?}"
    )]
    Incomplete {
        /// Methods that nobody may call, sorted.
        without_rule: Vec<String>,
        /// Rules that protect nothing, sorted.
        without_method: Vec<String>,
    },
}

/// What the table says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The rule of its method.
    Rule(Rule),
    /// The path is known, and takes other verbs.
    OtherVerb,
    /// Nothing is known about the path: deny.
    Nothing,
}

/// The rules of all methods of a process. Clones share them.
#[derive(Clone, Debug)]
pub struct Rules(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    by_method: BTreeMap<&'static str, Rule>,
    /// gRPC methods by path.
    grpc: BTreeMap<&'static str, Rule>,
    /// HTTP patterns, each the place of its verbs in `verbs`.
    patterns: matchit::Router<usize>,
    verbs: Vec<Verbs>,
}

/// The rules of one pattern by verb.
type Verbs = Vec<(Method, Rule)>;

impl Rules {
    /// The table of these rules.
    ///
    /// # Errors
    /// `Repeated`, `Malformed` or `NoRole`, for the first rule that is wrong.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Result<Self, RulesError> {
        let mut table = Table::default();
        let mut places = BTreeMap::new();
        for rule in rules {
            if rule.roles.is_empty() != rule.is_open() {
                return Err(RulesError::NoRole(rule.method));
            }
            match table.by_method.entry(rule.method) {
                Entry::Occupied(_) => return Err(RulesError::Repeated(rule.method)),
                Entry::Vacant(vacant) => vacant.insert(rule),
            };
            table.add(rule, &mut places)?;
        }
        Ok(Self(Arc::new(table)))
    }

    /// Compares the table with the methods that are registered, in the same notation.
    ///
    /// # Errors
    /// `Incomplete`, with every method that has no rule and every rule that has no method.
    pub fn check<'m>(&self, known: impl IntoIterator<Item = &'m str>) -> Result<(), RulesError> {
        let known: BTreeSet<_> = known.into_iter().collect();
        let ruled: BTreeSet<_> = self.0.by_method.keys().copied().collect();
        let names = |names: Vec<&&str>| names.into_iter().map(|name| (*name).to_owned()).collect();
        let without_rule: Vec<String> = names(known.difference(&ruled).collect());
        let without_method: Vec<String> = names(ruled.difference(&known).collect());
        if without_rule.is_empty() && without_method.is_empty() {
            return Ok(());
        }
        Err(RulesError::Incomplete { without_rule, without_method })
    }

    /// The rule of a method, by its name in the table.
    #[must_use]
    pub fn of_method(&self, method: &str) -> Option<Rule> {
        self.0.by_method.get(method).copied()
    }

    /// The rule of a gRPC call, by its path.
    #[must_use]
    pub fn of_call(&self, path: &str) -> Found {
        self.0.grpc.get(path).map_or(Found::Nothing, |rule| Found::Rule(*rule))
    }

    /// The rule of an HTTP request. HEAD goes by the rule of GET.
    #[must_use]
    pub fn of_request(&self, verb: &Method, path: &str) -> Found {
        let Ok(found) = self.0.patterns.at(path) else { return Found::Nothing };
        let verb = if verb == Method::HEAD { &Method::GET } else { verb };
        let mut verbs = self.0.verbs[*found.value].iter();
        verbs
            .find(|(candidate, _)| candidate == verb)
            .map_or(Found::OtherVerb, |(_, rule)| Found::Rule(*rule))
    }

    /// The verbs that a path takes, with HEAD where it takes GET; none for one that is not known.
    #[must_use]
    pub fn verbs_of(&self, path: &str) -> Vec<Method> {
        let Ok(found) = self.0.patterns.at(path) else { return Vec::new() };
        let verbs = self.0.verbs[*found.value].iter().map(|(verb, _)| verb.clone());
        let mut verbs: Vec<_> = verbs.collect();
        if verbs.contains(&Method::GET) {
            verbs.push(Method::HEAD);
        }
        verbs
    }

    /// Every rule, by its method.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.by_method.values()
    }

    /// The table in Markdown, as docs/access.md holds it.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::from("| method | roles | tenants |\n| --- | --- | --- |\n");
        for Rule { method, roles, tenants } in self.iter() {
            let roles = if roles.is_empty() { String::new() } else { roles.to_string() };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| `{method}` | {roles} | {} |", tenants.words());
        }
        text
    }
}

impl Table {
    fn add(
        &mut self,
        rule: Rule,
        places: &mut BTreeMap<&'static str, usize>,
    ) -> Result<(), RulesError> {
        let malformed = |message: &str| RulesError::Malformed {
            method: rule.method,
            message: message.to_owned(),
        };
        let Some((verb, pattern)) = rule.method.split_once(' ') else {
            let mut parts = rule.method.split('/');
            let is_path = matches!(
                (parts.next(), parts.next(), parts.next(), parts.next()),
                (Some(""), Some(service), Some(name), None) if !service.is_empty() && !name.is_empty()
            );
            self.grpc.insert(rule.method, rule);
            return if is_path { Ok(()) } else { Err(malformed("it has no verb")) };
        };
        let verb = verb.parse().ok().filter(|verb| VERBS.contains(verb));
        let verb = verb.ok_or_else(|| malformed("the verb is not one that a route may have"))?;
        if !pattern.starts_with('/') {
            return Err(malformed("the pattern does not begin with /"));
        }
        let place = match places.get(pattern) {
            Some(place) => *place,
            None => {
                let place = self.verbs.len();
                let inserted = self.patterns.insert(pattern, place);
                inserted.map_err(|error| malformed(&error.to_string()))?;
                self.verbs.push(Vec::new());
                places.insert(pattern, place);
                place
            }
        };
        self.verbs[place].push((verb, rule));
        Ok(())
    }
}

/// The verbs of routes. HEAD is GET's, and OPTIONS is answered before any rule is looked up.
const VERBS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

#[cfg(test)]
mod tests;
