//! The chapter on Docker Swarm does what it prints: see `e2e/tests/it/walkthrough.rs`.

use crate::stack::Stack;

#[tokio::test]
async fn chapter_12_deploy_on_swarm() {
    Stack::turn().await.play("docs/walkthrough/12-deploy-on-swarm.md").await;
}
