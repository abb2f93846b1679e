//! A connection that hides nothing: it sends the frames that a test says, in that order, and shows every frame that comes.
//! It reads and writes with lapin's codec, and does nothing by itself except that it answers a `close`.

use std::{sync::Arc, time::Duration};

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame},
    protocol::{AMQPClass, BasicProperties, basic, channel, connection},
};
use lapin::types::AMQPValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Call, Place, in_time, table, text};

/// A frame from the broker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    /// A method and its channel.
    Method(u16, AMQPClass),
    /// The header of a content.
    Header(AMQPContentHeader),
    /// A piece of a body.
    Body(Vec<u8>),
    /// A sign of life.
    Heartbeat,
    /// Nothing more will come.
    End,
}

/// The connection.
pub(crate) struct Wire {
    place: Arc<Place>,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// A TCP connection on which nothing was said.
    pub(crate) async fn dial(place: &Arc<Place>) -> Self {
        let stream = in_time(TcpStream::connect(place.vhost.address())).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { place: Arc::clone(place), stream, buffer: vec![] }
    }

    /// With channel 1 open.
    pub(crate) async fn open(place: &Arc<Place>) -> Self {
        let mut wire = Self::tuned(place, |_| {}).await;
        wire.open_vhost().await;
        wire.open_channel(1).await;
        wire
    }

    /// Logged in, having answered the broker's limits with these.
    pub(crate) async fn tuned(place: &Arc<Place>, change: impl FnOnce(&mut connection::TuneOk)) -> Self {
        let mut wire = Self::dial(place).await;
        wire.greet().await;
        let tune = wire.log_in("guest", "guest", true).await.expect("guest may log in");
        let mut answer =
            connection::TuneOk { channel_max: tune.channel_max, frame_max: tune.frame_max, heartbeat: 0 };
        change(&mut answer);
        wire.send(0, answer).await;
        wire
    }

