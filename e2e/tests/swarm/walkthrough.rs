//! The chapter on Docker Swarm does what it prints: see `e2e/tests/pages/walkthrough.rs`.

use e2e::environment::full_only;

use crate::stack::Stack;

#[tokio::test]
async fn chapter_12_deploy_on_swarm() {
    if !full_only("chapter_12_deploy_on_swarm") {
        return;
    }
    Stack::turn().await.play("docs/walkthrough/12-deploy-on-swarm.md").await;
}
