//! A pool against a set of addresses, over random sequences of requests and releases.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    /// Any address.
    Next,
    /// The address with this last byte.
    Named(u8),
    Release(u8),
    /// The daemon starts again, from the records that are in force.
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    // The subnet has 16 addresses; two are outside.
    let last = 0..18u8;
    prop_oneof![
        4 => Just(Action::Next),
        3 => last.clone().prop_map(Action::Named),
        4 => last.prop_map(Action::Release),
        1 => Just(Action::Restart),
    ]
}

fn address(last: u8) -> String {
    format!("10.0.0.{last}")
}

proptest! {
    #[test]
    fn an_address_is_never_granted_twice(actions in vec(action(), 0..120)) {
        let mut ipam = Ipam::default();
        let id = ipam.pool(&named("10.0.0.0/28")).id;
        let hosts = 1..15u8;
        let mut taken = BTreeSet::new();
        for action in actions {
            match action {
                Action::Next => match ipam.try_next(&id) {
                    Ok(granted) => {
                        let last = hosts.clone().find(|last| granted == format!("{}/28", address(*last)));
                        prop_assert!(last.is_some_and(|last| taken.insert(last)), "{} of {:?}", granted, taken);
                    }
                    Err(error) => prop_assert!(taken.len() == hosts.len(), "{} with {:?}", error, taken),
                },
                Action::Named(last) => {
                    let asked = ipam.request_address(&id, Some(ip(&address(last))), false, NOW);
                    prop_assert_eq!(asked.is_ok(), hosts.contains(&last) && !taken.contains(&last));
                    if let Ok((granted, records)) = asked {
                        prop_assert_eq!(granted.to_string(), format!("{}/28", address(last)));
                        ipam.does(records);
                        taken.insert(last);
                    }
                }
                Action::Release(last) => {
                    let released = ipam.does(ipam.release_address(&id, ip(&address(last))));
                    prop_assert_eq!(released == 1, taken.remove(&last));
                }
                Action::Restart => ipam = Ipam::load(DefaultPools::default(), &ipam.snapshot()),
            }
        }
    }
}
