//! Asks name servers: those that the file names, or the system's. By UDP, and by TCP for what does
//! not fit. `gate::reverse` asks for crawlers' names, `origin::resolver` for servers' addresses;
//! `dns` has the messages.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::dns::{Answer, Kind, LONGEST, Question, Unusable};

/// How long one server is asked, over UDP and TCP together.
const OF_SERVER: Duration = Duration::from_secs(1);
/// Servers that are asked, as by the system's resolver.
const SERVERS: usize = 3;
/// Times that all are asked: a datagram may be lost.
const ROUNDS: usize = 2;
const SYSTEM: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// Name servers, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServers(Vec<SocketAddr>);

impl NameServers {
    /// These; without any, the system's (resolv.conf(5)), as they are at each question.
    pub fn new(named: &[SocketAddr]) -> Self {
        Self(named.to_vec())
    }

    /// The answer of the first server that has one, within `ROUNDS` times `SERVERS` times
    /// `OF_SERVER`.
    ///
    /// # Errors
    /// Nobody answered; what the last one failed by.
    pub async fn ask(&self, name: &str, kind: Kind) -> io::Result<Answer> {
        let system;
        let servers = match &*self.0 {
            [] => {
                system = of_system(&tokio::fs::read_to_string(SYSTEM).await.unwrap_or_default());
                &*system
            }
            named => named,
        };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for server in (0..ROUNDS).flat_map(|_| servers.iter().take(SERVERS)) {
            match timeout(OF_SERVER, ask_one(*server, name, kind)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
            tracing::debug!(%server, name, error = %last, "a name server does not answer");
        }
        Err(last)
    }
}

/// The servers that a resolv.conf(5) names; without any, this machine's own.
fn of_system(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address
            .parse()
            .ok()
            .map(|address: IpAddr| SocketAddr::new(address, PORT))
    });
    let servers: Vec<SocketAddr> = servers.take(SERVERS).collect();
    match servers.is_empty() {
        true => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))],
        false => servers,
    }
}

async fn ask_one(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Answer> {
    let mut id = [0; 2];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| io::Error::other("no randomness"))?;
    let question = Question::new(u16::from_be_bytes(id), name, kind);
    let message = question.message().ok_or(io::ErrorKind::InvalidInput)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each question, and only what comes from the server (RFC 5452).
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&message).await?;
    let mut buffer = [0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match question.answer(buffer.get(..length).unwrap_or_default()) {
            Ok(answer) => return Ok(answer),
            // Somebody else's guess at our question, or a late answer.
            Err(Unusable::Foreign) => {}
            Err(Unusable::Truncated) => return by_stream(server, &question, &message).await,
            Err(Unusable::Failed) => return Err(io::Error::other("the server cannot answer")),
        }
    }
}

/// The same over TCP (RFC 7766), for answers that do not fit.
async fn by_stream(server: SocketAddr, question: &Question, message: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    let unusable = |_| io::Error::from(io::ErrorKind::InvalidData);
    question.answer(&answer).map_err(unusable)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::dns::tests::{labels, respond};
    use super::*;

    /// A name server that answers by `said`. What is longer than 500 bytes it says by TCP alone; in
    /// front of each datagram comes a forger's, who does not know the id; the first `silent`
    /// questions get no more than that.
    pub(crate) async fn server(silent: usize, said: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move {
            let (mut buffer, mut left) = ([0; 512], silent);
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let mut answer = said(&buffer[..length]);
                let mut forged = answer.clone();
                forged[0] ^= 1;
                socket.send_to(&forged, from).await.unwrap();
                if answer.len() > 500 {
                    answer = respond(&buffer[..length], &[], 0);
                    answer[2] |= 2;
                }
                match left {
                    0 => drop(socket.send_to(&answer, from).await.unwrap()),
                    _ => left -= 1,
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                let answer = said(&question);
                stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        address
    }

    fn said(question: &[u8]) -> Vec<u8> {
        let count = match question[12..].starts_with(&labels("big.test")) {
            true => 60,
            false => 1,
        };
        let records: Vec<_> = (1..=count).map(|n| ("", 1, 7, vec![127, 0, 1, n])).collect();
        respond(question, &records, 0)
    }

    /// One lost datagram, one dead name server or an answer that does not fit would be an outage.
    #[tokio::test]
    async fn who_does_not_answer_is_passed_over() {
        let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (dead, lossy) = (nobody.local_addr().unwrap(), server(1, said).await);
        drop(nobody);
        let servers = NameServers::new(&[dead, lossy]);
        let answer = servers.ask("One.test.", Kind::A).await.unwrap();
        assert_eq!(answer.addresses, ["127.0.1.1".parse::<IpAddr>().unwrap()]);
        let answer = servers.ask("big.test", Kind::A).await.unwrap();
        assert_eq!(answer.addresses.len(), 60);
        assert!(NameServers::new(&[dead]).ask("one.test", Kind::A).await.is_err());
        assert!(servers.ask("a..test", Kind::A).await.is_err(), "not a name");
    }

    /// Another name server than the machine's would be asked.
    #[test]
    fn name_servers_of_the_system() {
        let text = "# x\nnameserver 192.0.2.53\nsearch a\n nameserver ::1 # y\nnameserver fe80::1%eth0\n";
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(of_system(text), [at("192.0.2.53:53"), at("[::1]:53")]);
        assert_eq!(of_system(""), [at("127.0.0.1:53")]);
    }
}
