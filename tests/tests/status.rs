//! The status page in a browser: live, complete, usable without a mouse, and honest when the node
//! is gone.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "checkout/mod.rs"]
mod checkout;
#[expect(dead_code, reason = "this test uses a part of the browser's commands")]
#[path = "browser/webdriver.rs"]
mod webdriver;
#[expect(dead_code, reason = "this test uses a part of that world")]
#[path = "edge/world.rs"]
mod world;

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use webdriver::Browser;
use world::World;

const PAGE: &str = "http://127.0.0.1:9180/";
/// Two events, and a busy machine.
const LONGEST: Duration = Duration::from_secs(30);
const THIEF: &str = "198.51.100.7";

/// Waits until `condition`, an expression in the page, holds.
fn wait(browser: &Browser<'_>, condition: &str) {
    let end = Instant::now() + LONGEST;
    while browser.evaluate(&format!("return Boolean({condition})")) != Value::Bool(true) {
        let text = browser.evaluate("return document.body.innerText");
        assert!(
            Instant::now() < end,
            "{condition} does not come; the page says:\n{text}"
        );
        sleep(Duration::from_millis(200));
    }
}

/// An operator at night sees what is, lifts a penalty with two keys, and is told when the node no
/// longer answers.
#[test]
fn the_page_shows_the_node_and_says_when_it_cannot() {
    let Some(mut world) = World::start() else { return };
    world.control("penalty", &["add", THIEF]);
    {
        let directory = world.file("status");
        std::fs::create_dir(&directory).unwrap();
        let Some(browser) = Browser::start(&world.edge, &directory, "localhost", "127.0.0.1") else {
            return;
        };
        browser.open(PAGE);
        wait(&browser, "document.getElementById('state').textContent === 'ready'");
        assert_eq!(browser.title(), "edge: ready");
        // Every zone of the node; tables with nothing in them say so in words.
        wait(&browser, "document.querySelectorAll('#zones tbody tr').length >= 2");
        wait(
            &browser,
            "document.querySelector('#workers .empty')?.textContent === 'No zone has a worker.'",
        );
        // Every table can be read by its heads, and every button says what it does.
        for condition in [
            "[...document.querySelectorAll('table')].every(table => table.querySelector('th[scope=col]') && table.querySelector('th[scope=row]'))",
            "[...document.querySelectorAll('button')].every(button => button.textContent.trim() || button.getAttribute('aria-label'))",
            "document.documentElement.lang === 'en'",
            // On a phone's width nothing but tables scrolls sideways.
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth",
        ] {
            wait(&browser, condition);
        }
        // It asks before it changes anything.
        let lift = format!(
            "[...document.querySelectorAll('#penalties button')].find(button => button.getAttribute('aria-label').includes('{THIEF}'))"
        );
        wait(&browser, &lift);
        browser.evaluate(&format!("{lift}.click()"));
        wait(&browser, "document.getElementById('ask').open");
        assert!(
            world.control("penalty", &["list"]).contains(THIEF),
            "not before it was confirmed"
        );
        browser.evaluate("document.getElementById('yes').click()");
        wait(
            &browser,
            "document.getElementById('events').textContent.includes('was lifted')",
        );
        assert!(!world.control("penalty", &["list"]).contains(THIEF));
        wait(&browser, "document.querySelector('#penalties .empty')");
        // Nothing that it may not do was tried: the policy would have stopped it, and figures would
        // be missing.
        wait(&browser, "[...document.querySelectorAll('.figure')].length === 8");
        world.daemon.kill().unwrap();
        wait(
            &browser,
            "!document.getElementById('lost').hidden && document.getElementById('state').textContent === 'no connection'",
        );
    }
}
