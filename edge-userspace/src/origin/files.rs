use crate::http::handler::Failure;
use crate::http::message::Response;
use std::path::Path;
pub(super) async fn serve(_d: &Path, _r: &http::request::Parts) -> Result<Response, Failure> {
    Ok(Response::new(http::StatusCode::NOT_FOUND, ""))
}
