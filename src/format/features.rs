//! The features of a store: named parts of the format that a program may need to know.

use super::Malformed;

/// How many features a store may have.
pub(super) const FEATURES_MAX: usize = 64;
/// The longest name of a feature, in bytes.
pub(super) const FEATURE_NAME_LEN_MAX: usize = 32;

/// The features that this version has.
const KNOWN: &[(FeatureClass, &str)] =
    &[(FeatureClass::Reading, DELETIONS), (FeatureClass::Writing, INDEX)];
/// The store has holes: a reader that does not know them would take them for damage.
const DELETIONS: &str = "deletions";
/// The store has an index: a writer that ignored it would leave it incomplete.
const INDEX: &str = "index";

/// What a program must know a feature for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeatureClass {
    /// For nothing: a program that does not know it keeps its name.
    Optional,
    /// For writing. A program that does not know it can read and copy the store.
    Writing,
    /// For reading, and so for writing too.
    Reading,
}

impl FeatureClass {
    const ALL: [Self; 3] = [Self::Optional, Self::Writing, Self::Reading];

    fn byte(self) -> u8 {
        match self {
            Self::Optional => 0,
            Self::Writing => 1,
            Self::Reading => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.byte() == byte)
    }
}

/// The features of a store, ordered by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features(Vec<(FeatureClass, String)>);

impl Features {
    /// The classes and names as they are stored.
    pub(super) fn encode(&self) -> Vec<(u8, &str)> {
        self.0.iter().map(|(class, name)| (class.byte(), name.as_str())).collect()
    }

    /// The features with these classes and names.
    pub(super) fn decode(stored: &[(u8, &str)]) -> Result<Self, Malformed> {
        if let Some((_, name)) = stored.iter().find(|(_, name)| !is_name(name)) {
            let expected = "1 to 32 bytes of a-z, 0-9 and -";
            return Err(Malformed::damaged(format!("the feature {name:?}"), expected));
        }
        if stored.len() > FEATURES_MAX || !stored.is_sorted_by(|a, b| a.1 < b.1) {
            let expected = format!("at most {FEATURES_MAX}, ordered by name, each once");
            return Err(Malformed::damaged(format!("{} features", stored.len()), expected));
        }
        let features = stored.iter().map(|(class, name)| {
            let known = FeatureClass::from_byte(*class).ok_or_else(|| {
                let (found, supported) = (u64::from(*class), FeatureClass::ALL.len() as u64 - 1);
                Malformed::Unsupported { what: "feature class", found, supported }
            })?;
            Ok((known, (*name).to_owned()))
        });
        features.collect::<Result<_, _>>().map(Self)
    }

    /// Whether the store has an index.
    pub fn has_index(&self) -> bool {
        self.has(INDEX)
    }

    /// Whether events of the store may have been deleted.
    pub fn has_deletions(&self) -> bool {
        self.has(DELETIONS)
    }

    fn has(&self, feature: &str) -> bool {
        self.0.iter().any(|(_, name)| name == feature)
    }

    /// The same features and an index.
    pub fn with_index(self) -> Self {
        self.with(FeatureClass::Writing, INDEX)
    }

    /// The same features and deletions.
    pub fn with_deletions(self) -> Self {
        self.with(FeatureClass::Reading, DELETIONS)
    }

    fn with(mut self, class: FeatureClass, feature: &str) -> Self {
        if !self.has(feature) {
            let at = self.0.partition_point(|(_, name)| name.as_str() < feature);
            self.0.insert(at, (class, feature.to_owned()));
        }
        self
    }

    /// The features that this version does not have, but needs for reading or writing. Whatever is
    /// needed for reading is needed for writing too.
    pub(crate) fn missing(&self, needed_for: FeatureClass) -> Vec<String> {
        self.missing_from(KNOWN, needed_for)
    }

    fn missing_from(
        &self,
        known: &[(FeatureClass, &str)],
        needed_for: FeatureClass,
    ) -> Vec<String> {
        let is_missing = |class: FeatureClass, name: &str| {
            match known.iter().find(|(_, known)| *known == name) {
                // A feature of the same name in another class is another feature.
                Some((known, _)) => *known != class,
                None => class >= needed_for,
            }
        };
        let missing = self.0.iter().filter(|(class, name)| is_missing(*class, name));
        missing.map(|(_, name)| name.clone()).collect()
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=FEATURE_NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::FeatureClass::{Optional, Reading, Writing};
    use super::*;

    #[test]
    fn features_are_stored_by_class_and_name() {
        let stored = [(0, "a"), (2, "b-2"), (1, "index")];
        let features = Features::decode(&stored).unwrap();
        let expected = [(Optional, "a"), (Reading, "b-2"), (Writing, "index")];
        assert_eq!(features.0, expected.map(|(class, name)| (class, name.to_owned())));
        assert_eq!(features.encode(), stored);
    }

    #[test]
    fn invalid_features_are_damage_but_an_unknown_class_is_not() {
        let longest = "x".repeat(FEATURE_NAME_LEN_MAX);
        assert!(Features::decode(&[(0, &longest)]).is_ok());
        let too_long = longest + "x";
        let names: Vec<_> = (0..=FEATURES_MAX).map(|number| format!("{number:02}")).collect();
        let many: Vec<_> = names.iter().map(|name| (0, name.as_str())).collect();
        assert!(Features::decode(&many[1..]).is_ok());
        for invalid in [
            &[(0, "")][..],
            &[(0, "A")],
            &[(0, "a_b")],
            &[(0, "ä")],
            &[(0, "a\0")],
            &[(0, &too_long)],
            &[(0, "b"), (0, "a")],
            &[(0, "a"), (0, "a")],
            &[(0, "a"), (1, "a")],
            &many,
        ] {
            let refused = Features::decode(invalid);
            assert!(matches!(refused, Err(Malformed::Damaged { .. })), "{invalid:?}");
        }
        let unsupported = Malformed::Unsupported { what: "feature class", found: 3, supported: 2 };
        assert_eq!(Features::decode(&[(1, "a"), (3, "b")]), Err(unsupported));
    }

    #[test]
    fn unknown_features_are_missing_by_class() {
        let features = Features::decode(&[(0, "a"), (1, "b"), (2, "c")]).unwrap();
        assert_eq!(features.missing(Writing), ["b", "c"]);
        assert_eq!(features.missing(Reading), ["c"]);
        let known = [(Optional, "a"), (Writing, "b"), (Reading, "c")];
        assert_eq!(features.missing_from(&known, Writing), [""; 0]);
    }

    #[test]
    fn known_name_in_another_class_is_missing() {
        let known = [(Writing, "a")];
        for (class, is_missing) in [(0, true), (1, false), (2, true)] {
            let features = Features::decode(&[(class, "a")]).unwrap();
            assert_eq!(features.missing_from(&known, Reading).len(), usize::from(is_missing));
        }
    }
}
