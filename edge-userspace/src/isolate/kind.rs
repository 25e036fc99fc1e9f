//! What a worker is written as.

/// Languages, by how they are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A component that exports `wasi:http/incoming-handler`.
    Component,
    /// A script on the shared JavaScript engine.
    Script,
}