    /// Says the protocol's name; the broker's first frame.
    pub(crate) async fn greet(&mut self) -> connection::Start {
        self.raw(b"AMQP\0\0\x09\x01").await;
        match self.next().await {
            Frame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Start(start))) => start,
            other => panic!("{other:?} is no greeting"),
        }
    }

    /// Logs in; the broker's limits, or how it refuses. `tells_failures` is the capability without which a broker just hangs up.
    pub(crate) async fn log_in(
        &mut self,
        user: &str,
        password: &str,
        tells_failures: bool,
    ) -> Result<connection::Tune, String> {
        self.start("PLAIN", &format!("\0{user}\0{password}"), tells_failures).await
    }

    /// Answers the greeting.
    pub(crate) async fn start(
        &mut self,
        mechanism: &str,
        response: &str,
        tells_failures: bool,
    ) -> Result<connection::Tune, String> {
        let capabilities = table([
            ("authentication_failure_close", AMQPValue::Boolean(tells_failures)),
            ("consumer_cancel_notify", AMQPValue::Boolean(true)),
            ("basic.nack", AMQPValue::Boolean(true)),
            ("publisher_confirms", AMQPValue::Boolean(true)),
            ("connection.blocked", AMQPValue::Boolean(true)),
        ]);
        let client_properties =
            table([("product", text("conformance")), ("capabilities", AMQPValue::FieldTable(capabilities))]);
        let (mechanism, response, locale) = (mechanism.into(), response.into(), "en_US".into());
        self.send(0, connection::StartOk { client_properties, mechanism, response, locale }).await;
        match self.next().await {
            Frame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Tune(tune))) => Ok(tune),
            other => Err(self.described(&other)),
        }
    }

    pub(crate) async fn open_vhost(&mut self) {
        let virtual_host = self.place.vhost.name().into();
        self.send(0, connection::Open { virtual_host }).await;
        assert_eq!(self.answer().await, "connection.open-ok");
    }

    pub(crate) async fn open_channel(&mut self, id: u16) {
        self.send(id, channel::Open {}).await;
        assert_eq!(self.answer().await, "channel.open-ok");
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Sends bytes as they are.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        // A broker that has hung up is found out by reading.
        let _ = in_time(self.stream.write_all(bytes)).await;
    }

    /// Sends a method.
    pub(crate) async fn send(&mut self, channel: u16, method: impl Call) {
        self.frame(AMQPFrame::Method(channel, method.class())).await;
    }

    /// Sends a frame.
    pub(crate) async fn frame(&mut self, frame: AMQPFrame) {
        let context = gen_frame(&frame)(WriteContext::from(vec![])).unwrap();
        self.raw(&context.into_inner().0).await;
    }

    /// Publishes on channel 1, the body in one frame.
    pub(crate) async fn publish(
        &mut self,
        publish: basic::Publish,
        properties: BasicProperties,
        body: &[u8],
    ) {
        self.send(1, publish).await;
        self.header(properties, body.len()).await;
        if !body.is_empty() {
            self.frame(AMQPFrame::Body(1, body.to_vec())).await;
        }
    }

    /// Sends a content's header on channel 1.
    pub(crate) async fn header(&mut self, properties: BasicProperties, body_size: usize) {
        let header = AMQPContentHeader { class_id: 60, body_size: body_size as u64, properties };
        self.frame(AMQPFrame::Header(1, header)).await;
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Frame {
        in_time(self.read()).await
    }

    /// The header and the one body frame that follow a delivery.
    pub(crate) async fn content(&mut self) -> (AMQPContentHeader, Vec<u8>) {
        match (self.next().await, self.next().await) {
            (Frame::Header(header), Frame::Body(body)) => (header, body),
            other => panic!("{other:?} is no content"),
        }
    }

    /// The next frame, if one comes in that time.
    pub(crate) async fn next_within(&mut self, limit: Duration) -> Option<Frame> {
        timeout(limit, self.read()).await.ok()
    }

    /// The next frame that is a method of that channel, described; heartbeats do not count.
    pub(crate) async fn answer(&mut self) -> String {
        loop {
            match self.next().await {
                Frame::Heartbeat => {}
                frame => return self.settled(&frame).await,
            }
        }
    }

    /// Sends a method on channel 1 and answers what came of it: the name of the answer, or how it is refused.
    /// After a refusal channel 1 is open again, on a new connection if it has to be.
    pub(crate) async fn outcome(&mut self, method: impl Call) -> String {
        self.send(1, method).await;
        self.answer().await
    }

    /// Does one after the other and holds what comes of each against the table.
    pub(crate) async fn outcomes<const N: usize>(&mut self, table: [(&str, AMQPClass, &'static str); N]) {
        let mut rows = vec![];
        for (key, method, reference) in table {
            rows.push((key.to_owned(), self.outcome(method).await, reference));
        }
        self.place.all_answer(rows);
    }

    /// The same for a method that has no answer where all goes well: `nothing`.
    pub(crate) async fn silent_outcome(&mut self, method: impl Call) -> String {
        self.send(1, method).await;
        self.barrier().await
    }

    /// A call that is always answered: what comes before its answer was there before.
    pub(crate) async fn barrier(&mut self) -> String {
        self.send(1, basic::Qos::default()).await;
        let answer = self.answer().await;
        if answer == "basic.qos-ok" { "nothing".into() } else { answer }
    }

    /// Describes a frame; answers a `close` and opens what it has closed.
    async fn settled(&mut self, frame: &Frame) -> String {
        let described = self.described(frame);
        match frame {
            Frame::Method(id, AMQPClass::Channel(channel::AMQPMethod::Close(_))) => {
                self.send(*id, channel::CloseOk {}).await;
                self.open_channel_later(*id).await;
            }
            Frame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_))) => {
                self.send(0, connection::CloseOk {}).await;
                // Not `open`, which would be a cycle of futures.
                *self = Box::pin(Self::open(&self.place)).await;
            }
            _ => {}
        }
        described
    }

    async fn open_channel_later(&mut self, id: u16) {
        self.send(id, channel::Open {}).await;
        let answer = self.next().await;
        assert_eq!(self.described(&answer), "channel.open-ok");
    }

    /// `queue.declare-ok`; a refusal as `channel 404 NOT_FOUND - ... (50, 10)`, with this test's virtual host as `VHOST`.
    pub(crate) fn described(&self, frame: &Frame) -> String {
        let refusal = |scope, code: u16, text: &str, class: u16, method: u16| {
            let mut shown = text.replace(self.place.vhost.name(), "VHOST");
            if text.ends_with("...") {
                // Cut to what a short text may be; where, depends on the length of the virtual host's name.
                assert_eq!(text.len(), 255, "{text}");
                shown.truncate(130);
                shown += "...";
            }
            format!("{scope} {code} {shown} ({class}, {method})")
        };
        match frame {
            Frame::Method(_, AMQPClass::Channel(channel::AMQPMethod::Close(close))) => refusal(
                "channel",
                close.reply_code,
                close.reply_text.as_str(),
                close.class_id,
                close.method_id,
            ),
            Frame::Method(_, AMQPClass::Connection(connection::AMQPMethod::Close(close))) => {
                let text = close.reply_text.as_str();
                refusal("connection", close.reply_code, text, close.class_id, close.method_id)
            }
            Frame::Method(_, method) => super::methods::name(method),
            Frame::Header(_) => "header".into(),
            Frame::Body(_) => "body".into(),
            Frame::Heartbeat => "heartbeat".into(),
            Frame::End => "end".into(),
        }
    }

    async fn read(&mut self) -> Frame {
        loop {
            if let Some((frame, length)) = first_frame(&self.buffer) {
                self.buffer.drain(..length);
                return frame;
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(count) if count > 0 => {}
                _ => return Frame::End,
            }
        }
    }

    /// Returns all bytes until the broker closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        let _ = in_time(self.stream.read_to_end(&mut rest)).await;
        rest
    }
}

fn first_frame(buffer: &[u8]) -> Option<(Frame, usize)> {
    let (rest, frame) = parse_frame(buffer).ok()?;
    let frame = match frame {
        AMQPFrame::Method(id, method) => Frame::Method(id, method),
        AMQPFrame::Header(_, header) => Frame::Header(header),
        AMQPFrame::Body(_, bytes) => Frame::Body(bytes),
        AMQPFrame::Heartbeat => Frame::Heartbeat,
        other => panic!("a broker does not send {other:?}"),
    };
    Some((frame, buffer.len() - rest.len()))
}
