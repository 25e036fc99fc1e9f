//! Lines of text out of a [`Board`]: a frame for a terminal of any size, or everything as plain
//! text. Our own words are ASCII, for terminals in any locale.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::board::Board;
use super::model::{PANES, View};
use super::table::{Cell, Column, Mood, Sorting, lasting};

/// Lines above the rows: figures, a message, the panes' names, the columns' titles.
const HEAD: u16 = 8;
/// The first column has no less.
const NARROWEST: usize = 10;
const KEYS: &str = "q quit  p pause  s/arrows sort  r reverse  / filter  tab pane  ? help";
const HELP: &str = "\
 q, ctrl-c        quit
 p, space         pause: the frame stays as it is; again: go on
 tab, shift-tab   next pane, the one before
 s, right, left   sort by the next column, by the one before
 r                turn the order round
 /                filter by zone (in the other panes: by the name of the row);
                  enter keeps the filter, escape clears it
 up, down, page up, page down, home, end   scroll
 ?, h             this page; any key leaves it

 Rates are of the time between the last two looks, a second apart.
 local: full handshakes that no key server answered for. keyless: answers
 of key servers. delta: what crossed to far ends, as a part of the content.
 CPU of a worker: of one processor.";

/// Colours, or only bold, dim and reversed text (`NO_COLOR`, no-color.org).
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    pub(super) colours: bool,
}

