//! The threads that serve: each with its own single-threaded runtime, its own sockets on the same
//! addresses (`SO_REUSEPORT`), and its own handlers, so that a request stays on the thread it
//! arrived on.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;

use crate::base::service::Signals;
use crate::base::shutdown::{Phase, Shutdown};
use crate::base::{generator, idle};
use crate::config::Server;
use crate::isolate::handler::Isolated;
use crate::isolate::tie;
use crate::tls::{Front, Socket, listener};
use crate::{http, quic, tls};

/// The sockets of all threads, bound before anything else is done.
pub(super) struct Sockets {
    of_threads: Vec<Bound>,
    open: Open,
}

/// The addresses that sockets are bound to: what is open, whatever the file says by now.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// TLS over TCP.
    pub(super) https: Vec<SocketAddr>,
    /// Redirects.
    pub(super) http: Vec<SocketAddr>,
    /// Zones without TLS.
    pub(super) plain: Vec<SocketAddr>,
    /// QUIC.
    pub(super) quic: Vec<SocketAddr>,
    /// Threads that serve them.
    pub(super) threads: usize,
}

/// Ports, each once, in order.
pub(super) struct Ports {
    pub(super) tcp: Vec<u16>,
    pub(super) udp: Vec<u16>,
}

impl Open {
    /// The ports whose attempts the kernel judges.
    pub(super) fn ports(&self) -> Ports {
        Ports {
            tcp: ports(
                self.https
                    .iter()
                    .chain(&self.http)
                    .chain(self.plain.iter().filter(|a| !a.ip().is_loopback())),
            ),
            udp: ports(self.quic.iter()),
        }
    }

    /// The ports on which clients are told of HTTP/3: open ones, unless the file ends it.
    pub(super) fn advertised(&self, server: &Server) -> Vec<u16> {
        if server.http3 {
            ports(self.quic.iter())
        } else {
            Vec::new()
        }
    }
}

fn ports<'a>(addresses: impl Iterator<Item = &'a SocketAddr>) -> Vec<u16> {
    let mut ports: Vec<u16> = addresses.map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The sockets of one worker.
#[derive(Default)]
struct Bound {
    tcp: Vec<(TcpListener, Serves)>,
    udp: Vec<UdpSocket>,
}

/// What is served on a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serves {
    /// The zones, over TLS.
    Tls,
    /// The zones, without TLS.
    Plain,
    /// Redirects to TLS.
    Redirects,
}

/// What one thread runs.
pub(super) struct Worker {
    pub(super) front: Arc<Front>,
    /// Where HTTP/3 is spoken.
    pub(super) quic: Option<Arc<quic::Front>>,
    /// Which of the daemons that follow each other this is.
    pub(super) generation: u16,
    /// The kernel gives each worker the datagrams of its own QUIC connections.
    pub(super) steered: bool,
    /// Serves what comes over TLS, and on plain listeners that serve.
    pub(super) server: http::Server,
    /// Answers what comes over the other plain listeners.
    pub(super) redirect: http::Server,
    /// Runs workers by their schedules; the first thread's does.
    pub(super) clock: Option<Arc<Isolated>>,
    /// Fills the cache as operators order; one thread's does.
    pub(super) warmer: Option<http::warm::Warmer>,
    pub(super) shutdown: Shutdown,
}

impl Sockets {
    /// One socket per worker and address. A socket handed over by the service manager serves in
    /// place of the address it is bound to, shared by all workers.
    pub(super) fn bind(server: &Server) -> anyhow::Result<Self> {
        let mut given = given()?;
        let mut workers: Vec<Bound> = (0..server.workers).map(|_| Bound::default()).collect();
        let tls = server.https.iter().map(|a| (*a, Serves::Tls));
        let redirects = server.http.iter().map(|a| (*a, Serves::Redirects));
        let plain = server.plain.iter().map(|a| (*a, Serves::Plain));
        for (address, serves) in tls.chain(redirects).chain(plain) {
            let handed = given
                .iter()
                .position(|(bound, _)| *bound == address)
                .map(|i| given.swap_remove(i).1);
            for worker in &mut workers {
                let listener = match &handed {
                    Some(listener) => listener::adopt(listener.try_clone().map_err(tls::Error::Adopt)?)?,
                    None => listener::bind(address)?,
                };
                worker.tcp.push((listener, serves));
            }
        }
        if server.http3 {
            for address in &server.https {
                for worker in &mut workers {
                    worker.udp.push(quic::socket::bind(*address)?);
                }
            }
        }
        for (bound, _) in given {
            tracing::warn!(%bound, "a socket was handed over that no listener of the configuration is for");
        }
        Ok(Self {
            open: Open {
                https: server.https.clone(),
                http: server.http.clone(),
                plain: server.plain.clone(),
                quic: if server.http3 { server.https.clone() } else { Vec::new() },
                threads: workers.len(),
            },
            of_threads: workers,
        })
    }

    /// What is open.
    pub(super) const fn open(&self) -> &Open {
        &self.open
    }

    /// The sockets of QUIC: for each address those bound to it, by thread.
    pub(super) fn of_quic(&self) -> Vec<(SocketAddr, Vec<&UdpSocket>)> {
        let bound = |n| {
            self.of_threads
                .iter()
                .filter_map(move |thread| thread.udp.get(n))
                .collect()
        };
        let addresses = self.open.quic.iter().enumerate();
        addresses.map(|(n, address)| (*address, bound(n))).collect()
    }

