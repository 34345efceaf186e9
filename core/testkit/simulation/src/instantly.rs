//! A disk that answers at once and never fails, for who only looks.

use colonnade_model::stream::StreamAdvance;
use colonnade_storage::{Fate, error::Result};
use futures_util::{FutureExt as _, future::BoxFuture};

/// Everything that happens at once.
pub(crate) struct Instantly;

impl Fate for Instantly {
    fn read(&self) -> BoxFuture<'_, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn write(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn commits(&self, _: &[StreamAdvance]) -> bool {
        true
    }

    fn answers(&self) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }
}
