//! Keys: every setting with its type, its default and its words, in one table.
//!
//! The table makes the [`Config`] types, the defaults, what `config init` writes, what
//! `config show` lists, and what an error says, so that none of them can drift from another.

#[macro_use]
mod table;
mod access;

use std::net::SocketAddr;

use super::{
    assignment::Assignment,
    client_auth::ClientAuth,
    deltas::{DeltasThreshold, ScheduledDeltas},
    log_window::LogWindow,
    urls::{LogUrl, StoreUrl},
    value::{
        BillingSchedule, ByteSize, Compression, Count, Directory, Lanes, LogFilter, LogFormat,
        SaslMechanism, Schedule, Secret, SecurityProtocol, Setting, Span, Text, Tls,
    },
};
use table::{count, default_of, joined};

pub use access::Access;
pub use table::Key;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

/// The key of this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

configuration! {
    {
        /// Where the embedded log and store keep their files. One process at a time.
        data_dir: Directory = "./data";
    }
    listen: Listen,
    access: Access,
    edge: Edge,
    log: Log,
    kafka: Kafka,
    store: Store,
    scylla: Scylla,
    ingest: Ingest,
    consumer: Consumer,
    limits: Limits,
    blocks: Blocks,
    billing: Billing,
    compute: Compute,
    query: Query,
    telemetry: Telemetry,
    shutdown: Shutdown,
}

