//! A graph as a picture: published ports, containers, networks and peers in four columns, from left to right.

use std::fmt::Write as _;

use super::Graph;

/// Height of a line of text, and the space around the text of a box, in pixels.
const LINE: usize = 18;
const SPACE: usize = 12;

/// Width of a character of the font, for which the widths of boxes are computed.
const CHARACTER: usize = 8;

/// Distance of columns, and of boxes in a column.
const COLUMNS: usize = 90;
const BOXES: usize = 16;

/// Characters of a line that are shown; a box has the whole text as its title.
const LONGEST: usize = 40;

const STYLE: &str = "text{font:13px monospace;fill:#1f2933}.head{font-weight:bold}rect{stroke-width:1.5}\
    .port rect{fill:#fff7e0;stroke:#c58b00}.container rect{fill:#e8f1fd;stroke:#2f6fc4}\
    .network rect{fill:#e6f6ec;stroke:#2b8a4b}.peer rect{fill:#f3ecfb;stroke:#7a4bb5}\
    .doubt rect,path.doubt{stroke-dasharray:5 4}path{fill:none;stroke:#8a97a6;stroke-width:1.5}";

/// A box with its text. `middle` is its wanted, then its vertical position.
struct Shape {
    class: &'static str,
    lines: Vec<String>,
    middle: usize,
}

impl Shape {
    fn height(&self) -> usize {
        self.lines.len() * LINE + SPACE
    }

    /// Characters of its longest line.
    fn width(&self) -> usize {
        self.lines.iter().map(|line| line.chars().count().min(LONGEST)).max().unwrap_or_default()
    }
}

/// A column of boxes. `left` is its position and `width` that of its boxes.
struct Column {
    shapes: Vec<Shape>,
    left: usize,
    width: usize,
}

impl Column {
    /// Moves the boxes down, as far as needed to not overlap; their order is kept. Returns where the column ends.
    fn place(shapes: Vec<Shape>, left: &mut usize) -> Self {
        let width = shapes.iter().map(Shape::width).max().map_or(0, |width| width * CHARACTER + 2 * SPACE);
        let mut column = Self { shapes, left: *left, width };
        let mut next = BOXES;
        for shape in &mut column.shapes {
            let half = shape.height() / 2;
            shape.middle = shape.middle.max(next + half);
            next = shape.middle + half + BOXES;
        }
        if !column.shapes.is_empty() {
            *left += width + COLUMNS;
        }
        column
    }

    fn bottom(&self) -> usize {
        self.shapes.iter().map(|shape| shape.middle + shape.height() / 2).max().unwrap_or_default()
    }

    fn draw(&self, text: &mut String) {
        for shape in &self.shapes {
            let (x, top, height) = (self.left, shape.middle - shape.height() / 2, shape.height());
            let title: Vec<String> = shape.lines.iter().map(|line| escaped(line)).collect();
            let _ = writeln!(text, "<g class=\"{}\"><title>{}</title>", shape.class, title.join("\n"));
            let _ =
                writeln!(text, "<rect x=\"{x}\" y=\"{top}\" width=\"{}\" height=\"{height}\" rx=\"6\"/>", self.width);
            for (at, line) in shape.lines.iter().enumerate() {
                let (class, y) = (if at == 0 { " class=\"head\"" } else { "" }, top + SPACE / 2 + at * LINE + LINE - 5);
                let _ = writeln!(text, "<text x=\"{}\" y=\"{y}\"{class}>{}</text>", x + SPACE, escaped(&cut(line)));
            }
            text.push_str("</g>\n");
        }
    }
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(LONGEST) {
        Some(_) => line.chars().take(LONGEST - 1).chain(['…']).collect(),
        None => line.to_owned(),
    }
}

/// A text as content of an element (XML 1.0, 2.2 and 2.4): without what no XML document may contain.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The average of some positions.
fn average(positions: impl Iterator<Item = usize>) -> usize {
    let (sum, count) = positions.fold((0_usize, 0_usize), |(sum, count), position| (sum + position, count + 1));
    sum.checked_div(count).unwrap_or_default()
}

