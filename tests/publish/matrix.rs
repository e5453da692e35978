//! The matrix: mode x family x source x destination, on Pontoon and on the built-in driver of the same engine.
//!
//! The expected result is [`expected`], from the table of the built-in driver's isolation (protocol.md 7.4). Pontoon
//! has to match it in every cell. [`DIFFERENCES`] lists the deviations of the built-in driver with their reasons.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, thread};

use crate::{
    probe::{From, is_closed},
    topology::{NODE4, NODE6, OUTSIDE4, OUTSIDE6, Scenario, Topology},
};
use testkit::Options;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Nat,
    Unprotected,
    Routed,
    Internal,
    Isolated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Outside,
    Host,
    /// A container of the same network.
    Same,
    /// A container on another network of the same driver.
    Other,
    /// A container on a network of the other driver: built-in for Pontoon, Pontoon for the built-in.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    /// The published port at the host's address.
    Host,
    /// The published port at the container's own address.
    Published,
    /// Another port at the container's own address.
    Unpublished,
    /// ICMP to the container's own address.
    Ping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Driver {
    Pontoon,
    BuiltIn,
}

use Driver::{BuiltIn, Pontoon};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    mode: Mode,
    six: bool,
    source: Source,
    to: To,
}

const MODES: [(Mode, &str); 5] = [
    (Mode::Nat, "nat"),
    (Mode::Unprotected, "nat-unprotected"),
    (Mode::Routed, "routed"),
    (Mode::Internal, "internal"),
    (Mode::Isolated, "isolated"),
];
const SOURCES: [(Source, &str); 5] = [
    (Source::Outside, "host outside"),
    (Source::Host, "the host"),
    (Source::Same, "same network"),
    (Source::Other, "other network"),
    (Source::Foreign, "network of the other driver"),
];
const TARGETS: [(To, &str); 4] = [
    (To::Host, "published port, host's address"),
    (To::Published, "published port, container's address"),
    (To::Unpublished, "unpublished port, container's address"),
    (To::Ping, "ICMP, container's address"),
];

/// Whether a connection should succeed.
fn expected(cell: Cell) -> bool {
    let translated = matches!(cell.mode, Mode::Nat | Mode::Unprotected);
    match (cell.source, cell.to) {
        (Source::Host | Source::Same, To::Host) => translated,
        (Source::Host, _) => cell.mode != Mode::Isolated,
        (Source::Same, _) => true,
        (Source::Outside | Source::Other | Source::Foreign, to) => match cell.mode {
            Mode::Nat => to == To::Host,
            Mode::Unprotected => true,
            Mode::Routed => matches!(to, To::Published | To::Ping),
            Mode::Internal | Mode::Isolated => false,
        },
    }
}

/// A deviation of the built-in driver.
struct Difference {
    /// First and last major version of the engine.
    engines: (u32, u32),
    /// `None` for both families.
    six: Option<bool>,
    modes: &'static [Mode],
    sources: &'static [Source],
    to: &'static [To],
    reason: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        engines: (0, 27),
        six: Some(false),
        modes: &[Mode::Nat],
        sources: &[Source::Outside],
        to: &[To::Published],
        reason: "Before 28 the built-in driver accepts direct connections to a published port at the container's \
                 own address (no rule in raw PREROUTING). Pontoon drops them on every engine.",
    },
    Difference {
        engines: (0, 26),
        six: Some(true),
        modes: &[Mode::Nat],
        sources: &[Source::Outside, Source::Other],
        to: &[To::Published, To::Unpublished, To::Ping],
        reason: "Before 27 the built-in driver does not filter IPv6 unless ip6tables is enabled. Pontoon does on every \
                 engine.",
    },
    Difference {
        engines: (0, 25),
        six: Some(true),
        modes: &[Mode::Internal],
        sources: &[Source::Outside, Source::Other],
        to: &[To::Published, To::Unpublished, To::Ping],
        reason: "The oldest engine leaves IPv6 of internal networks open, because ip6tables is disabled. Pontoon \
                 does not.",
    },
    Difference {
        engines: (28, 28),
        six: None,
        modes: &[Mode::Unprotected],
        sources: &[Source::Other],
        to: &[To::Published, To::Unpublished, To::Ping],
        reason: "28 still has the isolation chains between its bridges, which also apply in this mode; later engines \
                 have none. Pontoon opens the mode to other networks on every engine, as later engines do.",
    },
    Difference {
        engines: (27, 27),
        six: None,
        modes: &[Mode::Routed],
        sources: &[Source::Foreign],
        to: &[To::Published, To::Ping],
        reason: "Before 28 the built-in driver filters access to its networks by a policy only, so Pontoon drops its \
                 containers' packets, except to published ports at the host's address; it does not know their modes.",
    },
];

fn difference(engine: u32, cell: Cell) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|it| {
        (it.engines.0..=it.engines.1).contains(&engine)
            && it.six.is_none_or(|six| six == cell.six)
            && it.modes.contains(&cell.mode)
            && it.sources.contains(&cell.source)
            && it.to.contains(&cell.to)
    })
}

