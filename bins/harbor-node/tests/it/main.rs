//! The node, from outside: its configuration, its API, its ports, its life as a process.

mod config;
mod dev;
mod dev_run;
mod kill9;
mod real_clients;
mod restore;
