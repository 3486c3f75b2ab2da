//! Connections: those over the bound, those that come to nothing, and accepting that fails.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::{Instant, timeout},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

async fn bound() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn listener(limits: &EdgeLimits) -> (Listener, SocketAddr) {
    let (socket, address) = bound().await;
    (Listener::new(socket, &Gate::new(limits)), address)
}

/// Connects from an address of loopback.
async fn connect_from(last: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

/// Whether the server has closed it.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(PATIENCE, stream.read(&mut [0])).await.expect("neither closed nor served");
    !matches!(read, Ok(1))
}

/// Fails as often as it is told before it takes connections.
struct Failing {
    socket: TcpListener,
    failures: usize,
    tries: Arc<AtomicUsize>,
}

impl Source for Failing {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        if self.tries.fetch_add(1, Ordering::SeqCst) < self.failures {
            // Of a process without descriptors, and of a connection that went away.
            let errors = [libc::EMFILE, libc::ENFILE, libc::ECONNABORTED];
            let number = self.tries.load(Ordering::SeqCst) % errors.len();
            return Err(io::Error::from_raw_os_error(errors[number]));
        }
        self.socket.accept().await
    }
}

async fn failing(failures: usize) -> (Listener<Failing>, SocketAddr, Arc<AtomicUsize>) {
    let ((socket, address), tries) = (bound().await, Arc::new(AtomicUsize::new(0)));
    let source = Failing { socket, failures, tries: Arc::clone(&tries) };
    (Listener::new(source, &Gate::new(&EdgeLimits::default())), address, tries)
}

#[tokio::test(start_paused = true)]
async fn accepting_that_fails_is_tried_again_and_never_spins() {
    let (mut listener, _, tries) = failing(usize::MAX).await;
    let minute = Duration::from_secs(60);
    assert!(timeout(minute, listener.accept()).await.is_err());
    let tries = tries.load(Ordering::SeqCst);
    assert!((60..300).contains(&tries), "{tries} tries in a minute");
    assert_eq!(listener.said.due(Some(libc::EMFILE), std::time::Instant::now()), None, "logged");
}

#[tokio::test(start_paused = true)]
async fn what_waits_while_accepting_fails_is_taken_afterwards() {
    let (mut listener, address, tries) = failing(20).await;
    let _client = std::net::TcpStream::connect(address).unwrap();
    let start = Instant::now();
    timeout(PATIENCE, listener.accept()).await.unwrap();
    assert_eq!(tries.load(Ordering::SeqCst), 21);
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_connection_over_the_bound_is_closed_and_one_that_ends_makes_room() {
    let limits =
        EdgeLimits { connections_max: 3, connections_per_peer_max: 2, ..EdgeLimits::default() };
    let (mut listener, address) = listener(&limits).await;
    let served: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let kept = Arc::clone(&served);
    let accepting = tokio::spawn(async move {
        loop {
            let mut connection = listener.accept().await;
            connection.write_all(b"x").await.unwrap();
            kept.lock().unwrap().push(connection);
        }
    });
    let mut clients = Vec::new();
    // The third of the first address is over its share, the second of the next over the whole.
    for (last, is_over) in [(1, false), (1, false), (1, true), (2, false), (2, true), (3, true)] {
        let mut client = connect_from(last, address).await;
        assert_eq!(is_closed(&mut client).await, is_over, "127.0.0.{last}");
        clients.push(client);
    }
    let peers: HashSet<Peer> = served.lock().unwrap().iter().map(Connection::peer).collect();
    assert_eq!(peers.len(), 2);
    drop(served.lock().unwrap().remove(0));
    assert!(!is_closed(&mut connect_from(3, address).await).await);
    accepting.abort();
}

/// A connection with short deadlines, and its client.
async fn pair(limits: EdgeLimits) -> (Connection, TcpStream) {
    let (mut listener, address) = listener(&limits).await;
    let (connection, client) = tokio::join!(listener.accept(), TcpStream::connect(address));
    (connection, client.unwrap())
}

#[tokio::test]
async fn a_connection_that_is_silent_from_the_start_is_cut_and_one_that_falls_silent_is_not() {
    let short =
        || EdgeLimits { first_byte_timeout: Duration::from_millis(100), ..EdgeLimits::default() };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for sent in [0, 1, 23] {
        let (mut connection, mut client) = pair(short()).await;
        client.write_all(&preface[..sent]).await.unwrap();
        let read = timeout(PATIENCE, connection.read_exact(&mut [0; 24])).await.unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut, "{sent} bytes");
    }
    for sent in [&preface[..], b"G", b"PO"] {
        let (mut connection, mut client) = pair(short()).await;
        client.write_all(sent).await.unwrap();
        connection.read_exact(&mut vec![0; sent.len()]).await.unwrap();
        let quiet = timeout(Duration::from_millis(300), connection.read(&mut [0])).await;
        assert!(quiet.is_err(), "{sent:?}: {quiet:?}");
    }
}

#[tokio::test]
async fn a_connection_that_takes_nothing_of_what_is_written_is_cut() {
    let limits = EdgeLimits { write_timeout: Duration::from_millis(200), ..EdgeLimits::default() };
    let (mut connection, client) = pair(limits).await;
    let megabyte = vec![0; 1 << 20];
    let written = timeout(PATIENCE, async {
        loop {
            if let Err(error) = connection.write_all(&megabyte).await {
                return error;
            }
        }
    });
    assert_eq!(written.await.expect("it hangs").kind(), io::ErrorKind::TimedOut);
    drop(client);
}
