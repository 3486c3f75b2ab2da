//! What the end-to-end tests share: the built program as a server of its own, bounded waits, and
//! calls to it.
//!
//! Every server listens on free ports of loopback, keeps its data in a directory that the test owns,
//! and is killed when its handle goes. Its log is printed when the test fails.

pub(crate) mod access;
pub(crate) mod billing;
pub(crate) mod cluster;
pub(crate) mod deaths;
pub(crate) mod load;
pub(crate) mod tls;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use proto::v1::{
    GetStatusRequest, GetStatusResponse, QueryUsageRequest, UsageRow,
    operations_service_client::OperationsServiceClient, query_service_client::QueryServiceClient,
};
use pulso::client::{Channel, Target};
use serde_json::Value;

/// Longest wait for anything that should be a matter of milliseconds. Only failures take so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often something that cannot be waited for is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The program with the suite's token in an otherwise clean environment: no setting of the developer's
/// shell gets in.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PULSO_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.env("PULSO_KEY", access::token());
    command
}

/// A data directory, and beside it what a server prints.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command that works on this directory, in it, without the project's own `pulso.toml`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.current_dir(self.0.path()).args(arguments).arg("--data-dir").arg(self.data());
        command
    }
}

/// How a server is started: `dev` unless told otherwise, ticking every 20 ms, and asking for
/// credentials, which every client of this suite has.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    open_files_max: Option<u64>,
    memory_mib_max: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        let arguments = vec!["dev".to_owned()];
        let variables = access::required().to_vec();
        Self { arguments, variables, open_files_max: None, memory_mib_max: None }
            .with("PULSO_CONSUMER__FOLLOW_INTERVAL", "20ms")
    }
}

impl Settings {
    /// Another command than `dev`.
    pub(crate) fn command(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    /// With the settings of access that the program has by default: it asks nobody for a credential.
    pub(crate) fn without_access(mut self) -> Self {
        self.variables.retain(|(name, _)| !name.starts_with(access::PREFIX));
        self
    }

    /// The environment variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// With at most so many open files, which it cannot raise.
    pub(crate) fn open_files_max(mut self, files: u64) -> Self {
        self.open_files_max = Some(files);
        self
    }

    /// With at most so much private memory: whoever asks for more gets none, and ends.
    pub(crate) fn memory_mib_max(mut self, mib: Option<u64>) -> Self {
        self.memory_mib_max = mib;
        self
    }

    /// One more environment variable.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }
}

/// A running server.
pub(crate) struct Server {
    /// Its gRPC address, as `http://...`.
    pub(crate) grpc: String,
    /// Its HTTP address, as `127.0.0.1:...`.
    pub(crate) http: String,
    /// The authority of its certificate, where it speaks TLS.
    pub(crate) ca: Option<PathBuf>,
    process: Process,
}

/// A started program, killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with its stderr in `log`, which is appended to.
    pub(crate) fn spawn(mut command: Command, log: PathBuf) -> Self {
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Self { child, log }
    }

    /// Starts it with its stderr in a pipe, which the caller may close.
    pub(crate) fn spawn_piped(mut command: Command) -> (Self, ChildStderr) {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        (Self { child, log: PathBuf::new() }, stderr)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: plain integers; the child is not waited for yet, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; nothing else can go wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the server's last words:\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        } else {
            access::holds_no_secret(&log);
        }
    }
}

impl Server {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(home: &Home, settings: &Settings) -> Self {
        match Self::try_start(home, settings).await {
            Ok(server) => server,
            Err(mut process) => {
                let status = process.end().await;
                panic!("the server ended with {status} before it was ready: {}", process.log())
            }
        }
    }

    /// Starts one and waits until it is ready, or gives back the process that ended before.
    pub(crate) async fn try_start(home: &Home, settings: &Settings) -> Result<Self, Process> {
        let addresses = home.path("addresses.json");
        let mut process = Self::spawn(home, settings);
        let mut written = None;
        let mut ended = false;
        until("the server is ready", || {
            ended = process.has_ended();
            written = fs::read(&addresses).ok();
            written.is_some() || ended
        })
        .await;
        let Some(written) = written.filter(|_| !ended) else { return Err(process) };
        let addresses: Value = serde_json::from_slice(&written).unwrap();
        let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
        let (grpc, http) = (format!("http://{}", address("grpc")), address("http"));
        Ok(Self { grpc, http, ca: None, process })
    }

    /// The same for clients that come by TLS and trust this authority.
    pub(crate) fn trusting(mut self, ca: PathBuf) -> Self {
        self.grpc = self.grpc.replacen("http://", "https://", 1);
        self.ca = Some(ca);
        self
    }

