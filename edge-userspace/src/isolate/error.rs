//! What goes wrong: with the room ([`Error`], told to the operator) and with one request's guest
//! ([`Ended`], counted by zone and told to its log).

use std::path::PathBuf;

use wasmtime::Trap;

use crate::config::{Mistake, Place};
use crate::http::handler::{Failure, Reason};

/// What the operator, or who deploys, has to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine cannot be had.
    #[error("workers cannot be run: {0}; write fewer [isolate] instances, or raise the limit of address space")]
    Engine(String),
    /// A file of the state directory.
    #[error("{path}: {what}: {source}; [isolate] state_directory must be writable")]
    State {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A file that the configuration names.
    #[error("{path} cannot be read: {source}; name the worker's file, and let the user edge runs as read it")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The worker cannot be used.
    #[error("the worker is refused: {0}")]
    Refused(String),
    /// Compiling broke off.
    #[error("the worker is refused: compiling it {0}")]
    Compile(String),
    /// Compiled code that this node did not write, or not so.
    #[error("{0}: the compiled code was changed since this node wrote it; it is not run")]
    Tampered(PathBuf),
    /// No such zone, or it may have no worker.
    #[error("zone \"{0}\" has no [zone.worker]; write one and reload")]
    NoWorker(String),
    /// No such version.
    #[error("zone \"{zone}\" has no version {version}; `edge worker list {zone}` shows those it has")]
    NoVersion {
        /// The zone.
        zone: String,
        /// What was asked for.
        version: String,
    },
    /// The file decides.
    #[error(
        "zone \"{0}\" names its worker's file in the configuration; change that file and reload, or remove the key"
    )]
    FromFile(String),
    /// A secret cannot be kept, or is not there.
    #[error("the secret is refused: {0}")]
    Secret(String),
    /// There are no previews.
    #[error(
        "zone \"{0}\" has no hosts for previews; write [zone.worker] previews = \"*.preview.example.com\" and reload"
    )]
    NoPreviews(String),
    /// No version is on trial.
    #[error("zone \"{0}\" has no version on trial; `edge worker deploy {0} FILE --percent 10` begins one")]
    NoRollout(String),
    /// What workers store cannot be opened.
    #[error("what zone \"{zone}\" stores cannot be opened: {what}")]
    Store {
        /// The zone.
        zone: String,
        /// Why not.
        what: String,
    },
}

impl Error {
    /// The same as a mistake at the key whose value is at fault.
    pub fn mistake(&self, place: &Place) -> Mistake {
        let text = self.to_string();
        let (what, mend) = text.rsplit_once("; ").unwrap_or((&text, "mend it, or deploy another"));
        place.mistake(what, mend)
    }
}

/// Why a guest did not come to its good end. A closed set: it is the metrics' label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.words())]
pub enum Ended {
    /// More processor time than `cpu`.
    Cpu,
    /// More time than `wall`.
    Wall,
    /// More linear memory than `memory`.
    Memory,
    /// Larger tables than `table_elements`.
    Table,
    /// Calls nested too deeply.
    Stack,
    /// `unreachable`, an access out of bounds, and every other trap.
    Trap,
    /// It ended itself (`exit`, `abort`).
    Exit,
    /// A script threw instead of answering.
    Exception,
    /// A call of the host that it may not make, or more handles or bytes than one may pass.
    Host,
    /// It ended without a response.
    NoResponse,
    /// Its response cannot be sent.
    BadResponse,
    /// More content than `response_bytes`.
    Output,
    /// No room: too many requests of the zone, or instances of the node.
    Overload,
    /// The node stopped while it still worked behind its response.
    Stopped,
    /// A defect of ours.
    Internal,
}

impl Ended {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Cpu,
        Self::Wall,
        Self::Memory,
        Self::Table,
        Self::Stack,
        Self::Trap,
        Self::Exit,
        Self::Exception,
        Self::Host,
        Self::NoResponse,
        Self::BadResponse,
        Self::Output,
        Self::Overload,
        Self::Stopped,
        Self::Internal,
    ];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::Memory => "memory",
            Self::Table => "table",
            Self::Stack => "stack",
            Self::Trap => "trap",
            Self::Exit => "exit",
            Self::Exception => "exception",
            Self::Host => "host",
            Self::NoResponse => "no_response",
            Self::BadResponse => "bad_response",
            Self::Output => "output",
            Self::Overload => "overload",
            Self::Stopped => "stopped",
            Self::Internal => "internal",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Cpu => "the worker used more processor time than `cpu`",
            Self::Wall => "the worker took longer than `wall`",
            Self::Memory => "the worker wanted more memory than `memory`",
            Self::Table => "the worker wanted more table elements than `table_elements`",
            Self::Stack => "the worker's calls nested too deeply",
            Self::Trap => "the worker trapped",
            Self::Exit => "the worker ended itself",
            Self::Exception => "the worker threw instead of answering",
            Self::Host => "the worker made a call that it may not make",
            Self::NoResponse => "the worker ended without a response",
            Self::BadResponse => "the worker's response cannot be sent",
            Self::Output => "the worker's response is longer than `response_bytes`",
            Self::Overload => "no room for another instance",
            Self::Stopped => "the node stopped before the worker had ended what it does behind its response",
            Self::Internal => "a defect of the edge",
        }
    }

    /// What `error` says of a guest.
    pub(super) fn of(error: &wasmtime::Error) -> Self {
        if let Some(ended) = error.downcast_ref::<Self>() {
            return *ended;
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => return Self::Stack,
            Some(Trap::Interrupt) => return Self::Cpu,
            Some(_) => return Self::Trap,
            None => {}
        }
        if error.is::<wasmtime_wasi::I32Exit>() {
            return Self::Exit;
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Self::Overload;
        }
        Self::Host
    }

    /// What the client gets for it.
    pub(super) fn failure(self) -> Failure {
        let reason = match self {
            Self::Wall => Reason::WorkerTimeout,
            Self::Overload => Reason::Overload,
            Self::Internal => Reason::Internal,
            _ => Reason::WorkerFailed,
        };
        Failure::new(reason, self.words())
    }
}