/// One network with a target and a source on it.
struct Place {
    driver: Driver,
    mode: Mode,
    port: u16,
    target: String,
    peer: String,
    four: String,
    six: String,
}

#[test]
fn every_cell_is_as_documented() {
    let topology = Topology::up(Options::new());
    topology.start_pontoon();
    topology.run_scenario("pontoon", matrix);
}

fn matrix(scenario: &Scenario) {
    let places = build(scenario);
    let mut answers = Answers::new();
    for place in &places {
        let asked: Vec<Answers> = thread::scope(|scope| {
            let asked = SOURCES.map(|(source, _)| scope.spawn(move || ask(scenario, place, source)));
            asked.into_iter().map(|asked| asked.join().expect("the probes are sent")).collect()
        });
        asked.into_iter().for_each(|more| answers.extend(more));
    }
    let disagreements: Vec<String> = places
        .iter()
        .filter(|place| place.driver == Pontoon)
        .flat_map(|place| explained(scenario, place, &answers))
        .collect();
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    let text = show(scenario, &places, &answers);
    println!("{text}");
    let engine = std::env::var("PONTOON_ENGINE").unwrap_or_else(|_| scenario.engine.to_string());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(format!("matrix-{engine}.md"));
    fs::write(&file, &text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let wrong = unexpected(scenario, &answers);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first version whose driver has this mode.
fn introduced_in(mode: Mode) -> u32 {
    match mode {
        Mode::Nat | Mode::Internal => 0,
        Mode::Routed => 27,
        Mode::Unprotected | Mode::Isolated => 28,
    }
}

fn build(scenario: &Scenario) -> Vec<Place> {
    let mut places = Vec::new();
    for (driver, name, net) in [(Pontoon, "pontoon", 0), (BuiltIn, "bridge", 1)] {
        let letter = &name[..1];
        for (index, (mode, word)) in MODES.iter().enumerate() {
            if driver == BuiltIn && scenario.engine < introduced_in(*mode) {
                continue;
            }
            let (network, target, peer) =
                (format!("{letter}{index}"), format!("{letter}{index}-to"), format!("{letter}{index}-by"));
            let subnets = [format!("10.15{net}.{index}.0/24"), format!("fd5{net}:{index}::/64")];
            let mut args = vec!["--subnet", &subnets[0], "--ipv6", "--subnet", &subnets[1]];
            let modes =
                ["ipv4", "ipv6"].map(|family| format!("com.docker.network.bridge.gateway_mode_{family}={word}"));
            match mode {
                Mode::Nat => {}
                Mode::Internal => args.push("--internal"),
                Mode::Isolated => args.extend(["--internal", "-o", &modes[0], "-o", &modes[1]]),
                Mode::Unprotected | Mode::Routed => args.extend(["-o", &modes[0], "-o", &modes[1]]),
            }
            scenario.create_network(name, &network, &args).ok();
            let port = 8400 + 10 * net + u16::try_from(index).expect("a few");
            let (four, six) = (format!("10.15{net}.{index}.10"), format!("fd5{net}:{index}::10"));
            let publish = format!("{port}:80");
            let at = ["--network", &network, "--ip", &four, "--ip6", &six, "-p", &publish];
            scenario.serve(&target, &["tcp:80-81"], &at);
            scenario.run_container(&peer, &["--network", &network]);
            scenario.route_from_outside(&[&subnets[0], &subnets[1]]);
            places.push(Place { driver, mode: *mode, port, target, peer, four, six });
        }
        let subnets = [format!("10.15{net}.9.0/24"), format!("fd5{net}:9::/64")];
        let other = format!("{letter}-other");
        scenario.create_network(name, &other, &["--subnet", &subnets[0], "--ipv6", "--subnet", &subnets[1]]).ok();
        scenario.run_container(&other, &["--network", &other]);
    }
    places
}

type Answers = BTreeMap<(Driver, Cell), bool>;

/// Probes all destinations of a network from one source. Unexpected results are probed again.
fn ask(scenario: &Scenario, place: &Place, source: Source) -> Answers {
    let mut answers = Answers::new();
    let other = |driver| if driver == Pontoon { "p-other" } else { "b-other" };
    let from = match source {
        Source::Outside => From::Outside,
        Source::Host => From::Host,
        Source::Same => From::In(&place.peer),
        Source::Other => From::In(other(place.driver)),
        Source::Foreign => From::In(other(if place.driver == Pontoon { BuiltIn } else { Pontoon })),
    };
    let mut cells = Vec::new();
    for six in [false, true] {
        let (host, container) = if six { (NODE6, &place.six) } else { (NODE4, &place.four) };
        for (to, _) in TARGETS {
            let probe = match to {
                To::Host => format!("tcp,{host},{}", place.port),
                To::Published => format!("tcp,{container},80"),
                To::Unpublished => format!("tcp,{container},81"),
                To::Ping => format!("icmp,{container},56"),
            };
            cells.push((Cell { mode: place.mode, six, source, to }, probe));
        }
    }
    for turn in 0..3 {
        let probes: Vec<&str> = cells.iter().map(|(_, probe)| probe.as_str()).collect();
        for ((cell, _), answer) in cells.iter().zip(scenario.ask(from, &probes)) {
            let ours = answer == "pong" || answer.starts_with(&format!("{}:", place.target));
            assert!(ours || is_closed(&answer), "{cell:?}: {answer}");
            answers.insert((place.driver, *cell), ours);
        }
        // Known deviations of the built-in driver are not probed again.
        cells.retain(|(cell, _)| {
            let known = place.driver == BuiltIn && difference(scenario.engine, *cell).is_some();
            answers[&(place.driver, *cell)] != expected(*cell) && !known
        });
        if cells.is_empty() || turn == 2 {
            break;
        }
    }
    answers
}

/// Cells for which `pontoon explain` says something else than the packets did.
fn explained(scenario: &Scenario, place: &Place, answers: &Answers) -> Vec<String> {
    let mut questions = Vec::new();
    for (source, _) in SOURCES {
        for six in [false, true] {
            let from = match source {
                Source::Outside => {
                    if six {
                        OUTSIDE6
                    } else {
                        OUTSIDE4
                    }
                }
                Source::Host => "host",
                Source::Same => &place.peer,
                Source::Other => "p-other",
                Source::Foreign => "b-other",
            };
            let bare = |address: &str| if six { format!("[{address}]") } else { address.to_owned() };
            let (host, container) = if six { (NODE6, &place.six) } else { (NODE4, &place.four) };
            for (to, _) in TARGETS {
                let at = match to {
                    To::Host => format!("{}:{}", bare(host), place.port),
                    To::Published => format!("{}:80", bare(container)),
                    To::Unpublished => format!("{}:81", bare(container)),
                    To::Ping => container.clone(),
                };
                questions.push((Cell { mode: place.mode, six, source, to }, format!("{from} '{at}'")));
            }
        }
    }
    let asked: Vec<String> = questions.iter().map(|(_, question)| question.clone()).collect();
    let said = scenario.explain(&asked);
    let disagrees = |((cell, question), answer): (&(Cell, String), serde_json::Value)| {
        let open = answers[&(Pontoon, *cell)];
        let agrees = (answer["verdict"] == "ACCEPTED") == open && answer["verdict"] != "UNKNOWN";
        (!agrees).then(|| format!("{cell:?} is {}, but explain {question}: {answer:#}", word(open)))
    };
    questions.iter().zip(said).filter_map(disagrees).collect()
}

fn unexpected(scenario: &Scenario, answers: &Answers) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((driver, cell), open) in answers {
        let known = difference(scenario.engine, *cell).filter(|_| *driver == BuiltIn);
        match (*open == expected(*cell), known) {
            (true, None) | (false, Some(_)) => {}
            (false, None) => wrong.push(format!("{driver:?}: {cell:?} is {}", word(*open))),
            (true, Some(known)) => wrong.push(format!("no longer a difference: {cell:?} ({})", known.reason)),
        }
    }
    wrong
}

fn word(open: bool) -> &'static str {
    if open { "open" } else { "closed" }
}

