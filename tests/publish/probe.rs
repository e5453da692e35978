//! Probes: who answers whom.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::topology::Scenario;

/// Where a probe starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum From<'a> {
    /// The host outside.
    Outside,
    /// The node itself.
    Host,
    /// A container.
    In(&'a str),
}

/// What should come of it.
#[derive(Clone, Debug)]
pub enum Expect<'a> {
    /// This very answer: `NAME:PORT PEER`.
    Is(&'a str),
    /// An answer of this server, whoever it sees.
    By(&'a str),
    /// None.
    Closed,
}

use Expect::{By, Closed, Is};

impl Expect<'_> {
    fn holds(&self, answer: &str) -> bool {
        match self {
            Is(text) => answer == *text,
            By(name) => answer.split_once(' ').map_or(answer, |(who, _)| who) == *name,
            Closed => is_closed(answer),
        }
    }
}

pub fn is_closed(answer: &str) -> bool {
    // a proxy of the engine's takes the connection before it has one itself
    ["timeout", "refused", "closed"].contains(&answer) || answer.starts_with("unreachable")
}

/// How long nothing may come back until it counts as closed.
const PATIENCE: &str = "1";

impl Scenario<'_> {
    /// Runs probes (`tcp,ADDR,PORT`, `udp,ADDR,PORT`, `icmp,ADDR,SIZE`) at once; an answer each.
    #[track_caller]
    pub fn ask(&self, from: From, probes: &[&str]) -> Vec<String> {
        if probes.is_empty() {
            return Vec::new();
        }
        let ask = ["perl", "/lab/tool.pl", "ask", PATIENCE];
        let output = match from {
            From::Outside => self.outside.exec(&[&ask[..], probes].concat()),
            From::Host => self.exec(&[&ask[..], probes].concat()),
            From::In(container) => self.exec_beside(container, &[&ask[..], probes].concat()),
        };
        let text = output.ok();
        let answers: Vec<_> = text.lines().map(str::to_owned).collect();
        assert_eq!(answers.len(), probes.len(), "{text}");
        answers
    }

    /// Runs a command of the node in the network namespace of a container.
    pub fn exec_beside(&self, container: &str, command: &[&str]) -> crate::support::Output {
        let script = "pid=$(docker inspect -f '{{.State.Pid}}' \"$0\") && exec nsenter -t $pid -n \"$@\"";
        self.exec(&[&["bash", "-c", script, container][..], command].concat())
    }

    /// One probe.
    #[track_caller]
    pub fn answer(&self, from: From, probe: &str) -> String {
        self.ask(from, &[probe]).remove(0)
    }

    /// Asks until all is as expected, and says what is not. What is open may take a moment, and so may a loaded
    /// machine: what came out wrong is tried again.
    #[track_caller]
    pub fn expect(&self, rows: &[(From, &str, Expect)]) {
        self.expect_within(Duration::from_secs(6), rows);
    }

    #[track_caller]
    pub fn expect_within(&self, deadline: Duration, rows: &[(From, &str, Expect)]) {
        let began = Instant::now();
        let mut open: Vec<usize> = (0..rows.len()).collect();
        loop {
            let late = began.elapsed() > deadline;
            let wrong = self.wrong(rows, &open);
            if wrong.is_empty() {
                return;
            }
            if late {
                let lines: Vec<_> = wrong
                    .iter()
                    .map(|(at, answer)| {
                        let (from, probe, expect) = &rows[*at];
                        format!("{from:?} -> {probe}: expected {expect:?}, got {answer:?}")
                    })
                    .collect();
                panic!("with driver {} on engine {}:\n{}", self.driver, self.engine, lines.join("\n"));
            }
            open = wrong.into_iter().map(|(at, _)| at).collect();
        }
    }

    /// Rows that are not as expected, with what came instead.
    #[track_caller]
    fn wrong(&self, rows: &[(From, &str, Expect)], open: &[usize]) -> Vec<(usize, String)> {
        let mut sources: Vec<From> = open.iter().map(|at| rows[*at].0).collect();
        sources.sort_unstable();
        sources.dedup();
        let one = |source: From| {
            let here: Vec<usize> = open.iter().copied().filter(|at| rows[*at].0 == source).collect();
            let probes: Vec<&str> = here.iter().map(|at| rows[*at].1).collect();
            let answers = self.ask(source, &probes);
            here.into_iter().zip(answers).filter(|(at, answer)| !rows[*at].2.holds(answer)).collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let one = &one;
            let asked: Vec<_> = sources.into_iter().map(|source| scope.spawn(move || one(source))).collect();
            asked.into_iter().flat_map(|asked| asked.join().expect("the probes are sent")).collect()
        })
    }
}
