//! What tests, benches and the demo share: namespaces, certificates, child processes.
