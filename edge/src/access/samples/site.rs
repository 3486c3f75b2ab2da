//! A site on loopback that says what a test wrote, piece by piece, whatever it is asked.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

/// What is said to one request: pieces, and the pause before each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) pause: Duration,
}

impl Script {
    /// These bytes at once.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { pieces: vec![bytes.into()], pause: Duration::ZERO }
    }

    /// An answer of HTTP with a length.
    pub(crate) fn answer(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"))
    }
}

/// A listener of its own, ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) port: u16,
    script: Arc<Mutex<Script>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Site {
    pub(crate) async fn plain(script: Script) -> Self {
        Self::start(script, None).await
    }

    pub(crate) async fn start(script: Script, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (script, asked) = (Arc::new(Mutex::new(script)), Arc::new(AtomicUsize::new(0)));
        let (said, count) = (Arc::clone(&script), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (said, count, tls) = (Arc::clone(&said), Arc::clone(&count), tls.clone());
                open.spawn(async move {
                    match tls {
                        None => say(stream, &said, &count).await,
                        Some(tls) => {
                            // A client that does not trust it breaks off.
                            if let Ok(stream) = tls.accept(stream).await {
                                say(stream, &said, &count).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, script, asked, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it says from now on.
    pub(crate) fn set(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    /// How many requests came.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn say(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &Mutex<Script>,
    asked: &AtomicUsize,
) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut bytes = [0; 1_024];
        match stream.read(&mut bytes).await {
            Ok(1..) => head.extend(bytes.iter().copied().take_while(|byte| *byte != 0)),
            _ => return,
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let Script { pieces, pause } = script.lock().unwrap().clone();
    for piece in pieces {
        sleep(pause).await;
        if stream.write_all(&piece).await.is_err() {
            return;
        }
    }
    // Until the client has it all, and goes.
    let _ = stream.shutdown().await;
    let _ = stream.read(&mut [0]).await;
}
