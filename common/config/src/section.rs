//! Sections: the keys of one owner each, and services composed of them.

use std::{cell::RefCell, collections::BTreeSet, iter};

use config::{ConfigError, Map, Value};
use documented::DocumentedFields;
use serde::{
    Deserializer, Serialize,
    de::{self, DeserializeOwned, IntoDeserializer, Visitor, value::MapDeserializer},
    forward_to_deserialize_any,
};
use serde_json::Value as Json;

use crate::{
    InvalidValue,
    reloadable::{self, Moment},
    secret,
};

/// The keys of one owner, such as the HTTP server or the broker's client. Its fields are the keys, their doc comments
/// the help text, and its `Default` the values of keys that nobody sets.
///
/// A field's type decides how its key is treated: a [`Reloadable`](crate::Reloadable) takes effect while the service
/// runs, and a [`Secret`](crate::secret::Secret) is never shown and, like its file, has no flag.
pub trait Section:
    Clone + Default + DeserializeOwned + DocumentedFields + Serialize + Send + Sync + 'static
{
    /// Checks rules that a value's type cannot state.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    fn check(&self, _: Moment) -> Result<(), InvalidValue> {
        Ok(())
    }
}

/// One section or several: a [`Section`], or a struct that [`sections!`](crate::sections) has composed.
pub trait Sections: Clone + Send + Sync + 'static {
    /// Returns the keys in the order of the fields.
    fn keys() -> Vec<Key>;

    /// Reads each section from the same values; keys of other sections are ignored.
    ///
    /// # Errors
    /// The first value that does not have its key's type.
    fn read(values: &Map<String, Value>) -> Result<Self, InvalidValue>;

    /// Checks each section.
    ///
    /// # Errors
    /// Those of [`Section::check`].
    fn check(&self, moment: Moment) -> Result<(), InvalidValue>;

    /// Returns the values by key, as operators may see them.
    fn shown(&self) -> serde_json::Map<String, Json>;
}

/// A key of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The name, as in files.
    pub name: &'static str,
    /// The help text.
    pub doc: &'static str,
    /// `true` if a new value takes effect while the service runs.
    pub is_live: bool,
    /// `true` if the value is a secret.
    pub is_secret: bool,
    /// `true` if it can be set on the command line: neither a secret nor the file of one.
    pub has_flag: bool,
}

impl<T: Section> Sections for T {
    fn keys() -> Vec<Key> {
        let fields = Self::FIELD_NAMES.iter().copied().zip(Self::FIELD_DOCS.iter().copied());
        let key = |(name, doc)| {
            let types = newtypes::<Self>(name);
            let is = |newtype| types.contains(newtype);
            let (is_live, is_secret) = (is(reloadable::TYPE), is(secret::TYPE));
            Key { name, doc, is_live, is_secret, has_flag: !is_secret && !is(secret::FILE_TYPE) }
        };
        fields.map(key).collect()
    }

    fn read(values: &Map<String, Value>) -> Result<Self, InvalidValue> {
        let own = values.iter().filter(|(key, _)| Self::FIELD_NAMES.contains(&key.as_str()));
        let own: Map<_, _> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
        serde_path_to_error::deserialize(Value::new(None, own)).map_err(|error| {
            let key = error.path().to_string();
            InvalidValue::new(key, reason(error.into_inner()))
        })
    }

    fn check(&self, moment: Moment) -> Result<(), InvalidValue> {
        Section::check(self, moment)
    }

    fn shown(&self) -> serde_json::Map<String, Json> {
        match serde_json::to_value(self) {
            Ok(Json::Object(values)) => values,
            _ => serde_json::Map::new(),
        }
    }
}

/// Returns the error without the key and the source, which `config` adds to some errors only.
fn reason(error: ConfigError) -> String {
    match error {
        ConfigError::At { error, .. } => reason(*error),
        ConfigError::Type { unexpected, expected, .. } => {
            format!("invalid type: {unexpected}, expected {expected}")
        }
        other => other.to_string(),
    }
}

/// Composes the settings of a service, or of a part that several services share, from sections. `as_ref` returns a
/// section by its type.
///
/// ```
/// hops_config::sections! {
///     /// The settings of a service that greets.
///     pub struct Settings {
///         /// Its own keys.
///         pub greeting: Greeting,
///     }
/// }
///
/// /// What the greeting says.
/// #[derive(Debug, Clone, Default, serde::Deserialize, serde::Serialize, documented::DocumentedFields)]
/// #[serde(default)]
/// pub struct Greeting {
///     /// The greeting's text
///     pub greeting_text: hops_config::Reloadable<String>,
/// }
///
/// impl hops_config::Section for Greeting {}
///
/// let [key] = <Settings as hops_config::Sections>::keys()[..] else { panic!("one key") };
/// assert_eq!((key.name, key.is_live), ("greeting_text", true));
/// ```
#[macro_export]
macro_rules! sections {
    ($(#[$about:meta])* $public:vis struct $name:ident {
        $($(#[$doc:meta])* $visible:vis $field:ident: $section:ty,)+
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default)]
        $public struct $name {
            $($(#[$doc])* $visible $field: $section,)+
        }

        $(impl AsRef<$section> for $name {
            fn as_ref(&self) -> &$section {
                &self.$field
            }
        })+

        impl $crate::Sections for $name {
            fn keys() -> Vec<$crate::Key> {
                [$(<$section as $crate::Sections>::keys()),+].concat()
            }

            fn read(values: &$crate::Values) -> Result<Self, $crate::InvalidValue> {
                Ok(Self { $($field: $crate::Sections::read(values)?,)+ })
            }

            fn check(&self, moment: $crate::Moment) -> Result<(), $crate::InvalidValue> {
                $($crate::Sections::check(&self.$field, moment)?;)+
                Ok(())
            }

            fn shown(&self) -> $crate::Shown {
                [$($crate::Sections::shown(&self.$field)),+].into_iter().flatten().collect()
            }
        }
    };
}

/// Returns the names of the newtypes that the type of a field is made of, from the outside in.
fn newtypes<T: DeserializeOwned>(field: &'static str) -> BTreeSet<&'static str> {
    let names = RefCell::default();
    let _ = T::deserialize(MapDeserializer::new(iter::once((field, Recorder(&names)))));
    names.into_inner()
}

/// A deserializer that has no value: it records which newtypes it is asked for.
#[derive(Clone, Copy)]
struct Recorder<'a>(&'a RefCell<BTreeSet<&'static str>>);

impl<'de> Deserializer<'de> for Recorder<'_> {
    type Error = de::value::Error;

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.borrow_mut().insert(name);
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("there is no value"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_> for Recorder<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