fn show(scenario: &Scenario, places: &[Place], answers: &Answers) -> String {
    let version = scenario.docker(&["version", "--format", "{{.Server.Version}}"]).ok();
    let mut text = format!("# Who reaches what: Pontoon and the built-in bridge driver of Docker {version}\n\n");
    text.push_str(
        "Each cell: Pontoon / built-in; `-` where the engine has no such mode, **bold** where they differ.\n\n",
    );
    text.push_str("| mode | family | from |");
    for (_, title) in TARGETS {
        let _ = write!(text, " {title} |");
    }
    text.push_str("\n|---|---|---|---|---|---|---|\n");
    let mut notes = Vec::new();
    for (mode, name) in MODES {
        for six in [false, true] {
            for (source, from) in SOURCES {
                let _ = write!(text, "| {name} | {} | {from} |", if six { "IPv6" } else { "IPv4" });
                for (to, _) in TARGETS {
                    let cell = Cell { mode, six, source, to };
                    let ours = answers[&(Pontoon, cell)];
                    let theirs = answers.get(&(BuiltIn, cell)).copied();
                    let pair = format!("{} / {}", word(ours), theirs.map_or("-", word));
                    let known = theirs.filter(|theirs| *theirs != ours).and_then(|_| difference(scenario.engine, cell));
                    if let Some(known) = known {
                        let at = notes.iter().position(|reason| *reason == known.reason).unwrap_or_else(|| {
                            notes.push(known.reason);
                            notes.len() - 1
                        });
                        let _ = write!(text, " **{pair}** ({}) |", at + 1);
                    } else if theirs.is_some_and(|theirs| theirs != ours) {
                        let _ = write!(text, " **{pair}** |");
                    } else {
                        let _ = write!(text, " {pair} |");
                    }
                }
                text.push('\n');
            }
        }
    }
    text.push_str("\nDifferences:\n\n");
    for (index, reason) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {reason}", index + 1);
    }
    let _ = writeln!(text, "\n{} networks, {} cells.", places.len(), answers.len());
    text
}
