//! What an operator's command is told and may ask for, beside the engine's methods.

use pontoon::admin::status::{PlanLines, Status};
use pontoon::datapath::ObjectKind;

use super::rig::{Rig, endpoint, join, network, of, request};

fn status(rig: &Rig) -> Status {
    let reply = request(&rig.life().socket, "GET", "/status", b"");
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

fn repair(rig: &Rig) -> PlanLines {
    let reply = request(&rig.life().socket, "POST", "/repair", b"");
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

#[test]
fn the_status_tells_what_is_held_and_a_repair_closes_what_it_tells() {
    let rig = Rig::new();
    rig.ok("NetworkDriver.CreateNetwork", network("net1", 1, true));
    rig.ok("NetworkDriver.CreateEndpoint", endpoint("net1", "one", "10.1.0.2/24"));
    rig.ok("NetworkDriver.Join", join("net1", "one"));
    let well = status(&rig);
    assert!(well.plan.is_empty() && well.blind.is_none(), "{:?}", well.plan);
    assert_eq!((well.networks.len(), well.networks[0].endpoints.len()), (1, 1));
    assert_eq!(well.networks[0].subnets.len(), 2);
    rig.kernel.take_steps();

    // Asking changes nothing; what is told is what a repair does.
    rig.kernel.meddle(|d| {
        d.objects.retain(|_, object| object.kind() != ObjectKind::Bridge);
        d.forwarding.v4 = false;
    });
    let told = status(&rig).plan;
    assert_eq!(told.commands.len(), 2, "{told:?}");
    assert_eq!(rig.kernel.take_steps(), []);
    assert_eq!(repair(&rig), told);
    assert!(status(&rig).plan.is_empty());
    assert!(repair(&rig).is_empty(), "nothing is left");

    // An endpoint whose link is gone: told, and removed by the repair.
    rig.kernel.meddle(|d| d.objects.retain(|_, object| object.kind() != ObjectKind::Veth));
    let told = status(&rig).plan;
    assert_eq!(told.dead.len(), 1, "{told:?}");
    repair(&rig);
    assert!(status(&rig).networks[0].endpoints.is_empty());
    rig.ok("NetworkDriver.DeleteEndpoint", of("net1", "one"));
    for (verb, path) in [("POST", "/status"), ("GET", "/repair")] {
        assert_eq!(request(&rig.life().socket, verb, path, b"").status, 404, "{verb} {path}");
    }
}
