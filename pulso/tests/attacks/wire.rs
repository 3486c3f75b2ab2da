//! Hostile bytes: HTTP/2 frames written by hand, because no client library sends what attackers do.
//! RFC 9113 numbers the frames and RFC 7541 writes the headers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A setting's number: how much of each answer may be sent before more is asked for.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// Where hostile clients connect from: not where honest ones do.
pub(crate) const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let value =
        |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &values.iter().flat_map(value).collect::<Vec<u8>>())
}

/// A header as a literal that is not indexed: no table, no Huffman code. Up to 126 bytes of name, and
/// any length of value.
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
    bytes.extend(name.as_bytes());
    let mut rest = value.len();
    if rest < 127 {
        bytes.push(u8::try_from(rest).unwrap());
    } else {
        bytes.push(127);
        rest -= 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128 + 128).unwrap());
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
    }
    bytes.extend(value.as_bytes());
    bytes
}

/// The header block of a gRPC call.
pub(crate) fn grpc_headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    usual.iter().chain(more).flat_map(|(name, value)| header(name, value)).collect()
}

/// A call's header frame.
pub(crate) fn call(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &grpc_headers(path, &[]))
}

/// The numbers of a client's streams.
pub(crate) fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// Connects from an address of loopback.
pub(crate) async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((IpAddr::V4(from), 0).into())?;
    socket.connect(to).await
}

/// A connection that speaks HTTP/2 as badly as it is told.
pub(crate) struct Wire {
    writer: OwnedWriteHalf,
    /// Where nothing is read: kept, because to drop it would say so.
    unread: Option<OwnedReadHalf>,
    /// Reads whatever comes and forgets it.
    drained: Option<JoinHandle<()>>,
}

impl Wire {
    /// Connects, reads all that comes and forgets it.
    pub(crate) async fn open(to: SocketAddr, values: &[(u16, u32)]) -> std::io::Result<Self> {
        let mut wire = Self::unread(to, values).await?;
        let mut reader = wire.unread.take().expect("it was just connected");
        wire.drained = Some(tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(1..) = reader.read(&mut buffer).await {}
        }));
        Ok(wire)
    }

    /// Connects and reads nothing.
    pub(crate) async fn unread(to: SocketAddr, values: &[(u16, u32)]) -> std::io::Result<Self> {
        let stream = connect(HOSTILE, to).await?;
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.into_split();
        writer.write_all(&[PREFACE, &settings(values)].concat()).await?;
        Ok(Self { writer, unread: Some(reader), drained: None })
    }

    /// Sends bytes; an error once the server has closed the connection.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(bytes).await
    }

    /// Whether the server has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        self.drained.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(drained) = &self.drained {
            drained.abort();
        }
    }
}
