//! Where in a file the value of a field stands.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Location, Spanned};

/// A file as its structure, each value with its place.
pub(super) enum Node {
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(BTreeMap<String, Spanned<Self>>),
}

impl Node {
    /// The place of what a key of the template's document was read from, or of what is around it.
    pub(super) fn place(&self, key: &str) -> Option<Location> {
        let (mut node, mut place) = (self, None);
        for step in steps(key) {
            let next = match node {
                Self::Map(map) => map.get(step),
                Self::List(list) => {
                    list.iter().find(|one| matches!(&one.value, Self::Text(text) if text == step))
                }
                Self::Text(_) => None,
            };
            let Some(next) = next else { break };
            (node, place) = (&next.value, Some(next.referenced));
        }
        // What is missing is missed by the platform.
        match (place, self) {
            (None, Self::Map(map)) => map.get("platform").map(|platform| platform.referenced),
            (place, _) => place,
        }
    }
}

/// The way through the file to what a key of the document was read from.
fn steps(key: &str) -> Vec<&str> {
    let (field, rest) = match key.split_once('/') {
        Some((field, rest)) => (field, Some(rest)),
        None => (key, None),
    };
    let way: &[&str] = match field {
        "millicpus" => &["cpus"],
        "volume_sizes" | "volume_kinds" | "volume_keeps" => &["volumes"],
        "registry_user" => &["registry", "user"],
        "registry_password" => &["registry", "password"],
        "without" => &["features"],
        "health" => &["health", "check"],
        "health_interval" => &["health", "interval"],
        "health_timeout" => &["health", "timeout"],
        "health_failures" => &["health", "failures"],
        "health_restarts" => &["health", "restarts"],
        "schedule_starts" => &["schedule", "start"],
        _ => &[],
    };
    let mut steps = if way.is_empty() { vec![field] } else { way.to_vec() };
    match (field, rest) {
        ("parameters", Some(rest)) => steps.extend(rest.split('/')),
        (_, Some(rest)) => steps.push(rest),
        (_, None) => {}
    }
    steps
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Text(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Text(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Text(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Text(value.to_string()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::Text(String::new()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = list.next_element()? {
                    nodes.push(node);
                }
                Ok(Node::List(nodes))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut nodes = BTreeMap::new();
                while let Some((key, node)) = map.next_entry()? {
                    nodes.insert(key, node);
                }
                Ok(Node::Map(nodes))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
