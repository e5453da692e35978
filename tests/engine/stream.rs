//! A stream: pings that go on while something happens.

use std::time::Duration;

use crate::{
    support::wait_until,
    testbed::{SOON, Testbed},
};

/// Ten pings a second from a container, counted in a file there: an engine's end does not end them.
pub struct Stream {
    container: String,
    log: String,
}

impl Stream {
    /// Returns once there was an answer.
    #[track_caller]
    pub fn start(testbed: &Testbed, container: &str, to: &str) -> Self {
        let log = format!("/stream-{}", to.replace([':', '.'], "-"));
        let command = format!("echo $$ >{log}.pid; exec ping -i 0.1 -W 1 {to} >{log} 2>&1");
        testbed.docker(&["exec", "-d", container, "sh", "-c", &command]).ok();
        let stream = Self { container: container.to_owned(), log };
        stream.goes_on(testbed);
        stream
    }

    /// Waits for more answers.
    #[track_caller]
    pub fn goes_on(&self, testbed: &Testbed) {
        let answers = || {
            let text = testbed.exec_in(&self.container, &["cat", &self.log]);
            if text.success() { text.ok().matches(" time=").count() } else { 0 }
        };
        let before = answers();
        wait_until(SOON, "pings to be answered", || answers() > before + 2);
    }

    /// Ends it, and expects that every ping was answered but for the last, which the end may have overtaken.
    #[track_caller]
    pub fn lost_nothing(self, testbed: &Testbed) {
        testbed.exec_in(&self.container, &["sh", "-c", &format!("kill -INT $(cat {}.pid)", self.log)]).ok();
        let mut text = String::new();
        wait_until(Duration::from_secs(5), "the sum of the pings", || {
            text = testbed.cat(&self.container, &self.log);
            text.contains("packet loss")
        });
        let answered = text.lines().filter_map(|line| line.split(" seq=").nth(1)?.split(' ').next()?.parse().ok());
        let answered: Vec<usize> = answered.collect();
        assert_eq!(answered, Vec::from_iter(0..answered.len()), "no ping is lost, none comes twice");
        let sum = text.lines().find(|line| line.contains("packet loss")).unwrap_or_default();
        let numbers: Vec<usize> = sum.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert!(numbers[0] <= answered.len() + 1, "{sum}");
    }
}
