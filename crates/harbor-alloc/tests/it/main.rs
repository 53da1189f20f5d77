//! The allocator from outside: behaviour by example, and against a model.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod behaviour;
mod model;
