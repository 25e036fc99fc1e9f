//! A script of several modules as one text, which is deployed, named by its digest and compiled as
//! one file is: JSON that no script is. Packed by `edge worker` and `edge dev`, unpacked by the
//! process that compiles.

use serde::Deserialize;
use serde_json::json;

/// How such a text begins. As a script it would be a syntax error.
const BEGINS: &str = "{\"edge:modules\":";
/// Modules of one script.
pub const MOST: usize = 1_000;

#[derive(Deserialize)]
struct Packed {
    #[serde(rename = "edge:modules")]
    modules: Vec<(String, String)>,
}

/// The one text of `modules`: names and texts, the main one first. Names are paths below one
/// directory; what a module imports by `./` and `../` is looked up by these.
pub fn pack(modules: &[(String, String)]) -> String {
    json!({ "edge:modules": modules }).to_string()
}

/// The modules of a text that [`pack`] made; `None`: it is a script.
///
/// # Errors
/// Why it cannot be read: it was cut off, has no module, or more than [`MOST`].
pub fn unpack(text: &str) -> Result<Option<Vec<(String, String)>>, String> {
    if !text.starts_with(BEGINS) {
        return Ok(None);
    }
    let packed: Packed = serde_json::from_str(text).map_err(|error| format!("its modules cannot be read: {error}"))?;
    match packed.modules.len() {
        1..=MOST => Ok(Some(packed.modules)),
        count => Err(format!("it has {count} modules; 1 to {MOST} can be")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker of several files would lose one, or a script be taken for such a worker.
    #[test]
    fn modules_are_read_as_they_were_written() {
        let modules = vec![
            ("src/a.js".to_owned(), "import \"./b.js\"; // \u{e9}\n".to_owned()),
            ("src/b.js".to_owned(), String::new()),
        ];
        let packed = pack(&modules);
        assert!(packed.starts_with(BEGINS), "{packed}");
        assert_eq!(unpack(&packed).unwrap().unwrap(), modules);
        assert_eq!(unpack("export default {}").unwrap(), None);
        assert!(unpack(&packed[..packed.len() - 3]).is_err());
        assert!(unpack(&pack(&[])).is_err());
        let many = vec![(String::new(), String::new()); MOST + 1];
        assert!(unpack(&pack(&many)).is_err());
    }
}