    /// Starts one without waiting for anything.
    pub(crate) fn spawn(home: &Home, settings: &Settings) -> Process {
        let addresses = home.path("addresses.json");
        // Those of an earlier server.
        let _ = fs::remove_file(&addresses);
        let arguments: Vec<&str> = settings.arguments.iter().map(String::as_str).collect();
        let mut command = home.command(&arguments);
        command.args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.arg("--print-addresses").arg(addresses);
        command.envs(settings.variables.iter().map(|(name, value)| (name, value)));
        if let Some(files) = settings.open_files_max {
            limit(&mut command, libc::RLIMIT_NOFILE, files);
        }
        if let Some(mib) = settings.memory_mib_max {
            // Not the address space: an allocator reserves far more of that than it uses.
            limit(&mut command, libc::RLIMIT_DATA, mib << 20);
        }
        Process::spawn(command, home.path("server.log"))
    }

    pub(crate) fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub(crate) async fn end_status(&mut self) -> ExitStatus {
        self.process.end().await
    }

    /// SIGTERM, and its graceful end with exit code 0.
    pub(crate) async fn terminate(mut self) {
        self.signal(libc::SIGTERM);
        let status = self.end_status().await;
        assert_eq!(status.code(), Some(0), "{}", self.process.log());
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// What it has printed so far on stderr.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Calls with the suite's token.
    pub(crate) async fn channel(&self) -> Channel {
        let target = Target { ca: self.ca.clone(), ..access::target(&self.grpc) };
        pulso::client::connect(target).await.unwrap()
    }

    /// Calls without a credential.
    pub(crate) async fn channel_of_nobody(&self) -> Channel {
        let target = Target { ca: self.ca.clone(), ..Target::from(&self.grpc) };
        pulso::client::connect(target).await.unwrap()
    }

    /// A client command against this server.
    pub(crate) async fn pulso(&self, arguments: &[&str]) -> Output {
        let mut command = program();
        command.args(arguments).args(["--server", &self.grpc]);
        if let Some(ca) = &self.ca {
            command.arg("--ca").arg(ca);
        }
        output(command).await
    }

    /// The same with an API key, or with no credential.
    pub(crate) async fn pulso_with(&self, arguments: &[&str], key: Option<&str>) -> Output {
        let mut command = program();
        command.args(arguments).args(["--server", &self.grpc]).env_remove("PULSO_KEY");
        command.envs(key.map(|key| ("PULSO_KEY", key)));
        output(command).await
    }

    /// The JSON document that a client command prints; it must exit with 0.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.pulso(&[arguments, &["-o", "json"]].concat()).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) async fn status(&self) -> GetStatusResponse {
        let mut client = OperationsServiceClient::new(self.channel().await);
        client.get_status(GetStatusRequest {}).await.unwrap().into_inner()
    }

    /// Waits until everything that is in the log now is in the store, and the server is healthy: after a
    /// start, and after an outage, readiness says for a moment longer what was.
    pub(crate) async fn drained(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.pulso(&["status", "--wait-drained", "60s"]).await;
            match output.status.code() {
                Some(0) => return,
                Some(10) if Instant::now() < deadline => {}
                code => panic!(
                    "{code:?}: {} {}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                ),
            }
        }
    }

    /// All pages of a query.
    pub(crate) async fn usage(&self, request: QueryUsageRequest) -> Vec<UsageRow> {
        let mut client = QueryServiceClient::new(self.channel().await);
        let mut request = QueryUsageRequest { page_size: 1_000, ..request };
        let mut rows = Vec::new();
        loop {
            let page = client.query_usage(request.clone()).await.unwrap().into_inner();
            rows.extend(page.rows);
            if page.next_page_token.is_empty() {
                return rows;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Waits until a GET is answered with 200, and gives the body.
    pub(crate) async fn get(&self, path: &str) -> String {
        let (status, body) = http_get(&self.http, path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The audit finds nothing, and says so by its exit code too.
    pub(crate) async fn audit_is_clean(&self) {
        let audit = self.json(&["audit"]).await;
        assert_eq!(audit["mismatches"], Value::Array(Vec::new()), "{audit}");
    }
}

/// What a command prints until it ends: none of the suite's secrets.
pub(crate) async fn output(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    for printed in [&output.stdout, &output.stderr] {
        access::holds_no_secret(&String::from_utf8_lossy(printed));
    }
    output
}

/// Limits a resource of a program that is to be started, for good.
fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, most: u64) {
    use std::os::unix::process::CommandExt;
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: between fork and exec it makes one system call, with a pointer to a value of its own.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// One HTTP/1.1 request with the suite's token, on a connection of its own.
pub(crate) async fn http_get(address: &str, path: &str) -> (u16, String) {
    http(address, &format!("GET {path}"), "").await
}

/// Status and body of what an HTTP route answers to a method and path, with a JSON or YAML body.
pub(crate) async fn http(address: &str, what: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let kind = if body.starts_with('{') { "application/json" } else { "application/yaml" };
    let (length, token) = (body.len(), access::token());
    let request = format!(
        "{what} HTTP/1.0\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = connection.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Waits until `holds`, for at most [`PATIENCE`].
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Whole seconds since 1970.
pub(crate) fn now() -> i64 {
    proto::convert::wire_time(domain::Clock::now(&runtime::clock::system())).seconds
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// splitmix64 (Steele, Lea and Flood, 2014): the same choices for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