/// Scalable vector graphics (SVG 1.1), without scripts and references.
pub fn svg(graph: &Graph) -> String {
    let containers = graph.containers.iter().map(|container| {
        let addresses = container.attached.iter().flat_map(|(_, addresses)| addresses);
        let lines: Vec<String> = [&container.name].into_iter().chain(addresses).cloned().collect();
        // As tall as the ports beside it.
        let height = lines.len().max(container.ports.len()) * LINE + SPACE;
        (Shape { class: "container", lines, middle: 0 }, height)
    });
    let mut next = BOXES;
    let mut shapes = Vec::new();
    for (shape, height) in containers {
        shapes.push(Shape { middle: next + height / 2, ..shape });
        next += height + BOXES;
    }
    let middle_of = |shapes: &[Shape], at: usize| shapes.get(at).map_or(0, |shape| shape.middle);
    let with_ports = graph.containers.iter().enumerate().filter(|(_, container)| !container.ports.is_empty());
    let ports = with_ports.clone().map(|(at, container)| Shape {
        class: "port",
        lines: container.ports.clone(),
        middle: middle_of(&shapes, at),
    });
    let mut left = BOXES;
    let ports = Column::place(ports.collect(), &mut left);
    let containers = Column::place(shapes, &mut left);
    let networks = graph.networks.iter().enumerate().map(|(number, network)| {
        let attached = graph.containers.iter().zip(&containers.shapes);
        let attached = attached.filter(|(container, _)| container.attached.iter().any(|(at, _)| *at == number));
        let lines = [&network.name].into_iter().chain(&network.lines).cloned().collect();
        Shape { class: "network", lines, middle: average(attached.map(|(_, shape)| shape.middle)) }
    });
    let networks = Column::place(networks.collect(), &mut left);
    let overlays = || graph.networks.iter().zip(&networks.shapes).filter(|(network, _)| network.is_overlay);
    let above = graph.peers.len().saturating_sub(1) * (2 * LINE + SPACE + BOXES) / 2;
    let start = average(overlays().map(|(_, shape)| shape.middle)).saturating_sub(above);
    let peers = graph.peers.iter().map(|peer| Shape {
        class: if peer.doubt.is_some() { "peer doubt" } else { "peer" },
        lines: [&peer.address].into_iter().chain(&peer.doubt).cloned().collect(),
        middle: start,
    });
    let peers = Column::place(peers.collect(), &mut left);

    let columns = [&ports, &containers, &networks, &peers];
    let height = columns.iter().map(|column| column.bottom()).max().unwrap_or_default() + BOXES;
    let width = left.saturating_sub(COLUMNS).max(BOXES) + BOXES;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut edge = |from: &Column, one: &Shape, to: &Column, other: &Shape, class: &str| {
        let (x, end) = (from.left + from.width, to.left);
        let bend = usize::midpoint(x, end);
        let (y, other) = (one.middle, other.middle);
        let _ = writeln!(text, "<path{class} d=\"M{x} {y}C{bend} {y} {bend} {other} {end} {other}\"/>");
    };
    for ((at, _), shape) in with_ports.zip(&ports.shapes) {
        if let Some(container) = containers.shapes.get(at) {
            edge(&ports, shape, &containers, container, "");
        }
    }
    for (container, shape) in graph.containers.iter().zip(&containers.shapes) {
        let attached = container.attached.iter().filter_map(|(number, _)| networks.shapes.get(*number));
        attached.for_each(|network| edge(&containers, shape, &networks, network, ""));
    }
    for (_, network) in overlays() {
        for (peer, shape) in graph.peers.iter().zip(&peers.shapes) {
            edge(&networks, network, &peers, shape, if peer.doubt.is_some() { " class=\"doubt\"" } else { "" });
        }
    }
    columns.iter().for_each(|column| column.draw(&mut text));
    text + "</svg>\n"
}
