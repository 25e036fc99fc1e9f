//! The door without clocks and sockets: penalties and tickets in, a judgement out.

use std::time::Duration;

use super::super::feed;
use super::super::keys::{Epochs, Secret};
use super::super::penalty::{Company, Strike};
use super::super::token::ClientId;
use super::*;

const ALICE: ClientId = ClientId(0xa11c_e000_0000_0001);
const MALLORY: ClientId = ClientId(0x3a11_0124_0000_0002);
const UNIX: Duration = Duration::from_secs(1_700_000_000);

fn at(seconds: u64) -> Now {
    let mono = Duration::from_secs(seconds);
    Now {
        mono,
        unix: UNIX + mono,
        ahead: [0; 2],
    }
}

pub(in crate::gate) fn tokens() -> Arc<Tokens> {
    let secret = Secret::new(b"an example of thirty-two bytes..").unwrap();
    Arc::new(Tokens::new(secret, Epochs::DEFAULT, UnixTime::from(UNIX)))
}

fn door() -> Door {
    let (feed, _) = feed::channel(64);
    let book = Arc::new(Book::new(512, feed));
    Door::new(Clock::new(), book, Arc::new(Neighbours::new(64, 1)), tokens())
}

fn ticket(address: IpAddr, client: ClientId, life: u32) -> Vec<u8> {
    let now = at(0);
    let second = now.second_after(Duration::ZERO);
    let time = UnixTime::from(now.unix);
    let header = tokens().header(time, address, Carrier::Ticket, client, second, second + life);
    [&header[..], &[7; 90]].concat()
}

/// Neighbours of an abuser would be reset with it, or the abuser let in with them.
#[test]
fn tickets_go_on_and_newcomers_share() {
    let (door, home) = (door(), IpAddr::from([192, 0, 2, 1]));
    let away = IpAddr::from([192, 0, 2, 2]);
    assert_eq!(door.penalised_at(at(1), home), None);
    let strike = Strike {
        strikes: 5,
        until: Duration::from_secs(60),
        probation: Duration::ZERO,
    };
    for subject in [Subject::Address(home), Subject::Client(MALLORY.0)] {
        door.book
            .penalise(at(1).mono, 7, (subject, home), (strike, Company::default()), true);
    }
    let penalised = door.penalised_at(at(1), home).unwrap();
    let judge = |seconds, tickets: &[&[u8]]| door.judge_at(at(seconds), penalised, tickets.iter().copied());
    let good = ticket(home, ALICE, 50);
    assert_eq!(judge(2, &[&good]), Ok(Entry::Ticket));
    assert_eq!(judge(2, &[&good[..31], &good]), Ok(Entry::Ticket), "the second of two");
    assert_eq!(judge(2, &[&ticket(home, MALLORY, 50)]), Err(Refusal::Client));
    for _ in 0..5 {
        assert_eq!(judge(2, &[]), Ok(Entry::Share));
    }
    assert_eq!(judge(2, &[]), Err(Refusal::NoTicket));
    let mut forged = good.clone();
    forged[20] ^= 1;
    assert_eq!(judge(3, &[]), Ok(Entry::Share));
    for bad in [
        &ticket(away, ALICE, 50)[..],
        &ticket(home, ALICE, 0),
        &forged,
        &good[..31],
    ] {
        assert_eq!(judge(3, &[bad]), Err(Refusal::BadTicket));
    }
    assert_eq!(judge(60, &[&good]).ok(), Some(Entry::Share), "it has expired");
    assert_eq!(door.penalised_at(at(61), home), None, "the penalty is over");
    assert_eq!(door.penalised_at(at(2), away), None);

    assert!(
        !door.is_barred_at(at(2), home),
        "it is penalised, and no operator's word"
    );
    door.book
        .add(at(2).mono, Subject::Address(home), Level::Blocked, strike.until);
    let penalised = door.penalised_at(at(3), home).unwrap();
    assert_eq!(door.judge_at(at(3), penalised, [&good[..]]), Err(Refusal::Operator));
    assert!(door.is_barred_at(at(3), home) && !door.is_barred_at(at(3), away));
}
