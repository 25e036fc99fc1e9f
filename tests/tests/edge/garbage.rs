//! Bytes that no client sends. If this fails, anybody can end the daemon with one packet.

use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::time::Duration;

use crate::world::{EDGE, World};

/// Xorshift: the same bytes in every run, so that a failure can be met again.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Starts that lead deeper into a parser than noise alone.
const STARTS: &[&[u8]] = &[
    b"",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x16\x03\x01\xff\xff",
    b"\x17\x03\x03\x00\x10",
    b"GET / HTTP/1.1\r\nHost: ",
    b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY TCP4 ",
    b"\r\n\r\n\x00\r\nQUIT\n",
    b"POST /deny HTTP/1.1\r\n",
];

#[test]
fn garbage_on_any_port_harms_nobody_else() {
    let Some(mut world) = World::start() else { return };
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for round in 0..20 {
        for start in STARTS {
            for port in [443, 80] {
                let length = (noise.next() % 2000) as usize;
                let mut stream = world.connect(EDGE[round % 2], port).unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                // The edge may close before it has read everything: that is its right.
                let _ = stream.write_all(&[*start, &noise.bytes(length)].concat());
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read(&mut [0; 4096]);
            }
        }
    }
    let admin = world.edge.enter(|| {
        for start in STARTS {
            let mut stream = std::net::TcpStream::connect("127.0.0.1:9180").unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let _ = stream.write_all(start);
            let _ = stream.write_all(b"\xff\x00\r\n\r\n");
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    admin.unwrap();
    let socket = world.client.enter(|| UdpSocket::bind("10.77.0.2:0").unwrap()).unwrap();
    for length in [0, 1, 20, 1200, 1472] {
        // An answer "port unreachable" to the packet before shows here as an error.
        let _ = socket.send_to(&noise.bytes(length), (EDGE[0], 443));
    }

    assert!(
        world.daemon.ended().unwrap().is_none(),
        "it ended: {}",
        world.daemon.tail()
    );
    for address in EDGE {
        let answer = world.get(address);
        assert!(answer.status.success(), "{address}: {answer:?}");
    }
    let log = world.daemon.log();
    assert!(!log.contains("panicked"), "{log}");
}
