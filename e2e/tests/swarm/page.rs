//! The page on which the messages move, for the stack.

use e2e::binaries::binary;

use crate::stack::Stack;

#[tokio::test]
async fn the_page_shows_the_stacks_tasks_and_each_hop_of_a_read_by_click() {
    let stack = Stack::turn().await;
    let hops = binary("hops");
    // As ./deploy.sh does, which builds the command before.
    let script = format!(
        r#"
        '{}' --swarm live --json > page & page=$!
        trap 'kill -INT $page; wait $page' EXIT
        for n in {{1..300}}; do [ ! -s page ] || break; sleep 0.1; done
        url=$(grep -o 'http[^"]*' page)
        ask=(curl -sS --fail-with-body -H "authorization: Bearer ${{url#*\#}}")
        "${{ask[@]}}" --no-buffer "${{url%%/\#*}}/api/events" > events & events=$!
        for n in {{1..300}}; do ! grep -q '"name":"vip_queue"' events || break; sleep 0.1; done
        "${{ask[@]}}" --json '{{"account":"10000","count":1}}' "${{url%%/\#*}}/api/actions/read"
        for n in {{1..300}}; do ! grep -q '"hop":9' events || break; sleep 0.1; done
        kill $events; cat events
        "#,
        hops.display()
    );
    let said = stack.shell(&script).await;
    assert!(said.contains("1 of 1 reads answered with 200"), "{said}");
    assert!(said.contains(r#""kind":"swarm""#) && said.contains(r#""brokerName":"RabbitMQ"#), "{said}");
    for hop in 1..=9 {
        assert!(said.contains(&format!(r#""hop":{hop},"#)), "hop {hop}: {said}");
    }
    for task in ["accountservice.1", "accountservice.2", "vipservice.1", "configserver.1", "rabbitmq.1"] {
        let task = format!(r#""task":"{task}""#);
        let is_ready = |object: &str| object.contains(&task) && object.contains(r#""state":"ready""#);
        assert!(said.split('{').any(is_ready), "{task}: {said}");
    }
}

#[tokio::test]
async fn the_queues_of_the_stack_are_listed_and_a_poison_message_becomes_a_dead_letter() {
    let stack = Stack::turn().await;
    let script = format!(
        r#"
        queues() {{ '{}' --swarm queues "$@"; }}
        queues; queues peek vip_queue.dead; queues cut
        ! queues peek offers 2>&1; ! queues peek no_queue 2>&1; ! queues poison no_queue 2>&1
        poison=$(queues poison) && echo "$poison"
        vipservice=$(docker ps --quiet --filter name=hops_vipservice | head -n 1)
        for n in {{1..300}}; do
            ! docker exec "$vipservice" /vipservice dead-letters discard "${{poison%% *}}" --yes || break
            sleep 0.1
        done
        "#,
        binary("hops").display()
    );
    let said = stack.shell(&script).await;
    assert!(said.lines().any(|line| line.starts_with("vip_queue ") && line.contains("quorum")), "{said}");
    for part in [
        "no message is ready in vip_queue.dead",
        "offers is a stream",
        "connections of the services are closed",
        "is in vip_queue",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(said.matches("there is no queue no_queue: `cargo hops --swarm queues`").count(), 2, "{said}");
    assert!(said.lines().any(|line| line.starts_with("poison-") && line.contains("discarded")), "{said}");
}
