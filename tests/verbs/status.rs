//! Status and repair: the requests of operator commands, beside the engine's methods.

use pontoon::admin::status::{PlanStatus, Status};
use pontoon::datapath::ObjectKind;

use testkit::harness::{Harness, endpoint, join, network, of, request};

fn status(harness: &Harness) -> Status {
    let reply = request(&harness.life().socket, "GET", "/status", b"");
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

fn repair(harness: &Harness) -> PlanStatus {
    let reply = request(&harness.life().socket, "POST", "/repair", b"");
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

#[test]
fn the_status_reports_drift_and_a_repair_removes_it() {
    let harness = Harness::new();
    harness.ok("NetworkDriver.CreateNetwork", network("net1", 1, true));
    harness.ok("NetworkDriver.CreateEndpoint", endpoint("net1", "one", "10.1.0.2/24"));
    harness.ok("NetworkDriver.Join", join("net1", "one"));
    let well = status(&harness);
    assert!(well.plan.is_empty() && well.blind.is_none(), "{:?}", well.plan);
    assert_eq!((well.networks.len(), well.networks[0].endpoints.len()), (1, 1));
    assert_eq!(well.networks[0].subnets.len(), 2);
    harness.kernel.take_steps();

    // A status request changes nothing; a repair does exactly what it reports.
    harness.kernel.meddle(|d| {
        d.objects.retain(|_, object| object.kind() != ObjectKind::Bridge);
        d.forwarding.v4 = false;
    });
    let reported = status(&harness).plan;
    assert_eq!(reported.commands.len(), 2, "{reported:?}");
    assert_eq!(harness.kernel.take_steps(), []);
    assert_eq!(repair(&harness), reported);
    assert!(status(&harness).plan.is_empty());
    assert!(repair(&harness).is_empty(), "nothing is left");

    // An endpoint whose link was removed: reported, and reaped by the repair.
    harness.kernel.meddle(|d| d.objects.retain(|_, object| object.kind() != ObjectKind::Veth));
    let reported = status(&harness).plan;
    assert_eq!(reported.dead.len(), 1, "{reported:?}");
    repair(&harness);
    assert!(status(&harness).networks[0].endpoints.is_empty());
    harness.ok("NetworkDriver.DeleteEndpoint", of("net1", "one"));
    for (verb, path) in [("POST", "/status"), ("GET", "/repair")] {
        assert_eq!(request(&harness.life().socket, verb, path, b"").status, 404, "{verb} {path}");
    }
}
