//! Groups of this host's users, from `/etc/group`. Not by the C library, which may load other code to answer.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The group whose members may read the status socket.
pub const OPERATORS: &str = "pontoon";

const FILE: &str = "/etc/group";

/// The number of a group, which is given by name or by number; `None` if no group has this name.
pub fn number(group: &str) -> Option<u32> {
    group.parse().ok().or_else(|| number_in(&fs::read_to_string(FILE).ok()?, group))
}

/// The group of a file by name, or by number if it has none; `None` for root's, and if the file cannot be read.
pub fn of_file(path: &Path) -> Option<String> {
    let number = fs::metadata(path).ok()?.gid();
    let name = || name_in(&fs::read_to_string(FILE).ok()?, number);
    (number != 0).then(|| name().unwrap_or_else(|| number.to_string()))
}

/// Name and number of a line (group(5)).
fn line(text: &str) -> Option<(&str, u32)> {
    let mut words = text.split(':');
    let name = words.next()?;
    Some((name, words.nth(1)?.trim().parse().ok()?))
}

fn number_in(text: &str, name: &str) -> Option<u32> {
    text.lines().filter_map(line).find(|(own, _)| *own == name).map(|(_, number)| number)
}

fn name_in(text: &str, number: u32) -> Option<String> {
    text.lines().filter_map(line).find(|(_, own)| *own == number).map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_by_name_and_by_number() {
        let text = "root:x:0:\n# comment\nbroken\npontoon:x:998:ada,bob\nother:x:many:\n";
        assert_eq!(
            (number_in(text, "pontoon"), number_in(text, "other"), number_in(text, "x")),
            (Some(998), None, None)
        );
        assert_eq!((name_in(text, 998).as_deref(), name_in(text, 7)), (Some("pontoon"), None));
        assert_eq!(number("4711"), Some(4711));
        assert_eq!(number("no-such-group"), None);
    }
}
