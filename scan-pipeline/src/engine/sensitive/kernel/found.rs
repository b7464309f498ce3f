//! What the kernel finds in a stretch of text.

use super::{BLOCK, Kind, mask_before, mask_behind};

/// The candidates in a stretch of text, and what helps to judge them.
#[derive(Default)]
pub(in super::super) struct Found {
    pub(super) blocks: Blocks,
    lists: [List; Kind::ALL.len()],
}

impl Found {
    pub(super) fn clear(&mut self) {
        self.lists.iter_mut().for_each(List::clear);
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
        &self.blocks.letters
    }

    /// What the first look saw, and where the candidates go.
    #[inline(always)]
    pub(super) fn parts(&mut self) -> (&mut Blocks, Lists<'_>) {
        (&mut self.blocks, Lists(&mut self.lists))
    }

    #[cfg(test)]
    pub(in super::super) fn held(&self) -> usize {
        let lists: usize = self.lists.iter().map(List::held).sum();
        let blocks = &self.blocks;
        let numbers = blocks.numbers.capacity() + blocks.marked.capacity() + 2 * blocks.digits.capacity();
        lists + 4 * numbers + blocks.letters.capacity()
    }
}

/// The candidates of each kind.
pub(super) struct Lists<'f>(&'f mut [List; Kind::ALL.len()]);

impl Lists<'_> {
    /// Adds the places of a mask, which begins at `base`.
    #[inline(always)]
    pub(super) fn add(&mut self, kind: Kind, base: u32, mask: u64) {
        self.0[kind as usize].add(base, mask);
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

/// What the first look saw.
#[derive(Default)]
pub(super) struct Blocks {
    /// The digits of the block before, of each block, and of the one behind; of those outside, as many as the second
    /// look asks for.
    pub(super) digits: Vec<u64>,
    pub(super) letters: Vec<u8>,
    /// The blocks with four digits in a row, and how many there are.
    pub(super) numbers: Vec<u32>,
    pub(super) numbers_len: usize,
    /// The blocks with a mark, and how many there are.
    pub(super) marked: Vec<u32>,
    pub(super) marked_len: usize,
}

impl Blocks {
    /// Makes room for the blocks between two places, and says how many they are.
    pub(super) fn begin(&mut self, text: &[u8], from: usize, to: usize) -> usize {
        let all = (to - from).div_ceil(BLOCK);
        self.digits.resize(all + 2, 0);
        self.digits[0] = mask_before(text, from, |byte| byte.is_ascii_digit());
        self.digits[all + 1] = mask_behind(text, from + all * BLOCK, |byte| byte.is_ascii_digit());
        self.letters.clear();
        self.letters.resize(all + 4, 1);
        self.numbers.resize(all + 1, 0);
        self.marked.resize(all + 1, 0);
        all
    }
}
