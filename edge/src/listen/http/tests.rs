//! Requests that are slow, large, compressed or too many, as a client sees their end.

use std::{net::SocketAddr, time::Duration};

use axum::routing::{get, post};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::listen::{EdgeLimits, Gate};

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

struct Door {
    address: SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
}

async fn door(limits: EdgeLimits) -> Door {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let router = Router::new()
        .route("/", get(async || "here"))
        .route("/large", get(async || "x".repeat(64 << 20)))
        .route("/echo", post(async |body: Bytes| body.len().to_string()));
    let shutdown = Shutdown::new();
    let listener = Listener::new(socket, &Gate::new(&limits));
    let door = HttpDoor::new(router, Calls::new(&limits), 1 << 20);
    let serving = tokio::spawn(door.serve(listener, shutdown.clone()));
    Door { address, shutdown, serving }
}

impl Door {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What a connection gets that sends this and then waits.
    async fn answer(&self, sent: impl AsRef<[u8]>) -> String {
        let mut connection = self.connect().await;
        connection.write_all(sent.as_ref()).await.unwrap();
        to_its_end(&mut connection).await
    }
}

async fn to_its_end(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, connection.read_to_end(&mut answer)).await.expect("it stays open");
    String::from_utf8_lossy(&answer).into_owned()
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
}

fn post_request(headers: &str, body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n\r\n{body}")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_closed() {
    let door = door(EdgeLimits {
        first_byte_timeout: SHORT,
        header_timeout: SHORT,
        ..EdgeLimits::default()
    })
    .await;
    assert_eq!(door.answer("").await, "");
    assert_eq!(door.answer("P").await, "", "of HTTP/1 or of HTTP/2");
    assert_eq!(door.answer("GET / HTTP/1.1\r\nhost: a\r\nx-slow: ").await, "");
    let idle = door.answer("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(idle.ends_with("here"), "answered, kept, and closed: {idle}");
}

#[tokio::test]
async fn a_slow_body_is_answered_with_408() {
    let door = door(EdgeLimits { message_timeout: SHORT, ..EdgeLimits::default() }).await;
    for headers in ["content-length: 10", "transfer-encoding: chunked"] {
        let answer = door.answer(post_request(headers, "1")).await;
        assert_eq!(status(&answer), "408", "{answer}");
        assert!(answer.contains("REQUEST_TIMEOUT") && answer.contains("200ms"), "{answer}");
    }
    let whole = door.answer(post_request("content-length: 3", "abc")).await;
    assert!(status(&whole) == "200" && whole.ends_with('3'), "{whole}");
}

#[tokio::test]
async fn a_compressed_body_is_answered_with_415() {
    let door = door(EdgeLimits::default()).await;
    let headers = |encoding| format!("content-length: 3\r\ncontent-encoding: {encoding}");
    let answer = door.answer(post_request(&headers("gzip"), "abc")).await;
    assert_eq!(status(&answer), "415", "{answer}");
    assert!(answer.contains("COMPRESSION_UNSUPPORTED"), "{answer}");
    assert!(answer.contains("accept-encoding: identity"), "{answer}");
    let plain = door.answer(post_request(&headers("identity"), "abc")).await;
    assert_eq!(status(&plain), "200", "{plain}");
}

#[tokio::test]
async fn a_head_above_the_bound_is_refused() {
    let door = door(EdgeLimits { header_bytes_max: 8 << 10, ..EdgeLimits::default() }).await;
    for (bytes, expected) in [(8_000, "200"), (8 << 10, "431")] {
        let head =
            format!("GET / HTTP/1.1\r\nconnection: close\r\nx: {}\r\n\r\n", "y".repeat(bytes));
        assert_eq!(status(&door.answer(head).await), expected, "{bytes}");
    }
    let many: String = (0..101).map(|_| "a:b\r\n").collect();
    let head = format!("GET / HTTP/1.1\r\n{many}\r\n");
    assert_eq!(status(&door.answer(head).await), "431", "more than a hundred headers");
}

#[tokio::test]
async fn bodies_over_the_bound_are_refused_before_they_are_read() {
    // Half of it for a peer: two bodies of a quarter, or one whose length is not said.
    let quarter = 512 << 10;
    let limits = EdgeLimits { request_bytes_in_flight_max: 4 * quarter, ..EdgeLimits::default() };
    let door = door(limits).await;
    let held = format!("content-length: {quarter}");
    let mut first = door.connect().await;
    first.write_all(post_request(&held, "1").as_bytes()).await.unwrap();
    let mut second = door.connect().await;
    second.write_all(post_request(&held, "1").as_bytes()).await.unwrap();
    // Both are read by the time that a third is refused.
    let refused = timeout(PATIENCE, async {
        loop {
            let answer = door.answer(post_request("content-length: 1", "1")).await;
            if status(&answer) != "200" {
                return answer;
            }
        }
    });
    let refused = refused.await.unwrap();
    assert_eq!(status(&refused), "429", "{refused}");
    assert!(refused.contains("SERVER_BUSY") && refused.contains("retry-after"), "{refused}");
    assert_eq!(status(&door.answer(get_request("/")).await), "200", "no body, no room needed");
    drop((first, second));
}

#[tokio::test]
async fn a_client_that_reads_no_answer_holds_its_share_of_calls_until_it_is_cut() {
    let limits = EdgeLimits {
        calls_max: 4,
        calls_per_peer_max: 1,
        write_timeout: SHORT,
        ..EdgeLimits::default()
    };
    let door = door(limits).await;
    let mut unread = door.connect().await;
    unread.write_all(get_request("/large").as_bytes()).await.unwrap();
    let refused = timeout(PATIENCE, async {
        loop {
            let answer = door.answer(get_request("/")).await;
            if status(&answer) != "200" {
                return answer;
            }
        }
    });
    let refused = refused.await.unwrap();
    assert!(status(&refused) == "429" && refused.contains("SERVER_BUSY"), "{refused}");
    timeout(PATIENCE, async { while status(&door.answer(get_request("/")).await) != "200" {} })
        .await
        .expect("its call comes back");
}

#[tokio::test]
async fn a_shutdown_closes_what_is_idle_and_answers_what_was_begun() {
    let door = door(EdgeLimits::default()).await;
    let mut idle = door.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 16]).await.unwrap();
    let mut begun = door.connect().await;
    begun.write_all(post_request("content-length: 2", "1").as_bytes()).await.unwrap();
    // It is being read once another request behind it in the queue is answered.
    door.answer(get_request("/")).await;
    door.shutdown.request();
    to_its_end(&mut idle).await;
    begun.write_all(b"2").await.unwrap();
    let answer = to_its_end(&mut begun).await;
    assert_eq!(status(&answer), "200", "{answer}");
    timeout(PATIENCE, door.serving).await.unwrap().unwrap();
}
