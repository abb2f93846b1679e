//! Tests of the steps that are read from a page, and of the comparison with what came out.

use super::{
    compare::{is_as_printed, is_of_cargo},
    step::{Step, steps},
};

#[test]
fn a_page_is_compared_line_by_line() {
    fn check(printed: &str, came: &str, expected: bool) {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(is_as_printed(&lines(printed), &lines(came)), expected, "{printed:?} {came:?}");
    }
    check("a\nb", "a\nb", true);
    check("a", "a\nb", false);
    check("a\nb", "a", false);
    check("a\nb", "b\na", false);
    check("...\nb", "a\na\nb", true);
    check("a\n...", "a", true);
    check("a ...d", "a b c d", true);
    check("a ...d", "a b c", false);
    check("a b", "a     b ", true);
    check("in 01a1f845-2531-7002-ab26-00a1be42a88b", "in 01a1f845-ad21-7416-a9ae-fcf9824854bf", true);
    check("\"2026-11-20T09:24:03.505Z\"", "\"2027-01-02T03:04:05Z\"", true);
    check("on 127.0.0.1:40000 port=40000", "on 127.0.0.1:39129 port=39129", true);
    check("on 127.0.0.1:6767", "on 127.0.0.1:6868", false);
    check(r#"{"v.1":16,"v.2":15}"#, r#"{"v.1":1,"v.2":30}"#, true);
    check(r#"{"v.1":16,"v.2":15}"#, r#"{"v.1":15,"v.2":15}"#, false);
    check(r#"{"v.1":16,"v.2":15}"#, r#"{"v.1":31}"#, false);
    check("killed (process 23924)", "killed (process 7)", true);
    check("killed (process 23924)", "killed (process)", false);
    check("after 0.4 s", "after 12.1 s", true);
    check("version 1.25", "version 1.26", false);
    check("curl 'walk-fea0e351'", "curl 'walk-00000000'", true);
    check("by accountservice.1", "by accountservice.2", true);
    check("by vipservice.1", "by vipservice.2", false);
}

#[test]
fn lines_that_begin_with_a_time_may_change_places_with_their_neighbors() {
    fn check(printed: &[&str], came: &[&str], expected: bool) {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert_eq!(is_as_printed(&lines(printed), &lines(came)), expected, "{printed:?} {came:?}");
    }
    check(&["14:47:38  a", "14:47:39  b"], &["14:47:38  b", "14:47:38  a"], true);
    check(&["14:47:38  a", "14:47:39  b"], &["14:47:38  b", "14:47:38  b"], false);
    check(&["  4.5  6 broker", "  5.2  7 consumer", "end"], &["0.1 7 consumer", "0.2 6 broker", "end"], true);
    check(&["14:47:38  a", "between", "14:47:39  b"], &["14:47:38  b", "between", "14:47:38  a"], false);
    check(&["...", "14:47:38  a", "..."], &["14:47:38  b", "14:47:38  a", "14:47:38  c"], true);
}

#[test]
fn a_page_is_read_step_by_step() {
    let page = "text\n```console\n$ one\nprinted\n$ two\n```\n```sh\n$ not this\n```\n```console\nline\n```\n```console broker\n^C\nbye\n```\n\
                <!-- file: a/b.rs -->\n```rust\nfn b() {}\n```\n";
    let read: Vec<_> = steps(page)
        .into_iter()
        .map(|step| (step.typed, step.printed.join("|"), step.terminal.or(step.file).unwrap_or_default()))
        .collect();
    let expected = [
        ("one", "printed", ""),
        ("two", "", ""),
        ("", "line", ""),
        ("^C", "bye", "broker"),
        ("", "fn b() {}", "a/b.rs"),
    ];
    assert_eq!(read, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
}

#[test]
fn lines_of_cargos_own_are_told_from_those_of_its_programs() {
    for (line, expected) in [
        ("   Compiling vipservice v0.1.0 (/home/you/hops/vipservice)", true),
        ("    Finished `dev` profile [unoptimized + debuginfo] target(s) in 0.24s", true),
        ("     Running `target/debug/vipservice`", true),
        ("Running", false),
        ("  Running `target/debug/vipservice`", false),
        ("    Finished", false),
        ("vipservice.1       | INFO            listening on http://127.0.0.1:6868", false),
    ] {
        assert_eq!(is_of_cargo(line), expected, "{line}");
    }
}

#[test]
fn what_stays_and_what_only_asks_is_known_by_its_words() {
    let (stays, asks, neither) = ([true, false], [false, true], [false, false]);
    for (typed, expected) in [
        ("cargo run -p devbroker", stays),
        ("cargo run -p vipservice -- --config-repo config-repo --server-port 0", stays),
        ("cargo run -p vipservice -- --config-repo config-repo dead-letters list", asks),
        ("cargo run -p vipservice -- --config-repo config-repo dead-letters redrive --all", neither),
        ("cargo run --bin emit_log the disk is full", neither),
        ("cargo hops up", stays),
        ("cargo hops up -d", neither),
        ("cargo hops service logs -f vipservice", stays),
        ("cargo hops service logs", asks),
        ("cargo hops queues peek vip_queue", asks),
        ("cargo hops service scale vipservice=3", neither),
        ("curl localhost:6868/offers", asks),
        ("curl localhost:6767/accounts/10000", neither),
        ("curl -X POST localhost:8888/refresh", neither),
    ] {
        let step = Step { typed: typed.into(), ..Step::default() };
        assert_eq!([step.stays(), step.is_question()], expected, "{typed}");
    }
    let step = |typed: &str| Step { typed: typed.into(), ..Step::default() };
    let refused = Step {
        printed: vec!["error: --offer-txt".into()],
        ..step("cargo run -p vipservice -- --offer-txt x")
    };
    assert!(refused.fails() && !refused.stays());
    assert_eq!(step("cargo run -p devbroker").program(), "devbroker");
    let listener = Step { terminal: Some("second".into()), ..step("cargo run --bin receive_logs") };
    assert!(listener.stays() && listener.program() == "second");
    assert_eq!(step("cargo hops up").program(), "hops");
}
