//! Deletion in the background: bounded, batched, and never of foreign links.

use std::time::Instant;

use pontoon::datapath::{GROUP_DEAD, Kernel, ObjectKind, Step};

use testkit::netns::*;

#[test]
fn retired_links_are_deleted_in_batches_and_names_are_free_again() {
    in_netns(|kernel| {
        let br = name("pntbone");
        kernel.apply(&[Step::create(br.clone(), bridge("one", &["10.1.0.1/24"]))]).unwrap();
        let pairs: Vec<_> = (0..100).map(|n| veth(&format!("v{n}"), "pntbone")).collect();
        let make: Vec<_> = pairs.iter().map(|(host, pair)| Step::create(host.clone(), pair.clone())).collect();
        kernel.apply(&make).unwrap();
        assert_eq!(observe(kernel).veths().len(), 100);
        let retire: Vec<_> = pairs.iter().map(|(host, _)| Step::Delete(host.clone(), ObjectKind::Veth)).collect();
        let begun = Instant::now();
        twice(kernel, &retire);
        let queued = begun.elapsed();
        settle(kernel);
        let gone = begun.elapsed();
        let (host, pair) = &pairs[0];
        kernel.apply(&[Step::create(host.clone(), pair.clone())]).unwrap();
        let begun = Instant::now();
        kernel.apply(&[Step::Delete(host.clone(), ObjectKind::Veth)]).unwrap();
        settle(kernel);
        let single = begun.elapsed();
        eprintln!("100 veths retired twice in {queued:?}, gone after {gone:?}, a single one after {single:?}");
        assert!(queued < gone && gone < 50 * single);
        assert!(observe(kernel).veths().is_empty());
        assert!(!run("ip link").contains("pntc"));

        // Created again at once under the same name, and not deleted.
        let (host, pair) = &pairs[0];
        for _ in 0..3 {
            kernel
                .apply(&[Step::create(host.clone(), pair.clone()), Step::Delete(host.clone(), ObjectKind::Veth)])
                .unwrap();
        }
        kernel.apply(&[Step::create(host.clone(), pair.clone())]).unwrap();
        settle(kernel);
        assert_eq!(observe(kernel).veths().get(host), Some(&read_back(pair)));
        twice(kernel, &[Step::Delete(br.clone(), ObjectKind::Bridge)]);
        let wanted = bridge("one", &["10.1.0.1/24"]);
        kernel.apply(&[Step::create(br.clone(), wanted.clone())]).unwrap();
        settle(kernel);
        assert_eq!(observe(kernel).bridges().get(&br), Some(&wanted));
        // Routes are removed with the call, not with the deletion.
        kernel.apply(&[Step::Delete(br.clone(), ObjectKind::Bridge)]).unwrap();
        assert!(!run("ip route").contains("10.1.0.0/24"));
        assert!(observe(kernel).bridges().is_empty());
        settle(kernel);
        assert_eq!(kernel.link(&br).unwrap(), None);
    });
}

#[test]
fn a_foreign_link_in_the_group_for_deletion_survives() {
    in_netns(|kernel| {
        settle(kernel);
        run(&format!("ip link add stranger group {GROUP_DEAD} type veth peer name other"));
        run(&format!("ip link add pntbold group {GROUP_DEAD} type bridge"));
        kernel.apply(&[Step::create(name("custom0"), bridge("one", &[]))]).unwrap();
        let (host, pair) = veth("abc", "custom0");
        kernel.apply(&[Step::create(host.clone(), pair)]).unwrap();
        kernel
            .apply(&[Step::Delete(host.clone(), ObjectKind::Veth), Step::Delete(name("custom0"), ObjectKind::Bridge)])
            .unwrap();
        settle(kernel);
        for gone in [&host, &name("custom0"), &name("pntbold")] {
            assert_eq!(kernel.link(gone).unwrap(), None, "{gone}");
        }
        assert!(kernel.link(&name("stranger")).unwrap().is_some());
    });
}

#[test]
fn leftovers_of_the_previous_process_are_deleted_at_start() {
    in_netns(|_| {
        run(&format!("ip link add pnthold group {GROUP_DEAD} type veth peer name pntcold"));
        // Links with a name chosen by the user.
        run(&format!(
            "ip link add custom0 group {GROUP_DEAD} type bridge; ip link set custom0 alias 'pontoon network a'"
        ));
        run(&format!(
            "ip link add stranger0 group {GROUP_DEAD} type bridge; ip link set stranger0 alias 'pontoons of b'"
        ));
        let kernel = pontoon::linux::LinuxKernel::new(pontoon::linux::Options::default()).unwrap();
        settle(&kernel);
        assert_eq!(kernel.link(&name("pnthold")).unwrap(), None);
        assert_eq!(kernel.link(&name("custom0")).unwrap(), None);
        assert!(kernel.link(&name("stranger0")).unwrap().is_some());
        let (host, mut pair) = veth("last", "none");
        pair.bridge = None;
        kernel.apply(&[Step::create(host.clone(), pair), Step::Delete(host.clone(), ObjectKind::Veth)]).unwrap();
        drop(kernel);
        assert!(!succeeds(&format!("ip link show {host}")), "the queue was not drained before the end");
    });
}
