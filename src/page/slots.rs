//! A bound on the memory of pages that are on their way between a request and the file.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::units::ByteSize;

/// Bounds the bytes of pages that are on their way at the same time.
///
/// A reader takes a slot after its budget lets it send and before the request leaves. What the page really needs
/// is known only afterwards: the slot is then topped up without waiting, so the bound can be passed by what pages
/// differ from the estimate, never by more pages.
#[derive(Clone, Debug)]
pub struct Slots {
    bytes: Arc<Semaphore>,
    units: u32,
}

/// Bytes are counted in units of this size, so that they fit a semaphore.
const SLOT_UNIT_BYTES: u64 = 1024;

impl Slots {
    /// Slots for `limit` bytes in all.
    #[must_use]
    pub fn new(limit: ByteSize) -> Self {
        let units = u32::try_from((limit.0 / SLOT_UNIT_BYTES).max(1)).unwrap_or(u32::MAX >> 3).min(u32::MAX >> 3);
        Self { bytes: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits for room for a page of about `estimate` bytes. Waiters are served in the order they came.
    pub async fn take(&self, estimate: u64) -> Slot {
        let units = self.units_for(estimate);
        let permit = Arc::clone(&self.bytes).acquire_many_owned(units).await;
        Slot { permits: permit.into_iter().collect() }
    }

    /// Tops `slot` up to `actual` bytes as far as there is room.
    pub fn top_up(&self, slot: &mut Slot, actual: u64) {
        let held: usize = slot.permits.iter().map(OwnedSemaphorePermit::num_permits).sum();
        let missing = (self.units_for(actual) as usize).saturating_sub(held);
        if let Ok(missing) = u32::try_from(missing)
            && missing > 0
        {
            slot.permits.extend(Arc::clone(&self.bytes).try_acquire_many_owned(missing));
        }
    }

    fn units_for(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(SLOT_UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units)
    }
}

/// Room that a page holds until it is dropped.
#[derive(Debug, Default)]
pub struct Slot {
    permits: Vec<OwnedSemaphorePermit>,
}

#[cfg(test)]
mod tests {
    use super::{ByteSize, Slots};

    #[tokio::test]
    async fn slots_bound_the_bytes_on_their_way() {
        let slots = Slots::new(ByteSize(10 * 1024));
        let mut first = slots.take(4 * 1024).await;
        slots.top_up(&mut first, 8 * 1024);
        assert!(futures::FutureExt::now_or_never(slots.take(4 * 1024)).is_none());
        drop(first);
        let whole = slots.take(1 << 40).await;
        assert!(futures::FutureExt::now_or_never(slots.take(1)).is_none());
        drop(whole);
        assert!(futures::FutureExt::now_or_never(slots.take(1)).is_some());
    }
}
