//! Other servers' configurations, read into edge's own: `cli` hands a file in, and gets the text of
//! an edge.toml and a note for every directive that did not come along as it was.

pub mod nginx;
mod note;
mod write;

pub use note::{Note, Weight};

/// A configuration that was read into edge's own.
#[derive(Debug)]
pub struct Imported {
    /// The text of an edge.toml. What was left out stands in it, as comments at its place.
    pub text: String,
    /// What did not come along, or not as it was; the gravest first.
    pub notes: Vec<Note>,
}

impl Imported {
    /// The gravest of what is to be told.
    pub fn worst(&self) -> Option<Weight> {
        self.notes.iter().map(|note| note.weight).min()
    }
}
