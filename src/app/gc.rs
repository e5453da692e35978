//! The command `pontoon gc`: shows and removes objects that the engine no longer knows, through the daemon or
//! without it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::AppError;
use super::alone::Alone;
use super::begin::boot_id;
use super::inspect::{InspectError, ask, filled_in, ids, no_ledger};
use crate::admin::offline;
use crate::admin::status::LedgerStatus;
use crate::cli::Gc;
use crate::client::Client;
use crate::driver::Driver;
use crate::engine::Engine;
use crate::gc::{self, GcReport, Leak};
use crate::linux;
use crate::linux::survey::Survey;
use crate::model::{EndpointId, NetworkId};
use crate::output;
use crate::state::{Ledger, Outcome};

/// `pontoon gc`.
///
/// # Errors
/// The comparison failed, is in doubt, or an object could not be removed.
pub fn run(options: &Gc) -> Result<(), InspectError> {
    let options = &Gc { asked: filled_in(&options.asked)?, ..options.clone() };
    let first = compare(options)?;
    show(&first, options.asked.json);
    if !options.yes || first.leaks.is_empty() {
        return Ok(());
    }
    if first.stranger && !options.none_known {
        let why = "this engine knows none of Pontoon's networks. If it is the right engine and its data was removed, add --none-known";
        return Err(InspectError::Doubt(why.to_owned()));
    }
    // An engine that is creating a network reports it to Pontoon before it lists it itself.
    std::thread::sleep(Duration::from_secs(options.wait));
    let second = compare(options)?;
    let both: Vec<&Leak> = first.leaks.intersection(&second.leaks).collect();
    match ask(&options.asked) {
        Ok(_) => {
            let client = Client::new(&options.asked.socket, "socket")?;
            both.into_iter().try_for_each(|leak| removed(leak, remove_through(&client, leak)))
        }
        Err(_) => {
            let alone = Alone::begin(&options.asked.state_dir)?;
            let done = both.into_iter().try_for_each(|leak| removed(leak, remove(&alone.driver, leak)));
            alone.end();
            done
        }
    }
}

fn compare(options: &Gc) -> Result<GcReport, InspectError> {
    // Pontoon is read first: objects that it adds between the two reads are not examined.
    let status = match ask(&options.asked) {
        Ok(status) => status,
        Err(_) => {
            let seen = Ledger::open_read_only(&options.asked.state_dir, &boot_id()).map_err(AppError::from)?;
            if matches!(seen.outcome, Outcome::Absent) {
                return Err(no_ledger(&options.asked));
            }
            offline::status_of(&seen.records, LedgerStatus::default())
        }
    };
    let engine = Engine::ask(&options.docker, &ids(&status))?;
    let links = Survey::open(linux::Options::default())?.links()?;
    Ok(gc::compare(&status, &engine, &links))
}

fn show(report: &GcReport, as_json: bool) {
    if as_json {
        return output::line(&json!(report));
    }
    for leak in &report.leaks {
        output::line(leak);
    }
    for kept in &report.kept {
        output::line(&format!("# kept: {kept}"));
    }
    if report.leaks.is_empty() {
        output::line(&"# nothing to remove: the engine knows every object of Pontoon");
    }
}

fn removed(leak: &Leak, done: Result<(), String>) -> Result<(), InspectError> {
    done.map_err(|what| InspectError::Leak { leak: leak.to_string(), what })?;
    output::note(&format!("removed {leak}"));
    Ok(())
}

/// The request that the engine should have sent.
fn verb(leak: &Leak) -> (&'static str, Value) {
    match leak {
        Leak::Endpoint { network, id } => {
            ("/NetworkDriver.DeleteEndpoint", json!({ "NetworkID": network, "EndpointID": id }))
        }
        Leak::Network { id, .. } => ("/NetworkDriver.DeleteNetwork", json!({ "NetworkID": id })),
        Leak::Pool { id, .. } => ("/IpamDriver.ReleasePool", json!({ "PoolID": id })),
    }
}

fn remove_through(client: &Client, leak: &Leak) -> Result<(), String> {
    let (path, body) = verb(leak);
    let answer: BTreeMap<String, Value> = client.post(path, &body).map_err(|error| error.to_string())?;
    let error = ["Err", "Error"].iter().find_map(|key| answer.get(*key)?.as_str().filter(|text| !text.is_empty()));
    error.map_or(Ok(()), |error| Err(error.to_owned()))
}

fn remove(driver: &Driver, leak: &Leak) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let network_id = |id: &str| NetworkId::parse(id).map_err(|error| text(&error));
    let done = match leak {
        Leak::Endpoint { network, id } => {
            let id = EndpointId::parse(id).map_err(|error| text(&error))?;
            driver.delete_endpoint(&network_id(network)?, &id)
        }
        Leak::Network { id, .. } => driver.delete_network(&network_id(id)?),
        Leak::Pool { id, .. } => driver.release_pool(id),
    };
    done.map_err(|error| text(&error))
}
