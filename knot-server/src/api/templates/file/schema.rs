//! The published schema of the template file (JSON Schema 2020-12), made from its form.

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::form::Form;

/// The schema, for editors and other programs.
pub(crate) fn schema() -> Value {
    let mut parts = Vec::new();
    Form::schemas(&mut parts);
    let mut definitions = Map::new();
    for (name, part) in parts {
        definitions.insert(name, serde_json::to_value(part).unwrap_or_default());
    }
    let mut schema = serde_json::to_value(Form::schema()).unwrap_or_default();
    if let Value::Object(schema) = &mut schema {
        schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".to_owned(), json!("knot template"));
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    point_inside(&mut schema);
    schema
}

/// References to the API's components become references within the schema.
fn point_inside(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref")
                && let Some(name) = to.strip_prefix("#/components/schemas/")
            {
                *to = format!("#/$defs/{name}");
            }
            map.values_mut().for_each(point_inside);
            lift_description(map);
        }
        Value::Array(list) => list.iter_mut().for_each(point_inside),
        _ => {}
    }
}

/// What is said of a field that may be left out stands at the field, where editors look.
fn lift_description(map: &mut Map<String, Value>) {
    let Some(Value::Array(forms)) = map.get_mut("oneOf") else { return };
    let is_optional = forms.iter().any(|form| *form == json!({ "type": "null" }));
    let described = forms
        .iter_mut()
        .filter(|_| is_optional)
        .find_map(|form| form.as_object_mut().and_then(|form| form.remove("description")));
    if let Some(description) = described {
        map.insert("description".to_owned(), description);
    }
}
