//! Scripts as tenants write them, run as requests are.

mod attacks;
mod documented;
mod harness;
mod messages;
mod node;
mod platform;
mod rewriter;
mod serving;
mod sockets;
mod urls;
