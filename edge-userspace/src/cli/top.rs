//! `edge top`: a running node in a terminal, once a second: rates, zones, origins, workers,
//! penalties and the kernel's verdicts. `scrape` asks the admin endpoint, `model` works rates out,
//! `board` keeps what the operator chose, `draw` lays it out and `terminal` shows it.

mod board;
mod draw;
mod exposition;
mod keys;
mod model;
mod scrape;
mod table;
mod terminal;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use ratatui::Terminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::board::{After, Board};
use self::draw::Looks;
use self::scrape::Look;
use self::terminal::Screen;
use super::{Asked, print};
use crate::config::value::AdminAddress;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// After an ESC, for the rest of a key's sequence.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct Top {
    /// Print one frame with everything as plain text, after two looks a second apart, and stop: for
    /// scripts, or without a terminal.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    asked: Asked,
}

/// Watches until the operator quits, or prints one frame.
///
/// # Errors
/// There is no terminal, or it is gone; with `--once`: the node does not answer.
pub(super) fn run(top: &Top) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if top.once {
        return runtime.block_on(once(&top.asked.admin));
    }
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    runtime.block_on(watch(top.asked.admin.clone(), Looks { colours }))
}

async fn once(address: &AdminAddress) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut board = Board::new();
    for wait in [Duration::ZERO, EVERY] {
        tokio::time::sleep(wait).await;
        let look = scrape::look(address).await.map_err(anyhow::Error::msg)?;
        board.take(Ok(look), start.elapsed());
    }
    let view = board.view.as_ref().context("the node said nothing")?;
    print(&draw::plain(&board, view));
    Ok(())
}

async fn watch(address: AdminAddress, looks: Looks) -> anyhow::Result<()> {
    // Before the terminal is touched, so that whatever ends this restores it.
    let mut resized = signal(SignalKind::window_change())?;
    let mut ends = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::quit())?,
    ];
    let mut terminal = Terminal::new(Screen::enter()?)?;
    let mut input = input()?;
    let (send, mut answers) = mpsc::channel(1);
    let asking = tokio::spawn(ask(address, send));
    let start = Instant::now();
    let mut board = Board::new();
    let mut typed = Vec::new();
    let [terminated, hung_up, interrupted, quit] = &mut ends;
    let done = loop {
        terminal.draw(|frame| draw::frame(frame, &mut board, looks, start.elapsed()))?;
        let keys = tokio::select! {
            Some(look) = answers.recv() => {
                board.take(look, start.elapsed());
                Vec::new()
            }
            bytes = input.recv() => {
                let Some(bytes) = bytes else { break Err(anyhow::anyhow!("the terminal is gone")) };
                typed.extend_from_slice(&bytes);
                keys::decode(&mut typed, false)
            }
            () = tokio::time::sleep(PATIENCE), if !typed.is_empty() => keys::decode(&mut typed, true),
            _ = resized.recv() => Vec::new(),
            _ = terminated.recv() => break Ok(()),
            _ = hung_up.recv() => break Ok(()),
            _ = interrupted.recv() => break Ok(()),
            _ = quit.recv() => break Ok(()),
        };
        if keys.into_iter().any(|key| board.press(key) == After::Quit) {
            break Ok(());
        }
    };
    asking.abort();
    drop(terminal);
    done
}

/// What is typed, by a thread that ends with the process or the terminal.
fn input() -> io::Result<mpsc::Receiver<Vec<u8>>> {
    let (send, typed) = mpsc::channel(16);
    let read = move || {
        let mut bytes = [0; 256];
        while let Ok(n @ 1..) = io::stdin().read(&mut bytes) {
            let piece = bytes.get(..n).unwrap_or_default().to_vec();
            if send.blocking_send(piece).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(typed)
}

/// Asks once a second, or when the one who watches has taken the last answer.
async fn ask(address: AdminAddress, send: mpsc::Sender<Result<Look, String>>) {
    let mut second = tokio::time::interval(EVERY);
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        if send.send(scrape::look(&address).await).await.is_err() {
            return;
        }
    }
}
