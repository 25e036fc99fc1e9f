//! Tables of cells that are sorted and filtered: `model` makes them, `draw` lays them out.

use std::cmp::Ordering;

/// How a cell is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Plain,
    Good,
    Warning,
    Bad,
}

/// What a cell is sorted by: figures by their size, none below all, texts by the alphabet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) mood: Mood,
    figure: Option<f64>,
}

impl Cell {
    /// A word.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            mood: Mood::Plain,
            figure: None,
        }
    }

    /// A figure in the spelling of `write`; `-` if there is none.
    pub(super) fn figure(value: Option<f64>, write: fn(f64) -> String) -> Self {
        let value = value.filter(|value| !value.is_nan());
        Self {
            text: value.map_or_else(|| "-".to_owned(), write),
            mood: Mood::Plain,
            figure: Some(value.unwrap_or(f64::NEG_INFINITY)),
        }
    }

    /// The same, meant otherwise.
    pub(super) const fn with(mut self, mood: Mood) -> Self {
        self.mood = mood;
        self
    }

    /// The same, and `mood` if its figure is above nothing.
    pub(super) fn unless_nothing(self, mood: Mood) -> Self {
        if self.figure.is_some_and(|figure| figure > 0.0) {
            self.with(mood)
        } else {
            self
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.figure, other.figure) {
            (Some(mine), Some(its)) => mine.total_cmp(&its),
            _ => self.text.cmp(&other.text),
        }
    }
}

/// A column: its title, the columns of the terminal that it takes, and the side it stands on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) width: usize,
    pub(super) right: bool,
}

impl Column {
    /// Words, from the left. The first column of a table takes what the others leave.
    pub(super) const fn words(title: &'static str, width: usize) -> Self {
        Self {
            title,
            width,
            right: false,
        }
    }

    /// Figures, from the right.
    pub(super) const fn figures(title: &'static str, width: usize) -> Self {
        Self {
            title,
            width,
            right: true,
        }
    }
}

/// Rows under columns; each row has a cell for each column.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) columns: &'static [Column],
    /// What a filter is compared with, and the cells.
    pub(super) rows: Vec<(String, Vec<Cell>)>,
    /// What is said if there are no rows.
    pub(super) empty: &'static str,
}

/// The column that a table is sorted by, and whether its order is turned round. Figures stand with
/// the largest first, words by the alphabet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sorting {
    pub(super) column: usize,
    pub(super) reversed: bool,
}

impl Sorting {
    /// By the column `steps` further on among `columns`, round the end.
    pub(super) fn step(&mut self, steps: usize, columns: usize) {
        self.column = (self.column + steps) % columns.max(1);
        self.reversed = false;
    }
}

impl Table {
    /// The rows whose name contains `filter`, upper and lower case alike, as `sorting` says. Rows
    /// that are alike there stay in the alphabet's order, so that they do not jump about.
    pub(super) fn shown(&self, sorting: Sorting, filter: &str) -> Vec<&[Cell]> {
        let filter = filter.to_lowercase();
        let fits = |name: &str| filter.is_empty() || name.to_lowercase().contains(&filter);
        let mut rows: Vec<_> = self.rows.iter().filter(|(name, _)| fits(name)).collect();
        let figures = self.columns.get(sorting.column).is_some_and(|column| column.right);
        rows.sort_by(|(name, cells), (its_name, its_cells)| {
            let order = match (cells.get(sorting.column), its_cells.get(sorting.column)) {
                (Some(mine), Some(its)) => mine.compare(its),
                _ => Ordering::Equal,
            };
            let order = if figures != sorting.reversed {
                order.reverse()
            } else {
                order
            };
            order.then_with(|| name.cmp(its_name))
        });
        rows.into_iter().map(|(_, cells)| cells.as_slice()).collect()
    }
}

/// Three digits at most, with `k`, `M` or `G`.
pub(super) fn number(value: f64) -> String {
    for (unit, name) in [(1e9, "G"), (1e6, "M"), (1e4, "k")] {
        if value.abs() >= unit {
            let shown = value / if name == "k" { 1e3 } else { unit };
            return format!("{shown:.*}{name}", usize::from(shown.abs() < 99.95));
        }
    }
    let digits = usize::from(value.abs() < 99.95 && value.fract() != 0.0);
    format!("{value:.digits$}")
}

/// A duration of requests in milliseconds or seconds.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        endless if endless.is_infinite() => "long".to_owned(),
        short if short < 0.000_95 => format!("{:.0}us", short * 1e6),
        short if short < 0.009_95 => format!("{:.1}ms", short * 1e3),
        short if short < 0.9995 => format!("{:.0}ms", short * 1e3),
        long => format!("{long:.1}s"),
    }
}

/// A part of one in hundredths.
pub(super) fn percent(part: f64) -> String {
    format!("{:.0}%", part * 100.0)
}

/// Bytes in the largest unit.
pub(super) fn bytes(value: f64) -> String {
    let mut value = value;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1024.0 {
        let Some(larger) = units.next() else { break };
        value /= 1024.0;
        unit = larger;
    }
    let digits = usize::from(value < 9.95 && value.fract() != 0.0);
    format!("{value:.digits$} {unit}")
}

/// Seconds in the two largest units.
pub(super) fn lasting(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}
