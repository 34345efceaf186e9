//! Frames of HTTP/2 in any order and with any content, out of any bytes: a little program, since bytes that
//! are not framed do not get far. Shared with the fuzz target `http2_frames`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Longer than the gateway's deadlines: until then it has answered or closed.
const PATIENCE: Duration = Duration::from_secs(60);

const PING: u8 = 6;

/// Whole requests, but for their body: GET, PUT with and without a length, HEAD, one that is told to go on.
const BLOCKS: [&[u8]; 8] = [
    b"\x82\x87\x01\x01h\x84",
    b"\x82\x87\x01\x01h\x04\x06/large",
    b"\x82\x87\x01\x01h\x04\x05/hint",
    b"\x82\x87\x01\x01h\x04\x06/never",
    b"\x02\x03PUT\x87\x01\x01h\x84",
    b"\x02\x03PUT\x87\x01\x01h\x84\x0f\x0d\x013",
    b"\x02\x04HEAD\x87\x01\x01h\x84",
    b"\x02\x03PUT\x87\x01\x01h\x84\x0f\x14\x0c100-continue",
];

/// What is left of the program.
struct Program<'i>(&'i [u8]);

impl<'i> Program<'i> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// As many bytes as the next one says, or as there are.
    fn bytes(&mut self) -> Option<&'i [u8]> {
        let length = usize::from(self.byte()?).min(self.0.len());
        let (first, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(first)
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A connection, until the gateway closes it.
pub(crate) struct Wire(StreamOwned<ClientConnection, TcpStream>);

impl Wire {
    /// Agrees on HTTP/2 and says hello; none if the gateway is not up to it just now.
    pub(crate) fn open(address: SocketAddr, client: &Arc<ClientConfig>) -> Option<Self> {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("one.example.org").unwrap();
        let client = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut wire = Self(StreamOwned::new(client, tcp));
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        Some(wire)
    }

    fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).ok()
    }

    fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.0.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the gateway neither answered nor closed");
            }
            Err(_) => None,
        }
    }

    /// Has the gateway say that it got so far, if it still speaks with us.
    fn settle(&mut self) -> Option<()> {
        let word = *b"so far !";
        let mut ping = Vec::new();
        frame(&mut ping, PING, 0, 0, &word);
        self.send(&ping)?;
        loop {
            let mut head = [0; 9];
            self.read(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            assert!(length <= 64 << 10 && head[3] <= 9 && head[3] != 5, "{head:?}");
            let mut payload = vec![0; length];
            self.read(&mut payload)?;
            if head[3] == PING && head[4] == 1 && payload == word {
                return Some(());
            }
        }
    }
}

/// Does what the program says, and has the gateway say that it got to the end; none when it has closed before,
/// or the program breaks off.
pub(crate) fn play(wire: &mut Wire, program: &[u8]) -> Option<()> {
    let mut program = Program(program);
    let mut opened = 0;
    let mut out = Vec::new();
    frame(&mut out, 4, 0, 0, &[]);
    while let Some(word) = program.byte() {
        let flags = word & 0xf0;
        let some_stream = |byte: u8| 2 * (u32::from(byte) % opened.max(1)) + 1;
        match word & 15 {
            // A request; at 3 with more of a header block.
            0..=3 => {
                let mut block = BLOCKS[usize::from(word >> 5)].to_vec();
                if word & 3 == 3 {
                    block.extend_from_slice(program.bytes()?);
                }
                let ends = if word & 16 == 0 { 5 } else { 4 };
                frame(&mut out, 1, ends, 2 * opened + 1, &block);
                opened += 1;
            }
            4 | 5 => {
                let stream = some_stream(program.byte()?);
                frame(&mut out, 0, word >> 7, stream, program.bytes()?);
            }
            6 => frame(&mut out, 3, 0, some_stream(program.byte()?), &[0, 0, 0, word >> 4]),
            7 => {
                let stream = some_stream(program.byte()?);
                frame(&mut out, 8, 0, stream, &[0, program.byte()?, 0, 0]);
            }
            8 => frame(&mut out, 8, 0, 0, &[0, program.byte()?, 0, 0]),
            9 => {
                let (name, high, low) = (word >> 4, program.byte()?, program.byte()?);
                frame(&mut out, 4, 0, 0, &[0, name, 0, 0, high, low]);
            }
            // What follows is mostly the end of the connection, and has to be chosen with care.
            10..=13 if flags != 0 => frame(&mut out, PING, 0, 0, &[word; 8]),
            10 => {
                frame(&mut out, 9, program.byte()?, some_stream(program.byte()?), program.bytes()?)
            }
            11 => {
                frame(&mut out, 1, program.byte()?, some_stream(program.byte()?), program.bytes()?)
            }
            12 => out.extend_from_slice(program.bytes()?),
            13 => {
                let (kind, stream) = (program.byte()?, u32::from(program.byte()?));
                frame(&mut out, kind, program.byte()?, stream, program.bytes()?);
            }
            14 => {
                wire.send(&std::mem::take(&mut out))?;
                wire.settle()?;
            }
            // What came so far, in a piece of its own.
            _ => wire.send(&std::mem::take(&mut out))?,
        }
    }
    wire.send(&out)?;
    wire.settle()
}
