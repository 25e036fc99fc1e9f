//! What the operator has before them: the last view, and what they chose by keys. `draw` shows it.

use std::time::Duration;

use super::exposition::clean;
use super::keys::Key;
use super::model::{PANES, Snapshot, View};
use super::scrape::Look;
use super::table::Sorting;

/// Characters of a filter.
const LONGEST_FILTER: usize = 64;
/// Rows that a key for a page moves by.
const PAGE: usize = 10;

/// Whether to go on after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Watch,
    Quit,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) view: Option<View>,
    counted: Option<Snapshot>,
    /// Since when the node does not answer, and why.
    pub(super) lost: Option<(Duration, String)>,
    pub(super) pane: usize,
    pub(super) sorting: [Sorting; PANES.len()],
    pub(super) filter: String,
    /// The filter is being written.
    pub(super) filtering: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// Rows above the first one that is shown; bounded when it is drawn.
    pub(super) scrolled: usize,
}

impl Board {
    /// Zones by their requests, origins by their health, the rest by what is largest.
    pub(super) fn new() -> Self {
        let by = |column| Sorting {
            column,
            reversed: false,
        };
        Self {
            sorting: [by(2), by(0), by(4), by(2), by(2)],
            ..Self::default()
        }
    }

    /// Takes what the node said, or why it said nothing, at `now` by a clock that only goes on.
    /// While it is paused, nothing changes.
    pub(super) fn take(&mut self, looked: Result<Look, String>, now: Duration) {
        if self.paused {
            return;
        }
        match looked {
            Ok(look) => {
                let counted = Snapshot::of(&look, now);
                self.view = Some(View::of(&look, &counted, self.counted.as_ref()));
                self.counted = Some(counted);
                self.lost = None;
            }
            Err(why) => {
                let since = self.lost.as_ref().map_or(now, |(since, _)| *since);
                self.lost = Some((since, clean(&why)));
            }
        }
    }

    /// Does what a key is for.
    pub(super) fn press(&mut self, key: Key) -> After {
        if key == Key::Interrupt {
            return After::Quit;
        }
        if self.help {
            self.help = false;
            return if key == Key::Character('q') {
                After::Quit
            } else {
                After::Watch
            };
        }
        if self.filtering {
            self.write_filter(key);
            return After::Watch;
        }
        let columns = self.view.as_ref().and_then(|view| view.tables.get(self.pane));
        let columns = columns.map_or(1, |table| table.columns.len());
        match key {
            Key::Character('q' | 'Q') => return After::Quit,
            Key::Character('p' | ' ') => self.paused = !self.paused,
            Key::Character('?' | 'h') => self.help = true,
            Key::Character('/') => self.filtering = true,
            Key::Escape => self.filter.clear(),
            Key::Character('s') | Key::Right => self.sort(|sorting| sorting.step(1, columns)),
            Key::Left => self.sort(|sorting| sorting.step(columns.saturating_sub(1), columns)),
            Key::Character('r') => self.sort(|sorting| sorting.reversed = !sorting.reversed),
            Key::Tab => self.show((self.pane + 1) % PANES.len()),
            Key::BackTab => self.show((self.pane + PANES.len() - 1) % PANES.len()),
            Key::Up => self.scrolled = self.scrolled.saturating_sub(1),
            Key::Down => self.scrolled = self.scrolled.saturating_add(1),
            Key::PageUp => self.scrolled = self.scrolled.saturating_sub(PAGE),
            Key::PageDown => self.scrolled = self.scrolled.saturating_add(PAGE),
            Key::Home => self.scrolled = 0,
            Key::End => self.scrolled = usize::MAX,
            _ => {}
        }
        After::Watch
    }

    fn write_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.filtering = false,
            Key::Escape => {
                self.filtering = false;
                self.filter.clear();
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Character(character) if self.filter.chars().count() < LONGEST_FILTER => {
                self.filter.push_str(&clean(character.encode_utf8(&mut [0; 4])));
            }
            _ => {}
        }
        self.scrolled = 0;
    }

    fn sort(&mut self, change: impl FnOnce(&mut Sorting)) {
        if let Some(sorting) = self.sorting.get_mut(self.pane) {
            change(sorting);
        }
        self.scrolled = 0;
    }

    fn show(&mut self, pane: usize) {
        self.pane = pane;
        self.scrolled = 0;
    }
}
