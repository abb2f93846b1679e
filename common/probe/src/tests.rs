//! The question over real sockets, and what is made of the answers.

use accept::Incoming;
use tokio::{net::TcpListener, task::JoinSet};

use super::*;

/// Asks a server that answers one request with this text, or says nothing where there is none.
async fn asked(path: &str, answer: Option<&'static str>) -> (Result<(), String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut stream, _) = Incoming::new(&listener).next().await;
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        match answer {
            Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
            None => std::future::pending().await,
        }
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let result = health(address, path).await.map(drop);
    match answer {
        Some(_) => (result, server.join_next().await.unwrap().unwrap()),
        None => (result, String::new()),
    }
}

#[tokio::test]
async fn alive_is_who_answers_200_to_livez() {
    let (result, request) = asked("/livez", Some("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"UP\"}")).await;
    assert_eq!(result, Ok(()));
    assert!(request.starts_with("GET /livez HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn who_cannot_work_is_named_with_the_checks_that_fail() {
    let answer = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"DOWN\",\"draining\":true,\"checks\":{\
                  \"broker\":{\"status\":\"DOWN\",\"detail\":\"connecting\"},\"store\":{\"status\":\"UP\"}}}";
    let (result, request) = asked("/readyz", Some(answer)).await;
    let why = result.unwrap_err();
    assert!(why.ends_with("/readyz answers 503: broker: connecting; it is stopping"), "{why}");
    assert!(request.starts_with("GET /readyz "), "{request}");
}

#[tokio::test]
async fn garbage_is_no_answer() {
    for answer in ["", "HTTP/1.1 200 OK", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 many\r\n\r\n"] {
        let (result, _) = asked("/livez", Some(answer)).await;
        assert!(result.unwrap_err().ends_with("does not answer in HTTP"), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    let (result, _) = asked("/livez", None).await;
    assert!(result.unwrap_err().ends_with("has not answered within 2s"));
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_said() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(
        ask(free, "GET", "/livez", HEALTH_TIMEOUT).await.unwrap_err().contains("/livez does not answer: ")
    );
}