impl Looks {
    fn mood(self, mood: Mood) -> Style {
        let colour = |colour| {
            if self.colours {
                Style::new().fg(colour)
            } else {
                Style::new()
            }
        };
        match mood {
            Mood::Plain => Style::new(),
            Mood::Good => colour(Color::Green),
            Mood::Warning => colour(Color::Yellow).add_modifier(Modifier::BOLD),
            Mood::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Draws the whole frame; `now` by the clock of [`Board::take`].
pub(super) fn frame(frame: &mut Frame<'_>, board: &mut Board, looks: Looks, now: Duration) {
    let area = frame.area();
    let width = usize::from(area.width);
    let mut lines = if board.help {
        let mut lines = vec![Line::styled("edge top", Modifier::BOLD), Line::default()];
        lines.extend(HELP.lines().map(Line::raw));
        lines
    } else {
        let rows = usize::from(area.height.saturating_sub(HEAD + 1));
        page(board, looks, now, width, rows)
    };
    let last = usize::from(area.height.saturating_sub(1));
    lines.truncate(last);
    lines.resize(last, Line::default());
    lines.push(foot(board));
    for (line, y) in lines.into_iter().zip(area.y..area.bottom()) {
        frame.render_widget(Paragraph::new(line), Rect::new(area.x, y, area.width, 1));
    }
}

fn page(board: &mut Board, looks: Looks, now: Duration, width: usize, rows: usize) -> Vec<Line<'static>> {
    let message = message(board, looks, now);
    let Some(view) = &board.view else {
        let wait = "Waiting for the first answer.";
        let text = if board.lost.is_some() {
            "It is asked again every second."
        } else {
            wait
        };
        let title = Line::styled("edge top", Modifier::BOLD);
        let mut lines = vec![title, Line::default()];
        // The whole of a long reason, which says what to do.
        if let Some(message) = message {
            lines.extend(
                wrapped(&message.to_string(), width)
                    .into_iter()
                    .map(|line| Line::styled(line, message.style)),
            );
            lines.push(Line::default());
        }
        lines.push(Line::raw(text));
        return lines;
    };
    let mut lines = head(view, board, looks, width);
    lines.push(message.unwrap_or_default());
    lines.push(tabs(view, board));
    let sorting = board.sorting.get(board.pane).copied().unwrap_or_default();
    let Some(table) = view.tables.get(board.pane) else {
        return lines;
    };
    let shown = table.shown(sorting, &board.filter);
    let scrolled = board.scrolled.min(shown.len().saturating_sub(rows));
    let first = flexible(table.columns, width);
    lines.push(Line::styled(
        titles(table.columns, Some(sorting), first),
        Modifier::BOLD,
    ));
    let visible = shown.iter().skip(scrolled).take(rows);
    lines.extend(visible.map(|cells| row(table.columns, cells, first, looks)));
    if shown.is_empty() {
        lines.push(Line::raw(if table.rows.is_empty() {
            table.empty
        } else {
            "No row fits the filter; escape clears it."
        }));
    }
    board.scrolled = scrolled;
    lines
}

/// Everything, without styles: each pane below the other, rows in the order in which the terminal
/// has them, nothing cut.
pub(super) fn plain(board: &Board, view: &View) -> String {
    let looks = Looks { colours: false };
    let mut lines: Vec<String> = head(view, board, looks, usize::MAX)
        .iter()
        .map(Line::to_string)
        .collect();
    lines.extend(view.notes.iter().map(|note| format!("note: {note}")));
    for ((name, table), sorting) in PANES.iter().zip(&view.tables).zip(board.sorting) {
        lines.extend([String::new(), (*name).to_owned()]);
        let rows = table.shown(sorting, "");
        if rows.is_empty() {
            lines.push(table.empty.to_owned());
            continue;
        }
        let longest = rows
            .iter()
            .filter_map(|cells| cells.first())
            .map(|cell| wide(&cell.text))
            .max();
        let first = longest.unwrap_or_default().max(NARROWEST);
        lines.push(titles(table.columns, None, first));
        lines.extend(
            rows.iter()
                .map(|cells| row(table.columns, cells, first, looks).to_string()),
        );
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn head(view: &View, board: &Board, looks: Looks, width: usize) -> Vec<Line<'static>> {
    let state = match (view.phase.as_str(), view.ready) {
        ("running" | "", true) => ("ready".to_owned(), Mood::Good),
        ("running" | "", false) => ("not ready".to_owned(), Mood::Bad),
        (phase, _) => (phase.to_owned(), Mood::Warning),
    };
    let paused = if board.paused { "  PAUSED" } else { "" };
    let room = width.saturating_sub(wide(&state.0) + paused.len() + 2);
    let mut first = Line::from(vec![
        Span::styled(fitting("", &view.node, room), Modifier::BOLD),
        Span::raw("  "),
        Span::styled(state.0, looks.mood(state.1)),
    ]);
    first.push_span(Span::styled(paused, Modifier::REVERSED));
    let mut lines = vec![first];
    for (title, parts) in &view.figures {
        lines.push(Line::raw(fitting(&format!("{title:<12}"), parts, width)));
    }
    lines
}

/// What is wrong, if anything is.
fn message(board: &Board, looks: Looks, now: Duration) -> Option<Line<'static>> {
    if let Some((since, why)) = &board.lost {
        let style = looks.mood(Mood::Bad).add_modifier(Modifier::REVERSED);
        let old = if board.view.is_some() {
            "The figures are of then. "
        } else {
            ""
        };
        let long = lasting(now.saturating_sub(*since).as_secs());
        return Some(Line::styled(format!("NO ANSWER for {long}. {old}{why}"), style));
    }
    let view = board.view.as_ref()?;
    if let Some(note) = view.notes.first() {
        let more = match view.notes.len() {
            1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        return Some(Line::styled(format!("{note}{more}"), looks.mood(Mood::Warning)));
    }
    view.fresh
        .then(|| Line::raw("The first look at this process: rates come with the next one."))
}

fn tabs(view: &View, board: &Board) -> Line<'static> {
    let mut line = Line::default();
    for (place, (name, table)) in PANES.iter().zip(&view.tables).enumerate() {
        let chosen = place == board.pane;
        let text = format!("{name} {}", table.rows.len());
        // Brackets, for terminals that show nothing reversed.
        let text = if chosen {
            format!("[{text}]")
        } else {
            format!(" {text} ")
        };
        let style = if chosen { Modifier::REVERSED } else { Modifier::empty() };
        line.push_span(Span::styled(text, style));
    }
    if !board.filter.is_empty() {
        line.push_span(Span::styled(format!("  filter: {}", board.filter), Modifier::BOLD));
    }
    line
}

fn foot(board: &Board) -> Line<'static> {
    match (board.filtering, board.help) {
        (true, _) => Line::styled(format!("filter: {}_", board.filter), Modifier::BOLD),
        (_, true) => Line::styled("any key: back", Modifier::DIM),
        _ => Line::styled(KEYS, Modifier::DIM),
    }
}

/// What the first column has in `width`.
fn flexible(columns: &[Column], width: usize) -> usize {
    let others: usize = columns.iter().skip(1).map(|column| column.width + 1).sum();
    width.saturating_sub(others).max(NARROWEST)
}

fn titles(columns: &[Column], sorting: Option<Sorting>, first: usize) -> String {
    let title = |(place, column): (usize, &Column)| {
        let mark = match sorting.filter(|sorting| sorting.column == place) {
            // The way the figures go from top to bottom.
            Some(sorting) if sorting.reversed == column.right => "^",
            Some(_) => "v",
            None => "",
        };
        format!("{}{mark}", column.title)
    };
    let texts: Vec<String> = columns.iter().enumerate().map(title).collect();
    let cells: Vec<String> = columns
        .iter()
        .zip(&texts)
        .enumerate()
        .map(|(place, (column, text))| set(text, if place == 0 { first } else { column.width }, column.right))
        .collect();
    cells.join(" ")
}

fn row(columns: &[Column], cells: &[Cell], first: usize, looks: Looks) -> Line<'static> {
    let mut line = Line::default();
    for (place, (column, cell)) in columns.iter().zip(cells).enumerate() {
        let width = if place == 0 { first } else { column.width };
        if place > 0 {
            line.push_span(Span::raw(" "));
        }
        line.push_span(Span::styled(
            set(&cell.text, width, column.right),
            looks.mood(cell.mood),
        ));
    }
    line
}

/// `text` in exactly `width` columns of the terminal; `~` where it was cut.
fn set(text: &str, width: usize, right: bool) -> String {
    let mut cut = String::new();
    let mut used = 0;
    let whole = wide(text) <= width;
    for character in text.chars() {
        let takes = wide(character.encode_utf8(&mut [0; 4]));
        if used + takes > if whole { width } else { width.saturating_sub(1) } {
            break;
        }
        cut.push(character);
        used += takes;
    }
    if !whole && width > 0 {
        cut.push('~');
        used += 1;
    }
    let blank = " ".repeat(width.saturating_sub(used));
    if right { blank + &cut } else { cut + &blank }
}

/// As many of the parts, after `title`, as there is room for.
fn fitting(title: &str, parts: &[String], width: usize) -> String {
    let mut line = title.to_owned();
    for part in parts {
        let gap = if line.is_empty() { "" } else { "  " };
        if wide(&line) + gap.len() + wide(part) > width {
            break;
        }
        line.push_str(gap);
        line.push_str(part);
    }
    line
}

/// Lines of at most `width` columns, broken at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| wide(line) + 1 + wide(word) <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The columns that `text` takes.
fn wide(text: &str) -> usize {
    Span::raw(text).width()
}
