//! A stream of pings during a test.

use std::time::Duration;

use testkit::{
    testbed::{SOON, Testbed},
    wait_until,
};

/// Ten pings a second from a container, logged in a file there: they survive the end of the engine.
pub struct Stream {
    container: String,
    log: String,
}

impl Stream {
    /// Returns after the first answer.
    #[track_caller]
    pub fn start(testbed: &Testbed, container: &str, to: &str) -> Self {
        let log = format!("/stream-{}", to.replace([':', '.'], "-"));
        let command = format!("echo $$ >{log}.pid; exec ping -i 0.1 -W 1 {to} >{log} 2>&1");
        testbed.docker(&["exec", "-d", container, "sh", "-c", &command]).ok();
        let stream = Self { container: container.to_owned(), log };
        stream.assert_continues(testbed);
        stream
    }

    /// Waits for more answers.
    #[track_caller]
    pub fn assert_continues(&self, testbed: &Testbed) {
        let answers = || {
            let text = testbed.exec_in(&self.container, &["cat", &self.log]);
            if text.success() { text.ok().matches(" time=").count() } else { 0 }
        };
        let before = answers();
        wait_until(SOON, "pings to be answered", || answers() > before + 2);
    }

    /// Ends it, and expects an answer to every ping except the last, which may be in flight.
    #[track_caller]
    pub fn lost_nothing(self, testbed: &Testbed) {
        testbed.exec_in(&self.container, &["sh", "-c", &format!("kill -INT $(cat {}.pid)", self.log)]).ok();
        let mut text = String::new();
        wait_until(Duration::from_secs(5), "the statistics of the pings", || {
            text = testbed.cat(&self.container, &self.log);
            text.contains("packet loss")
        });
        let answered = text.lines().filter_map(|line| line.split(" seq=").nth(1)?.split(' ').next()?.parse().ok());
        let answered: Vec<usize> = answered.collect();
        assert_eq!(answered, Vec::from_iter(0..answered.len()), "a ping was lost or duplicated");
        let sum = text.lines().find(|line| line.contains("packet loss")).unwrap_or_default();
        let numbers: Vec<usize> = sum.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert!(numbers[0] <= answered.len() + 1, "{sum}");
    }
}
