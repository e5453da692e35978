//! Links on another link of the host, its parent: how a missing one is created, and what happens to one that is there
//! already. Each kind says what differs.

use super::super::LinuxKernel;
use super::super::apply::{CREATE_ATTEMPTS, foreign};
use super::super::link::{self, LinkRecord};
use super::super::netlink::{Failure, Socket};
use crate::model::IfName;

/// A kind of link with a parent.
pub(super) trait Child {
    /// Its kind as the kernel names it.
    const KIND: &str;

    /// The parent.
    fn parent(&self) -> &IfName;

    /// Creates the link in its desired form on the parent with this index.
    fn create(&self, socket: &mut Socket, name: &IfName, parent: u32) -> Result<(), Failure>;

    /// Whether an existing link of this kind and parent has the settings that the kernel fixes at creation.
    fn matches(&self, found: &LinkRecord) -> bool;

    /// Brings a matching link into its desired form.
    fn reset(&self, socket: &mut Socket, name: &IfName) -> Result<(), Failure>;

    /// Adds a reason to the kernel's refusal to create the link.
    fn explained(&self, failure: Failure) -> Failure;

    /// The error when the kernel says that the link exists, and none has its name; `None` to try again.
    fn exists_elsewhere(&self) -> Option<Failure> {
        None
    }
}

impl LinuxKernel {
    pub(super) fn create_child<C: Child>(&self, name: &IfName, wanted: &C) -> Result<(), Failure> {
        for _ in 0..CREATE_ATTEMPTS {
            self.await_gone(name)?;
            let socket = &mut self.route().socket;
            let Some(parent) = link::find(socket, wanted.parent().as_str())? else {
                return Err(Failure::refused(libc::ENODEV, &format!("there is no link {}", wanted.parent())));
            };
            match wanted.create(socket, name, parent.index) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.errno() == Some(libc::EEXIST) => {}
                Err(failure) => return Err(wanted.explained(failure)),
            }
            match link::find(socket, name.as_str())? {
                None => wanted.exists_elsewhere().map_or(Ok(()), Err)?,
                Some(found) if found.kind != C::KIND || !(found.live() || found.dead()) => {
                    return Err(foreign(name, &found.kind));
                }
                Some(found) if found.live() && found.peer == Some(parent.index) && wanted.matches(&found) => {
                    return wanted.reset(socket, name);
                }
                Some(_) => self.reaper.retire(name),
            }
        }
        Err(Failure::refused(libc::EBUSY, "links of this name keep appearing and disappearing"))
    }
}
