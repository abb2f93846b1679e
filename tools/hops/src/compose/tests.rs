//! The checkout's own file, and files with mistakes.

mod docker;

use super::*;

fn parse(text: &str) -> Result<Compose> {
    Compose::parse(text, &BTreeMap::from([("TAG".to_owned(), "7".to_owned())]))
}

#[test]
fn the_file_of_this_checkout_is_read() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker-compose.yml")).unwrap();
    let compose = Compose::parse(&text, &BTreeMap::new()).unwrap();
    let of = |name: &str| compose.services.iter().find(|service| service.name == name).unwrap();
    let (account, vip) = (of("accountservice"), of("vipservice"));
    assert_eq!((account.replicas, account.update.start_first), (2, false), "it owns a store");
    assert_eq!((vip.replicas, vip.update.start_first), (1, true), "it owns nothing");
    assert_eq!(account.ports, [Port { target: 6767, published: Some(6767) }]);
    assert_eq!(vip.ports, [Port { target: 6868, published: Some(6868) }]);
    assert_eq!(account.health, vip.health, "one anchor for both");
    assert!(vip.environment.contains(&("INSTANCE_NAME".into(), "vipservice.{{.Task.Slot}}".into())));
    assert!(account.stop_grace_period > Duration::from_secs(10), "longer than shutdown_grace");
    assert_eq!(compose.volumes["accountservice"], "hops-accountservice-{{.Task.Slot}}");
    assert!(of("rabbitmq").image.starts_with("rabbitmq:"));
}

#[test]
fn every_supported_key_is_read() {
    let text = "
version: '3.8'
x-common: &common
  restart_policy: {condition: on-failure, delay: 500ms, max_attempts: 3, window: 1m}
services:
  one:
    image: registry:5000/hops/one:${TAG}
    command: --flag value
    environment:
      - B=${NONE:-b=c}
      - A=1
    ports:
      - 80
      - {target: 81, published: 8081, protocol: tcp, mode: host}
    configs: [settings]
    volumes: ['data:/data', './here:/there:ro']
    secrets: [{source: token, target: other, mode: 0400}]
    read_only: true
    cap_drop: [ALL]
    deploy:
      <<: *common
      replicas: 3
      resources: {limits: {memory: 64M}}
      update_config: {order: start-first, parallelism: 2, delay: 1m30s, failure_action: rollback}
configs: {settings: {file: ./config-repo/application.yml, name: x-1}}
volumes: {data: }
secrets: {token: {file: ./token}}
";
    let compose = parse(text).unwrap();
    let one = &compose.services[0];
    assert_eq!(one.image, "registry:5000/hops/one:7");
    assert_eq!(one.command, ["--flag", "value"]);
    assert_eq!(one.environment, [("A".into(), "1".into()), ("B".into(), "b=c".into())]);
    let ports = [Port { target: 80, published: None }, Port { target: 81, published: Some(8081) }];
    assert_eq!(one.ports, ports);
    assert_eq!(one.replicas, 3);
    let restart =
        Restart { condition: Condition::OnFailure, delay: Duration::from_millis(500), max_attempts: Some(3) };
    assert_eq!(one.restart, restart);
    let update = Update { start_first: true, parallelism: 2, delay: Duration::from_secs(90), rollback: true };
    assert_eq!(one.update, update);
    let mount = |source: &str, target: &str| Mount { source: source.into(), target: target.into() };
    assert_eq!(one.secrets, [mount("token", "/run/secrets/other")]);
    assert_eq!(one.configs, [mount("settings", "/settings")]);
    let volume = |source, target: &str| Volume { source, target: target.into() };
    let (data, here) = (VolumeSource::Named("data".into()), VolumeSource::Folder("./here".into()));
    assert_eq!(one.volumes, [volume(data, "/data"), volume(here, "/there")]);
    assert_eq!(compose.configs["settings"], "./config-repo/application.yml");
    assert_eq!(compose.volumes["data"], "data");
}

