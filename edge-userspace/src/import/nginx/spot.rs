//! Where rules are being made for: a server, a location, or what a rewrite has led to. `rules` goes
//! from one to the next.

use super::context::Levels;
use super::draft::Draft;
use super::fields::Which;
use super::paths::Rewritten;
use super::text::Known;
use crate::import::write::{Entry, When};

/// Where rules are being made for.
#[derive(Clone)]
pub(super) struct Spot<'s, 't> {
    pub(super) owner: usize,
    pub(super) name: String,
    pub(super) levels: &'s Levels<'t>,
    pub(super) when: When,
    pub(super) known: Known,
    pub(super) rewritten: Option<Rewritten>,
    /// The fields that are still to be added.
    pub(super) fields: Which,
    pub(super) jumps: usize,
}

impl<'s, 't> Spot<'s, 't> {
    /// Of `owner`, within its blocks, that no rewrite led to.
    pub(super) fn new((owner, levels): (usize, &'s Levels<'t>), name: String, when: When, known: Known) -> Self {
        Self {
            owner,
            name,
            levels,
            when,
            known,
            rewritten: None,
            fields: Which::All,
            jumps: 0,
        }
    }

    /// Adds a rule for what comes here, which others may follow.
    pub(super) fn rule(&self, draft: &mut Draft, name: &str, act: Vec<Entry>) {
        draft.rule(self.owner, name, self.when.clone(), act, false);
    }
}
