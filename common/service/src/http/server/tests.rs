//! The server over a real socket.

use axum::{Extension, Router, routing::get};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::*;
use crate::http::{Health, Settings, router};

#[tokio::test]
async fn a_request_knows_its_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let peer = async |Extension(peer): Extension<Peer>| format!("you are {}.", peer.0);
    let routes = Router::new().route("/peer", get(peer));
    let health = Health::default().into();
    let router = router(routes, &Settings::default().into(), &health, Registry::default());
    let limit = || Duration::from_secs(20);
    let bounds = Bounds { connections: 2, client_timeout: limit, finish: limit };
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener, router, bounds, CancellationToken::new()));
    let request = b"GET /peer HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    timeout(limit(), stream.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    assert!(answer.ends_with(&format!("you are {}.", stream.local_addr().unwrap())), "{answer}");
}
