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
        /// `off` (no credentials, on loopback only), `open` (no credentials, anywhere: only behind a
        /// gateway that asks for some) or `required`.
        mode: AccessMode = "off";
        /// Secret under which the store keeps hashes of API keys, at least 32 bytes. Better by a file:
        /// PULSO_ACCESS__KEY_SECRET_FILE names one. Nothing: the first process makes one and keeps it
        /// in the store.
        key_secret: Secret = "";
        /// Issuer of tokens (JWT), exactly. Nothing: tokens do not count.
        token_issuer: Text = "";
        /// Whom tokens are for: one of these names, between commas.
        token_audiences: List = "";
        /// The issuer's public keys, a JWKS document: a file, or an address (`https://`; `http://` on
        /// loopback by its number). Nothing: the address that the issuer itself names, below
        /// token_issuer. It is read again every five minutes.
        token_keys: Text = "";
        /// File with the certificates of authorities to trust when the issuer is asked, PEM. Nothing:
        /// the system's.
        issuer_ca_file: Text = "";
        /// How long a start waits for an issuer that does not answer; then it ends with exit code 69.
        /// Short ones end a process when both start together.
        issuer_wait: Span<0, { 600 * SECOND }> = "30s";
        /// File with the clients that are known by names in their certificates (docs/access.md), JSON.
        certificates: Text = "";
        /// As which client of the issuer people log in by a browser. Nothing: nobody does.
        login_client_id: Text = "";
        /// Its secret. Better by a file: PULSO_ACCESS__LOGIN_CLIENT_SECRET_FILE names one. Nothing: the
        /// issuer knows the client as a public one.
        login_client_secret: Secret = "";
        /// What a login asks the issuer for, between blanks. `openid` is among them, and whatever puts
        /// roles and tenants into the ID token.
        login_scopes: Text = "openid";
        /// Where browsers reach the deployment: `https://` and a host, or `http://` and one of loopback.
        /// The issuer sends them back to `/login/callback` there.
        public_url: Text = "";
        /// How long a login counts at most; it ends earlier with the ID token. It cannot be taken back,
        /// so with a long one a person who may not come in any more still does.
        session_max: Span<{ 60 * SECOND }, { 24 * HOUR }> = "8h";
        /// Requests a second of one client, over all its credentials. A stream counts once.
        requests_per_client: Count<1, 1_000_000_000> = "10000";
        /// Requests a second of one address, those with wrong credentials included.
        requests_per_address: Count<1, 1_000_000_000> = "100000";
        /// Most open streams of one client, over all its credentials and addresses.
        streams_per_client: Count<1, 1_000_000> = "512";
        /// Bytes of requests a second of one client; its streams are read at that rate, its other requests
        /// refused beyond it. 0 B: no bound.
        bytes_per_client: ByteSize<0, { 1024 * GIB }> = "0 B";
        /// Pages of which origins may read answers over HTTP, such as `https://app.example`, between
        /// commas.
        origins: List = "";
    }
}
