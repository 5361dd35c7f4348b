//! [`Strict`]: a serializer that rejects values which a format would silently change. JSON writes
//! NaN and infinity as `null`, and bincode omits a skipped field, so that the next field is read in
//! its place.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// A loss that a format does not report as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// JSON: a number that is not finite.
    NonFinite,
    /// bincode: a field that `skip_serializing_if` omits.
    SkippedField,
}

/// A value or a serializer, with the loss that it rejects.
pub(super) struct Strict<T> {
    inner: T,
    loss: Loss,
    /// The field that the value belongs to, to name it in an error.
    field: Option<&'static str>,
}

impl<T> Strict<T> {
    pub(super) fn new(inner: T, loss: Loss) -> Self {
        Self { inner, loss, field: None }
    }

    /// Wraps a part of this value, under the same rule and field name.
    fn within<U>(&self, inner: U) -> Strict<U> {
        Strict { inner, loss: self.loss, field: self.field }
    }

    fn field<U>(&self, inner: U, name: &'static str) -> Strict<U> {
        Strict { inner, loss: self.loss, field: Some(name) }
    }

    fn check_number<E: serde::ser::Error>(&self, number: f64) -> Result<(), E> {
        if self.loss != Loss::NonFinite || number.is_finite() {
            return Ok(());
        }
        let subject = self.field.map_or("the value".to_owned(), |name| format!("field `{name}`"));
        Err(E::custom(format!(
            "{subject} is {number}, which JSON cannot store; store it as text, or use another codec"
        )))
    }

    fn check_skipped<E: serde::ser::Error>(&self, name: &str) -> Result<(), E> {
        if self.loss != Loss::SkippedField {
            return Ok(());
        }
        Err(E::custom(format!(
            "field `{name}` is skipped, and bincode would read the next field in its place; remove \
             skip_serializing_if from it, or use another codec"
        )))
    }
}

impl<T: Serialize + ?Sized> Serialize for Strict<&T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(self.within(out))
    }
}

/// Methods of [`Serializer`] that forward a plain value.
macro_rules! hand_on {
    ($($method:ident($($argument:ident: $type:ty),*);)+) => {
        $(fn $method(self, $($argument: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($argument),*)
        })+
    };
}

/// Methods of [`Serializer`] that begin a compound value, whose parts are checked as well.
macro_rules! begin {
    ($($method:ident($($argument:ident: $type:ty),*) -> $parts:ident;)+) => {
        $(fn $method(self, $($argument: $type),*) -> Result<Self::$parts, S::Error> {
            let Self { inner, loss, field } = self;
            Ok(Strict { inner: inner.$method($($argument),*)?, loss, field })
        })+
    };
}

impl<S: Serializer> Serializer for Strict<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Strict<S::SerializeSeq>;
    type SerializeTuple = Strict<S::SerializeTuple>;
    type SerializeTupleStruct = Strict<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Strict<S::SerializeTupleVariant>;
    type SerializeMap = Strict<S::SerializeMap>;
    type SerializeStruct = Strict<S::SerializeStruct>;
    type SerializeStructVariant = Strict<S::SerializeStructVariant>;

    hand_on! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    begin! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeStructVariant;
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.check_number(value.into())?;
        self.inner.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.check_number(value)?;
        self.inner.serialize_f64(value)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let value = self.within(value);
        self.inner.serialize_some(&value)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.within(value);
        self.inner.serialize_newtype_struct(name, &value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.within(value);
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Implements the serializers of compound values: each part is checked, and forwarded.
macro_rules! parts {
    ($($trait:ident { $method:ident($($name:ident: &'static str)?) $($skip:ident)? })+) => {
        $(impl<P: $trait> $trait for Strict<P> {
            type Ok = P::Ok;
            type Error = P::Error;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), P::Error> {
                let value = parts!(@of self, value $(, $name)?);
                self.inner.$method($($name,)? &value)
            }

            $(fn $skip(&mut self, name: &'static str) -> Result<(), P::Error> {
                self.check_skipped(name)?;
                self.inner.$skip(name)
            })?

            fn end(self) -> Result<P::Ok, P::Error> {
                self.inner.end()
            }
        })+
    };
    (@of $this:ident, $value:ident) => { $this.within($value) };
    (@of $this:ident, $value:ident, $name:ident) => { $this.field($value, $name) };
}

parts! {
    SerializeSeq { serialize_element() }
    SerializeTuple { serialize_element() }
    SerializeTupleStruct { serialize_field() }
    SerializeTupleVariant { serialize_field() }
    SerializeStruct { serialize_field(name: &'static str) skip_field }
    SerializeStructVariant { serialize_field(name: &'static str) skip_field }
}

impl<P: SerializeMap> SerializeMap for Strict<P> {
    type Ok = P::Ok;
    type Error = P::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), P::Error> {
        let key = self.within(key);
        self.inner.serialize_key(&key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
        let value = self.within(value);
        self.inner.serialize_value(&value)
    }

    fn end(self) -> Result<P::Ok, P::Error> {
        self.inner.end()
    }
}
