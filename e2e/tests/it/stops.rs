//! SIGTERM in bad times: the order of the shutdown holds, and everything in it is bounded.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use e2e::{fixture::TestSystem, process::Service, proxy::Mode};

async fn stops_in_time(service: &mut Service) {
    let since = Instant::now();
    service.sigterm();
    assert_eq!(service.exit_code().await, Some(0));
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_silent_broker_holds_up_no_stop() {
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    let linger = |name| system.launch(name, 1).flag("shutdown-linger", "3s").start();
    let (mut account, mut vip) = (linger("accountservice").await, linger("vipservice").await);
    account.until_ready().await;
    vip.until_ready().await;
    proxy.set(Mode::Freeze);
    tokio::join!(stops_in_time(&mut account), stops_in_time(&mut vip));
}

#[tokio::test]
async fn half_a_request_holds_up_no_stop_and_the_outbox_is_drained_all_the_same() {
    let system = TestSystem::new().await;
    let mut account = system.launch("accountservice", 1).flag("request-timeout", "1s").start().await;
    account.until_ready().await;
    let mut slow = TcpStream::connect(("127.0.0.1", account.address().port())).unwrap();
    slow.write_all(b"GET /accounts/10000 HT").unwrap();
    system.read_vip(&account).await;
    stops_in_time(&mut account).await;
    assert_eq!(system.vhost().ready("vip_queue").await, Some(1));
}
