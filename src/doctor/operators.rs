//! Checks of the socket for operators.

use super::{Facts, Finding, Level, wiring};

pub(super) fn socket(facts: &Facts) -> Vec<Finding> {
    let Some(socket) = &facts.status.status_socket else { return vec![Finding::ok("the daemon has no status socket")] };
    let (path, mode) = (facts.wiring.status.0.display(), facts.wiring.status.1);
    let finding = match (&socket.problem, mode) {
        (Some(problem), None) => {
            let finding = Finding::new(Level::Degraded, format!("the status socket {path} is not served"));
            finding.seen(problem).mended_by(wiring::start(facts))
        }
        (None, None) => {
            let finding = Finding::new(Level::Degraded, format!("the status socket {path} was removed"));
            finding.mended_by(wiring::start(facts))
        }
        (_, Some(mode)) if mode & 0o007 != 0 => {
            let finding = Finding::new(Level::Degraded, "every user of this host can use the status socket");
            finding.seen(format!("{path} has mode {mode:04o}")).mended_by(format!("chmod o= {path}"))
        }
        (Some(problem), Some(_)) => {
            let finding =
                Finding::new(Level::Note, format!("the status socket {path} is for root alone")).seen(problem);
            finding.mended_by(format!("chgrp GROUP {path}; chmod g+rw {path}"))
        }
        (None, Some(_)) => match &socket.group {
            Some(group) => Finding::ok(format!("the status socket {path} is for root and group {group}")),
            None => {
                Finding::ok(format!("the status socket {path} is for root alone: its group did not exist at the start"))
            }
        },
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::super::tests::well;
    use super::*;
    use crate::admin::status::StatusSocket;

    #[test]
    fn a_socket_that_is_not_as_it_should_be_is_found() {
        let level = |group: Option<&str>, problem: Option<&str>, mode: Option<u32>| {
            let mut facts = well();
            let (group, problem) = (group.map(str::to_owned), problem.map(str::to_owned));
            facts.wiring.status = ("/run/pontoon/status.sock".into(), mode);
            facts.status.status_socket = Some(StatusSocket { path: "/s".into(), group, problem });
            socket(&facts)[0].level
        };
        assert_eq!(level(Some("pontoon"), None, Some(0o660)), Level::Ok);
        assert_eq!(level(None, None, Some(0o600)), Level::Ok);
        assert_eq!(level(None, Some("chown failed"), Some(0o600)), Level::Note);
        assert_eq!(level(Some("pontoon"), None, Some(0o666)), Level::Degraded);
        assert_eq!(level(Some("pontoon"), None, None), Level::Degraded);
        assert_eq!(level(None, Some("not a directory"), None), Level::Degraded);
        assert_eq!(socket(&well())[0].level, Level::Ok);
    }
}
