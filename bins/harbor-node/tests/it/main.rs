//! The node, from outside: its configuration, its API, its ports, its life as a process.

mod api;
mod config;
mod dev;
mod dev_run;
mod kill9;
mod process;
mod real_clients;
mod restart;
mod restore;
mod rig;
mod services;
mod traffic;