#[test]
fn line_ends_of_windows_make_no_difference() {
    let text = "services:\n  a:\n    image: x\n    command: |\n      --one\n      '--two\n      three'\n";
    assert_eq!(parse(&text.replace('\n', "\r\n")).unwrap(), parse(text).unwrap());
}

#[test]
fn values_that_are_nested_without_end_are_refused_by_line() {
    let service = "\nservices: {a: {image: x}}\n";
    let nested = |before: &str, after: &str, n: usize| {
        format!("x-a:\n {}x{}{service}", before.repeat(n), after.repeat(n))
    };
    let lines = |n: usize| (1..n).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
    // Aliases of aliases are deep, too.
    let list = |inner: &str| format!("{}{inner}{}", "[".repeat(50), "]".repeat(50));
    let aliases = format!("x-1: &a {}\nx-2: &b {}\nx-3: {}{service}", list(""), list("*a"), list("*b"));
    for (text, place) in [
        (nested("- ", "", 20_000), ":2: "),
        (nested("[", "]", 150), ":2: "),
        (nested("{a: ", "}", 150), ":2: "),
        (nested("? ", "", 20_000), ":2: "),
        (nested("- ", "", 100), ":2: "),
        (format!("x-a:\n{}{service}", lines(3_000)), ":101: "),
        (aliases, ":2: "),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        let expected = format!("docker-compose.yml{place}values are nested deeper than 100 levels");
        assert_eq!(error, expected, "{}", &text[..60]);
    }
    parse(&nested("- ", "", 99)).unwrap();
    // The scanner, which reads ahead, has a limit of its own.
    let error = parse(&nested("[", "]", 20_000)).unwrap_err().to_string();
    assert_eq!(error, "docker-compose.yml:2: not YAML: recursion limit exceeded");
}

#[test]
fn a_file_in_another_encoding_says_what_to_do() {
    let text = "services: {a: {image: x}}\n# \u{e9}\n";
    let utf16 = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<_>>();
    let (little, big) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
    for (bytes, line) in [
        (b"services: {a: {image: x}}\r\n# \xe9\r\n".to_vec(), 2),
        ([b"\xff\xfe", &little[..]].concat(), 1),
        ([b"\xfe\xff", &big[..]].concat(), 1),
        (b"s\0e\0".to_vec(), 1),
        (b"# \xed\xa0\x80".to_vec(), 1),
    ] {
        let error = raw::decode(bytes).and_then(|text| parse(&text)).unwrap_err().to_string();
        let expected = "this is not text in UTF-8: save the file as UTF-8";
        assert_eq!(error, format!("docker-compose.yml:{line}: {expected}"));
    }
    parse(&format!("\u{feff}{text}")).unwrap();
    let error = parse(&text.replace('\n', "\r")).unwrap_err().to_string();
    assert!(error.starts_with("docker-compose.yml:1: the character U+000D cannot be here"), "{error}");
}

#[test]
fn a_long_list_is_read_in_no_time() {
    let items: Vec<_> = (0..20_000).map(|n| format!("A{n}=1")).collect();
    let text = format!("services: {{a: {{image: x, environment: [{}]}}}}", items.join(", "));
    let start = std::time::Instant::now();
    assert_eq!(parse(&text).unwrap().services[0].environment.len(), items.len());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn aliases_that_expand_without_end_are_refused() {
    let mut text = "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("x-{n}: &a{n} [{aliases}]\n"));
    }
    text.push_str("services: {a: {image: x}}\n");
    assert!(parse(&text).unwrap_err().to_string().contains("not YAML: alias expansion"));
}

