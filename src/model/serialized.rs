//! Serde implementations of the basic types, for the application's own payloads, states and values.
//! Human-readable formats get the text or the number, other formats the fewest bytes. Deserialized
//! values are checked as the constructors check them.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use super::{Date, Epoch, EventId, EventType, Position, StreamId, Timestamp, Version};

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(input)?).map_err(D::Error::custom)
            }
        }
    )*};
}
as_text!(StreamId, EventType);

macro_rules! as_number {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_u64(self.get())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let number = u64::deserialize(input)?;
                Self::new(number).ok_or_else(|| D::Error::custom("0, but places count from 1"))
            }
        }
    )*};
}
as_number!(Position, Version);

macro_rules! as_id {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                if out.is_human_readable() {
                    out.collect_str(self)
                } else {
                    self.as_bytes().serialize(out)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                if input.is_human_readable() {
                    return String::deserialize(input)?.parse().map_err(D::Error::custom);
                }
                Deserialize::deserialize(input).map(Self::from_bytes)
            }
        }
    )*};
}
as_id!(EventId, Epoch);

/// In a human-readable format, serializing a time outside the years 0 to 9999 is an error.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if !out.is_human_readable() {
            return out.serialize_i64(self.as_micros());
        }
        if !self.is_recordable() {
            let refused = format!("{self}, but only the years 0 to 9999 are written");
            return Err(serde::ser::Error::custom(refused));
        }
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        if input.is_human_readable() {
            return String::deserialize(input)?.parse().map_err(D::Error::custom);
        }
        i64::deserialize(input).map(Self::from_micros)
    }
}

/// In a human-readable format, serializing a date outside the years 0 to 9999 is an error.
impl Serialize for Date {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if !out.is_human_readable() {
            return out.serialize_i32(self.days());
        }
        if !self.has_text() {
            let refused = format!("{self}, but only the years 0 to 9999 are written");
            return Err(serde::ser::Error::custom(refused));
        }
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        if input.is_human_readable() {
            return String::deserialize(input)?.parse().map_err(D::Error::custom);
        }
        let days = i32::deserialize(input)?;
        let refused = || D::Error::custom(format!("{days} days since 1970 are out of range"));
        Self::from_days(days).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::*;

    fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, json: &str) {
        assert_eq!(serde_json::to_string(value).unwrap(), json);
        assert_eq!(serde_json::from_str::<T>(json).unwrap(), *value);
        let standard = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(value, standard).unwrap();
        let read: (T, usize) = bincode::serde::decode_from_slice(&bytes, standard).unwrap();
        assert_eq!((&read.0, read.1), (value, bytes.len()));
    }

    #[test]
    fn every_type_round_trips_through_json() {
        comes_back(&StreamId::new("account-1").unwrap(), "\"account-1\"");
        comes_back(&EventType::new("Opened").unwrap(), "\"Opened\"");
        comes_back(&Position::new(7).unwrap(), "7");
        comes_back(&Version::new(u64::MAX).unwrap(), "18446744073709551615");
        comes_back(&EventId::from_bytes([9; 16]), "\"09090909-0909-0909-0909-090909090909\"");
        comes_back(&Epoch::from_bytes([9; 16]), "\"09090909-0909-0909-0909-090909090909\"");
        let time = "2011-09-30T22:38:44.546Z".parse::<Timestamp>().unwrap();
        comes_back(&time, "\"2011-09-30T22:38:44.546Z\"");
        assert!(serde_json::to_string(&Timestamp::from_micros(i64::MAX)).is_err());
        comes_back(&time.date(), "\"2011-09-30\"");
        assert!(serde_json::to_string(&Timestamp::from_micros(i64::MAX).date()).is_err());
    }

    #[test]
    fn invalid_values_are_refused() {
        fn refused<T: DeserializeOwned>(json: &str) -> bool {
            serde_json::from_str::<T>(json).is_err()
        }
        assert!(refused::<StreamId>("\"$mine\"") && refused::<EventType>("\"\""));
        assert!(refused::<Position>("0") && refused::<Version>("-1"));
        assert!(refused::<EventId>("\"7\"") && refused::<Timestamp>("\"yesterday\""));
        assert!(refused::<Date>("\"2026-02-29\"") && refused::<Date>("7"));
        let days = bincode::serde::encode_to_vec(i32::MAX, bincode::config::standard()).unwrap();
        let read = bincode::serde::decode_from_slice::<Date, _>(&days, bincode::config::standard());
        assert!(read.unwrap_err().to_string().contains("2147483647 days since 1970"));
    }
}
