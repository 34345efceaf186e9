//! Who makes a request, and from which device.

use std::net::IpAddr;

use ruma::{OwnedDeviceId, OwnedUserId};

use crate::nid::{DeviceNid, UserNid};

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
    /// Where the request comes from, if that is known.
    pub address: Option<IpAddr>,
}
