//! The contract between the XDP program and the daemon.
#![no_std]
