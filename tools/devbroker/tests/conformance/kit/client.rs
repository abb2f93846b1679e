//! lapin's client with short names for what a test does.

use std::{fmt::Debug, sync::Arc, time::Duration};

use amq_protocol::protocol::basic;
use e2e::wait::until;
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind,
    message::{BasicGetMessage, Delivery},
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use super::{Call, LIMIT, Place, Wire, body, declare, in_time, publish, table, text};

/// A connection with one channel in confirm mode.
pub(crate) struct Client {
    pub(crate) place: Arc<Place>,
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

impl Client {
    /// In a virtual host of its own.
    pub(crate) async fn new() -> Self {
        Self::at(&Place::new().await).await
    }

    /// Another connection to the same virtual host.
    pub(crate) async fn another(&self) -> Self {
        Self::at(&self.place).await
    }

    pub(crate) async fn at(place: &Arc<Place>) -> Self {
        let url = place.vhost.amqp_url();
        let connection = in_time(Connection::connect(&url, ConnectionProperties::default())).await.unwrap();
        let channel = in_time(connection.create_channel()).await.unwrap();
        in_time(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
        Self { place: Arc::clone(place), connection, channel }
    }

    /// A connection to the same virtual host that sees every frame.
    pub(crate) async fn wire(&self) -> Wire {
        Wire::open(&self.place).await
    }

    /// See [`Place::answers`].
    #[track_caller]
    pub(crate) fn answers(&self, key: &str, found: impl Debug, reference: impl Debug) {
        self.place.answers(key, found, reference);
    }

    /// Returns whether the broker implements what a method asks for; see [`Place::does`].
    pub(crate) async fn does(&self, key: &str, call: impl Call, reference: &str) -> bool {
        let answer = self.wire().await.outcome(call).await;
        self.place.does(key, answer, reference)
    }

    /// Returns whether the broker declares a queue with these arguments.
    pub(crate) async fn makes<const N: usize>(&self, key: &str, arguments: [(&str, AMQPValue); N]) -> bool {
        self.does(key, declare("probe", arguments), "queue.declare-ok").await
    }

    /// Returns whether the broker accepts a message with these properties.
    pub(crate) async fn takes(&self, key: &str, properties: BasicProperties) -> bool {
        let mut wire = self.wire().await;
        wire.publish(basic::Publish { mandatory: false, ..publish("", "nobody") }, properties, b"").await;
        self.place.does(key, wire.barrier().await, "nothing")
    }

    /// Another channel, not in confirm mode.
    pub(crate) async fn another_channel(&self) -> Channel {
        in_time(self.connection.create_channel()).await.unwrap()
    }

    /// Declares a durable queue.
    pub(crate) async fn queue<const N: usize>(&self, name: &str, arguments: [(&str, AMQPValue); N]) {
        let declared =
            self.channel.queue_declare(name.into(), QueueDeclareOptions::durable(), table(arguments));
        in_time(declared).await.unwrap();
    }

    /// Declares a durable queue of a type.
    pub(crate) async fn queue_of_type<const N: usize>(
        &self,
        queue_type: &str,
        name: &str,
        arguments: [(&str, AMQPValue); N],
    ) {
        let mut arguments = table(arguments);
        arguments.insert("x-queue-type".into(), text(queue_type));
        let declared = self.channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments);
        in_time(declared).await.unwrap();
    }

    /// Declares a durable exchange.
    pub(crate) async fn exchange<const N: usize>(
        &self,
        name: &str,
        kind: ExchangeKind,
        arguments: [(&str, AMQPValue); N],
    ) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        in_time(self.channel.exchange_declare(name.into(), kind, options, table(arguments))).await.unwrap();
    }

