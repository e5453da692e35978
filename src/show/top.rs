//! `pontoon top`: who sends and receives how much at present.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Counters, Facts, Shown, Traffic, bytes};
use crate::admin::status::{EndpointStatus, NetworkStatus};
use crate::names::short;

/// Rates of an endpoint, per second: `received` and `sent` by the container.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rates {
    bytes_received: f64,
    bytes_sent: f64,
    packets_received: f64,
    packets_sent: f64,
    dropped: f64,
}

impl Rates {
    fn of(before: Counters, now: Counters, time: Duration) -> Option<Self> {
        let grown = now.since(before)?;
        let rate = |count: u64| count as f64 / time.as_secs_f64().max(0.001);
        Some(Self {
            bytes_received: rate(grown.sent.bytes),
            bytes_sent: rate(grown.received.bytes),
            packets_received: rate(grown.sent.packets),
            packets_sent: rate(grown.received.packets),
            dropped: rate(grown.received.dropped.saturating_add(grown.sent.dropped)),
        })
    }

    fn traffic(&self) -> f64 {
        self.bytes_received + self.bytes_sent
    }
}

/// Rates of endpoints between two readings of the links' counters that are `time` apart, the busiest first, at most `most`
/// of them. Endpoints without a link of their own on the host (macvlan, ipvlan) have no rates, and are last.
pub fn top(facts: &Facts<'_>, before: &Traffic, time: Duration, most: Option<usize>) -> Shown {
    let mut lines: Vec<(Option<Rates>, String, &NetworkStatus, &EndpointStatus)> = Vec::new();
    for network in &facts.status.networks {
        for endpoint in &network.endpoints {
            let link = endpoint.attachment.host().map(|host| host.as_str());
            let rates = link.and_then(|link| Rates::of(*before.get(link)?, *facts.traffic.get(link)?, time));
            lines.push((rates, facts.names.endpoint(endpoint.id.as_str()), network, endpoint));
        }
    }
    lines.sort_by(|(a, one, ..), (b, other, ..)| {
        let traffic = |rates: &Option<Rates>| rates.as_ref().map_or(-1.0, Rates::traffic);
        traffic(b).total_cmp(&traffic(a)).then_with(|| one.cmp(other))
    });
    let sum = |of: fn(&Rates) -> f64| lines.iter().filter_map(|(rates, ..)| rates.as_ref()).map(of).sum::<f64>();
    let (received, sent) = (sum(|rates| rates.bytes_received), sum(|rates| rates.bytes_sent));
    let all = lines.len();
    lines.truncate(most.unwrap_or(usize::MAX));

    let heads =
        ["CONTAINER", "NETWORK", "IN/s", "OUT/s", "PACKETS IN/s", "PACKETS OUT/s", "DROPS/s", "LINK", "ENDPOINT"];
    let mut rows = vec![heads.map(str::to_owned)];
    let mut objects = Vec::new();
    for (rates, name, network, endpoint) in &lines {
        let shown = |of: fn(&Rates) -> f64, show: fn(f64) -> String| {
            rates.as_ref().map(of).map_or_else(|| "-".to_owned(), show)
        };
        let count = |rate: f64| format!("{rate:.0}");
        rows.push([
            name.clone(),
            facts.names.network(network.id.as_str()),
            shown(|rates| rates.bytes_received, volume),
            shown(|rates| rates.bytes_sent, volume),
            shown(|rates| rates.packets_received, count),
            shown(|rates| rates.packets_sent, count),
            shown(|rates| rates.dropped, count),
            endpoint.link().to_string(),
            short(endpoint.id.as_str()),
        ]);
        let number = |of: fn(&Rates) -> f64| {
            rates.as_ref().map_or(Value::Null, |rates| json!((of(rates) * 10.0).round() / 10.0))
        };
        objects.push(json!({
            "id": endpoint.id, "link": endpoint.attachment.host(),
            "container": facts.names.container_of(endpoint.id.as_str()).map(|container| &container.name),
            "network": { "id": network.id, "name": facts.names.networks.get(network.id.as_str()) },
            "receive_bytes_per_second": number(|rates| rates.bytes_received),
            "transmit_bytes_per_second": number(|rates| rates.bytes_sent),
            "receive_packets_per_second": number(|rates| rates.packets_received),
            "transmit_packets_per_second": number(|rates| rates.packets_sent),
            "dropped_packets_per_second": number(|rates| rates.dropped),
        }));
    }
    let seconds = time.as_secs_f64();
    let head = format!(
        "{all} endpoint{} in {seconds:.1} s: {}/s in, {}/s out\n\n",
        if all == 1 { "" } else { "s" },
        volume(received),
        volume(sent)
    );
    let json = json!({ "seconds": (seconds * 1000.0).round() / 1000.0, "count": all, "endpoints": objects });
    Shown::of_table(&head, &rows, 7, json)
}

fn volume(rate: f64) -> String {
    bytes(rate.round() as u64)
}
