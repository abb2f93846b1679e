//! `docker compose up`: the same images without a swarm.

use std::collections::BTreeSet;

use e2e::{
    broker::free_base,
    environment::full_only,
    http::{self, Reply},
    process::Address,
    wait::{PATIENCE, until_true},
};
use serde_json::json;

use crate::stack::Stack;

#[tokio::test]
async fn docker_compose_up_serves_and_makes_offers_and_keeps_them() {
    if !full_only("docker_compose_up_serves_and_makes_offers_and_keeps_them") {
        return;
    }
    let stack = Stack::turn().await;
    let volumes = stack.volumes().await;
    let base = free_base(&[6767, 6868]);
    let (account, vip) = (base + 6767, base + 6868);
    let compose = format!("HOPS_ACCOUNTSERVICE_PORT={account} HOPS_VIPSERVICE_PORT={vip} docker compose");
    let client = http::client();
    let get = async |port: u16, path: &str| Reply::of(client.get(Address::at(port).url(path))).await.unwrap();

    // The images are there; without --no-build, Compose builds them in Docker.
    stack.shell(&format!("{compose} up --detach --wait --no-build 2>&1")).await;
    let answer = get(account, "/accounts/10000").await;
    let expected = json!({"id": "10000", "name": "Person_0", "vip": true, "servedBy": "accountservice.1"});
    assert_eq!((answer.status, answer.json()), (200, expected));
    let is_offered = async || get(vip, "/offers/by-replica").await.json() == json!({"vipservice.1": 1});
    until_true("the read is an offer", PATIENCE, is_offered).await;

    stack.shell(&format!("{compose} down 2>&1 && {compose} up --detach --wait --no-build 2>&1")).await;
    until_true("the offer is still there", PATIENCE, is_offered).await;

    stack.shell(&format!("{compose} down --volumes 2>&1")).await;
    let left: BTreeSet<_> = stack.volumes().await.difference(&volumes).cloned().collect();
    assert_eq!(left, BTreeSet::new());
}
