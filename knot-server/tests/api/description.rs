//! The description of the API is committed, and is that of the handlers.

use std::{env, fs, path::Path};

use crate::world::world;

#[tokio::test]
async fn the_committed_description_is_that_of_the_handlers() {
    let described = knot_server::api::openapi().to_pretty_json().unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/openapi.json");
    if env::var_os("KNOT_UPDATE_OPENAPI").is_some() {
        fs::write(&path, &described).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == described,
        "docs/src/openapi.json is not what the handlers say: run this test with KNOT_UPDATE_OPENAPI=1, and look at \
         the difference before committing it"
    );
    let served = world().await.stranger().get("/openapi.json").await;
    assert_eq!(served.text + "\n", described);
}

#[test]
fn what_is_said_to_be_in_a_path_is_in_it() {
    let described = serde_json::to_value(knot_server::api::openapi()).unwrap();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                let is_there = path.contains(&format!("{{{name}}}"));
                assert_eq!(parameter["in"] == "path", is_there, "{method} {path}: {name}");
            }
        }
    }
}

#[tokio::test]
async fn the_committed_schema_of_template_files_is_that_which_is_read() {
    let served = world().await.stranger().get("/templates/schema.json").await.text;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/template.schema.json");
    if env::var_os("KNOT_UPDATE_OPENAPI").is_some() {
        fs::write(&path, &served).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == served,
        "docs/src/template.schema.json is not what is read: run this test with KNOT_UPDATE_OPENAPI=1"
    );
    let schema: serde_json::Value = serde_json::from_str(&served).unwrap();
    let mut parts = vec![&schema];
    parts.extend(schema["$defs"].as_object().unwrap().values());
    for part in parts {
        for (name, field) in part["properties"].as_object().into_iter().flatten() {
            assert!(field["description"].is_string(), "{name} has no description: {field}");
        }
    }
}
