//! CloudEvents JSON, read in one pass into borrowed, loosely typed fields.
//!
//! A field of the wrong type is a value here, not an error, so that all faults of an event can be listed; only
//! malformed JSON stops the reading. `null` is absent (CloudEvents JSON format, 2.2), unknown members are skipped
//! and of repeated members the last counts. Nesting costs no stack: what is not a field is skipped, not built.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A member's value: what a rule can use, or the name of what it is instead.
#[derive(Debug, Default)]
pub(super) enum Field<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Integer(i64),
    Bool(bool),
    Other(&'static str),
}

/// A member that should be an object.
#[derive(Debug, Default)]
pub(super) enum Object<T> {
    #[default]
    Absent,
    Is(T),
    Not(Cow<'static, str>),
}

/// Takes an object's members.
pub(super) trait Members<'de>: Sized {
    fn take<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error>;
}

macro_rules! members {
    ($(#[$doc:meta])* $name:ident { $($member:ident: $type:ty = $wire:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name<'a> { $(pub(super) $member: $type,)* }

        impl<'de: 'a, 'a> Members<'de> for $name<'a> {
            fn take<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
                let mut members = Self::default();
                while let Some(Name(name)) = map.next_key()? {
                    match &*name {
                        $($wire => members.$member = map.next_value()?,)*
                        _ => { map.next_value::<IgnoredAny>()?; }
                    }
                }
                Ok(members)
            }
        }
    };
}

members! {
    /// The attributes that count, and the data.
    Envelope {
        specversion: Field<'a> = "specversion",
        id: Field<'a> = "id",
        source: Field<'a> = "source",
        kind: Field<'a> = "type",
        time: Field<'a> = "time",
        datacontenttype: Field<'a> = "datacontenttype",
        data: Object<Data<'a>> = "data",
        data_base64: Field<'a> = "data_base64",
    }
}

members! {
    /// The members of `data` over all types of events.
    Data {
        user_id: Field<'a> = "user_id",
        device_id: Field<'a> = "device_id",
        recording_id: Field<'a> = "recording_id",
        start_timestamp: Field<'a> = "start_timestamp",
        end_timestamp: Field<'a> = "end_timestamp",
        media_url: Field<'a> = "media_url",
        growing: Field<'a> = "growing",
        expires_at: Field<'a> = "expires_at",
        size: Field<'a> = "size",
        etag: Field<'a> = "etag",
        credentials_key: Field<'a> = "credentials_key",
    }
}

/// A member's name; allocated only when it is written with escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(FieldVisitor(PhantomData))? {
            Field::Text(name) => Ok(Self(name)),
            _ => Err(D::Error::custom("a member's name must be a string")),
        }
    }
}

struct FieldVisitor<'a>(PhantomData<Field<'a>>);

impl<'de: 'a, 'a> Visitor<'de> for FieldVisitor<'a> {
    type Value = Field<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Field<'a>, E> {
        Ok(Field::Absent)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field<'a>, E> {
        Ok(Field::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Field<'a>, E> {
        Ok(Field::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Field<'a>, E> {
        Ok(i64::try_from(value).map_or(Field::Other("a number beyond 64 bits"), Field::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field<'a>, E> {
        Ok(Field::Other("a number with a fraction, an exponent or beyond 64 bits"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Field<'a>, E> {
        Ok(Field::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Field<'a>, E> {
        Ok(Field::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Field<'a>, A::Error> {
        skip_seq(seq)?;
        Ok(Field::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<'a>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an object"))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Members<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Object<T>, E> {
        Ok(Object::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Object<T>, E> {
        Ok(Object::Not("a boolean".into()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Object<T>, E> {
        Ok(Object::Not("a number".into()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Object<T>, E> {
        Ok(Object::Not("a number".into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Object<T>, E> {
        Ok(Object::Not("a number".into()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Object<T>, E> {
        Ok(Object::Not("a string".into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Object<T>, A::Error> {
        skip_seq(seq)?;
        Ok(Object::Not("an array".into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::take(map).map(Object::Is)
    }
}

impl<'de, T: Members<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// Reads past the rest of an array.
pub(super) fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}
