//! The few fields of a pod that decide how it is changed; everything else is passed over unread.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Opts a pod out, whatever its value. The prefix is fixed: registrations name it in their `objectSelector`.
pub(super) const OPT_OUT_LABEL: &str = "eks.amazonaws.com/skip-pod-identity-webhook";
/// Put on pods with container credentials.
pub(super) const CONTAINER_CREDENTIALS_LABEL: &str = "eks.amazonaws.com/pod-identity";
/// Names, behind their prefix, of the labels, annotations and node selectors that are read. Others may be long.
const NAMES: &[&str] = &["os", "pod-identity", "skip-containers", "skip-pod-identity-webhook", "token-expiration"];

/// core/v1 Pod. A field that is null counts as missing, as it does for the API server.
#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a pod")]
pub(super) struct Pod<'b> {
    #[serde(borrow)]
    pub metadata: Option<Object<Metadata<'b>>>,
    #[serde(borrow)]
    pub spec: Option<Object<Spec<'b>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", expecting = "metadata")]
pub(super) struct Metadata<'b> {
    #[serde(borrow)]
    pub name: Option<Text<'b>>,
    #[serde(borrow)]
    pub generate_name: Option<Text<'b>>,
    #[serde(borrow)]
    pub labels: Option<Entries<'b>>,
    #[serde(borrow)]
    pub annotations: Option<Entries<'b>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", expecting = "a pod's spec")]
pub(super) struct Spec<'b> {
    #[serde(borrow)]
    pub service_account_name: Option<Text<'b>>,
    #[serde(borrow)]
    pub node_selector: Option<Entries<'b>>,
    #[serde(borrow)]
    pub os: Option<Object<Named<'b>>>,
    #[serde(borrow)]
    pub volumes: Option<Vec<Object<Named<'b>>>>,
    #[serde(borrow)]
    pub init_containers: Option<Vec<Object<Container<'b>>>>,
    #[serde(borrow)]
    pub containers: Option<Vec<Object<Container<'b>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", expecting = "a container")]
pub(super) struct Container<'b> {
    #[serde(borrow)]
    pub name: Option<Text<'b>>,
    #[serde(borrow)]
    pub env: Option<Vec<Object<Named<'b>>>>,
    #[serde(borrow)]
    pub volume_mounts: Option<Vec<Object<Mount<'b>>>>,
}

/// Anything with a name: an environment variable, a volume, an operating system.
#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object with a name")]
pub(super) struct Named<'b> {
    #[serde(borrow)]
    pub name: Option<Text<'b>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", expecting = "a volume mount")]
pub(super) struct Mount<'b> {
    #[serde(borrow)]
    pub name: Option<Text<'b>>,
    #[serde(borrow)]
    pub mount_path: Option<Text<'b>>,
}

/// What has to be an object of JSON: serde would take a list for a struct, and no patch fits that.
#[derive(Debug)]
pub(super) struct Object<T>(pub T);

impl<T> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

/// A text that borrows from the body where it has no escapes.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

impl Text<'_> {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A map of texts, of which only [`NAMES`] are kept.
#[derive(Debug, Default)]
pub(super) struct Entries<'b>(Vec<(Text<'b>, Text<'b>)>);

impl Entries<'_> {
    /// The value under `prefix`/`name`, which must be one of [`NAMES`].
    pub fn get(&self, prefix: &str, name: &str) -> Option<&str> {
        let is_wanted = |key: &str| key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) == Some(name);
        self.0.iter().rev().find(|(key, _)| is_wanted(key.as_str())).map(|(_, value)| value.as_str())
    }
}

impl<'de: 'b, 'b> Deserialize<'de> for Entries<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    let name = key.as_str().rsplit('/').next().unwrap_or_default();
                    if NAMES.contains(&name) {
                        let value: Option<Text<'de>> = map.next_value()?;
                        entries.push((key, value.unwrap_or_default()));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The text, empty where it is missing.
pub(super) fn text<'t>(text: &'t Option<Text<'_>>) -> &'t str {
    text.as_ref().map_or("", Text::as_str)
}

impl Pod<'_> {
    pub fn annotation(&self, prefix: &str, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.annotations.as_ref()?.get(prefix, name)
    }

    pub fn label(&self, label: &str) -> Option<&str> {
        let (prefix, name) = label.split_once('/')?;
        self.metadata.as_ref()?.labels.as_ref()?.get(prefix, name)
    }

    pub fn has_labels(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.labels.is_some())
    }

    pub fn service_account(&self) -> &str {
        self.spec.as_ref().map_or("", |spec| text(&spec.service_account_name))
    }

    /// Whether it asks for a Windows node, by selector as the AWS program reads it, or says that it is for one.
    pub fn is_for_windows(&self) -> bool {
        let Some(spec) = &self.spec else { return false };
        let selected = |prefix| spec.node_selector.as_ref().and_then(|selector| selector.get(prefix, "os"));
        let os = spec.os.as_ref().map(|os| text(&os.name));
        [selected("kubernetes.io"), selected("beta.kubernetes.io"), os].contains(&Some("windows"))
    }
}
