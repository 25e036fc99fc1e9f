//! What tests, benches and the demo share: namespaces, certificates, child processes.

pub mod packet;
pub mod test_run;
