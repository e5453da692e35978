//! Tests of the command line.

use super::*;

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_long_flag_has_the_variable_of_its_name() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for arg in serve.get_arguments().filter(|arg| arg.get_id() != "help" && arg.get_id() != "version") {
        let expected = format!("PONTOON_{}", arg.get_long().unwrap().to_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().unwrap().to_str().unwrap(), expected);
    }
}

#[test]
fn pools_are_read_as_dockerd_reads_them() {
    let cli = Cli::try_parse_from([
        "pontoon",
        "serve",
        "--default-address-pools",
        "base=10.0.0.0/8,size=24;base=192.168.0.0/16,size=20",
    ])
    .unwrap();
    let Command::Serve(serve) = cli.command else { panic!() };
    assert_eq!(serve.default_address_pools.len(), 2);
    for bad in ["", "10.0.0.0/8", "base=10.0.0.0/8", "base=x,size=24", "base=10.0.0.0/8,size=7", "size=24"] {
        assert!(Cli::try_parse_from(["pontoon", "serve", "--default-address-pools", bad]).is_err(), "{bad}");
    }
}
