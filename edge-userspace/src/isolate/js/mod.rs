//! Workers in JavaScript: QuickJS-ng, compiled to WebAssembly once for all (`edge-userspace/js`),
//! and for each script an image of the heap that its top-level code left (`snapshot`). A request
//! gets a copy-on-write copy of that heap (`script`), and from the host what `host` offers; what a
//! script has under way there is kept in `traffic`. docs/workers-js.md is for those who write them.

pub mod address;
pub mod code;
mod codecs;
mod crypto;
mod engine;
pub mod fields;
mod granted;
mod guest;
mod handed;
mod host;
mod maps;
pub mod modules;
mod outside;
mod pending;
mod script;
mod scripts;
mod services;
mod snapshot;
mod sockets;
pub mod sourcemap;
#[cfg(test)]
mod tests;
mod traffic;

pub(in crate::isolate) use engine::built;
pub(in crate::isolate) use handed::compile_handed;
pub(in crate::isolate) use script::Script;
pub(in crate::isolate) use scripts::Scripts;
