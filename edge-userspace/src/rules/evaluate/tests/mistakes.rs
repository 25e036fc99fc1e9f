//! What an operator is told of rules that cannot be meant.

use super::{configured, parsed};

/// A rule, and part of what is wrong with it.
const MISTAKES: &[(&str, &str)] = &[
    ("name = \"a b\"\nsecurity = true", "valid rule name"),
    ("name = \"a\"", "does nothing"),
    (
        "name = \"a\"\nredirect = { to = \"/x\" }\nrespond = { status = 200 }",
        "answers in two ways",
    ),
    ("name = \"a\"\nredirect = { to = \"x\" }", "does not lead anywhere"),
    (
        "name = \"a\"\nredirect = { to = \"/x\", status = 200 }",
        "not the status of a redirect",
    ),
    ("name = \"a\"\nredirect = { to = \"/${1}\" }", "is not a variable"),
    (
        "name = \"a\"\nmatch = { paths = [\"~(\"] }\nsecurity = true",
        "not a valid regular expression",
    ),
    (
        "name = \"a\"\nmatch = { methods = [\"get\"] }\nsecurity = true",
        "not a valid method",
    ),
    (
        "name = \"a\"\nresponse = { set = { Content-Length = \"1\" } }",
        "no rule may change content-length",
    ),
    (
        "name = \"a\"\nrequest = { remove = [\"X Y\"] }",
        "not a valid field name",
    ),
    (
        "name = \"a\"\nrespond = { status = 101 }",
        "not the status of an answer",
    ),
    ("name = \"a\"\nrewrite = {}", "changes nothing"),
    ("name = \"a\"\norigin = \"none\"", "no pool is called"),
    ("name = \"a\"\nmirror = { to = \"none\" }", "no pool is called"),
    ("name = \"a\"\nsplit = { to = [] }", "no parts"),
    ("name = \"a\"\nsecurity = true\nauth = {}", "asks for nothing"),
    (
        "name = \"a\"\nauth = { forward = { to = \"none\" } }",
        "no pool is called",
    ),
    (
        "name = \"a\"\nauth = { forward = { to = \"none\", path = \"x\" } }",
        "not a valid path",
    ),
    (
        "name = \"a\"\nauth = { forward = { to = \"none\", timeout = \"2m\" } }",
        "cannot wait so long",
    ),
    (
        "name = \"a\"\nauth = { forward = { to = \"none\", to_origin = [\"X-Forwarded-User\"] } }",
        "no rule may change x-forwarded-user",
    ),
    (
        "name = \"a\"\nauth = { forward = { to = \"none\", to_client = [\"Content-Type\"] } }",
        "says something of the content",
    ),
    ("name = \"a\"\nauth = { jwt = { audience = [] } }", "without keys"),
    (
        "name = \"a\"\nauth = { jwt = { keys_from = { origin = \"none\" } } }",
        "no pool is called",
    ),
    (
        "name = \"a\"\nauth = { jwt = { keys_from = { origin = \"none\", refresh = \"1s\" } } }",
        "so often",
    ),
    (
        "name = \"a\"\nsplit = { by = \"moon\", to = [] }",
        "not something that requests can be placed by",
    ),
    (
        "name = \"a\"\nsplit = { to = [{ origin = \"none\", percent = 101 }] }",
        "not a share of the requests",
    ),
    ("name = \"a\"\nrewrite = { to = \"x\" }", "not a valid path"),
    (
        "name = \"a\"\ncors = { origins = [\"*\"], credentials = true }",
        "for every origin",
    ),
    (
        "name = \"a\"\ncors = { origins = [\"app.example\"] }",
        "not a valid origin",
    ),
    (
        "name = \"a\"\nmatch = { not = { not = {} } }\nsecurity = true",
        "`not` within `not`",
    ),
];

/// Rules that name files of no use, and part of what is wrong with them.
const FAULTS: &[(&str, &str)] = &[
    ("name = \"a\"\nredirects = { file = \"none.txt\" }", "none.txt"),
    (
        "name = \"a\"\nrespond = { status = 503, file = \"none.html\" }",
        "none.html",
    ),
    (
        "name = \"a\"\nauth = { basic = { file = \"none.users\" } }",
        "none.users",
    ),
    (
        "name = \"a\"\nauth = { basic = { file = \"/dev/null\" } }",
        "is not a file",
    ),
    (
        "name = \"a\"\nauth = { jwt = { keys = \"/dev/null\" } }",
        "is not a file",
    ),
];

/// One zone's file that is missing would keep all zones from being served.
#[test]
fn files_of_rules_are_their_zones_alone() {
    for (rule, says) in FAULTS {
        let faults = configured(&format!("[[zone.rule]]\n{rule}\n")).unwrap().faults;
        assert!(
            faults.of_node().is_empty() && faults.of_zones().len() == 1,
            "{rule}: {faults:?}"
        );
        let told = faults.or(()).unwrap_err().0;
        let sound = |mistake: &crate::config::Mistake| {
            mistake.what.contains(says) && mistake.line > 8 && !mistake.mend.is_empty()
        };
        assert!(told.len() == 1 && told.iter().all(sound), "{rule}: {told:?}");
    }
}

/// An operator would learn of a mistake from visitors.
#[test]
fn mistakes_have_a_line_and_a_mend() {
    for (rule, says) in MISTAKES {
        let mistakes = parsed(&format!("[[zone.rule]]\n{rule}\n")).unwrap_err().0;
        let found = mistakes
            .iter()
            .any(|mistake| mistake.what.contains(says) && mistake.line > 8 && !mistake.mend.is_empty());
        assert!(found, "{rule}: {mistakes:?}");
    }
}
