//! A graph in the languages of Graphviz and Mermaid.

use std::fmt::Write as _;

use super::Graph;

/// Graphviz: <https://graphviz.org/doc/info/lang.html>.
pub fn dot(graph: &Graph) -> String {
    let mut text = "graph pontoon {\n  rankdir=LR\n  node [shape=box, fontname=monospace]\n".to_owned();
    let quoted = |lines: &[String]| {
        let lines: Vec<String> = lines.iter().map(|line| line.replace('\\', "\\\\").replace('"', "\\\"")).collect();
        format!("\"{}\"", lines.join("\\n"))
    };
    draw(graph, |drawn| {
        let _ = match drawn {
            Drawn::Network(id, lines) => writeln!(text, "  {id} [label={}, style=rounded]", quoted(lines)),
            Drawn::Container(id, lines) => writeln!(text, "  {id} [label={}]", quoted(lines)),
            Drawn::Ports(id, lines) => writeln!(text, "  {id} [label={}, shape=cds]", quoted(lines)),
            Drawn::Peer(id, lines) => writeln!(text, "  {id} [label={}, shape=component]", quoted(lines)),
            Drawn::Edge(from, to, false) => writeln!(text, "  {from} -- {to}"),
            Drawn::Edge(from, to, true) => writeln!(text, "  {from} -- {to} [style=dashed]"),
        };
    });
    text + "}\n"
}

/// Mermaid: <https://mermaid.js.org/syntax/flowchart.html>.
pub fn mermaid(graph: &Graph) -> String {
    let mut text = "flowchart LR\n".to_owned();
    // Entities of numbers: `#35;` is #.
    let quoted = |lines: &[String]| {
        let mut label = String::new();
        for c in lines.join("\n").chars() {
            match c {
                '\n' => label.push_str("<br>"),
                c if c.is_alphanumeric() || " -_.:/,()".contains(c) => label.push(c),
                c => {
                    let _ = write!(label, "#{};", u32::from(c));
                }
            }
        }
        format!("\"{label}\"")
    };
    draw(graph, |drawn| {
        let _ = match drawn {
            Drawn::Network(id, lines) => writeln!(text, "  {id}([{}])", quoted(lines)),
            Drawn::Container(id, lines) => writeln!(text, "  {id}[{}]", quoted(lines)),
            Drawn::Ports(id, lines) => writeln!(text, "  {id}>{}]", quoted(lines)),
            Drawn::Peer(id, lines) => writeln!(text, "  {id}[[{}]]", quoted(lines)),
            Drawn::Edge(from, to, false) => writeln!(text, "  {from} --- {to}"),
            Drawn::Edge(from, to, true) => writeln!(text, "  {from} -.- {to}"),
        };
    });
    text
}

/// What is drawn, with ids of letters and digits.
enum Drawn<'a> {
    Network(&'a str, &'a [String]),
    Container(&'a str, &'a [String]),
    /// The published ports of a container.
    Ports(&'a str, &'a [String]),
    Peer(&'a str, &'a [String]),
    /// Both ends, and whether it is in doubt.
    Edge(&'a str, &'a str, bool),
}

fn draw(graph: &Graph, mut one: impl FnMut(Drawn<'_>)) {
    for (at, network) in graph.networks.iter().enumerate() {
        let lines: Vec<String> = [&network.name].into_iter().chain(&network.lines).cloned().collect();
        one(Drawn::Network(&format!("n{at}"), &lines));
    }
    for (at, container) in graph.containers.iter().enumerate() {
        let id = format!("c{at}");
        let addresses = container.attached.iter().flat_map(|(_, addresses)| addresses);
        let lines: Vec<String> = [&container.name].into_iter().chain(addresses).cloned().collect();
        one(Drawn::Container(&id, &lines));
        if !container.ports.is_empty() {
            let ports = format!("p{at}");
            one(Drawn::Ports(&ports, &container.ports));
            one(Drawn::Edge(&ports, &id, false));
        }
        container.attached.iter().for_each(|(number, _)| one(Drawn::Edge(&id, &format!("n{number}"), false)));
    }
    for (at, peer) in graph.peers.iter().enumerate() {
        let id = format!("h{at}");
        let lines: Vec<String> = [&peer.address].into_iter().chain(&peer.doubt).cloned().collect();
        one(Drawn::Peer(&id, &lines));
        for (number, _) in graph.networks.iter().enumerate().filter(|(_, network)| network.is_overlay) {
            one(Drawn::Edge(&format!("n{number}"), &id, peer.doubt.is_some()));
        }
    }
}
