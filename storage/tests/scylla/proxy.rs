//! A proxy between store and server that lets one chosen write of a flush go wrong.
//!
//! It reads the frames of the CQL protocol (version 4, uncompressed), so that the fault falls on a
//! write and not on a byte, and so that it can have the server do what the client is told was not
//! done. The driver's own proxy for tests can answer in a server's place, but neither swap an
//! answer nor hold a write back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use storage::conformance::servers::Server;
use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// What becomes of the chosen write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server never sees it; the answer is that too few replicas are alive.
    Unavailable,
    /// The server never sees it; the answer is a write timeout.
    TimedOutAndLost,
    /// The server does it; the answer is a write timeout all the same.
    TimedOutAndDone,
    /// The answer is a write timeout; the server does it once [`Proxy::let_late_writes_land`] says.
    TimedOutAndLate,
    /// The server does it, and the answer is lost.
    Unanswered,
    /// The connection breaks while the server does it.
    Broken,
}

/// A way to the server on which one write may go wrong.
pub(crate) struct Proxy {
    /// Where the store is to connect.
    pub(crate) address: String,
    plan: Arc<Plan>,
    /// Ends with it.
    _listening: JoinSet<()>,
}

/// What is to go wrong, and what was seen so far.
struct Plan {
    state: Mutex<State>,
    /// Whether late writes are let through.
    land: watch::Sender<bool>,
    /// Late writes that the server has not answered.
    late: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// Tables that prepared inserts write to, by the statement's id.
    tables: BTreeMap<Vec<u8>, String>,
    /// Writes until the fault, and the fault.
    armed: Option<(usize, Fault)>,
    /// The table that the write was for.
    met: Option<String>,
}

impl Plan {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What is to become of a request.
    fn judge(&self, request: &Frame) -> Option<Fault> {
        let mut state = self.state();
        let table = state.tables.get(request.statement()?)?.clone();
        let (writes_before, fault) = state.armed?;
        state.armed = writes_before.checked_sub(1).map(|left| (left, fault));
        if state.armed.is_some() {
            return None;
        }
        state.met = Some(table);
        Some(fault)
    }
}

impl Proxy {
    pub(crate) async fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, server) = (Mutex::default(), server.address.clone());
        let (land, late) = (watch::Sender::new(false), watch::Sender::new(0));
        let plan = Arc::new(Plan { state, land, late });
        let (mut listening, of_connections) = (JoinSet::new(), Arc::clone(&plan));
        listening.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                connections.spawn(serve(client, server, Arc::clone(&of_connections)));
            }
        });
        Self { address, plan, _listening: listening }
    }

    /// From now on the write behind so many others has a fault.
    pub(crate) fn arm(&self, writes_before: usize, fault: Fault) {
        let mut state = self.plan.state();
        (state.armed, state.met) = (Some((writes_before, fault)), None);
        self.plan.land.send_replace(false);
    }

    /// Disarms it and gives the table whose write had the fault, if any had.
    pub(crate) fn disarm(&self) -> Option<String> {
        let mut state = self.plan.state();
        state.armed = None;
        state.met.take()
    }

    /// Lets the server have the writes that were held back, and waits until it has done them.
    pub(crate) async fn let_late_writes_land(&self) {
        self.plan.land.send_replace(true);
        self.plan.late.subscribe().wait_for(|late| *late == 0).await.unwrap();
    }
}

/// A frame: nine bytes of header, and a body of the length that the last four of them give.
struct Frame {
    header: [u8; 9],
    body: Vec<u8>,
}

const ERROR: u8 = 0x00;
const RESULT: u8 = 0x08;
const PREPARE: u8 = 0x09;
const EXECUTE: u8 = 0x0a;
const BATCH: u8 = 0x0d;
const RESULT_PREPARED: i32 = 4;
/// Stream of late writes, which no client gives to a request of its own so soon.
const LATE_STREAM: i16 = i16::MAX;

impl Frame {
    async fn read(from: &mut OwnedReadHalf) -> io::Result<Self> {
        let mut header = [0; 9];
        from.read_exact(&mut header).await?;
        let mut body = vec![0; u32::from_be_bytes(header[5..].try_into().unwrap()) as usize];
        from.read_exact(&mut body).await?;
        Ok(Self { header, body })
    }

    async fn write(&self, to: &Half) -> io::Result<()> {
        let mut to = to.lock().await;
        to.write_all(&[&self.header[..], &self.body].concat()).await
    }

    /// Which of a connection's requests it is, or answers.
    fn stream(&self) -> i16 {
        i16::from_be_bytes([self.header[2], self.header[3]])
    }

    fn on_stream(mut self, stream: i16) -> Self {
        self.header[2..4].copy_from_slice(&stream.to_be_bytes());
        self
    }

    const fn opcode(&self) -> u8 {
        self.header[4]
    }

    /// The id of the statement that it executes, or of the first of a batch.
    fn statement(&self) -> Option<&[u8]> {
        match self.opcode() {
            EXECUTE => short_bytes(&self.body),
            // Type, number of statements, kind of the first (1: prepared), its id.
            BATCH if self.body[3] == 1 => short_bytes(&self.body[4..]),
            _ => None,
        }
    }

    /// The table that it prepares an insert for.
    fn prepares_insert(&self) -> Option<String> {
        let text = (self.opcode() == PREPARE).then(|| String::from_utf8_lossy(&self.body[4..]))?;
        let (_, after) = text.split_once("INSERT INTO ")?;
        let (_, table) = after.split_once('.')?;
        table.split(' ').next().map(str::to_owned)
    }

