//! A grant as a JSON Patch (RFC 6902) that only adds: what is not known of a pod is not repeated, so it cannot be lost.

use serde::Serialize;

use super::{
    Method,
    grant::Grant,
    pod::{CONTAINER_CREDENTIALS_LABEL, Container, Named, Object, Spec, text},
    review::Review,
    warnings::{Shown, Warnings},
};

const REGIONAL_STS: &str = "AWS_STS_REGIONAL_ENDPOINTS";
const REGIONS: [&str; 2] = ["AWS_DEFAULT_REGION", "AWS_REGION"];

/// The patch as JSON. Applied to a pod that has been changed already it changes nothing.
pub(super) fn patch(review: &Review<'_>, grant: &Grant<'_>, warnings: &mut Warnings) -> Vec<u8> {
    let mut patch = Patch { operations: Vec::new(), grant };
    if grant.method == Method::ContainerCredentials && !review.is_labelled() {
        patch.label(review.object.has_labels());
    }
    if let Some(spec) = &review.object.spec {
        patch.volume(spec);
        patch.containers("containers", spec.containers.as_deref(), warnings);
        patch.containers("initContainers", spec.init_containers.as_deref(), warnings);
        if spec.containers.is_none() {
            patch.add("/spec/containers".to_owned(), Value::Nothing([]));
        }
    }
    serde_json::to_vec(&patch.operations).expect("texts, numbers and booleans are JSON")
}

struct Patch<'a> {
    operations: Vec<Operation<'a>>,
    grant: &'a Grant<'a>,
}

#[derive(Serialize)]
struct Operation<'a> {
    op: &'static str,
    path: String,
    value: Value<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Nothing([(); 0]),
    Label(&'static str),
    Labels(Labels),
    Volume(Volume<'a>),
    Volumes([Volume<'a>; 1]),
    Variable(Variable<'a>),
    Variables(Vec<Variable<'a>>),
    Mount(Mount<'a>),
    Mounts([Mount<'a>; 1]),
}

#[derive(Serialize)]
struct Labels {
    #[serde(rename = "eks.amazonaws.com/pod-identity")]
    container_credentials: &'static str,
}

#[derive(Serialize)]
struct Volume<'a> {
    name: &'a str,
    projected: Projected<'a>,
}

#[derive(Serialize)]
struct Projected<'a> {
    sources: [Source<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    service_account_token: Token<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    audience: &'a str,
    expiration_seconds: i64,
    path: &'a str,
}

#[derive(Serialize)]
struct Variable<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mount<'a> {
    name: &'a str,
    read_only: bool,
    mount_path: &'a str,
}

impl<'a> Patch<'a> {
    fn add(&mut self, path: String, value: Value<'a>) {
        self.operations.push(Operation { op: "add", path, value });
    }

    fn label(&mut self, has_labels: bool) {
        if has_labels {
            let label = CONTAINER_CREDENTIALS_LABEL.replace('/', "~1");
            self.add(format!("/metadata/labels/{label}"), Value::Label("enabled"));
        } else {
            self.add("/metadata/labels".to_owned(), Value::Labels(Labels { container_credentials: "enabled" }));
        }
    }

    /// In front of the others, whether or not a container mounts it. One of that name is taken for ours.
    fn volume(&mut self, spec: &Spec<'_>) {
        let grant = self.grant;
        let token = Token {
            audience: grant.audience,
            expiration_seconds: grant.token_expiration_seconds,
            path: grant.token_path,
        };
        let projected = Projected { sources: [Source { service_account_token: token }] };
        let volume = Volume { name: grant.volume_name, projected };
        match &spec.volumes {
            Some(volumes) if has(volumes, grant.volume_name) => (),
            Some(_) => self.add("/spec/volumes/0".to_owned(), Value::Volume(volume)),
            None => self.add("/spec/volumes".to_owned(), Value::Volumes([volume])),
        }
    }

    fn containers(&mut self, list: &str, containers: Option<&[Object<Container<'_>>]>, warnings: &mut Warnings) {
        for (number, container) in containers.unwrap_or_default().iter().enumerate() {
            let name = text(&container.name);
            if !self.grant.skipped.contains(name) {
                self.container(&format!("/spec/{list}/{number}"), container, warnings);
            }
        }
    }

    fn container(&mut self, path: &str, container: &Container<'_>, warnings: &mut Warnings) {
        let env = container.env.as_deref().unwrap_or_default();
        let [first, second] = &self.grant.pointers;
        let has_pointer = has(env, first.0) || has(env, second.0);
        let has_region = REGIONS.iter().any(|name| has(env, name));
        let has_regional_sts = has(env, REGIONAL_STS);
        if has_pointer && has_region && has_regional_sts {
            return; // the AWS program leaves such a container without the mount, too
        }
        let mut variables = Vec::new();
        if self.grant.regional_sts && !has_regional_sts {
            variables.push(Variable { name: REGIONAL_STS, value: "regional" });
        }
        if let (Some(region), false) = (self.grant.default_region, has_region) {
            variables.extend(REGIONS.map(|name| Variable { name, value: region }));
        }
        if !has_pointer {
            variables.extend([first, second].map(|(name, value)| Variable { name, value }));
        }
        self.variables(path, container.env.is_some(), variables);
        self.mount(path, container, warnings);
    }

    fn variables(&mut self, container: &str, has_env: bool, variables: Vec<Variable<'a>>) {
        if has_env {
            for variable in variables {
                self.add(format!("{container}/env/-"), Value::Variable(variable));
            }
        } else if !variables.is_empty() {
            self.add(format!("{container}/env"), Value::Variables(variables));
        }
    }

    fn mount(&mut self, path: &str, container: &Container<'_>, warnings: &mut Warnings) {
        let Grant { volume_name, mount_path, .. } = *self.grant;
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        if mounts.iter().any(|mount| text(&mount.name) == volume_name) {
            return;
        }
        // Refused by the API server then, without a word on where the second mount comes from.
        if let Some(other) = mounts.iter().find(|mount| text(&mount.mount_path) == mount_path) {
            let (container, other, mount_path) =
                (Shown(text(&container.name)), Shown(text(&other.name)), Shown(mount_path));
            warnings.add(format_args!(
                "container {container} mounts volume {other} on {mount_path}, where {volume_name} belongs; mount it elsewhere"
            ));
        }
        let mount = Mount { name: volume_name, read_only: true, mount_path };
        if container.volume_mounts.is_some() {
            self.add(format!("{path}/volumeMounts/-"), Value::Mount(mount));
        } else {
            self.add(format!("{path}/volumeMounts"), Value::Mounts([mount]));
        }
    }
}

fn has(named: &[Object<Named<'_>>], name: &str) -> bool {
    named.iter().any(|item| text(&item.name) == name)
}
