//! A bound on the memory of pages that are on their way between a request and the file.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::units::ByteSize;

/// Bytes are counted in units of this size, so that they fit a semaphore.
const UNIT_BYTES: u64 = 1024;

/// Bounds the bytes of pages that are on their way at the same time.
///
/// A page takes a slot of about its size before its request leaves, and grows it before it needs more. A page that
/// cannot grow waits; so that pages which all wait for more do not wait for each other, one of them at a time, the
/// next that its read hands on, may go beyond the limit. So at most the limit and one page more are on their way.
#[derive(Clone, Debug)]
pub struct Slots {
    bytes: Arc<Semaphore>,
    units: u32,
    /// Leave to go beyond the limit.
    beyond: Arc<Semaphore>,
}

impl Slots {
    /// Slots for `limit` bytes in all.
    #[must_use]
    pub fn new(limit: ByteSize) -> Self {
        let units = u32::try_from((limit.0 / UNIT_BYTES).max(1)).unwrap_or(u32::MAX >> 3).min(u32::MAX >> 3);
        Self { bytes: Arc::new(Semaphore::new(units as usize)), units, beyond: Arc::new(Semaphore::new(1)) }
    }

    fn units_for(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units)
    }
}

/// The pages of one read that are in flight, counted as it hands them on.
#[derive(Debug, Default)]
pub struct Turns(watch::Sender<u64>);

impl Turns {
    /// One more page was handed on.
    pub fn next(&self) {
        self.0.send_modify(|handed_on| *handed_on += 1);
    }

    /// The turn of the page that `before` others of the same read are in front of.
    #[must_use]
    pub fn after(&self, before: usize) -> Turn {
        Turn { number: *self.0.borrow() + before as u64, handed_on: self.0.subscribe() }
    }
}

/// When a page is the next one that its read hands on.
#[derive(Clone, Debug)]
pub struct Turn {
    number: u64,
    handed_on: watch::Receiver<u64>,
}

impl Turn {
    async fn comes(&self) {
        // A read that is gone hands nothing on, and nobody waits for its pages.
        if self.handed_on.clone().wait_for(|handed_on| *handed_on >= self.number).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Where one page has its memory from.
#[derive(Clone, Debug)]
pub struct Room {
    slots: Slots,
    turn: Turn,
    expected: u64,
    /// Other pages of its read are in flight with it.
    side_by_side: bool,
}

impl Room {
    /// Room for a page that is expected to need so many bytes. `side_by_side` where other pages of the same read are
    /// asked for before this one has come.
    #[must_use]
    pub fn new(slots: &Slots, turn: Turn, expected: u64, side_by_side: bool) -> Self {
        Self { slots: slots.clone(), turn, expected, side_by_side }
    }

    /// Waits for what the page is expected to need. Waiters are served in the order in which they came. Dropping the
    /// call leaves the line.
    pub async fn take(&self) -> Slot {
        let expected = Arc::clone(&self.slots.bytes).acquire_many_owned(self.slots.units_for(self.expected));
        tokio::select! {
            biased;
            permit = expected => Slot { held: permit.ok(), beyond: None },
            // The pages behind it may hold all there is until this one has been handed on.
            () = self.turn.comes(), if self.side_by_side => Slot::default(),
        }
    }

    /// Waits until `slot` may hold `bytes`. Dropping the call leaves the slot as it was.
    pub async fn grow(&self, slot: &mut Slot, bytes: u64) {
        let missing = self.slots.units_for(bytes).saturating_sub(slot.units());
        if missing == 0 || slot.beyond.is_some() {
            return;
        }
        let beyond = async {
            self.turn.comes().await;
            Arc::clone(&self.slots.beyond).acquire_owned().await
        };
        tokio::select! {
            biased;
            permit = Arc::clone(&self.slots.bytes).acquire_many_owned(missing) => match (&mut slot.held, permit) {
                (Some(held), Ok(permit)) => held.merge(permit),
                (held, permit) => *held = permit.ok(),
            },
            permit = beyond => slot.beyond = permit.ok(),
        }
    }

    /// Gives back what `slot` holds beyond `bytes`.
    pub fn shrink(&self, slot: &mut Slot, bytes: u64) {
        let surplus = slot.units().saturating_sub(self.slots.units_for(bytes)) as usize;
        drop(slot.held.as_mut().and_then(|held| held.split(surplus)));
    }
}

/// Memory that a page holds until it is dropped.
#[derive(Debug, Default)]
pub struct Slot {
    held: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedSemaphorePermit>,
}

impl Slot {
    fn units(&self) -> u32 {
        self.held.as_ref().map_or(0, |held| u32::try_from(held.num_permits()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::{ByteSize, Room, Slot, Slots, Turns};

    const KIB: u64 = 1024;

    fn room(slots: &Slots, turns: &Turns, before: usize, expected_kib: u64) -> Room {
        Room::new(slots, turns.after(before), expected_kib * KIB, before > 0)
    }

    fn take(room: &Room) -> Option<Slot> {
        room.take().now_or_never()
    }

    fn grows(room: &Room, slot: &mut Slot, kib: u64) -> bool {
        room.grow(slot, kib * KIB).now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_bytes_on_their_way_are_bounded() {
        let (slots, turns) = (Slots::new(ByteSize(10 * KIB)), Turns::default());
        let four = room(&slots, &turns, 0, 4);
        let mut first = take(&four).unwrap();
        assert!(grows(&four, &mut first, 8));
        assert!(take(&four).is_none());
        four.shrink(&mut first, 6 * KIB);
        let second = take(&four).unwrap();
        assert!(take(&room(&slots, &turns, 0, 1)).is_none());
        drop((first, second));
        let whole = take(&room(&slots, &turns, 0, 1 << 30)).unwrap();
        assert!(take(&four).is_none(), "a page that is larger than the limit is alone");
        drop(whole);
        assert!(take(&four).is_some());
    }

    #[tokio::test]
    async fn of_pages_that_all_wait_for_more_one_goes_beyond_the_limit() {
        let slots = Slots::new(ByteSize(10 * KIB));
        let reads = [Turns::default(), Turns::default()];
        let rooms = reads.each_ref().map(|turns| room(&slots, turns, 0, 5));
        let [mut first, mut second] = rooms.each_ref().map(|room| take(room).unwrap());
        assert!(grows(&rooms[0], &mut first, 9), "beyond");
        assert!(grows(&rooms[0], &mut first, 90), "as far as it needs");
        assert!(!grows(&rooms[1], &mut second, 9), "one at a time");
        drop(first);
        assert!(grows(&rooms[1], &mut second, 9));
        assert!(!grows(&room(&slots, &reads[0], 1, 5), &mut Slot::default(), 5), "not before its turn");
    }

    #[tokio::test]
    async fn pages_behind_it_do_not_keep_a_page_from_its_memory() {
        let (slots, turns) = (Slots::new(ByteSize(10 * KIB)), Turns::default());
        let [head, behind] = [0, 1].map(|before| Room::new(&slots, turns.after(before), 10 * KIB, true));
        let later = take(&behind).unwrap();
        let mut slot = take(&head).expect("it goes without");
        assert!(grows(&head, &mut slot, 10));
        drop(later);
        turns.next();
        drop(slot);
        assert!(take(&behind).is_some(), "its turn has come");
    }
}
