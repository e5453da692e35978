//! Owns the fuzzing of whole stories: each line of the input is a method and a body, answered by
//! the real driver over the real ledger and the fake kernel, one after the other.
//!
//! No story may panic. At its end a second life over the same ledger must find the same networks
//! and endpoints, and comparing it with the kernel must need no step: what was answered, what is
//! on disk and what is in the kernel agree, whatever was asked.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pontoon::api::Method;
use pontoon::datapath::Step;
use pontoon::datapath::fake::FakeKernel;
use pontoon::driver::{Driver, Events, Settings};
use pontoon::server::call_directly;
use pontoon::state::Ledger;

fn life(dir: &std::path::Path, kernel: &Arc<FakeKernel>) -> Driver {
    let opened = Ledger::open(dir, "boot").expect("a ledger");
    let driver = Driver::load(opened, Arc::<FakeKernel>::clone(kernel), Settings::default(), Events::none(), Vec::new);
    driver.start().expect("the fake kernel does not fail");
    driver
}

fuzz_target!(|data: &[u8]| {
    let dir = std::path::PathBuf::from(format!("/dev/shm/pontoon-fuzz-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let kernel = Arc::new(FakeKernel::new());
    let driver = life(&dir, &kernel);
    for line in data.split(|byte| *byte == b'\n').take(40) {
        let Some((first, body)) = line.split_first() else { continue };
        // Letters choose the method, so that a story stays readable: a is the first.
        let method = Method::ALL[usize::from(first.wrapping_sub(b'a')) % Method::ALL.len()].0;
        call_directly(&driver, method, body);
    }
    let sizes = driver.sizes();
    drop(driver);
    kernel.take_steps();
    let next = life(&dir, &kernel);
    assert_eq!(next.sizes(), sizes);
    // What connections an earlier life may have left, a start has removed; nothing else is to be done.
    let is_left = |step: &Step| !matches!(step, Step::FlushConntrack(_) | Step::FlushStaleConntrack(_));
    let steps: Vec<_> = kernel.take_steps().into_iter().filter(is_left).collect();
    assert_eq!(steps, []);
    drop(next);
    let _ = std::fs::remove_dir_all(&dir);
});
