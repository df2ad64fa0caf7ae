//! Pieces of OpenAPI schema that the derive cannot express.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A JSON object that is kept as it was written, for parts of `host.json` whose shape belongs to the extensions.
pub fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// One binding as in `function.json`: `type` is required, everything else is kept as it was written.
pub fn binding(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"type": "string", "minLength": 1, "maxLength": 64},
            "direction": {"type": "string", "maxLength": 16},
            "name": {"type": "string", "maxLength": 128},
        },
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// The standard list of conditions, merged by `type`.
pub fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let item =
        generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>();
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