#[test]
fn mistakes_are_refused_by_name_and_line() {
    for (text, expected) in [
        (
            "services:\n  a:\n    imgae: x",
            "docker-compose.yml:3: services.a: unknown key `imgae`: did you mean `image`?",
        ),
        (
            "services:\n  a:\n    image: x\n    depends_on: [b]",
            ":4: services.a: `depends_on` is not supported here",
        ),
        ("servces: {}", "unknown key `servces`: did you mean `services`?"),
        (
            "services:\n  a:\n    image: x\n    deploy:\n      update_config: {ordr: start-first}",
            "services.a.deploy.update_config: unknown key `ordr`: did you mean `order`?",
        ),
        (
            "services: {a: {image: x, deploy: {update_config: {order: both}}}}",
            "services.a.deploy.update_config.order: `both` is not start-first or stop-first",
        ),
        (
            "services: {a: {image: x, deploy: {mode: global}}}",
            "services.a.deploy.mode: `global` is not replicated",
        ),
        ("services: {a: {image: x, deploy: {replicas: two}}}", "a whole number is expected here"),
        ("services: {a: {image: x, stop_grace_period: 10}}", "write it as in 500ms, 10s or 1m30s"),
        ("services: {a: {image: x, ports: ['here:1:2']}}", "`here` is not an address"),
        ("services: {a: {image: x, ports: [0]}}", "`0` is not a port from 1 to 65535"),
        ("services: {a: {image: x, ports: ['1/udp']}}", "only TCP is supported"),
        ("services: {a: {image: x, secrets: [s]}}", "`s` is not declared under the top-level `secrets`"),
        ("services: {a: {image: x, environment: [1]}}", "services.a.environment.0: a text is expected here"),
        ("services: {a: {image: '${NONE}'}}", "services.a.image: the variable NONE is not set"),
        ("services: {a: {command: x}}", "services.a: `image` is missing"),
        ("services: {a: {image: x, image: y}}", "not YAML"),
        ("services: {}", "there are no services"),
        ("services: [", "not YAML"),
        ("", "one document"),
        ("services: {a: [x]}", "keys with values"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.starts_with("docker-compose.yml"),
            "{text}\n{error}\nexpected {expected}"
        );
    }
}

#[test]
fn no_name_and_no_target_leads_out_of_the_folder_of_the_data() {
    let whole = |part: &str| {
        format!(
            "services: {{a: {{image: x, {part}}}}}\nvolumes: {{v: }}\nsecrets: {{s: {{file: f}}}}\nconfigs: {{c: {{file: f}}}}\n"
        )
    };
    let names = ["..", "../x", "a/../../x", "/etc/x", "./x", ".x", "a/b", "~", "~/x", "a\\\\..", "a b", ""];
    for (what, file) in [
        ("a service", "services: {'NAME': {image: x}}".to_owned()),
        ("a volume", format!("{}volumes: {{'NAME': }}", "services: {a: {image: x}}\n")),
        ("a volume's name", format!("{}volumes: {{v: {{name: 'NAME'}}}}", "services: {a: {image: x}}\n")),
        (
            "a volume's name with a slot",
            format!("{}volumes: {{v: {{name: 'NAME/{{{{.Task.Slot}}}}'}}}}", "services: {a: {image: x}}\n"),
        ),
        ("a secret", format!("{}secrets: {{'NAME': {{file: f}}}}", "services: {a: {image: x}}\n")),
        ("a config", format!("{}configs: {{'NAME': {{file: f}}}}", "services: {a: {image: x}}\n")),
        ("a volume's source", whole("volumes: [{type: volume, source: 'NAME', target: /t}]")),
        ("a secret's source", whole("secrets: ['NAME']")),
        ("a config's source", whole("configs: [{source: 'NAME', target: /t}]")),
        ("a volume's target", whole("volumes: ['v:/t/../NAME']")),
        ("a secret's target", whole("secrets: [{source: s, target: '../NAME'}]")),
        ("a config's target", whole("configs: [{source: c, target: '/t/NAME/..'}]")),
    ] {
        for name in names {
            let text = file.replace("NAME", name);
            let error = parse(&text).expect_err(&format!("{what}: {text}")).to_string();
            assert!(error.starts_with("docker-compose.yml:"), "{what}: {text}: {error}");
        }
    }
}
