//! Responses on their way to browsers: coded as each takes it, and as a difference to what it has,
//! where it speaks compression dictionary transport (RFC 9842). `handler` stands in front of the
//! cache; `rules` are its pure part, `held` the dictionaries that were given out. Ordinary codings
//! are room `coding`'s.

mod handler;
mod held;
mod metrics;
mod rules;

pub use handler::{Browsers, Shared};
