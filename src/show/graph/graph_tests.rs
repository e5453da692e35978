use super::*;

/// A container with a name that ends each of the languages, and is longer than a box.
fn hostile() -> Graph {
    let name = "a\"]; \\\" --> <script>alert('x')</script> & #quot; \u{1b}[2J \u{ffff} and more words".to_owned();
    let network = |name: &str, is_overlay| NetworkNode {
        name: name.to_owned(),
        lines: vec!["nat".to_owned(), "10.1.0.0/24".to_owned()],
        is_overlay,
    };
    let container = |name: String, attached: &[usize], ports: &[&str]| ContainerNode {
        name,
        attached: attached.iter().map(|at| (*at, vec![format!("10.{at}.0.2")])).collect(),
        ports: ports.iter().map(|port| (*port).to_owned()).collect(),
    };
    let peer =
        |address: &str, doubt: Option<&str>| PeerNode { address: address.to_owned(), doubt: doubt.map(str::to_owned) };
    Graph {
        networks: vec![network("blue", false), network("fleet", true)],
        containers: vec![
            container(name, &[0], &["0.0.0.0:80/tcp -> 80", "[::]:80/tcp -> 80", "0.0.0.0:53/udp -> 53"]),
            container("db".to_owned(), &[0, 1], &[]),
        ],
        peers: vec![peer("192.0.2.1", None), peer("192.0.2.2", Some("doubted"))],
    }
}

/// Checks that elements are closed in order and that text has no character of markup. Returns the elements.
fn elements(xml: &str) -> Vec<String> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let mut rest = xml;
    while let Some((text, after)) = rest.split_once('<') {
        assert!(!text.contains('>'), "{text}");
        for entity in text.split('&').skip(1) {
            let (name, _) = entity.split_once(';').expect("an entity");
            assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "{name}");
        }
        let (tag, after) = after.split_once('>').expect("the end of a tag");
        rest = after;
        let name = tag.trim_matches('/').split_whitespace().next().unwrap().to_owned();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_ref(), Some(&name), "{tag}");
        } else {
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            all.push(name.clone());
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
    all
}

#[test]
fn a_picture_is_well_formed_with_hostile_names() {
    let picture = svg(&hostile());
    let found = elements(&picture);
    let count = |name: &str| found.iter().filter(|element| *element == name).count();
    // One box for the ports of a container, two containers, networks and peers, and the background.
    assert_eq!((count("rect"), count("title"), count("path")), (8, 7, 6));
    assert!(found.iter().all(|name| ["svg", "style", "rect", "g", "title", "text", "path"].contains(&&**name)));
    assert!(picture.contains("&lt;script&gt;"), "{picture}");
    assert!(!picture.contains(['\u{1b}', '\u{ffff}']), "{picture}");
    assert!(picture.contains('…') && picture.contains("and more words"), "cut in the box, whole in its title");
    assert_eq!(elements(&svg(&Graph::default()))[0], "svg");
}

#[test]
fn boxes_of_a_column_do_not_overlap() {
    let picture = svg(&hostile());
    let number = |line: &str, name: &str| -> usize {
        line.split_once(&format!(" {name}=\"")).unwrap().1.split('"').next().unwrap().parse().unwrap()
    };
    let boxes = picture.lines().filter(|line| line.starts_with("<rect x="));
    let mut boxes: Vec<_> = boxes.map(|line| ["x", "y", "height"].map(|name| number(line, name))).collect();
    boxes.sort_unstable();
    for pair in boxes.windows(2) {
        let ([x, y, height], [next, below, _]) = (pair[0], pair[1]);
        assert!(x != next || y + height < below, "{pair:?}");
    }
}

#[test]
fn other_languages_keep_hostile_names_in_their_labels() {
    let graph = hostile();
    let text = dot(&graph);
    let line = text.lines().find(|line| line.contains("script")).unwrap();
    assert!(line.starts_with("  c0 [label=\"a\\\"]; \\\\\\\" --> <script>") && line.ends_with("\"]"), "{line}");
    assert!(
        text.contains("  c1 -- n0\n") && text.contains("  c1 -- n1\n") && text.contains("  n1 -- h1 [style=dashed]\n")
    );
    let text = mermaid(&graph);
    let line = text.lines().find(|line| line.contains("script")).unwrap();
    assert!(line.starts_with("  c0[\"a#34;#93;#59; #92;#34; --#62; #60;script#62;") && line.ends_with("\"]"), "{line}");
    assert!(text.contains("  n1 -.- h1\n") && text.contains("  p0 --- c0\n"), "{text}");
}

#[test]
fn text_has_a_line_for_each_container_of_a_network() {
    let text = hostile().text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "blue  nat  10.1.0.0/24");
    assert!(lines[1].starts_with("├─ a\"]") && lines[1].contains("\\u{1b}[2J"), "{text}");
    assert!(lines[2].starts_with("└─ db "), "{text}");
    assert!(lines[4].starts_with("├─ db ") && lines[6].ends_with("192.0.2.2 (doubted)"), "{text}");
    assert_eq!(Graph::default().text(), "no networks of Pontoon on this host\n");
}
