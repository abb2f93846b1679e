//! `docs/contracts/openapi.yaml`: it has the addresses of the services, and each service answers its part.

use std::{collections::BTreeSet, fs};

use configserver::{encryption, monitor};
use e2e::{
    environment,
    fixture::TestSystem,
    http::Reply,
    process::Service,
    repository::{read, root},
};
use serde_json::{Value, json};
use service::http::{self, Route};

use crate::contracts::document;

const SERVICES: [&str; 3] = ["accountservice", "vipservice", "configserver"];

/// An operation: method and address.
type Operation = (String, String);

fn in_table<S>(routes: &[Route<S>]) -> impl Iterator<Item = Operation> {
    routes.iter().map(|(method, path, _)| (method.to_string(), path.replace("{*", "{")))
}

/// The operations of the tables that a service's router is made of.
fn in_tables(service: &str) -> BTreeSet<Operation> {
    let of_all = in_table(http::health::ROUTES)
        .chain(in_table(http::METRICS))
        .chain(in_table(http::effective::ROUTES));
    let own: Vec<_> = match service {
        "accountservice" => in_table(accountservice::routes::ROUTES).collect(),
        "vipservice" => {
            in_table(vipservice::offers::ROUTES).chain(in_table(dead_letters::http::ROUTES)).collect()
        }
        _ => in_table(configserver::routes::OF_THE_SERVER)
            .chain(in_table(encryption::GUARDED))
            .chain(in_table(encryption::OPEN))
            .chain(in_table(monitor::NOTIFIED))
            .chain(in_table(monitor::REFRESH))
            .collect(),
    };
    of_all.chain(own).collect()
}

/// The operations of a document: HEAD and OPTIONS follow from the others.
fn operations(document: &Value) -> BTreeSet<Operation> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter().filter(|(_, value)| value["operationId"].is_string());
        methods.map(move |(method, _)| (method.to_uppercase(), path.clone()))
    });
    operations.filter(|(method, _)| method != "HEAD" && method != "OPTIONS").collect()
}

/// The part of the document that is about a service: its operations, and what they refer to.
fn part(service: &str) -> Value {
    let mut part = document("openapi.yaml");
    let is_mine = |tags: &Value| tags.as_array().is_none_or(|tags| tags.contains(&json!(service)));
    let paths = part["paths"].as_object_mut().unwrap();
    paths
        .values_mut()
        .for_each(|item| item.as_object_mut().unwrap().retain(|_, value| is_mine(&value["tags"])));
    paths.retain(|_, item| item.as_object().unwrap().values().any(|value| value["operationId"].is_string()));
    for item in paths.values_mut() {
        item.as_object_mut().unwrap().remove("servers");
    }
    part["tags"].as_array_mut().unwrap().retain(|tag| tag["name"] == service);
    part["servers"].as_array_mut().unwrap().retain(|server| server["description"] == service);
    part["info"]["title"] = service.into();

    let mut wanted = BTreeSet::new();
    references(&part["paths"], &part, &mut wanted);
    let components = part["components"].as_object_mut().unwrap();
    for (kind, entries) in &mut *components {
        let entries = entries.as_object_mut().unwrap();
        entries.retain(|name, _| wanted.contains(&format!("#/components/{kind}/{name}")));
    }
    components.retain(|_, entries| entries.as_object().is_some_and(|entries| !entries.is_empty()));
    part
}

/// Adds what a value refers to, and what that refers to.
fn references(value: &Value, document: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            let named = ["$ref", "operationRef"].map(|key| map.get(key).and_then(Value::as_str));
            for reference in
                named.into_iter().flatten().filter(|reference| reference.starts_with("#/components"))
            {
                if found.insert(reference.to_owned()) {
                    let target = document.pointer(&reference[1..]);
                    references(target.unwrap_or_else(|| panic!("{reference}")), document, found);
                }
            }
            map.values().for_each(|value| references(value, document, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, document, found)),
        _ => {}
    }
}

#[test]
fn the_document_has_the_operations_of_the_routers() {
    let (document, mut ids) = (document("openapi.yaml"), BTreeSet::new());
    assert_eq!(document["openapi"], "3.1.0");
    for operation in
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values())
    {
        assert!(
            operation["operationId"].is_null() || ids.insert(operation["operationId"].to_string()),
            "{operation}"
        );
    }
    for service in SERVICES {
        let mut documented = operations(&part(service));
        if service == "configserver" {
            // The addresses of configuration are read by Spring's rules, and not by a table.
            documented.retain(|(_, path)| !path.starts_with("/{"));
        }
        assert_eq!(documented, in_tables(service), "{service}");
    }
}

/// `HOPS_OPENAPI=write cargo test -p e2e --test pages openapi` writes the parts.
#[test]
fn each_service_has_its_part_of_the_document() {
    for service in SERVICES {
        let (file, part) = (format!("{service}/openapi.json"), format!("{}\n", part(service)));
        if environment::writes_openapi() {
            fs::write(root().join(&file), &part).unwrap();
        }
        assert_eq!(read(&file), part, "{file} is to be written again, by HOPS_OPENAPI=write");
    }
}

async fn check_answers(name: &str, service: &Service) {
    let mine = Reply::of(service.request("GET", "/openapi.json")).await.unwrap();
    assert_eq!((mine.status, mine.json()), (200, part(name)), "{name}");
    for (method, path) in operations(&part(name)) {
        // Any name will do for a parameter.
        let parts = path
            .split('{')
            .map(|part| part.split_once('}').map_or(part.to_owned(), |(_, rest)| format!("7{rest}")));
        let path = parts.collect::<String>();
        let answer = Reply::of(service.request(&method, &path)).await.unwrap();
        assert_ne!(answer.status, 405, "{name} {method} {path}");
        let is_known = answer.status != 404 || !answer.text.contains("no such resource");
        assert!(is_known, "{name} {method} {path}: {}", answer.text);
    }
}

#[tokio::test]
async fn each_service_answers_its_operations_and_its_document() {
    let system = TestSystem::new().await;
    let folder = root().join("config-repo").to_string_lossy().into_owned();
    check_answers("accountservice", &system.accountservice().await).await;
    check_answers("vipservice", &system.vipservice(1).await).await;
    check_answers(
        "configserver",
        &system.launch("configserver", 1).flag("config-repo", &folder).start().await,
    )
    .await;
}
