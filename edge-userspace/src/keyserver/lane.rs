//! The RSA lane: operations that take as long as twenty others wait here for threads of their own,
//! so that quick ones, which connections do themselves, never wait for them. Connections take
//! turns, whatever each has waiting; all is bounded.

use std::collections::{HashMap, VecDeque, hash_map};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::process::setpriority_process;
use tokio::sync::mpsc::UnboundedSender;

use super::key::Key;
use super::metrics::Metrics;
use super::task::Task;
use super::wire::{Answer, Op, Reply};
use crate::base::generator;

/// How nice the threads are: where processors are short, about a quarter of one is left to RSA.
const NICE: i32 = 5;

/// An operation that waits.
#[derive(Debug)]
pub(super) struct Job {
    /// Of the query.
    pub(super) id: u64,
    pub(super) op: Op,
    pub(super) key: Arc<Key>,
    pub(super) task: Task,
    /// When it was read.
    pub(super) since: Instant,
    /// The connection; its count of what is pending bounds this channel.
    pub(super) replies: UnboundedSender<(Op, Reply)>,
}

/// Jobs of all connections, and the threads that do them.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<State>,
    wake: Condvar,
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, VecDeque<Job>>,
    /// Connections that have jobs, the next first.
    turns: VecDeque<u64>,
    total: usize,
    stopped: bool,
}

impl State {
    fn next(&mut self) -> Option<Job> {
        let connection = self.turns.pop_front()?;
        let hash_map::Entry::Occupied(mut jobs) = self.waiting.entry(connection) else {
            return None;
        };
        let job = jobs.get_mut().pop_front();
        if jobs.get().is_empty() {
            jobs.remove();
        } else {
            self.turns.push_back(connection);
        }
        self.total -= usize::from(job.is_some());
        job
    }
}

impl Lane {
    /// A lane for `most` jobs, without threads yet.
    pub(super) fn new(most: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            most,
        }
    }

    /// Starts the threads; they end with [`Lane::stop`].
    pub(super) fn start(self: &Arc<Self>, threads: usize, metrics: &Arc<Metrics>) -> std::io::Result<()> {
        for _ in 0..threads {
            let (lane, metrics) = (self.clone(), metrics.clone());
            thread::Builder::new().name("rsa".to_owned()).spawn(move || {
                // Of this thread alone. If it is refused, the lane is as quick as the rest.
                let _ = setpriority_process(None, NICE);
                generator::warm();
                lane.work(&metrics);
            })?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job of `connection` in line, and says so; drops it if the lane is full.
    pub(super) fn submit(&self, connection: u64, job: Job) -> bool {
        let mut state = self.lock();
        if state.total >= self.most || state.stopped {
            return false;
        }
        state.total += 1;
        match state.waiting.entry(connection) {
            hash_map::Entry::Occupied(mut jobs) => jobs.get_mut().push_back(job),
            hash_map::Entry::Vacant(jobs) => {
                jobs.insert(VecDeque::from([job]));
                state.turns.push_back(connection);
            }
        }
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Drops what a connection that ended has waiting.
    pub(super) fn forget(&self, connection: u64) {
        let mut state = self.lock();
        if let Some(jobs) = state.waiting.remove(&connection) {
            state.total -= jobs.len();
            state.turns.retain(|turn| *turn != connection);
        }
    }

    /// Jobs that wait now.
    pub(super) fn len(&self) -> usize {
        self.lock().total
    }

    /// Lets the threads end.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.wake.notify_all();
    }

    fn work(&self, metrics: &Metrics) {
        loop {
            let mut state = self.lock();
            let job = loop {
                if state.stopped {
                    return;
                }
                if let Some(job) = state.next() {
                    break job;
                }
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            let answer = match job.task.run(&job.key) {
                Ok(answer) => answer,
                Err(code) => Answer::Error(code),
            };
            metrics.rsa_seconds.observe(job.since.elapsed().as_secs_f64());
            let reply = Reply { id: job.id, answer };
            // The connection may have ended meanwhile; then nobody waits for it.
            let _ = job.replies.send((job.op, reply));
        }
    }
}
