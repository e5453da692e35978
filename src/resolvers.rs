//! Owns the question which name servers the host uses: a pool must not cover one of them.

use std::net::IpAddr;

/// The name servers in the text of a resolv.conf(5); anything unreadable in it is skipped.
pub fn parse(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        .filter_map(|word| word.split('%').next()?.parse().ok())
        .collect()
}

/// The host's name servers; none when the file cannot be read.
pub fn of_host() -> Vec<IpAddr> {
    std::fs::read_to_string("/etc/resolv.conf").map(|text| parse(&text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_name_servers_only() {
        let found = super::parse(
            "# nameserver 9.9.9.9\nsearch lan\nnameserver 10.0.0.53\n nameserver fe80::1%eth0\nnameserver x\nnameserver\n",
        );
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.53", "fe80::1"]);
    }
}
