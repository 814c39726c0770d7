//! The windows that a few days are made of, in order.

use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window, WindowCursor};

/// A finest window on one calendar day of the tenant: what an event is counted in, and what coarser windows are made
/// of. A window that lies in two days is two slots.
pub(super) type Slot = (EventTime, Date);

/// The slots that one thread has met, numbered.
#[derive(Debug)]
pub(super) struct Slots {
    cursor: WindowCursor,
    numbers: HashMap<Slot, u32>,
    slots: Vec<Slot>,
    last: Option<(Window, Date, u32)>,
}

impl Slots {
    pub(super) fn new(finest: Grain, zone: &Zone) -> Self {
        let cursor = WindowCursor::new(finest, zone.clone());
        Self { cursor, numbers: HashMap::new(), slots: Vec::new(), last: None }
    }

    /// The number of the slot of an event.
    #[inline]
    pub(super) fn of(&mut self, at: EventTime, day: Date) -> u32 {
        if let Some((window, last_day, number)) = self.last
            && window.contains(at)
            && day == last_day
        {
            return number;
        }
        let window = self.cursor.window_at(at);
        let number = *self.numbers.entry((window.start, day)).or_insert_with(|| {
            self.slots.push((window.start, day));
            u32::try_from(self.slots.len() - 1).expect("a chunk of days has far fewer than 2^32 windows")
        });
        self.last = Some((window, day, number));
        number
    }

    pub(super) fn all(&self) -> &[Slot] {
        &self.slots
    }
}

/// All slots in order, and the windows of every grain that they lie in.
#[derive(Debug)]
pub(super) struct Timeline {
    slots: Vec<Slot>,
    /// The windows of all grains, with the day that each is settled with.
    windows: Vec<(Window, Date)>,
    /// By grain, then by slot: its window. As slots are in order, so are the numbers of their windows.
    by_slot: Vec<Vec<u32>>,
}

impl Timeline {
    /// Of these slots, at these grains, the finest of which is that of the slots.
    pub(super) fn new(mut slots: Vec<Slot>, grains: &[Grain], zone: &Zone) -> Self {
        slots.sort_unstable();
        slots.dedup();
        let mut windows: Vec<(Window, Date)> = Vec::new();
        let by_slot = grains.iter().map(|grain| {
            let mut cursor = WindowCursor::new(*grain, zone.clone());
            let mut last: Option<(Window, Date)> = None;
            let numbers = slots.iter().map(|(start, day)| {
                let window = match grain {
                    Grain::Day => Window { grain: *grain, start: zone.day_start(*day), end: zone.day_end(*day) },
                    _ => cursor.window_at(*start),
                };
                if last != Some((window, *day)) {
                    windows.push((window, *day));
                    last = Some((window, *day));
                }
                u32::try_from(windows.len() - 1).expect("a chunk of days has far fewer than 2^32 windows")
            });
            numbers.collect()
        });
        let by_slot = by_slot.collect();
        Self { slots, windows, by_slot }
    }

    /// The numbers here of slots that were numbered elsewhere.
    pub(super) fn places(&self, slots: &[Slot]) -> Vec<u32> {
        let place = |slot| self.slots.binary_search(slot).expect("the timeline is made of all slots");
        slots.iter().map(|slot| u32::try_from(place(slot)).expect("as many as there are windows")).collect()
    }

    pub(super) fn window(&self, number: u32) -> (Window, Date) {
        self.windows[number as usize]
    }

    /// By grain, then by slot: the number of its window.
    pub(super) fn by_slot(&self) -> &[Vec<u32>] {
        &self.by_slot
    }
}
