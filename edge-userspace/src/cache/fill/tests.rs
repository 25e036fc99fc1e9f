//! Content on its way: every reader gets every byte, or an error; never a part that looks like the
//! whole.

use super::super::store::Room;
use super::*;
use std::collections::VecDeque;

/// Content in pieces; `Err` ends it.
struct Pieces(VecDeque<Result<&'static str, ()>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(|piece| match piece {
            Ok(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
            Err(()) => Err(BodyError::Stalled),
        }))
    }
}

fn body(pieces: &[Result<&'static str, ()>]) -> Body {
    Body::boxed(Pieces(pieces.iter().copied().collect()))
}

async fn read(reader: Reader) -> Result<String, BodyError> {
    let bytes = reader.collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

async fn driven(
    pieces: &[Result<&'static str, ()>],
    announced: Option<u64>,
    most: u64,
    room: u64,
) -> (Arc<Fill>, Outcome) {
    let fill = Arc::new(Fill::default());
    let mut room = Room::of(room);
    let outcome = fill.drive(body(pieces), announced, most, &mut room).await;
    (fill, outcome)
}

#[tokio::test]
async fn readers_get_every_byte() {
    let (fill, outcome) = driven(&[Ok("ab"), Ok("cde"), Ok("f")], Some(6), 10, 1_000).await;
    assert!(matches!(outcome, Outcome::Whole(bytes) if bytes == "abcdef"));
    assert_eq!(read(Reader::new(fill.clone(), true, Some(6))).await.unwrap(), "abcdef");
    assert_eq!(read(Reader::new(fill.clone(), false, None)).await.unwrap(), "abcdef");
    assert_eq!(read(Reader::part(fill.clone(), false, 1, 3)).await.unwrap(), "bcd");
    assert_eq!(read(Reader::part(fill, false, 5, 1)).await.unwrap(), "f");
}

/// What broke off must not be stored, nor end as if it were whole.
#[tokio::test]
async fn broken_content() {
    for (pieces, announced) in [
        (&[Ok("ab"), Err(())][..], None),
        (&[Ok("ab")], Some(3)),
        (&[Ok("ab"), Err(())], Some(3)),
    ] {
        let (fill, outcome) = driven(pieces, announced, 10, 1_000).await;
        assert!(matches!(outcome, Outcome::Broken));
        assert!(read(Reader::new(fill, false, announced)).await.is_err());
    }
}

/// Content beyond the bounds still reaches the client that asked for it, whole, and is not kept.
#[tokio::test]
async fn too_much() {
    for (most, room) in [(3, 1_000), (10, 200)] {
        let (fill, outcome) = driven(&[Ok("ab"), Ok("cd"), Ok("ef")], None, most, room).await;
        assert!(matches!(outcome, Outcome::TooLarge | Outcome::NoRoom));
        assert_eq!(read(Reader::new(fill.clone(), true, None)).await.unwrap(), "abcdef");
        assert!(read(Reader::new(fill, false, None)).await.is_err());
    }
}

/// The first byte does not wait for the last.
#[tokio::test]
async fn streams() {
    let fill = Arc::new(Fill::default());
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<&'static str>(1);
    let source = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx).map(|piece| piece.map(Bytes::from)));
    let body = Body::boxed(http_body_util::StreamBody::new(futures_util::StreamExt::map(
        source,
        |bytes| Ok::<_, BodyError>(Frame::data(bytes)),
    )));
    let driver = fill.clone();
    let task = tokio::spawn(async move { driver.drive(body, None, 10, &mut Room::of(1_000)).await });
    let mut reader = Reader::new(fill, true, None);
    sender.send("first").await.unwrap();
    let frame = reader.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "first");
    drop(sender);
    assert!(reader.frame().await.is_none());
    assert!(matches!(task.await.unwrap(), Outcome::Whole(_)));
}

/// Content in tiny pieces takes the room that it takes, and not that of the buffers it was read
/// into: an origin of events must not fill the memory with a few bytes.
#[tokio::test]
async fn tiny_pieces() {
    let buffer = Bytes::from(vec![b'x'; 64 << 10]);
    let pieces: Vec<Result<Frame<Bytes>, BodyError>> = (0..100)
        .map(|n| Ok(Frame::data(buffer.slice(n * 10..n * 10 + 1))))
        .collect();
    let body = Body::boxed(http_body_util::StreamBody::new(futures_util::stream::iter(pieces)));
    let fill = Arc::new(Fill::default());
    let mut room = Room::of(20_000);
    assert!(matches!(
        fill.drive(body, None, 1_000, &mut room).await,
        Outcome::Whole(_)
    ));
    assert!(buffer.is_unique(), "the buffer is kept for 100 bytes of it");
    let pieces: Vec<Result<&'static str, ()>> = vec![Ok("x"); 100];
    let (_, outcome) = driven(&pieces, None, 1_000, 5_000).await;
    assert!(
        matches!(outcome, Outcome::NoRoom),
        "what pieces take beside their bytes is counted"
    );
}
