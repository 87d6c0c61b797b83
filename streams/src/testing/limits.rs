//! How much a driver's job gathers before it clears up.

use super::TestDriver;
use crate::settings::Limits;

impl TestDriver {
    /// How much may gather before the log or a store clears up: lower limits make what is rare happen.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.engine.settings.limits = limits;
        self
    }
}
