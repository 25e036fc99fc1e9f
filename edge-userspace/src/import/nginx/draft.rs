//! A zone that is being made: its rules and routes, each rule with a name of its own.

use std::collections::BTreeSet;

use super::context;
use crate::import::write::{Entry, Route, Rule, When, Zone};

/// A zone that is being made.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) zone: Zone,
    /// Some location of the zone has a cache.
    pub(super) cached: bool,
    /// The directory that answers what no other location does, if one does.
    pub(super) files: Option<String>,
    names: BTreeSet<String>,
}

impl Draft {
    /// One more rule, made of `owner`.
    pub(super) fn rule(&mut self, owner: usize, name: &str, when: When, act: Vec<Entry>, last: bool) {
        let name = self.name(name);
        self.zone.rules.push(Rule {
            owner,
            name,
            when,
            act,
            last,
        });
    }

    fn name(&mut self, wanted: &str) -> String {
        let name = context::unlike(wanted, |name| self.names.contains(name));
        self.names.insert(name.clone());
        name
    }

    /// A route to a directory, unless there is one of its path; whether there is none to another
    /// one.
    pub(super) fn route(&mut self, path: &str, directory: &str) -> bool {
        let route = Route {
            path: path.to_owned(),
            directory: directory.to_owned(),
        };
        match self.zone.routes.iter().find(|known| known.path == route.path) {
            Some(known) => *known == route,
            None => {
                self.zone.routes.push(route);
                true
            }
        }
    }

    /// Answers 404 to requests for `path`, before all other rules.
    pub(super) fn hide(&mut self, owner: usize, path: &str) {
        let when = When {
            paths: vec![path.to_owned()],
            ..When::default()
        };
        let act = vec![("respond".to_owned(), "{ status = 404 }".to_owned())];
        let name = self.name("hidden");
        let rule = Rule {
            owner,
            name,
            when,
            act,
            last: false,
        };
        self.zone.rules.insert(0, rule);
    }
}