sections! {
    /// Addresses to listen on. Beyond loopback `access.mode` has to say who may come.
    listen: Listen {
        /// gRPC. Port 0 takes a free port.
        grpc: SocketAddr = "127.0.0.1:7070";
        /// HTTP. Port 0 takes a free port.
        http: SocketAddr = "127.0.0.1:7080";
        /// Certificate of both, PEM, followed by those between it and its authority. Empty: both speak
        /// plain text.
        tls_cert: Text = "";
        /// Its private key, PEM, not encrypted.
        tls_key: Text = "";
        /// Authorities whose certificates clients may show, PEM. Empty: clients are asked for none.
        tls_client_ca: Text = "";
        /// `required` or `optional`: whether a client may come without a certificate of tls_client_ca.
        tls_client_auth: ClientAuth = "required";
        /// How often these files are read again; SIGHUP reads them at once. Connections that are open
        /// keep what they began with.
        tls_reload_interval: Span<100, { 24 * HOUR }> = "30s";
    }

    /// What clients may take of the process, whatever they call.
    edge: Edge {
        /// Most open connections, of gRPC and HTTP together. One more is closed at once. Lowered
        /// where the limit on open files leaves no room for as many. Each may hold
        /// connection_window_bytes.
        connections_max: Count<1, 1_000_000> = "512";
        /// The same from one address (of IPv6, from one /64). Behind a proxy all clients have one
        /// address: raise it to connections_max there.
        connections_per_peer_max: Count<1, 1_000_000> = "128";
        /// Open files that are kept from connections, for log, store and brokers. Too few, and a
        /// flood of connections stops the counting; an embedded log needs about 3 a partition and
        /// 60.
        descriptors_reserved: Count<16, 65_536> = "128";
        /// How long a new connection may stay silent, or take for its TLS handshake, before it is
        /// closed.
        first_byte_timeout: Span<1, HOUR> = "10s";
        /// How long the head of an HTTP request may take, counted from the end of the request
        /// before; so also how long an idle HTTP connection is kept.
        header_timeout: Span<1, HOUR> = "30s";
        /// How long the bytes of one message or body may keep the server waiting, in all. The quiet
        /// between the messages of a stream does not count. Too short cuts off slow networks.
        message_timeout: Span<1, HOUR> = "30s";
        /// How long a connection may take nothing of what is written to it before it is closed.
        write_timeout: Span<1, HOUR> = "30s";
        /// How often a silent gRPC peer is pinged, and how long it may take to answer. A stream may
        /// be quiet for as long as its pings are answered.
        keep_alive: Span<100, HOUR> = "30s";
        /// Bytes that a gRPC connection may have sent and nobody has read. In all that is
        /// connections_max times as much: 1 GiB.
        connection_window_bytes: ByteSize<{ 64 * KIB }, GIB> = "2 MiB";
        /// The same of one stream, which gets at most this much through in a round trip. Above a
        /// sixteenth of connection_window_bytes, a client that sends many small messages while its
        /// stream is not read may have its connection ended by the HTTP/2 library.
        stream_window_bytes: ByteSize<{ 16 * KIB }, GIB> = "128 KiB";
        /// Most calls of one gRPC connection at a time; clients let further ones wait.
        streams_per_connection_max: Count<1, 65_536> = "128";
        /// Most calls and requests under way. One more is refused with SERVER_BUSY. A client that
        /// takes no answers holds its calls.
        calls_max: Count<1, 1_000_000> = "4096";
        /// The same from one address.
        calls_per_peer_max: Count<1, 1_000_000> = "2048";
        /// Most bytes of a request's headers.
        header_bytes_max: ByteSize<{ 8 * KIB }, MIB> = "16 KiB";
        /// Calls that a client may cancel before the server has taken them up; one more ends its
        /// connection. Higher lets a client make the server work for nothing.
        resets_pending_max: Count<1, 65_536> = "20";
        /// Most bytes of requests other than batches that are held at once, half of them from one
        /// address. At the bound requests are refused with SERVER_BUSY.
        request_bytes_in_flight_max: ByteSize<{ 16 * MIB }, { 2 * GIB }> = "64 MiB";
    }

    /// The pulse log. What is marked "fixed" is taken when the log is made and kept with it.
    log: Log {
        /// `file:` (in data_dir), `file:DIRECTORY`, `kafka://HOST:PORT[,...]`, or `memory:` (gone
        /// when the process ends).
        url: LogUrl = "file:";
        /// Partitions, fixed; on Kafka `pulso log grow` adds more later. More let more lanes work at
        /// once; each costs memory in the consumer.
        partitions: Count<1, 1_024> = "4";
        /// Appends that may wait for the disk. One more is answered RESOURCE_EXHAUSTED. Too few
        /// refuse a burst, too many only add waiting.
        queue_requests_max: Count<1, 1_000_000> = "4096";
        /// The same in bytes; also the memory that the log takes at most.
        queue_bytes_max: ByteSize<MIB, { 64 * GIB }> = "64 MiB";
        /// A commit takes no further append after this. More means fewer syncs and longer waits.
        commit_bytes_max: ByteSize<KIB, { 2 * GIB }> = "8 MiB";
        /// Bytes of pages written between checkpoints; the write-ahead log takes about four times as
        /// much.
        wal_bytes_target: ByteSize<MIB, { 64 * GIB }> = "16 MiB";
        /// How far the clock may jump forward while a server with an embedded log runs, before
        /// appends are refused. Small ones refuse what a correction of the clock makes right; large
        /// ones let wrong times into the log.
        clock_jump_max: Span<SECOND, { 24 * HOUR }> = "10m";
        /// Records in a segment, fixed. Smaller closes totals sooner and stores more manifests.
        segment_records_max: Count<1, 4_294_967_296> = "1048576";
        /// Log time after which a segment closes, fixed; a divisor of horizon.
        segment_span: Span<SECOND, { 24 * HOUR }> = "10m";
        /// How long ids are remembered, fixed. Longer costs memory by the id.
        horizon: Span<SECOND, { 8_784 * HOUR }> = "26h";
        /// How long an embedded log keeps records, by weeks of log time; `0s` keeps them for ever. What is
        /// not in a block and below the cut of a bill stays in any case. What is gone cannot be folded
        /// again: explanations end at segments, and verifying reads the stored totals of it.
        keep: Span<0, { 100_000 * HOUR }> = "1080h";
        /// How old a pulse may be, fixed. lateness + future_tolerance + segment_span must not pass
        /// horizon, or a late retry could count twice.
        lateness: Span<0, { 8_784 * HOUR }> = "24h";
        /// How far ahead of log time a pulse may be, fixed.
        future_tolerance: Span<0, { 24 * HOUR }> = "5m";
        /// Length of the windows that totals are kept by, fixed: `15m`, `30m` or `1h`; on Kafka `pulso
        /// log grow` makes it shorter later. Billing periods begin and end on their edges, so zones off
        /// by 30 or 45 minutes need shorter ones. Each halving up to doubles the stored rows.
        window: LogWindow = "1h";
        /// How often a process on Kafka looks whether the log has grown, and how long `pulso log
        /// grow` waits for all of them. The same in every process, or one is left behind.
        watch_interval: Span<100, HOUR> = "5s";
    }

    /// Kafka, where log.url names it.
    kafka: Kafka {
        /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
        security_protocol: SecurityProtocol = "plaintext";
        /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`, for the sasl protocols.
        sasl_mechanism: SaslMechanism = "SCRAM-SHA-512";
        /// User, for the sasl protocols.
        username: Text = "";
        /// Password. Better by a file: PULSO_KAFKA__PASSWORD_FILE names one.
        password: Secret = "";
        /// File with the certificates of authorities to trust, PEM. Empty: the system's.
        ca_file: Text = "";
        /// Put before the name of every topic, to keep several Pulsos on one broker apart.
        topic_prefix: Text = "";
        /// Consumer group that shares the partitions, and under which the broker shows the lag.
        group: Text = "pulso";
        /// How long the group waits for a silent member before its partitions go to others. After a
        /// kill, a new process waits so long for them.
        session_timeout: Span<{ 6 * SECOND }, { 1_800 * SECOND }> = "10s";
        /// Bytes that the readers of all partitions read ahead, shared evenly among `consumer.readers`
        /// or the partitions, if those are fewer; 16 MiB each at the most. Fetches under way, of 4 MiB
        /// or a share, come on top. Little makes a drain wait for the brokers.
        read_ahead_bytes_max: ByteSize<MIB, { 64 * GIB }> = "256 MiB";
        /// Copies of each record. Below 3, a broken disk can lose acknowledged pulses.
        replication: Count<1, 16> = "3";
        /// Copies that must have a record before it is acknowledged; less than `replication`, or
        /// one broker down stops everything.
        min_insync_replicas: Count<1, 16> = "2";
        /// How long the log keeps records: as far back as a rebuild can reach. Below the horizon, a
        /// restart after a long outage finds records gone.
        retention: Span<HOUR, { 87_840 * HOUR }> = "720h";
        /// How records travel and are kept: `none` or `lz4`.
        compression: Compression = "none";
        /// How long an append is tried before its outcome is called unknown.
        delivery_timeout: Span<SECOND, { 600 * SECOND }> = "30s";
        /// How long any other request may take.
        request_timeout: Span<SECOND, { 600 * SECOND }> = "10s";
    }

    /// The usage store and the billing store.
    store: Store {
        /// `file:` (in data_dir), `file:DIRECTORY`,
        /// `scylla://HOST:PORT[,...]?keyspace=pulso&replication=3`, or `memory:` (gone when the
        /// process ends).
        url: StoreUrl = "file:";
        /// Threads that read, each with a connection and about 4 MiB of cache.
        readers: Count<1, 256> = "4";
        /// Reads that may wait. One more is answered UNAVAILABLE.
        reads_queued_max: Count<1, 1_000_000> = "1024";
        /// Writes that may wait. A flush in the queue keeps its rows in memory.
        writes_queued_max: Count<1, 1_000_000> = "256";
        /// Bytes of pages written between checkpoints; the write-ahead log takes about four times as
        /// much, and twice that while a read goes on.
        wal_bytes_target: ByteSize<MIB, { 64 * GIB }> = "64 MiB";
        /// How long a read of the embedded store may take. Short ones refuse scans that find little
        /// in much; long ones let the write-ahead log grow, until it is twice as long as it should
        /// be, and they are ended all the same.
        read_timeout: Span<SECOND, HOUR> = "30s";
    }

    /// ScyllaDB or another server that speaks CQL, where store.url names it.
    scylla: Scylla {
        /// User, where the servers ask for one.
        username: Text = "";
        /// Password. Better by a file: PULSO_SCYLLA__PASSWORD_FILE names one.
        password: Secret = "";
        /// `on` or `off`.
        tls: Tls = "off";
        /// File with the certificates of authorities to trust, PEM. Empty: the system's.
        ca_file: Text = "";
        /// Data centre whose replicas answer. Empty: any.
        datacenter: Text = "";
        /// How long a start waits for the servers.
        connect_timeout: Span<SECOND, { 600 * SECOND }> = "20s";
        /// How long a request may take.
        request_timeout: Span<SECOND, { 600 * SECOND }> = "10s";
        /// Rows on their way at once. Too few wait for the network, too many overload the servers.
        writes_in_flight: Count<1, 65_536> = "256";
    }

    /// Limits on clients. Beyond them they are refused with a reason or made to wait.
    ingest: Ingest {
        /// Most bytes of one message. Greater ones let one client hold more memory.
        message_bytes_max: ByteSize<KIB, { 2 * GIB }> = "4 MiB";
        /// Most pulses of one batch.
        pulses_per_batch_max: Count<1, 1_000_000> = "10000";
        /// Most bytes of one pulse, unknown fields included.
        pulse_bytes_max: ByteSize<KIB, { 2 * GIB }> = "32 KiB";
        /// Most bytes of one record of the log. A numbered batch must fit into one.
        record_bytes_max: ByteSize<KIB, { 2 * GIB }> = "1 MB";
        /// A record is filled up to here while more is queued. Smaller records cost more commits.
        record_bytes_target: ByteSize<1, { 2 * GIB }> = "256 KiB";
        /// Most bytes that wait for, or are in, the appends of one partition. At the bound clients
        /// are answered RESOURCE_EXHAUSTED.
        partition_queue_bytes_max: ByteSize<KIB, { 2 * GIB }> = "64 MiB";
        /// Appends of one partition that may be under way together. With 1 the log idles between.
        appends_in_flight_max: Count<1, 1_024> = "4";
        /// Most open streams. Further ones are refused with STREAMS_EXHAUSTED.
        streams_max: Count<1, 1_000_000> = "1024";
        /// The same from one address, so that one client leaves some to the others.
        streams_per_peer_max: Count<1, 1_000_000> = "512";
        /// Batches of one stream that may wait for their ack; then its reading pauses.
        stream_batches_in_flight_max: Count<1, 1_000_000> = "256";
        /// The same in bytes.
        stream_bytes_in_flight_max: ByteSize<1, { 2 * GIB }> = "16 MiB";
        /// The same over all streams and calls, and counted from the first bytes of a message on.
        bytes_in_flight_max: ByteSize<KIB, { 2 * GIB }> = "256 MiB";
        /// The same from one address, so that one client leaves some to the others.
        bytes_in_flight_per_peer_max: ByteSize<KIB, { 2 * GIB }> = "128 MiB";
        /// How long an overloaded answer asks a client to wait.
        retry_after: Span<1, { 60 * SECOND }> = "250ms";
    }

    /// The consumer, which drains the log into totals.
    consumer: Consumer {
        /// `follow`, or a cron expression of six fields in UTC (seconds first).
        schedule: Schedule = "follow";
        /// How long `follow` waits between ticks. Totals are about this old.
        follow_interval: Span<10, HOUR> = "1s";
        /// Partitions that this process drains: `auto` (a share of the group on Kafka, else all),
        /// `all`, `group`, or partitions such as `0-3,7`.
        partitions: Assignment = "auto";
        /// Threads that aggregate: `auto` (one a core, at most one a partition) or a number.
        lanes: Lanes = "auto";
        /// Bytes of records that a drain hands over at once. Small ones cost channel hops, large
        /// ones memory.
        chunk_bytes: ByteSize<KIB, { 256 * MIB }> = "1 MiB";
        /// Chunks between a drain and its lane. Memory is bounded by lanes x chunks x bytes.
        chunks_in_flight: Count<1, 65_536> = "8";
        /// Flushes between a lane and the store.
        flushes_in_flight: Count<1, 1_024> = "4";
        /// Rows of open segments that are stored in a second, about. What changed beyond that is stored by
        /// a later tick, and in any case when nothing more comes and when its segment closes. Fewer leave
        /// more of the machine to folding where many resources are in use at once; totals are that much
        /// older (`as_of`): a million resources in constant use, over all partitions, ten seconds. Only
        /// where the consumer follows the log; a schedule stores all at each of its ticks.
        rows_per_second: Count<1_000, 1_000_000_000> = "100000";
        /// Bytes that open segments may hold between drains; each lane that drains holds one segment of
        /// at most `limits.segment_bytes` more. Beyond it the largest segment is closed before its
        /// time.
        memory: ByteSize<MIB, { 1_024 * GIB }> = "1 GiB";
        /// Partitions whose reader stays open between ticks; the one not used for longest is closed
        /// for another. A reader is two files of an embedded log, or a client of Kafka.
        readers: Count<1, 1_024> = "64";
        /// How often the store is told that a partition to which nothing comes is still caught up.
        /// Short writes for nothing; with long, `as_of` falls further back while a record that came
        /// after a silence waits to be counted.
        idle_flush_interval: Span<SECOND, { 24 * HOUR }> = "10m";
        /// Bytes of memory for the ids of the horizon, shared evenly by the partitions of the log. An id
        /// takes 20 to 25 bytes. What does not fit goes to scratch files, where an id takes one to two
        /// bytes of this memory and 16 of the disk. An audit, and whoever explains a total from the
        /// log, folds one partition at a time in as much memory again as that partition has.
        ids_memory: ByteSize<MIB, { 1_024 * GIB }> = "1 GiB";
        /// Directory for the scratch files. Empty: `scratch` in data_dir.
        scratch_dir: Text = "";
    }

    /// What one partition of the log may keep. The consumer tells the log by a control record, so that
    /// every fold of it decides the same; set the same in every process.
    limits: Limits {
        /// About how many bytes of rows, dead letters and ids a segment may have. Greater ones hold
        /// more memory, smaller ones store more manifests and more rows.
        segment_bytes: ByteSize<MIB, { 64 * GIB }> = "256 MiB";
        /// Bytes that producers and backfills may take. Beyond it, producers that were idle longest
        /// keep no list of their batches, and new ones are dead letters (`too_many_identities`).
        state_bytes: ByteSize<MIB, { 64 * GIB }> = "256 MiB";
        /// Distinct resources of a tenant in a segment. Pulses of further ones are dead letters
        /// (`too_many_keys`).
        keys_per_tenant: Count<1, 4_294_967_295> = "250000";
        /// Distinct values of a declared dimension, within a tenant's SKU, in a segment. Pulses with
        /// further ones are dead letters (`too_many_keys`).
        values_per_dimension: Count<1, 4_294_967_295> = "100000";
        /// How many closes in a row store of the fold state only what changed; `0`: none. Greater ones
        /// write less and take longer to start.
        state_deltas: Count<0, 10_000> = "64";
        /// Ranges of rows, with gaps between them, that one backfill may have; `0`: as many as have room
        /// in `limits.state_bytes`. Rows that would make a further one are dead letters
        /// (`too_many_identities`).
        ranges_per_backfill: Count<0, 4_294_967_295> = "100000";
    }

    /// Blocks: usage of closed segments, merged. Not on CQL.
    blocks: Blocks {
        /// Log time of a first block. Shorter ones leave fewer rows for each query to read; longer ones
        /// write fewer pages. Blocks of a day and of a month are merged from these.
        every: Span<SECOND, { 24 * HOUR }> = "1h";
        /// How long after the end of such a time its block is made. What comes later is in a later one.
        delay: Span<0, { 24 * HOUR }> = "5m";
        /// How long what was merged is kept for those who are reading it. One that reads longer fails and
        /// is told to read again, so longer than store.read_timeout and query.timeout.
        keep_replaced: Span<SECOND, { 24 * HOUR }> = "10m";
        /// Bytes that a block may take in memory while it is made, audited or compared; what does not fit
        /// goes to scratch files.
        memory: ByteSize<MIB, { 64 * GIB }> = "64 MiB";
    }

    /// Billing runs.
    billing: Billing {
        /// When the price stage bills what is due: `off`, or a cron expression of six fields in UTC
        /// (seconds first). A tick bills what is due: periods that are over and have no invoice.
        schedule: BillingSchedule = "0 30 4 * * *";
        /// Months before the current one in which a tick looks for periods that are due. Too few, and a
        /// contract that is entered late is not found; more cost a look-up of usage for each month in
        /// which a tenant used something and was not billed.
        look_back_months: Count<1, 240> = "24";
        /// `off`, or `monthly`: in each calendar month, the first tick bills deltas for every month of
        /// look_back_months but the last. Otherwise `pulso bill run --deltas` does.
        deltas: ScheduledDeltas = "off";
        /// Amounts by currency, such as `BRL 5.00, USD 1.00`: the schedule makes no delta that comes to
        /// less, owed or given back. Without its currency here every delta is made.
        deltas_threshold: DeltasThreshold = "";
        /// How long after its end a period is billed at the earliest. Below log.lateness, usage that
        /// is late makes deltas.
        grace: Span<0, { 8_784 * HOUR }> = "24h";
        /// Tenants that are billed at once. Each holds one period's usage in memory.
        tenants_at_once: Count<1, 1_024> = "16";
        /// Most lines of a document, with the resources that it lists without a price. A period with
        /// more is not billed. A line takes about 3 KB of memory while its period is billed, and 8 KB
        /// while it is explained or verified.
        document_lines_max: Count<1, 10_000_000> = "250000";
        /// Bytes of a document up to which messages and answers have its lines. Larger, and consumers
        /// of the outbox have to take larger messages; smaller, and they have to list the lines of more
        /// documents.
        inline_bytes_max: ByteSize<KIB, { 3 * MIB }> = "512 KiB";
    }

    /// Threads on which calls compute (rating, explaining, grouping, printing), so that ingest and
    /// health never wait for them.
    compute: Compute {
        /// Work that runs at once: `auto` (one less than cores, at least 1) or a number. As many as
        /// cores leave none to the threads that serve.
        threads: Lanes = "auto";
        /// Calls that compute, or wait to, at once. One more is answered RESOURCE_EXHAUSTED. Too few
        /// refuse a burst of small questions, too many let each wait long.
        calls_max: Count<1, 100_000> = "256";
        /// Of these, calls that hold a billing period in memory (preview, simulate, explain, verify,
        /// pages of an invoice); the others wait.
        periods_max: Count<1, 1_024> = "4";
        /// How long a refused call is asked to wait.
        retry_after: Span<1, { 60 * SECOND }> = "1s";
        /// How long an explanation waits for a client that does not read, before it is cut off. Longer
        /// lets such clients keep periods in memory; shorter cuts off slow networks.
        stall_timeout: Span<SECOND, HOUR> = "30s";
    }

    /// Answers to analysts.
    query: Query {
        /// Rows asked of the store at a time. Fewer cost round trips, more cost memory (about 300
        /// bytes a row for each query under way).
        store_page_rows: Count<1, 1_000_000> = "4096";
        /// How long one page of an answer may take. Too short refuses honest questions; too long lets
        /// one question keep the store busy.
        timeout: Span<SECOND, HOUR> = "30s";
    }

    /// Logs of this process, on stderr.
    telemetry: Telemetry {
        /// `auto` (text on a terminal, JSON elsewhere), `text` or `json`.
        format: LogFormat = "auto";
        /// What is logged, such as `info` or `warn,ingestor_api=debug`. Also by PULSO_LOG.
        filter: LogFilter = "info,scylla=warn";
    }

    /// How a process ends.
    shutdown: Shutdown {
        /// How long it may take to finish what was accepted before it is cut off.
        timeout: Span<SECOND, HOUR> = "30s";
        /// How much of that clients get: calls that are still open then are cut off, so that one
        /// that never ends (a health watch, a client that reads no acks) leaves time to drain the
        /// log. Too short cuts off long answers.
        calls_timeout: Span<1, HOUR> = "5s";
    }
}
