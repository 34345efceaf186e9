//! Who makes a request, and from which device.

use std::net::IpAddr;

use ruma::{OwnedDeviceId, OwnedUserId};

use crate::nid::{DeviceNid, UserNid};

/// What an administrator keeps a user from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restriction {
    /// Nothing.
    #[default]
    None,
    /// Whatever others notice: he may read, leave and look after his devices.
    Suspended,
    /// Everything but logging out.
    Locked,
}

/// A logged-in device making a request.
#[derive(Debug, Clone)]
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's local id.
    pub user: UserNid,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The device's local id.
    pub device: DeviceNid,
    /// The user is a guest, who may do little.
    pub is_guest: bool,
    /// What the user is kept from.
    pub restriction: Restriction,
    /// Where the request comes from, if that is known.
    pub address: Option<IpAddr>,
}
