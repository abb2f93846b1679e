//! What a browser sends for pages of elsewhere, and requests that do not name their host as RFC 9112 requires.

use e2e::{
    broker::free_port,
    fixture::TestSystem,
    http::Reply,
    process::{Launch, Service},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const VIP: &str = "/accounts/10000";
const SECRET: &str = "the-secret";

/// Headers that a browser adds for a page of elsewhere, or the host of a page that has the address of this machine.
const OF_PAGES: [(&str, &str); 5] = [
    ("origin", "https://evil.example"),
    ("origin", "null"),
    ("sec-fetch-site", "cross-site"),
    ("sec-fetch-site", "same-site"),
    ("host", "evil.example"),
];

async fn ask(service: &Service, path: &str, (name, value): (&'static str, &str)) -> Reply {
    Reply::of(service.request("GET", path).header(name, value)).await.unwrap()
}

/// A configserver with an encrypted value in `/app/default`.
async fn configserver(system: &TestSystem, with: impl FnOnce(Launch) -> Launch) -> (TempDir, Service) {
    let folder = tempfile::tempdir().unwrap();
    let launch = system.launch("configserver", 1).flag("config-repo", &folder.path().to_string_lossy());
    let server = with(launch.env("APP_ENCRYPT_KEY", "k3y-of-the-test")).start().await;
    let encrypted =
        Reply::of(server.request("POST", "/encrypt").header("content-type", "text/plain").body(SECRET));
    let value = format!("password: '{{cipher}}{}'\n", encrypted.await.unwrap().text);
    std::fs::write(folder.path().join("app.yml"), value).unwrap();
    (folder, server)
}

#[tokio::test]
async fn no_service_answers_a_page_of_elsewhere() {
    let system = TestSystem::new().await.behind(free_port());
    let account = system.launch("accountservice", 1).start().await;
    let vip = system.launch("vipservice", 1).start().await;
    let (_folder, server) = configserver(&system, |launch| launch).await;
    for (service, paths) in [
        (&account, &[VIP, "/accounts", "/settings", "/readyz", "/livez", "/metrics", "/nothing"][..]),
        (&vip, &["/offers", "/dead-letters", "/settings", "/health"]),
        (&server, &["/app/default", "/app-default.yml", "/settings", "/actuator/health", "/encrypt/status"]),
    ] {
        for (path, header) in paths.iter().flat_map(|path| OF_PAGES.map(|header| (path, header))) {
            let reply = ask(service, path, header).await;
            assert_eq!(reply.status, 403, "{path} {header:?}: {}", reply.text);
            assert_eq!(reply.header("content-type"), "application/problem+json", "{path} {header:?}");
            assert!(!reply.text.contains(SECRET), "{path} {header:?}");
        }
        let host = format!("localhost:{}", service.address().port());
        for header in [("host", host.as_str()), ("sec-fetch-site", "none"), ("sec-fetch-site", "same-origin")]
        {
            assert_eq!(ask(service, "/livez", header).await.status, 200, "{header:?}");
        }
    }
    assert!(server.get("/app/default").await.text.contains(SECRET), "a program gets the value");
    assert_eq!(account.metric("hops_outbox_depth").await, 0, "no page has read the VIP's account");
}

#[tokio::test]
async fn a_service_that_other_machines_reach_answers_under_any_name_but_secrets_only_within_its_network() {
    let system = TestSystem::new().await.behind(free_port());
    let everywhere = |launch: Launch| launch.env("APP_SERVER_HOST", "0.0.0.0");
    let account = everywhere(system.launch("accountservice", 1)).start().await;
    let named =
        everywhere(system.launch("accountservice", 2)).env("APP_ALLOWED_HOSTS", "shop.example").start().await;
    let vip = everywhere(system.launch("vipservice", 1)).start().await;
    let (_folder, server) = configserver(&system, everywhere).await;
    let password = |launch: Launch| everywhere(launch).env("APP_AUTH_PASSWORD", "pw");
    let (_other_folder, with_password) = configserver(&system, password).await;
    for (service, path, host, expected) in [
        (&account, "/accounts/10001", "accountservice:6767", 200),
        (&account, "/accounts/10001", "node1.corp.example:6767", 200),
        (&named, "/accounts/10001", "shop.example", 200),
        (&named, "/accounts/10001", "accountservice:6767", 200),
        (&named, "/accounts/10001", "evil.example", 403),
        (&vip, "/health", "node1.corp.example:6868", 503),
        (&vip, "/dead-letters", "node1.corp.example:6868", 403),
        (&vip, "/dead-letters", "vipservice:6868", 503),
        (&server, "/app/default", "configserver:8888", 200),
        (&server, "/app/default", "10.0.0.7:8888", 200),
        (&server, "/app/default", "evil.example:8888", 403),
        (&with_password, "/app/default", "evil.example:8888", 401),
    ] {
        let reply = ask(service, path, ("host", host)).await;
        assert_eq!(reply.status, expected, "{path} {host}: {}", reply.text);
        assert_eq!(reply.text.contains(SECRET), path == "/app/default" && expected == 200, "{path} {host}");
        assert_eq!(ask(service, path, ("origin", "https://evil.example")).await.status, 403, "{path}");
    }
    let of_a_client = with_password.request("GET", "/app/default").header("host", "config.corp.example");
    assert_eq!(Reply::of(of_a_client.basic_auth("user", Some("pw"))).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_request_names_its_host_once_or_is_answered_400() {
    let system = TestSystem::new().await.behind(free_port());
    let account = system.launch("accountservice", 1).start().await;
    let vip = system.launch("vipservice", 1).start().await;
    let (_folder, server) = configserver(&system, |launch| launch).await;
    for service in [&account, &vip, &server] {
        for (head, expected) in [
            ("HTTP/1.1\r\n", "HTTP/1.1 400"),
            ("HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n", "HTTP/1.1 400"),
            ("HTTP/1.1\r\nhost: a b\r\n", "HTTP/1.1 400"),
            ("HTTP/1.1\r\nhost: localhost\r\n", "HTTP/1.1 200"),
            ("HTTP/1.0\r\n", "HTTP/1.0 200"),
        ] {
            let mut stream = TcpStream::connect(("127.0.0.1", service.address().port())).await.unwrap();
            let request = format!("GET /livez {head}connection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(expected), "{} {head:?}: {answer}", service.name());
        }
    }
}
