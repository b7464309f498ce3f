//! What the digits of a text say, 64 places at a time, by operations on bits.
//!
//! A bit of a mask stands for a place. `at(n)` is the mask of the places that have a digit `n` places before them, so
//! that `at(0) & at(1)` are the places at which a second digit stands.

/// A mask moved up, with the bits of the block before moved in.
#[inline(always)]
fn up(mask: u64, before: u64, by: u32) -> u64 {
    mask << by | before >> (64 - by)
}

/// The digits of a block, of the one before and of the one behind.
pub(super) struct Window {
    before: u64,
    these: u64,
    after: u64,
    /// Second digits and further ones of two in a row, and fourth ones of four.
    two: u64,
    four: u64,
    two_before: u64,
    four_before: u64,
}

impl Window {
    #[inline(always)]
    pub(super) fn new(before: u64, these: u64, after: u64) -> Self {
        let (two, two_before) = (these & up(these, before, 1), before & before << 1);
        let (four, four_before) = (two & up(two, two_before, 2), two_before & two_before << 2);
        Self { before, these, after, two, four, two_before, four_before }
    }

    /// The places with a digit so many places before them.
    #[inline(always)]
    pub(super) fn at(&self, by: u32) -> u64 {
        up(self.these, self.before, by)
    }

    /// The places with a digit so many places behind them.
    #[inline(always)]
    fn behind(&self, by: u32) -> u64 {
        self.these >> by | self.after << (64 - by)
    }

    #[inline(always)]
    fn two_at(&self, by: u32) -> u64 {
        up(self.two, self.two_before, by)
    }

    #[inline(always)]
    fn four_at(&self, by: u32) -> u64 {
        up(self.four, self.four_before, by)
    }

    /// The fourth digits of rows.
    #[inline(always)]
    pub(super) fn fourth(&self) -> u64 {
        self.four & !self.at(4)
    }

    /// The last digits of groups of four.
    #[inline(always)]
    fn last(&self) -> u64 {
        self.fourth() & !self.behind(1)
    }

    /// The fourth digits of groups that may be the last of a number, for what digits say: those with four digits in the
    /// place before them; of groups of four, those with three digits there, or with the first two groups of a social
    /// security number; and those of groups of seven.
    #[inline(always)]
    pub(super) fn groups(&self) -> u64 {
        self.fourth() & self.four_at(5) | self.last() & (self.exchange() | self.ssn()) | self.seven()
    }

    /// The places behind a byte behind three digits, if they are the fourth of a group.
    #[inline(always)]
    fn exchange(&self) -> u64 {
        self.at(5) & self.two_at(6)
    }

    /// The same of the three digits and a byte before those.
    #[inline(always)]
    fn area(&self) -> u64 {
        self.at(9) & self.two_at(10)
    }

    /// The same of three digits, a byte and two digits.
    #[inline(always)]
    fn ssn(&self) -> u64 {
        self.two_at(5) & self.at(8) & self.two_at(9)
    }

    /// The places with three digits behind them.
    #[inline(always)]
    fn three_behind(&self) -> u64 {
        self.behind(1) & self.behind(2) & self.behind(3)
    }

    /// The fourth digits of groups of seven.
    #[inline(always)]
    fn seven(&self) -> u64 {
        self.fourth() & self.three_behind() & !self.behind(4)
    }

    /// The ninth digits of rows.
    #[inline(always)]
    pub(super) fn ninth(&self) -> u64 {
        self.four & self.four_at(4) & self.at(8) & !self.at(9)
    }
}

/// What stands around groups of digits: masks of the places that have it so many places before them.
pub(super) struct Groups {
    /// [`SEPARATORS`](super::SEPARATORS).
    pub(super) separator_4: u64,
    pub(super) separator_7: u64,
    /// [`CLOSED`](super::CLOSED).
    pub(super) closed_8: u64,
    /// A closing parenthesis, 4, 5, 8, 9 and 10 places before.
    pub(super) bracket: [u64; 5],
}

impl Groups {
    /// [`Kind::Card`](super::Kind::Card).
    #[inline(always)]
    pub(super) fn cards(&self, digits: &Window) -> u64 {
        digits.fourth() & self.separator_4 & digits.four_at(5)
    }

    /// [`Kind::Ssn`](super::Kind::Ssn).
    #[inline(always)]
    pub(super) fn ssns(&self, digits: &Window) -> u64 {
        digits.last() & self.separator_4 & self.separator_7 & digits.ssn()
    }

    /// [`Kind::Phone`](super::Kind::Phone).
    #[inline(always)]
    pub(super) fn phones(&self, digits: &Window) -> u64 {
        let [bracket_4, bracket_5, bracket_8, bracket_9, bracket_10] = self.bracket;
        let exchange = digits.exchange();
        let three = exchange & self.closed_8 & (bracket_8 | bracket_9 | digits.area());
        let four = digits.four_at(5) & (bracket_9 | bracket_10);
        let seven = digits.seven() & (bracket_4 | self.separator_4 & (bracket_5 | exchange));
        digits.last() & self.separator_4 & (three | four) | seven
    }
}

/// Rows of nine digits and more.
pub(super) struct Rows {
    /// Their ninth digits.
    pub(super) ninth: u64,
    /// The places with a byte not below `2` eight places before them.
    pub(super) from_two: u64,
}

impl Rows {
    /// [`Kind::Nine`](super::Kind::Nine).
    #[inline(always)]
    pub(super) fn nine(&self, digits: &Window) -> u64 {
        self.ninth & !digits.behind(1)
    }

    /// [`Kind::Ten`](super::Kind::Ten).
    #[inline(always)]
    pub(super) fn ten(&self, digits: &Window) -> u64 {
        let eleven = digits.behind(2) & !digits.behind(3) & !self.from_two;
        self.ninth & digits.behind(1) & (!digits.behind(2) & self.from_two | eleven)
    }

    /// [`Kind::Long`](super::Kind::Long).
    #[inline(always)]
    pub(super) fn long(&self, digits: &Window) -> u64 {
        self.ninth & digits.three_behind()
    }
}
