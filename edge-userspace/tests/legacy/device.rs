//! A device made by hand, as far as its Finished: it says what no library would, and sees the bytes
//! that come back.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::bed::openssl;
use crate::world::World;

/// Bytes of the modulus of all keys here.
pub(crate) const MODULUS: usize = 256;
/// A record with a fatal alert.
pub(crate) type Alert = [u8; 7];

pub(crate) const fn alert(code: u8) -> Alert {
    [21, 3, 3, 0, 2, 2, code]
}

/// One that has said hello and got the server's flight.
pub(crate) struct Device(TcpStream);

fn vector(width: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[8 - width..], content].concat()
}

fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector(3, content)].concat()
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &vector(2, content)].concat()
}

/// A hello as a device of 2008 has it: one extension, or none.
fn hello(host: Option<&str>) -> Vec<u8> {
    let mut body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &vector(2, &[0, 0x9c, 0, 0x2f]),
        &vector(1, &[0]),
    ]
    .concat();
    if let Some(host) = host {
        let name = vector(2, &[&[0][..], &vector(2, host.as_bytes())].concat());
        body.extend(vector(2, &[&[0, 0][..], &vector(2, &name)].concat()));
    }
    message(1, &body)
}

impl Device {
    /// Connects and says hello.
    pub(crate) fn connect(world: &World, host: &str) -> Self {
        let mut io = TcpStream::connect(world.https).unwrap();
        io.set_nodelay(true).unwrap();
        io.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        io.write_all(&record(22, &hello(Some(host)))).unwrap();
        Self(io)
    }

    /// Without a name and any other extension.
    pub(crate) fn bare(world: &World) -> Self {
        let mut io = TcpStream::connect(world.https).unwrap();
        io.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        io.write_all(&record(22, &hello(None))).unwrap();
        Self(io)
    }

    /// Reads to the end of the ServerHelloDone, which ends its record.
    pub(crate) fn met(mut self) -> Self {
        loop {
            let content = self.record().unwrap();
            if content.ends_with(&[14, 0, 0, 0]) {
                return self;
            }
        }
    }

    fn record(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        assert_eq!(head[0], 22, "{head:?}");
        let mut content = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        self.0.read_exact(&mut content)?;
        Ok(content)
    }

    /// Sends an encrypted premaster, and a Finished that no premaster makes right.
    pub(crate) fn send(&mut self, encrypted: &[u8]) {
        let flight = [
            record(22, &message(16, &vector(2, encrypted))),
            record(20, &[1]),
            record(22, &[9; 40]),
        ]
        .concat();
        self.0.write_all(&flight).unwrap();
    }

    /// All that the edge still says.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset behind an alert is as good an end as any.
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}

/// What is inside an encrypted premaster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inside {
    Sound,
    BlockType,
    ShortPadding,
    NoEnd,
    Version,
    /// Nothing that was ever a block.
    Noise,
}

pub(crate) const UNSOUND: [Inside; 5] = [
    Inside::BlockType,
    Inside::ShortPadding,
    Inside::NoEnd,
    Inside::Version,
    Inside::Noise,
];

/// Encrypts for the certificate of `host`.
pub(crate) fn encrypt(world: &World, host: &str, inside: Inside, premaster: u8) -> Vec<u8> {
    let mut block = vec![0, 2];
    block.extend([0xa5; MODULUS - 3 - 48]);
    block.extend([0, 3, 3]);
    block.extend([premaster; 46]);
    match inside {
        Inside::Sound => {}
        Inside::BlockType => block[1] = 1,
        Inside::ShortPadding => block[5] = 0,
        Inside::NoEnd => block[MODULUS - 49] = 0xa5,
        Inside::Version => block[MODULUS - 47] = 1,
        Inside::Noise => block[1..].fill(premaster | 1),
    }
    let file = format!("block-{host}");
    std::fs::write(world.path(&file), block).unwrap();
    let certificate = format!("{host}.pem");
    openssl(
        &[
            "pkeyutl",
            "-encrypt",
            "-certin",
            "-inkey",
            &certificate,
            "-pkeyopt",
            "rsa_padding_mode:none",
            "-in",
            &file,
        ],
        &world.path(""),
    )
}
