//! Nothing but a home for the benches in `benches/`: Cargo wants a package to have a library or a program.
