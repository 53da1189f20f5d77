//! The UDP relay over real sockets.
