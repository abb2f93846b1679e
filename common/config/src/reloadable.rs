//! Values that take effect while a service runs.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name by which this type is found in a section.
pub(super) const TYPE: &str = "Reloadable";

/// Proof that a value is used at this moment and not kept: with it a [`Reloadable`] opens.
#[derive(Debug, Clone, Copy)]
pub struct Moment(());

impl Moment {
    pub(super) const NOW: Self = Self(());
}

/// A setting that takes effect while the service runs. It opens for a [`Moment`] only, so that no copy of an older
/// value is in use: see [`LiveSection::live`](crate::LiveSection::live).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Reloadable<T>(T);

impl<T> Reloadable<T> {
    /// Returns the value at this moment.
    pub fn at(&self, _: Moment) -> &T {
        &self.0
    }
}

impl<T> From<T> for Reloadable<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

/// Durations as text, such as `"250ms"`: `#[serde(with = "hops_config::reloadable::duration")]`.
pub mod duration {
    use std::time::Duration;

    use humantime_serde::Serde;

    use super::{Deserialize as _, Deserializer, Reloadable, Serializer};

    /// Reads a duration.
    ///
    /// # Errors
    /// The text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Reloadable<Duration>, D::Error> {
        Reloadable::<Serde<Duration>>::deserialize(from)
            .map(|Reloadable(value)| Reloadable(value.into_inner()))
    }

    /// Writes a duration.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(value: &Reloadable<Duration>, into: S) -> Result<S::Ok, S::Error> {
        humantime_serde::serialize(&value.0, into)
    }
}