    /// The id that the server gave to what was prepared.
    fn prepared(&self) -> Option<&[u8]> {
        let is_prepared =
            self.opcode() == RESULT && self.body[..4] == RESULT_PREPARED.to_be_bytes();
        is_prepared.then(|| short_bytes(&self.body[4..]))?
    }

    /// The server's answer to a request that fails: "0x1100 write timeout" or "0x1000 unavailable" of
    /// the protocol, section 9, at LOCAL_QUORUM.
    fn error(stream: i16, fault: Fault) -> Self {
        const LOCAL_QUORUM: [u8; 2] = [0, 6];
        let code: i32 = if fault == Fault::Unavailable { 0x1000 } else { 0x1100 };
        let words = "as the test asked";
        let mut body = [&code.to_be_bytes()[..], &short_string(words), &LOCAL_QUORUM].concat();
        // Replicas that are needed and alive, or that have answered and are needed.
        let (first, second) = if fault == Fault::Unavailable { (2i32, 1i32) } else { (1, 2) };
        body.extend([first.to_be_bytes(), second.to_be_bytes()].concat());
        if fault != Fault::Unavailable {
            body.extend(short_string("SIMPLE"));
        }
        let mut header = [0x84, 0, 0, 0, ERROR, 0, 0, 0, 0];
        header[5..].copy_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        Self { header, body }.on_stream(stream)
    }
}

fn short_bytes(from: &[u8]) -> Option<&[u8]> {
    let (length, rest) = from.split_first_chunk()?;
    rest.get(..u16::from_be_bytes(*length).into())
}

fn short_string(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// The way to one side, which several may write frames to.
type Half = tokio::sync::Mutex<OwnedWriteHalf>;

/// A connection of the store, and the one to the server that belongs to it.
struct Connection {
    client: Half,
    server: Half,
    plan: Arc<Plan>,
    /// What is to be done with answers, by stream.
    answers: Mutex<BTreeMap<i16, Answer>>,
}

/// What is to be done with an answer.
enum Answer {
    /// It has the id of an insert into this table.
    OfInsert(String),
    /// It becomes a write timeout.
    TimeOut,
    /// It is lost.
    Lose,
}

/// Serves a connection until either side, or a fault, ends it.
async fn serve(client: TcpStream, server: TcpStream, plan: Arc<Plan>) {
    let ((from_client, client), (from_server, server)) = (client.into_split(), server.into_split());
    let (client, server) = (Half::new(client), Half::new(server));
    let connection = Arc::new(Connection { client, server, plan, answers: Mutex::default() });
    tokio::select! {
        _ = connection.pass_requests(from_client) => {}
        _ = connection.pass_answers(from_server) => {}
    }
}

impl Connection {
    fn on_answer(&self, request: &Frame, answer: Answer) {
        self.answers.lock().unwrap().insert(request.stream(), answer);
    }

    async fn pass_requests(self: &Arc<Self>, mut from: OwnedReadHalf) -> io::Result<()> {
        loop {
            let request = Frame::read(&mut from).await?;
            if let Some(table) = request.prepares_insert() {
                self.on_answer(&request, Answer::OfInsert(table));
            }
            let Some(fault) = self.plan.judge(&request) else {
                request.write(&self.server).await?;
                continue;
            };
            let refusal = Frame::error(request.stream(), fault);
            match fault {
                Fault::Unavailable | Fault::TimedOutAndLost => refusal.write(&self.client).await?,
                Fault::TimedOutAndDone => {
                    self.on_answer(&request, Answer::TimeOut);
                    request.write(&self.server).await?;
                }
                Fault::TimedOutAndLate => {
                    self.plan.late.send_modify(|late| *late += 1);
                    tokio::spawn(Arc::clone(self).write_late(request));
                    refusal.write(&self.client).await?;
                }
                Fault::Unanswered => {
                    self.on_answer(&request, Answer::Lose);
                    request.write(&self.server).await?;
                }
                Fault::Broken => return request.write(&self.server).await,
            }
        }
    }

    async fn write_late(self: Arc<Self>, request: Frame) -> io::Result<()> {
        let landed = self.plan.land.subscribe().wait_for(|land| *land).await.map(drop);
        landed.map_err(io::Error::other)?;
        request.on_stream(LATE_STREAM).write(&self.server).await
    }

    async fn pass_answers(&self, mut from: OwnedReadHalf) -> io::Result<()> {
        loop {
            let answer = Frame::read(&mut from).await?;
            if answer.stream() == LATE_STREAM {
                assert_eq!(answer.opcode(), RESULT, "the server refused a late write");
                self.plan.late.send_modify(|late| *late -= 1);
                continue;
            }
            let what = self.answers.lock().unwrap().remove(&answer.stream());
            match what {
                Some(Answer::Lose) => continue,
                Some(Answer::TimeOut) => {
                    let timeout = Frame::error(answer.stream(), Fault::TimedOutAndDone);
                    timeout.write(&self.client).await?;
                    continue;
                }
                Some(Answer::OfInsert(table)) => {
                    let id = answer.prepared().map(<[u8]>::to_vec);
                    self.plan.state().tables.extend(id.map(|id| (id, table)));
                }
                None => {}
            }
            answer.write(&self.client).await?;
        }
    }
}
