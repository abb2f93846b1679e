//! Pinned versions: `docs/UPKEEP.md` names each as its files have it, and the tests' RabbitMQ is the stack's.

use e2e::repository::read;

/// The cells of the page's rows: what, version, where.
fn rows() -> Vec<[String; 3]> {
    let page = read("docs/UPKEEP.md");
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
        std::array::from_fn(|_| cells.next().unwrap_or_else(|| panic!("{row}")))
    })
    .collect()
}

/// The words in backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn each_pin_stands_where_the_page_says() {
    let rows = rows();
    assert!(rows.len() >= 8, "{rows:?}");
    for [what, version, place] in rows {
        for file in quoted(&place) {
            let text = read(file);
            for version in quoted(&version) {
                assert!(text.contains(version), "{what}: {file} does not have {version}");
            }
        }
    }
}

#[test]
fn the_stack_names_the_minor_version_of_rabbitmq_that_the_tests_run_on() {
    let compose = read("docker-compose.yml");
    let pinned = compose.split("RABBITMQ_IMAGE:-rabbitmq:").nth(1).unwrap().split('}').next().unwrap();
    let minor = pinned.rsplit_once('.').unwrap().0;
    let script = read("e2e/rabbitmq.sh");
    assert!(script.contains(&format!("local version={minor} ")), "the tests' RabbitMQ is not {minor}");
    let ci = read(".ci/run");
    assert!(ci.contains(&format!("e2e/rabbitmq.sh build {minor}")), "CI's RabbitMQ is not {minor}");
}
