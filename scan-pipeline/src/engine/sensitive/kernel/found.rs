//! What the kernel finds in a stretch of text.

use super::{BLOCK, Kind};

/// The candidates in a stretch of text, and what helps to judge them.
#[derive(Default)]
pub(in super::super) struct Found {
    letters: Vec<u8>,
    lists: [List; Kind::ALL.len()],
}

impl Found {
    pub(super) fn clear(&mut self) {
        self.lists.iter_mut().for_each(List::clear);
        self.letters.clear();
    }

    /// Makes room for what is to be said of so many bytes.
    pub(super) fn begin(&mut self, size: usize) {
        self.letters.resize(size.div_ceil(BLOCK) + 4, 1);
    }

    /// Takes out the places from one on.
    pub(super) fn end_at(&mut self, end: usize) {
        self.lists.iter_mut().for_each(|list| list.end_at(end));
    }

    /// The places of candidates, in order, counted from where the kernel began.
    pub(in super::super) fn of(&self, kind: Kind) -> &[u32] {
        self.lists[kind as usize].places()
    }

    /// For each block from where the kernel began, 0 where it is known that none of its bytes has bit 6, as letters
    /// have, and 1 elsewhere; and a 1 for each of some blocks behind.
    pub(in super::super) fn letters(&self) -> &[u8] {
        &self.letters
    }

    /// What is known of the letters of the blocks behind so many bytes, and where the candidates there go.
    #[inline(always)]
    pub(super) fn parts(&mut self, before: usize) -> (&mut [u8], Lists<'_>) {
        let letters = self.letters.get_mut(before / BLOCK..).unwrap_or_default();
        (letters, Lists { lists: &mut self.lists, base: before as u32 })
    }

    #[cfg(test)]
    pub(in super::super) fn held(&self) -> usize {
        let lists: usize = self.lists.iter().map(List::held).sum();
        lists + self.letters.capacity()
    }
}

/// The candidates of each kind, for those of one piece.
pub(super) struct Lists<'f> {
    lists: &'f mut [List; Kind::ALL.len()],
    base: u32,
}

impl Lists<'_> {
    /// Adds the places of the mask of a block of the piece.
    #[inline(always)]
    pub(super) fn add(&mut self, kind: Kind, block: usize, mask: u64) {
        self.lists[kind as usize].add(self.base + (block * BLOCK) as u32, mask);
    }
}

/// Places, with room behind them.
#[derive(Default)]
pub(in super::super) struct List {
    places: Vec<u32>,
    len: usize,
}

impl List {
    /// The places, in order.
    pub(in super::super) fn places(&self) -> &[u32] {
        &self.places[..self.len]
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes out the places from one on.
    pub(super) fn end_at(&mut self, end: usize) {
        while self.places().last().is_some_and(|last| *last as usize >= end) {
            self.len -= 1;
        }
    }

    #[cfg(test)]
    pub(in super::super) fn held(&self) -> usize {
        self.places.capacity() * 4
    }

    /// How many places are written whether they are there or not: a block seldom has more, and how many it has cannot
    /// be guessed, so that a branch for each would cost more.
    const AT_ONCE: usize = 2;

    #[inline(always)]
    pub(super) fn add(&mut self, base: u32, mask: u64) {
        let len = self.len;
        self.len += mask.count_ones() as usize;
        let Some(slots) = self.places.get_mut(len..len + BLOCK) else { return self.add_and_grow(base, mask, len) };
        Self::write(base, mask, slots);
    }

    #[inline(always)]
    fn write(base: u32, mask: u64, slots: &mut [u32]) {
        let (first, rest) = slots.split_at_mut(Self::AT_ONCE);
        let mut mask = mask;
        for slot in first {
            *slot = base.wrapping_add(mask.trailing_zeros());
            mask &= mask.wrapping_sub(1);
        }
        for slot in rest {
            if mask == 0 {
                break;
            }
            *slot = base.wrapping_add(mask.trailing_zeros());
            mask &= mask - 1;
        }
    }

    #[cold]
    #[inline(never)]
    fn add_and_grow(&mut self, base: u32, mask: u64, len: usize) {
        self.places.resize(2 * len + 4 * BLOCK, 0);
        Self::write(base, mask, &mut self.places[len..len + BLOCK]);
    }
}

/// The places of a mask's bits, in order.
#[inline(always)]
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        bit
    })
}
