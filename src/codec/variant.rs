//! Encodes and decodes one variant of a serde enum without its tag. Only the event's own fields are
//! stored, because its type is stored next to the payload. This works for any enum that derives
//! `Serialize` and `Deserialize`, including serde attributes on its fields.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, IgnoredAny, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::ser::{
    Error as _, Impossible, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleVariant,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Serializes the fields of an enum value. Fails if serde calls its variant by another name.
pub(super) struct Fields<'v, T> {
    pub(super) value: &'v T,
    pub(super) variant: &'static str,
}

impl<T: Serialize> Serialize for Fields<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Untagged { inner, variant: self.variant })
    }
}

/// Forwards only the contents of one variant to a serializer.
struct Untagged<S> {
    inner: S,
    variant: &'static str,
}

impl<S: Serializer> Untagged<S> {
    fn check(&self, variant: &str) -> Result<(), S::Error> {
        if variant == self.variant {
            return Ok(());
        }
        let expected = self.variant;
        Err(S::Error::custom(format!("serde calls the variant {expected} {variant:?}: {RENAMED}")))
    }
}

/// Serde's variant names are not stored, so renaming them has no use.
const RENAMED: &str = "remove `rename` or `rename_all` from the variants, because domain_events! names what events are \
                       stored as";

/// A serde attribute turns the enum into another form before it reaches this code.
const NOT_AN_ENUM: &str = "serde must see domain events as an enum in its default form: remove the attributes `tag`, \
                           `content`, `untagged`, `from`, `into` or `transparent` from the enum, because the type of \
                           an event is stored next to its payload";

fn not_an_enum<T, E: serde::ser::Error>() -> Result<T, E> {
    Err(E::custom(NOT_AN_ENUM))
}

/// Methods of [`Serializer`] for values other than a variant of an enum: all fail.
macro_rules! refuse {
    ($($method:ident($($argument:ty),*) -> $ok:ty;)+) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$ok, Self::Error> {
            not_an_enum()
        })+
    };
}

impl<S: Serializer> Serializer for Untagged<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Impossible<S::Ok, S::Error>;
    type SerializeTuple = Impossible<S::Ok, S::Error>;
    type SerializeTupleStruct = Impossible<S::Ok, S::Error>;
    type SerializeTupleVariant = Inside<S::SerializeTuple>;
    type SerializeMap = Impossible<S::Ok, S::Error>;
    type SerializeStruct = Impossible<S::Ok, S::Error>;
    type SerializeStructVariant = Inside<S::SerializeStruct>;

    /// Writes a struct without fields, so that the variant may get fields later.
    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.check(variant)?;
        self.inner.serialize_struct(name, 0)?.end()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.check(variant)?;
        value.serialize(self.inner)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.check(variant)?;
        self.inner.serialize_tuple(len).map(Inside)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.check(variant)?;
        self.inner.serialize_struct(variant, len).map(Inside)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<S::Ok, S::Error> {
        not_an_enum()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<S::Ok, S::Error> {
        not_an_enum()
    }

    refuse! {
        serialize_bool(bool) -> S::Ok;
        serialize_i8(i8) -> S::Ok;
        serialize_i16(i16) -> S::Ok;
        serialize_i32(i32) -> S::Ok;
        serialize_i64(i64) -> S::Ok;
        serialize_u8(u8) -> S::Ok;
        serialize_u16(u16) -> S::Ok;
        serialize_u32(u32) -> S::Ok;
        serialize_u64(u64) -> S::Ok;
        serialize_f32(f32) -> S::Ok;
        serialize_f64(f64) -> S::Ok;
        serialize_char(char) -> S::Ok;
        serialize_str(&str) -> S::Ok;
        serialize_bytes(&[u8]) -> S::Ok;
        serialize_none() -> S::Ok;
        serialize_unit() -> S::Ok;
        serialize_unit_struct(&'static str) -> S::Ok;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Serializes the fields of a variant as those of a struct or tuple.
struct Inside<S>(S);

impl<S: SerializeStruct> SerializeStructVariant for Inside<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        self.0.serialize_field(key, value)
    }

    fn skip_field(&mut self, key: &'static str) -> Result<(), S::Error> {
        self.0.skip_field(key)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

impl<S: SerializeTuple> SerializeTupleVariant for Inside<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_element(value)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

/// The name of a variant, as a type: `domain_events!` declares one for each variant.
#[doc(hidden)]
pub trait VariantName {
    /// The name.
    const NAME: &'static str;
}

/// An enum value, deserialized from the fields of one variant.
pub(super) struct OfVariant<T, N> {
    pub(super) value: T,
    name: PhantomData<N>,
}

impl<'de, T: DeserializeOwned, N: VariantName> Deserialize<'de> for OfVariant<T, N> {
    fn deserialize<D: Deserializer<'de>>(fields: D) -> Result<Self, D::Error> {
        let tagged = Tagged { variant: N::NAME, fields };
        T::deserialize(tagged).map(|value| Self { value, name: PhantomData })
    }
}

/// Presents fields to an enum as the contents of a variant with this name.
struct Tagged<D> {
    variant: &'static str,
    fields: D,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Tagged<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, D::Error> {
        Err(D::Error::custom(NOT_AN_ENUM))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        if !variants.contains(&self.variant) {
            let variant = self.variant;
            return Err(D::Error::custom(format!("serde knows no variant {variant}: {RENAMED}")));
        }
        visitor.visit_enum(self)
    }

    fn is_human_readable(&self) -> bool {
        self.fields.is_human_readable()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de, D: Deserializer<'de>> EnumAccess<'de> for Tagged<D> {
    type Error = D::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), D::Error> {
        let name: serde::de::value::StrDeserializer<'_, D::Error> =
            self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de, D: Deserializer<'de>> VariantAccess<'de> for Tagged<D> {
    type Error = D::Error;

    /// [`Fields`] writes a struct without fields. A payload that was written by hand may also be
    /// `null`.
    fn unit_variant(self) -> Result<(), D::Error> {
        if self.fields.is_human_readable() {
            return self.fields.deserialize_any(Nothing);
        }
        self.fields.deserialize_struct(self.variant, &[], Nothing)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, D::Error> {
        seed.deserialize(self.fields)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.fields.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.fields.deserialize_struct(self.variant, fields, visitor)
    }
}

/// Accepts the payload of a variant without fields: an empty one, or one with fields, all of which
/// are ignored.
struct Nothing;

impl<'de> Visitor<'de> for Nothing {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("no fields")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Ok(())
    }
}
