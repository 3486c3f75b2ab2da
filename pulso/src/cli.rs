//! Flags: those of every command, and the arguments of the commands that serve ([`serving`]).
//!
//! The arguments of a client command are beside the command; [`crate::commands`] lists them all.

pub mod serving;

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    client,
    config::{self, Loaded, Sources},
    exit::{Exit, Failure},
    output::Format,
};

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// How answers are printed on stdout.
    #[arg(long, short, global = true, env = "PULSO_OUTPUT", value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// The server's gRPC address.
    #[arg(
        long,
        global = true,
        env = "PULSO_SERVER",
        default_value = "http://127.0.0.1:7070",
        value_name = "URL",
        help_heading = "Client options"
    )]
    pub server: String,
    /// The server's HTTP address, for what is only there.
    #[arg(
        long,
        global = true,
        env = "PULSO_HTTP",
        default_value = "http://127.0.0.1:7080",
        value_name = "URL",
        help_heading = "Client options"
    )]
    pub http: String,
    /// Trust and credentials.
    #[command(flatten)]
    pub access: AccessFlags,
    /// Settings that flags override.
    #[command(flatten)]
    pub serving: ServingFlags,
}

/// Whom client commands trust, and as whom they come.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Client options")]
pub struct AccessFlags {
    /// File with the authorities to trust at https:// addresses, PEM. Without it, the system's.
    #[arg(long, global = true, env = "PULSO_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate to show to a server that asks for one, PEM.
    #[arg(long, global = true, env = "PULSO_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM, not encrypted.
    #[arg(long, global = true, env = "PULSO_CERT_KEY", value_name = "FILE")]
    pub cert_key: Option<PathBuf>,
    /// API key or token. Other users of this machine can read it here; PULSO_KEY_FILE names a file
    /// with it.
    #[arg(long, global = true, env = "PULSO_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: Option<client::Key>,
}

impl Globals {
    /// Connects to the server, as the flags say.
    ///
    /// # Errors
    /// As [`client::connect`]; `Usage` for a certificate without its key, and for a key that is given
    /// twice.
    pub async fn connect(&self) -> Result<client::Channel, Failure> {
        let AccessFlags { ca, cert, cert_key, key } = self.access.clone();
        let usage = |what: &str| Failure::new(Exit::Usage, what);
        let identity = match (cert, cert_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(usage("--cert and --cert-key belong together: give both or none")),
        };
        let key = match (key, env::var_os("PULSO_KEY_FILE")) {
            (Some(_), Some(_)) => {
                return Err(usage(
                    "the key is given twice: by --key or PULSO_KEY, and by PULSO_KEY_FILE",
                ));
            }
            (None, Some(path)) => Some(client::Key::read(Path::new(&path))?),
            (key, None) => key,
        };
        client::connect(client::Target { server: self.server.clone(), ca, identity, key }).await
    }
}

/// Flags that override settings, for commands that serve.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server options")]
pub struct ServingFlags {
    /// Configuration file. Without it, ./pulso.toml is read if there is one.
    #[arg(long, global = true, env = "PULSO_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the embedded log and store keep their files (`data_dir`).
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
    /// Where to listen for gRPC (`listen.grpc`). Port 0 takes a free port.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub grpc_listen: Option<String>,
    /// Where to listen for HTTP (`listen.http`). Port 0 takes a free port.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub http_listen: Option<String>,
    /// The pulse log: file:DIRECTORY, kafka://HOST:PORT or memory: (`log.url`).
    #[arg(long, global = true, value_name = "URL")]
    pub log: Option<String>,
    /// The store: file:DIRECTORY, scylla://HOST:PORT or memory: (`store.url`).
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// Write the bound addresses to this file, as JSON, once ready.
    #[arg(long, global = true, env = "PULSO_PRINT_ADDRESSES", value_name = "FILE")]
    pub print_addresses: Option<PathBuf>,
}

impl ServingFlags {
    /// The sources of configuration: these flags, this process's environment, and the file.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let flags = [
            ("--data-dir", "data_dir", &self.data_dir),
            ("--grpc-listen", "listen.grpc", &self.grpc_listen),
            ("--http-listen", "listen.http", &self.http_listen),
            ("--log", "log.url", &self.log),
            ("--store", "store.url", &self.store),
        ];
        // A variable that is not UTF-8 cannot be one of ours; `vars` would panic on it.
        let environment = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources {
            file: self.config.clone(),
            file_if_present: Some(config::load::DEFAULT_FILE.into()),
            environment,
            flags: flags
                .into_iter()
                .filter_map(|(flag, key, value)| Some((flag, key, value.clone()?)))
                .collect(),
        }
    }

    /// The configuration in effect.
    ///
    /// # Errors
    /// With the configuration code and every mistake of every source.
    pub fn load(&self) -> Result<Loaded, Failure> {
        config::load::load(&self.sources()).map_err(|errors| Failure::new(Exit::Config, errors))
    }
}