    /// Binds a queue.
    pub(crate) async fn bind<const N: usize>(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: [(&str, AMQPValue); N],
    ) {
        let options = QueueBindOptions::default();
        let bound =
            self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, table(arguments));
        in_time(bound).await.unwrap();
    }

    /// Publishes to a queue through the default exchange, and waits for the confirm.
    pub(crate) async fn send(&self, queue: &str, body: &str) {
        self.publish("", queue, body, BasicProperties::default()).await;
    }

    /// Publishes, which has to be acked.
    pub(crate) async fn publish(&self, exchange: &str, key: &str, body: &str, properties: BasicProperties) {
        let confirmation = self.try_publish(exchange, key, body, properties).await;
        assert!(confirmation.is_ack(), "{body:?} to {exchange:?}, {key:?}: {confirmation:?}");
    }

    /// Publishes as mandatory and waits for the confirm, whichever it is.
    pub(crate) async fn try_publish(
        &self,
        exchange: &str,
        key: &str,
        body: &str,
        properties: BasicProperties,
    ) -> Confirmation {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let published =
            self.channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties);
        in_time(async { published.await?.await }).await.unwrap()
    }

    /// Takes a message, to be settled.
    pub(crate) async fn get(&self, queue: &str) -> Option<BasicGetMessage> {
        in_time(self.channel.basic_get(queue.into(), BasicGetOptions::default())).await.unwrap()
    }

    /// Takes a message as soon as there is one.
    pub(crate) async fn until_get(&self, queue: &str) -> Delivery {
        let got = until("a message in the queue", LIMIT, async || self.get(queue).await).await;
        got.delivery
    }

    /// Takes all that is in a queue: the bodies.
    pub(crate) async fn drain(&self, queue: &str) -> Vec<String> {
        let mut bodies = vec![];
        while let Some(got) =
            in_time(self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true })).await.unwrap()
        {
            bodies.push(body(&got.delivery));
        }
        bodies
    }

    /// Takes what comes into a queue until there are that many; sorted by nothing but their arrival.
    pub(crate) async fn until_drained(&self, queue: &str, count: usize) -> Vec<String> {
        let mut bodies = vec![];
        until("so many messages in the queue", LIMIT, async || {
            bodies.extend(self.drain(queue).await);
            (bodies.len() >= count).then_some(())
        })
        .await;
        bodies
    }

    /// Returns the numbers of ready messages and of consumers from a passive declaration, on a channel of its own.
    pub(crate) async fn counts(&self, queue: &str) -> Option<(u32, u32)> {
        let channel = self.another_channel().await;
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared = in_time(channel.queue_declare(queue.into(), passive, FieldTable::default())).await;
        let declared = declared.ok()?;
        Some((declared.message_count(), declared.consumer_count()))
    }

    /// Waits until so many messages are ready.
    pub(crate) async fn until_ready(&self, queue: &str, count: u32) {
        until(&format!("{count} ready in {queue}"), LIMIT, async || {
            self.counts(queue).await.filter(|counts| counts.0 == count)
        })
        .await;
    }

    /// Waits until a queue is no more.
    pub(crate) async fn until_gone(&self, queue: &str) {
        until(&format!("{queue} is gone"), LIMIT, async || self.counts(queue).await.is_none().then_some(()))
            .await;
    }

    /// Consumes with manual acks on a new channel.
    pub(crate) async fn consume(&self, queue: &str, prefetch: u16) -> Subscription {
        self.consume_with(queue, prefetch, BasicConsumeOptions::default(), []).await
    }

    /// Consumes on a new channel.
    pub(crate) async fn consume_with<const N: usize>(
        &self,
        queue: &str,
        prefetch: u16,
        options: BasicConsumeOptions,
        arguments: [(&str, AMQPValue); N],
    ) -> Subscription {
        let channel = self.another_channel().await;
        in_time(channel.basic_qos(prefetch, BasicQosOptions::default())).await.unwrap();
        let consumer = channel.basic_consume(queue.into(), "".into(), options, table(arguments));
        let consumer = in_time(consumer).await.unwrap();
        Subscription { channel, consumer }
    }
}

/// A consumer with its channel.
pub(crate) struct Subscription {
    pub(crate) channel: Channel,
    pub(crate) consumer: Consumer,
}

impl Subscription {
    /// The next delivery.
    pub(crate) async fn next(&mut self) -> Delivery {
        let delivery = in_time(self.consumer.next()).await;
        delivery.expect("the consumer goes on").expect("the channel stays open")
    }

    /// The next bodies, all left unsettled.
    pub(crate) async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = vec![];
        for _ in 0..count {
            bodies.push(body(&self.next().await));
        }
        bodies
    }

    /// The end of the consumer: `None` when the broker cancelled it, else what closed its channel.
    pub(crate) async fn end(&mut self) -> Option<lapin::Error> {
        match in_time(self.consumer.next()).await {
            None => None,
            Some(Err(error)) => Some(error),
            Some(Ok(delivery)) => panic!("another delivery: {delivery:?}"),
        }
    }

    /// Returns whether a delivery has arrived by now. The broker sends what it has to a channel in order, so a call that was answered
    /// after a moment's patience is later than what was on its way.
    pub(crate) async fn is_silent(&mut self) -> bool {
        in_time(self.channel.basic_qos(1, BasicQosOptions::default())).await.is_ok()
            && timeout(Duration::from_millis(200), self.consumer.next()).await.is_err()
    }
}
