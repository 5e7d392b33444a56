//! The CustomResourceDefinition of the objects (`apiextensions.k8s.io/v1`): schema, rules, columns.

use serde_json::{Value, json};

use super::{GROUP, KIND, PLURAL, VERSION};
use crate::model::{
    cluster_object::{ClusterObject, Kind, ObjectPlace},
    role::MOST_MANAGED_POLICIES,
};

/// Most service accounts of one object: a trust policy has no room for more.
const MOST_ACCOUNTS: u32 = 64;
const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const ROLE_NAME: &str = "^[A-Za-z0-9+=,.@_-]+$";
/// An ARN, or the name of a policy that AWS manages with the path that it may have (`service-role/…`).
const POLICY: &str = "^(arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/)?([A-Za-z0-9+=,.@_-]+/)*[A-Za-z0-9+=,.@_-]+$";

/// Where the definition lies.
pub fn definition_place() -> ObjectPlace {
    ObjectPlace::of_cluster(Kind::CustomResourceDefinition, &format!("{PLURAL}.{GROUP}"))
}

/// The definition as irsad keeps it.
///
/// The objects are of the whole cluster: one names service accounts of several namespaces, and whoever may write it gives these
/// accounts rights in AWS.
pub fn definition() -> ClusterObject {
    let version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "schema": { "openAPIV3Schema": schema() },
        "subresources": { "status": {} },
        "additionalPrinterColumns": columns(),
    });
    let names = json!({
        "kind": KIND,
        "listKind": format!("{KIND}List"),
        "plural": PLURAL,
        "singular": "serviceaccountrole",
        "shortNames": ["sarole"],
        "categories": ["irsad"],
    });
    let spec = json!({ "group": GROUP, "scope": "Cluster", "names": names, "versions": [version] });
    ClusterObject::new(definition_place(), json!({ "spec": spec }))
}

fn columns() -> Value {
    let ready = |field: &str| format!(".status.conditions[?(@.type==\"Ready\")].{field}");
    json!([
        { "name": "Role", "type": "string", "jsonPath": ".spec.roleName" },
        { "name": "Ready", "type": "string", "jsonPath": ready("status") },
        { "name": "Reason", "type": "string", "jsonPath": ready("reason") },
        { "name": "ARN", "type": "string", "priority": 1, "jsonPath": ".status.roleArn" },
        { "name": "Message", "type": "string", "priority": 1, "jsonPath": ready("message") },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ])
}

fn schema() -> Value {
    json!({
        "type": "object",
        "description": "An IAM role that irsad keeps for service accounts of this cluster.",
        "required": ["spec"],
        "properties": { "spec": spec(), "status": status() },
    })
}

fn spec() -> Value {
    json!({
        "type": "object",
        "description": "The role that is wanted.",
        "required": ["roleName", "serviceAccounts"],
        "properties": {
            "roleName": {
                "type": "string",
                "description": "Name of the IAM role. It is unique in the AWS account, so put the name of the cluster in front.",
                "minLength": 1,
                "maxLength": 64,
                "pattern": ROLE_NAME,
                "x-kubernetes-validations": [{
                    "rule": "self == oldSelf",
                    "message": "roleName cannot be changed, because IAM cannot rename a role; make another object, and delete this one once no pod needs its role",
                }],
            },
            "serviceAccounts": service_accounts(
                "Service accounts whose pods may take the role. Each belongs to one object.", MOST_ACCOUNTS, &json!({})
            ),
            "policies": {
                "type": "array",
                "description": "Managed policies: ARNs, or names of policies that AWS manages (AmazonS3ReadOnlyAccess).",
                "maxItems": MOST_MANAGED_POLICIES,
                "x-kubernetes-list-type": "set",
                "items": { "type": "string", "minLength": 1, "maxLength": 640, "pattern": POLICY },
            },
            "inlinePolicy": inline_policy(),
            "maxSessionSeconds": {
                "type": "integer",
                "format": "int32",
                "description": "Longest session with the role, in seconds. IAM's own hour where it is left out.",
                "minimum": 3600,
                "maximum": 43200,
            },
            "deletionPolicy": {
                "type": "string",
                "description": "What becomes of the role when this object is deleted. Delete: it is removed, service accounts lose the annotation. \
                                DeleteWithServiceAccounts: also the service accounts that irsad made go, unless a pod uses them or somebody else \
                                has written into them. Keep: role and annotations stay.",
                "enum": ["Delete", "DeleteWithServiceAccounts", "Keep"],
                "default": "Delete",
            },
            "createServiceAccounts": {
                "type": "boolean",
                "description": "Make service accounts that do not exist, in namespaces that do.",
                "default": true,
            },
        },
    })
}

fn service_accounts(description: &str, most: u32, more: &Value) -> Value {
    let mut properties = json!({
        "namespace": { "type": "string", "minLength": 1, "maxLength": 63, "pattern": NAMESPACE },
        "name": { "type": "string", "minLength": 1, "maxLength": 253, "pattern": SUBDOMAIN },
    });
    if let (Value::Object(properties), Value::Object(more)) = (&mut properties, more) {
        properties.extend(more.clone());
    }
    json!({
        "type": "array",
        "description": description,
        "minItems": 1,
        "maxItems": most,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["namespace", "name"],
        "items": { "type": "object", "required": ["namespace", "name"], "properties": properties },
    })
}

/// As IAM writes a policy document (IAM JSON policy elements). What stands in its statements is checked by IAM.
fn inline_policy() -> Value {
    json!({
        "type": "object",
        "description": "A policy document that belongs to the role alone, in IAM's words (Version, Statement; each statement with Effect, \
                        Action or NotAction, Resource or NotResource, and no Principal).",
        "required": ["Version", "Statement"],
        "properties": {
            "Version": { "type": "string", "enum": ["2012-10-17", "2008-10-17"] },
            "Id": { "type": "string", "maxLength": 256 },
            "Statement": {
                "type": "array",
                "minItems": 1,
                "maxItems": 100,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                    "required": ["Effect"],
                    "properties": { "Effect": { "type": "string", "enum": ["Allow", "Deny"] } },
                    // CEL does not see what is only preserved.
                    "allOf": [
                        { "oneOf": [{ "required": ["Action"] }, { "required": ["NotAction"] }] },
                        { "oneOf": [{ "required": ["Resource"] }, { "required": ["NotResource"] }] },
                        { "not": { "anyOf": [{ "required": ["Principal"] }, { "required": ["NotPrincipal"] }] } },
                    ],
                },
            },
        },
    })
}

fn status() -> Value {
    let text = |longest: u32| json!({ "type": "string", "maxLength": longest });
    json!({
        "type": "object",
        "description": "What irsad last found and did.",
        "properties": {
            "observedGeneration": { "type": "integer", "format": "int64" },
            "roleArn": text(2048),
            "serviceAccounts": status_accounts(),
            "conditions": {
                "type": "array",
                "maxItems": 8,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                    "properties": {
                        "type": text(316),
                        "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                        "reason": text(1024),
                        "message": text(32768),
                        "observedGeneration": { "type": "integer", "format": "int64" },
                        "lastTransitionTime": { "type": "string", "format": "date-time" },
                    },
                },
            },
        },
    })
}

fn status_accounts() -> Value {
    let made = json!({ "made": { "type": "boolean", "description": "irsad has made it." } });
    let description = "Service accounts that have the role from this object.";
    let mut accounts = service_accounts(description, 2 * MOST_ACCOUNTS, &made);
    if let Value::Object(accounts) = &mut accounts {
        accounts.remove("minItems");
    }
    accounts
}
