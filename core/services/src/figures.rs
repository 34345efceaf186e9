//! The caches of all services in one list, for the metrics of the assembly.

use colonnade_storage::database::metrics::CacheFigures;

use crate::Services;

impl Services {
    /// Returns how well each cache does.
    pub fn cache_figures(&self) -> Vec<CacheFigures> {
        let mut figures = self.context.interned.figures();
        figures.extend(self.rooms.figures());
        figures.extend(self.rooms.states().figures());
        figures.push(self.accounts.cache_figures());
        figures
    }
}
