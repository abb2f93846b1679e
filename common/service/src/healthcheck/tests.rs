//! The question over real sockets, and what is made of the answers.

use tokio::{net::TcpListener, task::JoinSet};

use super::*;
use crate::startup::Settings;

fn settings(host: &str, port: u16) -> Settings {
    Settings { server_host: host.parse().unwrap(), server_port: Some(port), ..Settings::default() }
}

/// Asks a server that answers one request with this text, or says nothing where there is none.
async fn asked(arguments: &[&str], answer: Option<&'static str>) -> (Result<(), String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        match answer {
            Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
            None => std::future::pending().await,
        }
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let verb = command().get_matches_from([&[VERB], arguments].concat());
    let result = run(&verb, &settings("127.0.0.1", port), 1).await;
    match answer {
        Some(_) => (result, server.join_next().await.unwrap().unwrap()),
        None => (result, String::new()),
    }
}

#[tokio::test]
async fn alive_is_who_answers_200_to_livez() {
    let (result, request) = asked(&[], Some("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"UP\"}")).await;
    assert_eq!(result, Ok(()));
    assert!(request.starts_with("GET /livez HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn who_cannot_work_is_named_with_the_checks_that_fail() {
    let answer = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"DOWN\",\"draining\":true,\"checks\":{\
                  \"broker\":{\"status\":\"DOWN\",\"detail\":\"connecting\"},\"store\":{\"status\":\"UP\"}}}";
    let (result, request) = asked(&["--ready"], Some(answer)).await;
    let why = result.unwrap_err();
    assert!(why.ends_with("/readyz answers 503: broker: connecting; it is stopping"), "{why}");
    assert!(request.starts_with("GET /readyz "), "{request}");
}

#[tokio::test]
async fn garbage_is_no_answer() {
    for answer in ["", "HTTP/1.1 200 OK", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 many\r\n\r\n"] {
        let (result, _) = asked(&[], Some(answer)).await;
        assert!(result.unwrap_err().ends_with("does not answer in HTTP"), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    let (result, _) = asked(&[], None).await;
    assert!(result.unwrap_err().ends_with("has not answered within 2s"));
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_said() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(ask(free, "GET", "/livez", LIMIT).await.unwrap_err().contains("/livez does not answer: "));
}

#[test]
fn it_asks_where_the_service_listens() {
    for (host, port, expected) in
        [("0.0.0.0", 6767, "127.0.0.1:6767"), ("::", 6767, "[::1]:6767"), ("10.0.0.7", 80, "10.0.0.7:80")]
    {
        assert_eq!(address(&settings(host, port), 1).unwrap().to_string(), expected);
    }
    let usual = Settings { server_port: None, ..Settings::default() };
    assert_eq!(address(&usual, 6868).unwrap().to_string(), "127.0.0.1:6868");
    assert!(address(&settings("0.0.0.0", 0), 1).unwrap_err().contains("--server-port"));
}
