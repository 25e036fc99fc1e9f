//! The terminal: raw mode, the alternate screen, and ratatui's frames as ECMA-48 sequences with the
//! sixteen colours that every terminal has. `top` opens it. It is as it was before when [`Screen`]
//! is dropped, and before a panic says why.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use rustix::termios::{OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Alternate screen, no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// The terminal as it was, given back once.
struct Before {
    modes: Termios,
    restored: AtomicBool,
}

impl Before {
    /// Nobody is left to tell that a terminal which is gone does not take its modes.
    fn restore(&self) {
        if self.restored.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut out = io::stdout().lock();
        let written = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
        let set = tcsetattr(io::stdin(), OptionalActions::Now, &self.modes);
        drop((written, set));
    }
}

/// A frame's way to standard output; see the module.
pub(super) struct Screen {
    before: Arc<Before>,
    out: Vec<u8>,
}

impl Screen {
    /// Takes the terminal over: bytes come as keys are pressed, and are not shown.
    ///
    /// # Errors
    /// Standard input or output is no terminal, or it does not take the modes.
    pub(super) fn enter() -> io::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(io::Error::other(
                "standard input and output are not a terminal; use --once for plain text",
            ));
        }
        let modes = tcgetattr(io::stdin())?;
        let mut raw = modes.clone();
        raw.make_raw();
        // A read waits for a byte, and gives what there is then.
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        let before = Arc::new(Before {
            modes,
            restored: AtomicBool::new(false),
        });
        let (restoring, then) = (before.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            restoring.restore();
            then(panic);
        }));
        let mut screen = Self {
            before,
            out: ENTER.into(),
        };
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        screen.flush()?;
        Ok(screen)
    }

    fn say(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn style(&mut self, cell: &Cell) {
        self.say("\x1b[0");
        for (modifier, code) in [
            (Modifier::BOLD, ";1"),
            (Modifier::DIM, ";2"),
            (Modifier::UNDERLINED, ";4"),
            (Modifier::REVERSED, ";7"),
        ] {
            if cell.modifier.contains(modifier) {
                self.say(code);
            }
        }
        for (colour, ground) in [(cell.fg, 30), (cell.bg, 40)] {
            if let Some(code) = code(colour) {
                self.say(&format!(";{}", code + ground));
            }
        }
        self.say("m");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.before.restore();
    }
}

/// Of the sixteen, counted from the foreground's black; `None`: the terminal's own.
const fn code(colour: Color) -> Option<u8> {
    Some(match colour {
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 60,
        Color::LightRed => 61,
        Color::LightGreen => 62,
        Color::LightYellow => 63,
        Color::LightBlue => 64,
        Color::LightMagenta => 65,
        Color::LightCyan => 66,
        Color::White => 67,
        Color::Reset | Color::Rgb(..) | Color::Indexed(_) => return None,
    })
}

impl Backend for Screen {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut next = None;
        let mut styled: Option<&Cell> = None;
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                self.say(&format!("\x1b[{};{}H", y.saturating_add(1), x.saturating_add(1)));
            }
            // A character of two columns takes the cursor elsewhere than to the next cell.
            next = cell.symbol().is_ascii().then_some((x.saturating_add(1), y));
            let alike = |last: &Cell| (last.fg, last.bg, last.modifier) == (cell.fg, cell.bg, cell.modifier);
            if !styled.is_some_and(alike) {
                self.style(cell);
            }
            styled = Some(cell);
            self.say(cell.symbol());
        }
        self.say("\x1b[0m");
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.say("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.say("\x1b[?25h");
        Ok(())
    }

    /// Nothing here asks where the cursor is; it is hidden.
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        self.say(&format!("\x1b[{};{}H", y.saturating_add(1), x.saturating_add(1)));
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        self.say(match clear_type {
            ClearType::All => "\x1b[2J",
            ClearType::AfterCursor => "\x1b[J",
            ClearType::BeforeCursor => "\x1b[1J",
            ClearType::CurrentLine => "\x1b[2K",
            ClearType::UntilNewLine => "\x1b[K",
        });
        Ok(())
    }

    /// As the terminal says; 80 by 24 if it does not know (a serial line).
    fn size(&self) -> io::Result<Size> {
        let size = tcgetwinsize(io::stdout())?;
        Ok(match (size.ws_col, size.ws_row) {
            (0, _) | (_, 0) => Size::new(80, 24),
            (columns, rows) => Size::new(columns, rows),
        })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize {
            columns_rows: self.size()?,
            pixels: Size::ZERO,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(&self.out)?;
        self.out.clear();
        out.flush()
    }
}
