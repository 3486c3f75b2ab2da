//! The settings of access: who may call what, and how the process knows them.

use super::{
    GIB, HOUR, SECOND,
    table::{Key, default_of},
};
use crate::config::{
    access_mode::AccessMode,
    list::List,
    value::{ByteSize, Count, Secret, Setting, Span, Text},
};

sections! {
    /// Who may call what (docs/access.md).
    access: Access {
        /// `off` (no credentials, on loopback only), `open` (no credentials, anywhere; only behind
        /// a gateway that checks them) or `required`.
        mode: AccessMode = "off";
        /// Secret under which the store keeps hashes of API keys, at least 32 bytes. Better by a
        /// file: PULSO_ACCESS__KEY_SECRET_FILE names one. Empty: the first process makes one and
        /// keeps it in the store.
        key_secret: Secret = "";
        /// Issuer of tokens (JWT), compared exactly. Empty: no token is valid.
        token_issuer: Text = "";
        /// Audiences of tokens, between commas. A token has to name one of them.
        token_audiences: List = "";
        /// The issuer's public keys, a JWKS document: a file, or an address (`https://`; `http://`
        /// on loopback by its number). Empty: the address in the issuer's OpenID configuration. It
        /// is read again every five minutes.
        token_keys: Text = "";
        /// File with the authorities to trust in connections to the issuer, PEM. Empty: the
        /// system's.
        issuer_ca_file: Text = "";
        /// How long a start waits for an issuer that does not answer before it ends with exit code
        /// 69. If it is short, a process that starts at the same time as its issuer may end.
        issuer_wait: Span<0, { 600 * SECOND }> = "30s";
        /// JSON file that lists clients by the names in their certificates (docs/access.md). Empty:
        /// a certificate grants nothing.
        certificates: Text = "";
        /// OAuth client id for logins by a browser. Empty: no login.
        login_client_id: Text = "";
        /// OAuth client secret for logins. Better by a file: PULSO_ACCESS__LOGIN_CLIENT_SECRET_FILE
        /// names one. Empty: a public client.
        login_client_secret: Secret = "";
        /// Scopes of a login, between blanks: `openid`, and those that put roles and tenants into
        /// the ID token.
        login_scopes: Text = "openid";
        /// Address of the deployment for browsers: `https://` and a host, or `http://` and one of
        /// loopback. The issuer redirects them to `/login/callback` there.
        public_url: Text = "";
        /// How long a session is valid at most; it ends earlier with the ID token. It cannot be
        /// revoked: if it is long, a person who has lost access at the issuer keeps it here until
        /// the session ends.
        session_max: Span<{ 60 * SECOND }, { 24 * HOUR }> = "8h";
        /// Requests per second of one client, over all its credentials. A stream counts once.
        requests_per_client: Count<1, 1_000_000_000> = "10000";
        /// Requests per second of one address, including those with wrong credentials.
        requests_per_address: Count<1, 1_000_000_000> = "100000";
        /// Most open streams of one client, over all its credentials and addresses.
        streams_per_client: Count<1, 1_000_000> = "512";
        /// Bytes of request bodies per second of one client. Its streams are read at that rate; its
        /// other requests are refused beyond it. 0 B: no bound.
        bytes_per_client: ByteSize<0, { 1024 * GIB }> = "0 B";
        /// Origins whose pages may read answers over HTTP, such as `https://app.example`, between
        /// commas.
        origins: List = "";
    }
}
