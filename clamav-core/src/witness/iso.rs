//! ISO 9660 images (ECMA-119): is the image whole. Its files are announced by libclamav.

use super::{Account, u16_at, u32_at};
use crate::ReasonKind::TruncatedOrCorrupt;

/// Directories are announced like files; their sizes are multiples of this, the size of a sector.
pub(crate) const SECTOR: u64 = 2048;

const PRIMARY_DESCRIPTOR: usize = 16 * SECTOR as usize;

pub(super) fn examine(bytes: &[u8], account: &mut Account) {
    let size = || {
        let sectors = u32_at(bytes, PRIMARY_DESCRIPTOR + 80)?;
        let sector = u16_at(bytes, PRIMARY_DESCRIPTOR + 128)?;
        Some(u64::from(sectors) * u64::from(sector))
    };
    let is_plain = bytes.get(PRIMARY_DESCRIPTOR + 1..PRIMARY_DESCRIPTOR + 6) == Some(b"CD001");
    if is_plain && size().is_none_or(|size| size > bytes.len() as u64) {
        account.gap(TruncatedOrCorrupt, "the ISO image is shorter than its volume");
    }
}