    /// Starts the threads; `worker` makes what each runs. `guests`: tenants' code runs there, too.
    pub(super) fn start(self, guests: bool, worker: impl Fn() -> Worker) -> anyhow::Result<Threads> {
        let count = self.open.threads;
        let (started, starts) = mpsc::channel(count);
        let (alive, ends) = mpsc::channel(1);
        let mut threads = Vec::with_capacity(count);
        for (n, sockets) in self.of_threads.into_iter().enumerate() {
            let (worker, started, alive) = (worker(), started.clone(), alive.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{n}")).spawn(move || {
                let result = work(n, worker, sockets, guests, &started);
                drop(alive);
                if let Err(error) = result {
                    tracing::error!("a worker failed: {error:#}");
                    // Nobody waits any more once the node serves.
                    let _ = started.blocking_send(Err(error));
                }
            });
            threads.push(thread.context("cannot start a worker thread")?);
        }
        Ok(Threads {
            threads,
            count,
            starts: tokio::sync::Mutex::new(starts),
            ends: tokio::sync::Mutex::new(ends),
        })
    }
}

/// Sockets of the service manager (sd_listen_fds(3)) with the addresses they are bound to.
fn given() -> anyhow::Result<Vec<(SocketAddr, TcpListener)>> {
    let mut descriptors = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for i in 0..descriptors.len() {
        let listener = descriptors
            .take_tcp_listener(i)
            .context("the service manager handed over what is no TCP listener")?;
        if let Some(listener) = listener {
            sockets.push((listener.local_addr()?, listener));
        }
    }
    Ok(sockets)
}

fn work(
    number: usize,
    worker: Worker,
    sockets: Bound,
    guests: bool,
    started: &mpsc::Sender<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    idle::begin();
    generator::warm();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(idle::idle)
        // A guest that computes takes a tick of a millisecond each time: sockets must be looked at
        // in between.
        .event_interval(if guests { 4 } else { 61 })
        .build()?;
    runtime.block_on(async {
        let mut loops = tokio::task::JoinSet::<anyhow::Result<()>>::new();
        for (listener, serves) in sockets.tcp {
            let (front, shutdown) = (worker.front.clone(), worker.shutdown.clone());
            let (socket, server) = match serves {
                Serves::Tls => (Socket::Tls, worker.server.clone()),
                Serves::Plain => (Socket::Private, worker.server.clone()),
                Serves::Redirects => (Socket::Plain, worker.redirect.clone()),
            };
            loops.spawn(async move { Ok(front.run(listener, socket, server, shutdown).await?) });
        }
        if let Some(front) = &worker.quic {
            let place = quic::Place {
                generation: worker.generation,
                worker: number,
                steered: worker.steered,
            };
            for socket in sockets.udp {
                let (front, server, shutdown) = (front.clone(), worker.server.clone(), worker.shutdown.clone());
                loops.spawn(async move { Ok(front.run(socket, place, server, shutdown).await?) });
            }
        }
        if let (0, Some(clock)) = (number, worker.clock) {
            // What is due while the node drains is its successor's.
            let mut shutdown = worker.shutdown.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = clock.keep_time() => {}
                    () = shutdown.reached(Phase::Draining) => {}
                }
            });
        }
        if let Some(warmer) = worker.warmer {
            let mut shutdown = worker.shutdown.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = warmer.run() => {}
                    () = shutdown.reached(Phase::Draining) => {}
                }
            });
        }
        // Nobody waits if the control thread gave up.
        let _ = started.send(Ok(())).await;
        while let Some(ended) = loops.join_next().await {
            ended??;
        }
        // What guests do behind their responses has the rest of the drain time.
        let mut shutdown = worker.shutdown.clone();
        tokio::select! {
            () = tie::at_rest() => {}
            () = shutdown.reached(Phase::Stopped) => {}
        }
        Ok(())
    })
}

/// The running threads.
pub(super) struct Threads {
    threads: Vec<JoinHandle<()>>,
    count: usize,
    starts: tokio::sync::Mutex<mpsc::Receiver<anyhow::Result<()>>>,
    ends: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Threads {
    /// Returns when every worker accepts.
    pub(super) async fn ready(&self) -> anyhow::Result<()> {
        let mut starts = self.starts.lock().await;
        for _ in 0..self.count {
            starts.recv().await.context("a worker ended before it began")??;
        }
        Ok(())
    }

    /// Returns when no worker serves any more.
    async fn ended(&self) {
        // Nothing is ever sent: the channel ends with the last thread's sender.
        let _ = self.ends.lock().await.recv().await;
    }

    /// Gives connections `time` to end; returns when they have, or what is left of them is to be
    /// cut.
    pub(super) async fn drain(&self, time: Duration, signals: &mut Signals, connections: impl Fn() -> usize) {
        tokio::select! {
            () = self.ended() => {}
            () = tokio::time::sleep(time) => {
                tracing::warn!(connections = connections(), "the drain time is over; what is left is cut");
            }
            () = signals.end() => {}
        }
    }

    /// Waits for the threads.
    pub(super) async fn join(self) {
        let joined = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                // A panic was reported by the panic hook.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }
}
