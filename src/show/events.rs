//! `pontoon events`: one line for each event.

use crate::admin::events::EventLine;
use crate::names::Names;
use crate::output::visible;

/// An event for people, with the engine's names.
pub fn event(event: &EventLine, names: &Names) -> String {
    let network = event.network.as_deref().map(|id| network_name(names, id));
    let endpoint = event.endpoint.as_deref().map(|id| endpoint_name(names, id));
    let subject = match (endpoint, network) {
        (Some(endpoint), Some(network)) => format!("{endpoint} on {network}"),
        (one, other) => one.or(other).unwrap_or_default(),
    };
    let steps = event.steps.map(|steps| format!("{steps} step{}", if steps == 1 { "" } else { "s" }));
    let took = event.seconds.map(|seconds| format!("{:.1} ms", seconds * 1000.0));
    let result = match (&event.error, event.kind.as_str()) {
        (Some(error), _) => Some(format!("FAILED: {}", visible(error))),
        (None, "verb") => Some("ok".to_owned()),
        (None, _) => None,
    };
    let other = event.other.as_ref().map(|other| format!("also of {other}"));
    let words =
        [event.method.clone(), event.state.clone(), Some(subject), event.address.clone(), other, steps, took, result];
    let words: Vec<String> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    format!("{}  {:<8} {}", clock(event.time), event.kind, words.join("  ")).trim_end().to_owned()
}

/// Date and time of day in UTC.
fn clock(time: f64) -> String {
    let millis = (time.max(0.0) * 1000.0).round() as u64;
    let (seconds, days) = (millis / 1000 % 86_400, millis / 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:03}Z", millis % 1000)
}

/// The Gregorian date of a number of days after 1970-01-01. Years are counted from March, so that the leap day is the last
/// day of one: a month begins after (153 * month + 2) / 5 days.
fn date(days: u64) -> (u64, u64, u64) {
    let since = days + 719_468;
    let (era, day_of_era) = (since / 146_097, since % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn network_name(names: &Names, short: &str) -> String {
    let full = names.networks.iter().find(|(id, _)| id.starts_with(short));
    full.map_or_else(|| short.to_owned(), |(_, name)| name.clone())
}

fn endpoint_name(names: &Names, short: &str) -> String {
    let has = |id: &String| id.starts_with(short);
    let container = names.containers.iter().find(|container| container.endpoints.iter().any(has));
    container.map_or_else(|| short.to_owned(), |container| container.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Container;

    #[test]
    fn times_are_dates() {
        assert_eq!(clock(0.0), "1970-01-01 00:00:00.000Z");
        assert_eq!(clock(951_782_399.999_5), "2000-02-29 00:00:00.000Z");
        assert_eq!(clock(1_709_164_800.25), "2024-02-29 00:00:00.250Z");
        assert_eq!(clock(1_795_830_662.114), "2026-11-28 01:51:02.114Z");
        assert_eq!((date(58), date(59), date(364)), ((1970, 2, 28), (1970, 3, 1), (1970, 12, 31)));
    }

    #[test]
    fn an_event_is_a_line_with_names() {
        let mut names = Names::default();
        names.networks.insert("99a168deb3da0000".into(), "blue".into());
        let endpoints = ["cc4e8a8bfa6f0000".to_owned()].into();
        names.containers.push(Container { name: "web".into(), endpoints, ..Container::default() });
        let some = |text: &str| Some(text.to_owned());
        let mut verb = EventLine {
            kind: "verb".into(),
            method: some("CreateEndpoint"),
            network: some("99a168deb3da"),
            endpoint: some("cc4e8a8bfa6f"),
            address: some("10.1.0.2"),
            seconds: Some(0.0008),
            ..EventLine::default()
        };
        let text = event(&verb, &names);
        assert_eq!(text, "1970-01-01 00:00:00.000Z  verb     CreateEndpoint  web on blue  10.1.0.2  0.8 ms  ok");
        (verb.error, verb.endpoint) = (some("no space"), some("unknown"));
        assert!(event(&verb, &names).ends_with("unknown on blue  10.1.0.2  0.8 ms  FAILED: no space"));
        let health = EventLine { kind: "health".into(), state: some("degraded"), ..EventLine::default() };
        assert!(event(&health, &names).ends_with("health   degraded"));
    }
}
