//! Identifiers that Harbor or a platform makes up: UUIDs, one type for each thing they identify.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A UUID that identifies one kind of thing, `T`.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Id<T>(Uuid, PhantomData<T>);

/// Tag of [`ServiceId`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ServiceTag {}
/// Tag of [`BindingId`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum BindingTag {}

/// A provisioned service; `name` in the credentials the application sees.
pub type ServiceId = Id<ServiceTag>;
/// One binding of a service to an app.
pub type BindingId = Id<BindingTag>;

impl<T> Id<T> {
    /// The id with this number; for tests and seeds.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(Uuid::from_u128(number), PhantomData)
    }

    /// A random (version 4) id from 16 random bytes.
    #[must_use]
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid(), PhantomData)
    }

    /// The id as a number.
    #[must_use]
    pub const fn as_u128(self) -> u128
    where
        T: Copy,
    {
        self.0.as_u128()
    }
}

impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> FromStr for Id<T> {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(|uuid| Self(uuid, PhantomData))
    }
}
