//! The origin: little for good clients, much for the others, and two paths that never answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use edge_testbed::words::Words;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// The content for good clients.
pub(crate) const SMALL: &str = "a good client's content, to its end";
const BIG: usize = 64 << 20;
const STORED: usize = 7 << 20;

/// Serves plain HTTP/1.1 on `listen=`.
pub(crate) async fn serve(words: &Words) -> Result<Value> {
    let listener = TcpListener::bind(words.get::<SocketAddr>("listen")?).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move { drop(connection(stream).await) });
    }
}

async fn connection(mut stream: TcpStream) -> Result<()> {
    let mut seen = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let end = loop {
            if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            match stream.read(&mut piece).await? {
                0 => return Ok(()),
                read => seen.extend(piece.get(..read).unwrap_or_default()),
            }
        };
        let head = String::from_utf8_lossy(seen.get(..end).unwrap_or_default()).into_owned();
        seen.drain(..end + 4);
        let path = head.split(' ').nth(1).unwrap_or_default();
        if matches!(path, "/stall" | "/hang") {
            // Neither reads on nor answers.
            sleep(Duration::from_secs(600)).await;
            return Ok(());
        }
        let (length, fresh) = match path {
            "/big" => (BIG, "no-store"),
            "/stored" => (STORED, "max-age=600"),
            _ => (SMALL.len(), "no-store"),
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nCache-Control: {fresh}\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        if length == SMALL.len() {
            stream.write_all(SMALL.as_bytes()).await?;
        } else {
            let chunk = [b'x'; 64 << 10];
            let mut left = length;
            while left > 0 {
                let now = left.min(chunk.len());
                stream.write_all(chunk.get(..now).unwrap_or_default()).await?;
                left -= now;
            }
        }
    }
}
