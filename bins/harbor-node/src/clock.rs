//! The one place of the node that reads clocks and the system's randomness; everything else is handed the readings.

use std::io;
use std::time::{Instant, SystemTime};

use harbor_types::{Now, WallTime};

/// Both clocks, now.
#[expect(clippy::disallowed_methods, reason = "this is the shell's single reading of the clock")]
pub(crate) fn now() -> Now {
    Now { mono: Instant::now(), wall: WallTime::from(SystemTime::now()) }
}

/// `N` random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}
