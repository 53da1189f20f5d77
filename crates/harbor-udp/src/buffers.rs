//! The buffers that datagrams are received into. They belong to the thread: nothing is kept between two polls, so all
//! listeners and sessions that a thread drives share them. Used by the shell in `serve`.

use std::cell::RefCell;

use quinn_udp::BATCH_SIZE;

/// Room for the largest datagram there is (65,527 bytes, over IPv6) and for the largest run of datagrams that the kernel
/// coalesces (GRO), which is bounded by one IP packet.
pub(crate) const DATAGRAM: usize = 64 * 1024;

/// Buffers for one batch.
pub(crate) type Buffers = [Box<[u8]>; BATCH_SIZE];

thread_local! {
    // Zeroed pages cost no memory until a datagram reaches them.
    static BUFFERS: RefCell<Buffers> = RefCell::new(std::array::from_fn(|_| vec![0; DATAGRAM].into_boxed_slice()));
}

/// Lends this thread's buffers. The work must not lend them again.
pub(crate) fn with<T>(work: impl FnOnce(&mut Buffers) -> T) -> T {
    BUFFERS.with_borrow_mut(work)
}

/// The datagrams in a received buffer: `stride` bytes each, the last one perhaps shorter. An empty buffer is one empty
/// datagram.
pub(crate) fn datagrams(bytes: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    let empty = bytes.is_empty().then_some(bytes);
    empty.into_iter().chain(bytes.chunks(stride.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coalesced_datagrams_are_split_where_they_were_joined() {
        for (bytes, stride, want) in [
            (&b""[..], 0, vec![&b""[..]]),
            (b"abc", 3, vec![b"abc"]),
            (b"abc", 0, vec![b"a", b"b", b"c"]),
            (b"aabbc", 2, vec![b"aa", b"bb", b"c"]),
            (b"aabb", 2, vec![b"aa", b"bb"]),
            (b"ab", 9, vec![b"ab"]),
        ] {
            assert_eq!(datagrams(bytes, stride).collect::<Vec<_>>(), want, "{bytes:?} by {stride}");
        }
    }
}
