//! The front of the edge on loopback: sockets, TLS, HTTP/1.1 and HTTP/2, with an echo handler in place of the rooms behind.

mod harness;
mod http1;
mod http2;
mod limits;
mod smuggling;
mod tls;
