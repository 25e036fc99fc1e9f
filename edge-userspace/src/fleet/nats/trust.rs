//! TLS towards the engine: who it has to be, and what is shown to it.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::base::{file, link, pem};

/// What a connection to the engine is made with: authorities in `ca`, else the system's; a
/// certificate and its key.
///
/// # Errors
/// What cannot be used, in words for the operator.
pub fn tls(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, String> {
    let read = |path: &Path| file::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let certificates =
                pem::certificates(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
            for certificate in certificates {
                roots
                    .add(certificate)
                    .map_err(|error| format!("{} holds no authority: {error}", path.display()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder_with_provider(link::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = pem::certificates(&read(certificate)?)
                .map_err(|error| format!("{}: {error}", certificate.display()))?;
            let private = pem::private_key(&read(key)?).map_err(|error| format!("{}: {error}", key.display()))?;
            config
                .with_client_auth_cert(chain, private)
                .map_err(|error| format!("{} and {}: {error}", certificate.display(), key.display()))?
        }
    };
    Ok(Arc::new(config))
}
