//! Generational slots: dense storage whose keys go stale when their value is removed.
//!
//! Invariants worth naming: a stale key misses, it never reaches the slot's next tenant; a slot
//! whose generation is exhausted is retired.

use std::fmt;
use std::marker::PhantomData;

/// Names one value in a [`Slots<T>`]. 8 bytes; `generation` is never zero.
pub struct Key<T> {
    index: u32,
    generation: u32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Rebuilds a key from its parts, as read from a ring entry or an io_uring user datum.
    pub fn from_parts(index: u32, generation: u32) -> Key<T> {
        Key { index, generation, kind: PhantomData }
    }

    /// Rebuilds a key from [`Key::to_bits`].
    pub fn from_bits(bits: u64) -> Key<T> {
        Key::from_parts(bits as u32, (bits >> 32) as u32)
    }

    /// The key as one word.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Position in the slots; dense from zero.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Which tenant of the slot.
    pub fn generation(self) -> u32 {
        self.generation
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}
impl<T> Eq for Key<T> {}
impl<T> std::hash::Hash for Key<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.to_bits().hash(state);
    }
}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Slots per chunk; a power of two.
const CHUNK: usize = 512;

/// Dense storage with generational keys, in chunks that never move: growing by one value costs
/// the memory of one chunk, not that of a second copy. Lives on one core.
pub struct Slots<T> {
    chunks: Vec<Vec<Slot<T>>>,
    used: u32,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { chunks: Vec::new(), used: 0, free: Vec::new() }
    }
}

impl<T> Slots<T> {
    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }

    /// Stores `value` and names it.
    ///
    /// # Panics
    /// When more than `u32::MAX` slots would be needed.
    pub fn insert(&mut self, value: T) -> Key<T> {
        while let Some(index) = self.free.pop() {
            if let Some(slot) = self.slot_mut(index) {
                slot.value = Some(value);
                return Key::from_parts(index, slot.generation);
            }
        }
        let index = self.used;
        self.used = index.checked_add(1).expect("fewer than 2^32 slots");
        if (index as usize).is_multiple_of(CHUNK) {
            // The first chunk grows by need, so that a small table stays small.
            let capacity = if index == 0 { 4 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let chunk = self.chunks.last_mut().expect("a chunk was pushed for the first slot");
        chunk.push(Slot { generation: 1, value: Some(value) });
        Key::from_parts(index, 1)
    }

    /// Takes the value out; the key and its copies go stale.
    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        let slot = self.slot_mut(key.index)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(key.index);
        }
        Some(value)
    }

    /// The value named by `key`, unless the key is stale.
    #[inline]
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        let slot = self.slot(key.index)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    /// As [`Slots::get`], for change.
    #[inline]
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let slot = self.slot_mut(key.index)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    /// How many values are stored.
    pub fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values with their keys, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.chunks.iter().flatten().enumerate().filter_map(|(index, slot)| {
            Some((Key::from_parts(index as u32, slot.generation), slot.value.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_misses_the_next_tenant() {
        let mut slots = Slots::default();
        let first = slots.insert("a");
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("b");
        assert_eq!(first.index(), second.index());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"b"));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn values_keep_their_names_over_many_chunks() {
        let mut slots = Slots::default();
        let keys: Vec<_> = (0..3 * CHUNK).map(|value| slots.insert(value)).collect();
        for (value, key) in keys.iter().enumerate().filter(|(value, _)| value % 3 == 0) {
            assert_eq!(slots.remove(*key), Some(value));
        }
        assert_eq!(slots.len(), 2 * CHUNK);
        assert!(slots.iter().all(|(key, value)| keys[*value] == key && value % 3 != 0));
    }

    #[test]
    fn a_key_survives_its_bits() {
        let mut slots = Slots::default();
        slots.insert(1);
        let key = slots.insert(2);
        assert_eq!(slots.get(Key::from_bits(key.to_bits())), Some(&2));
    }
}
