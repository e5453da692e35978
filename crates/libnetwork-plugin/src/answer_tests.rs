use super::*;

fn all() -> InterfaceAnswer {
    let answer = InterfaceAnswer::default().mac_address([2, 0, 0, 0, 0, 1]);
    answer.address("10.0.0.2/24".parse().unwrap()).address("fd00::2/64".parse().unwrap())
}

fn interface(address: &str, address_ipv6: &str, mac_address: &str) -> Interface {
    Interface { address: address.into(), address_ipv6: address_ipv6.into(), mac_address: mac_address.into() }
}

#[test]
fn values_set_by_the_engine_are_never_returned() {
    let given = |address, v6, mac| Given::of(&interface(address, v6, mac));
    let blank = all().response(given("", "", "")).interface;
    assert_eq!(blank, Some(interface("10.0.0.2/24", "fd00::2/64", "02:00:00:00:00:01")));
    let addresses = all().response(given("10.0.0.9/24", "fd00::9/64", "")).interface;
    assert_eq!(addresses, Some(interface("", "", "02:00:00:00:00:01")));
    assert_eq!(all().response(given("10.0.0.2/24", "fd00::2/64", "02:00:00:00:00:01")).interface, None);
    assert_eq!(InterfaceAnswer::default().response(given("", "", "")).interface, None);
}

#[test]
fn wire_forms_are_checked() {
    let response = all().response(Given { mac: false, v4: false, v6: false });
    assert_eq!(InterfaceAnswer::try_from(response), Ok(all()));
    for bad in [interface("10.0.0.2", "", ""), interface("", "10.0.0.2/24", ""), interface("", "", "2")] {
        assert!(InterfaceAnswer::try_from(CreateEndpointResponse { interface: Some(bad) }).is_err());
    }
    let pool = RequestPoolResponse { pool_id: String::new(), pool: "10.0.0.0/24".into(), data: Default::default() };
    assert!(PoolAnswer::try_from(pool).is_err());
    let address = RequestAddressResponse { address: "10.0.0.1".into(), data: Default::default() };
    assert!(AddressAnswer::try_from(address).is_err());
}

#[test]
fn a_link_has_a_name_that_the_kernel_accepts() {
    let destination: Cidr = "10.9.0.0/16".parse().unwrap();
    let answer = JoinAnswer::link("veth0123456789a", "eth").unwrap().gateway([10, 0, 0, 1].into());
    assert!(answer.clone().route(destination, Some("fd00::1".parse().unwrap())).is_err());
    let answer = answer.route(destination, Some([10, 0, 0, 7].into())).unwrap().route(destination, None).unwrap();
    assert_eq!(JoinAnswer::try_from(answer.clone().response()), Ok(answer));
    for (src, dst) in [("", "eth"), ("a", ""), ("sixteen-letters-", "eth"), ("a/b", "eth"), ("a", "fifteen-letters")] {
        assert!(JoinAnswer::link(src, dst).is_err(), "{src} {dst}");
    }
    let mut response = JoinAnswer::without_link().response();
    assert_eq!(JoinAnswer::try_from(response.clone()), Ok(JoinAnswer::without_link()));
    response.gateway = "fd00::1".into();
    assert!(JoinAnswer::try_from(response).is_err());
}
