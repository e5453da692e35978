//! Probes: which server answers which client.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::topology::{OUTSIDE4, OUTSIDE6, Scenario};

/// The source of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum From<'a> {
    /// The host outside.
    Outside,
    /// The node itself.
    Host,
    /// A container.
    In(&'a str),
}

/// The expected result.
#[derive(Clone, Debug)]
pub enum Expect<'a> {
    /// Exactly this answer: `NAME:PORT PEER`.
    Is(&'a str),
    /// An answer of this server, with any peer address.
    By(&'a str),
    /// No answer.
    Closed,
}

use Expect::{By, Closed, Is};

impl Expect<'_> {
    fn matches(&self, answer: &str) -> bool {
        match self {
            Is(text) => answer == *text,
            By(name) => answer.split_once(' ').map_or(answer, |(who, _)| who) == *name,
            Closed => is_closed(answer),
        }
    }
}

pub fn is_closed(answer: &str) -> bool {
    // A proxy of the engine accepts the connection before it has one to the container.
    ["timeout", "refused", "closed"].contains(&answer) || answer.starts_with("unreachable")
}

/// The time without an answer after which a port counts as closed.
const PATIENCE: &str = "1";

impl Scenario<'_> {
    /// Runs probes (`tcp,ADDR,PORT`, `udp,ADDR,PORT`, `icmp,ADDR,SIZE`) in parallel; returns an answer for each.
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
    pub fn exec_beside(&self, container: &str, command: &[&str]) -> testkit::Output {
        let script = "pid=$(docker inspect -f '{{.State.Pid}}' \"$0\") && exec nsenter -t $pid -n \"$@\"";
        self.exec(&[&["bash", "-c", script, container][..], command].concat())
    }

    /// One probe.
    #[track_caller]
    pub fn answer(&self, from: From, probe: &str) -> String {
        self.ask(from, &[probe]).remove(0)
    }

    /// Probes until all results are as expected, or fails with those that are not. Opening a port, or a loaded machine,
    /// may take a moment, so unexpected results are probed again.
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
            let unexpected = self.unexpected(rows, &open);
            if unexpected.is_empty() {
                return;
            }
            if late {
                let lines: Vec<_> = unexpected
                    .iter()
                    .map(|(at, answer)| {
                        let (from, probe, expect) = &rows[*at];
                        format!("{from:?} -> {probe}: expected {expect:?}, got {answer:?}")
                    })
                    .collect();
                panic!("with driver {} on engine {}:\n{}", self.driver, self.engine, lines.join("\n"));
            }
            open = unexpected.into_iter().map(|(at, _)| at).collect();
        }
    }

    /// What `pontoon explain` answers, asked in one go: a sender and a receiver each.
    #[track_caller]
    pub fn explain(&self, questions: &[String]) -> Vec<Value> {
        let ask = |question: &String| {
            format!("pontoon explain {question} --docker /lab/docker.sock --json 2>&1 | tr -d '\\n'; echo")
        };
        let script = questions.iter().map(ask).collect::<Vec<_>>().join("\n");
        let output = self.exec(&["bash", "-c", &format!("PATH=/lab:$PATH\n{script}")]).ok();
        let answers =
            output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        let answers: Vec<Value> = answers.collect();
        assert_eq!(answers.len(), questions.len(), "{output}");
        answers
    }

    /// On Pontoon: `pontoon explain` says of each row what the packets did.
    #[track_caller]
    pub fn explained(&self, rows: &[(From, &str, Expect)]) {
        if !self.is_pontoon() {
            return;
        }
        let question = |(from, probe, _): &(From, &str, Expect)| {
            let mut parts = probe.split(',');
            let (protocol, address, port) = (parts.next()?, parts.next()?, parts.next()?);
            let v6 = address.contains(':');
            if !["tcp", "udp"].contains(&protocol) {
                return None;
            }
            let from = match from {
                From::Outside if probe.split(',').count() == 4 => parts.next()?,
                From::Outside if v6 => OUTSIDE6,
                From::Outside => OUTSIDE4,
                From::Host => "host",
                From::In(name) => name,
            };
            let at = if v6 { format!("[{address}]") } else { address.to_owned() };
            Some(format!("{from} '{at}:{port}/{protocol}'"))
        };
        let (asked, rows): (Vec<String>, Vec<_>) = rows.iter().filter_map(|row| Some((question(row)?, row))).unzip();
        assert!(!asked.is_empty(), "no row can be asked");
        for ((question, answer), (.., expect)) in asked.iter().zip(self.explain(&asked)).zip(rows) {
            let closed = matches!(expect, Closed);
            let agrees = (answer["verdict"] == "ACCEPTED") != closed && answer["verdict"] != "UNKNOWN";
            assert!(agrees, "expected {expect:?}, but explain {question}: {answer:#}");
        }
    }

    /// Rows with an unexpected result, and that result.
    #[track_caller]
    fn unexpected(&self, rows: &[(From, &str, Expect)], open: &[usize]) -> Vec<(usize, String)> {
        let mut sources: Vec<From> = open.iter().map(|at| rows[*at].0).collect();
        sources.sort_unstable();
        sources.dedup();
        let one = |source: From| {
            let here: Vec<usize> = open.iter().copied().filter(|at| rows[*at].0 == source).collect();
            let probes: Vec<&str> = here.iter().map(|at| rows[*at].1).collect();
            let answers = self.ask(source, &probes);
            here.into_iter().zip(answers).filter(|(at, answer)| !rows[*at].2.matches(answer)).collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let one = &one;
            let asked: Vec<_> = sources.into_iter().map(|source| scope.spawn(move || one(source))).collect();
            asked.into_iter().flat_map(|asked| asked.join().expect("the probes are sent")).collect()
        })
    }
}
