//! Connections and channels: their state, what each method leads to, and how they end.
//! <https://www.rabbitmq.com/docs/channels>

use std::collections::BTreeMap;

use amq_protocol::{
    protocol::{AMQPClass, access, basic, channel, confirm, connection, exchange as ex, queue as q},
    types::ShortString,
};

use super::{ConnectionId, ConsumerId, Core, Out, Peer, QueueId, message::Entry, refusal::Refusal};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) channels: BTreeMap<u16, Channel>,
    /// We said close, and wait for close-ok.
    pub(super) closing: bool,
    /// Bytes on their way to it.
    pub(super) output: usize,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    /// We said close, and wait for close-ok.
    pub(super) closing: bool,
    /// `basic.qos` for new consumers, and for the whole channel.
    pub(super) prefetch: u16,
    pub(super) global_prefetch: u16,
    pub(super) confirms: bool,
    pub(super) published: u64,
    /// Publishes that were taken since the last confirm was sent: first and last.
    pub(super) taken: Option<(u64, u64)>,
    /// A confirm was dropped on purpose, so none may cover several.
    pub(super) singly: bool,
    pub(super) next_tag: u64,
    pub(super) unacked: BTreeMap<u64, Unacked>,
    pub(super) consumers: BTreeMap<String, ConsumerId>,
    /// The queue that an empty name means.
    pub(super) last_queue: String,
    /// The consumer tag and the address of direct reply-to.
    pub(super) reply: Option<(ShortString, String)>,
}

#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) queue: QueueId,
    pub(super) consumer: Option<ConsumerId>,
    /// `None` for a stream, from which nothing is taken.
    pub(super) entry: Option<Entry>,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) connection: ConnectionId,
    pub(super) channel: u16,
    pub(super) queue: QueueId,
    pub(super) tag: ShortString,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    pub(super) priority: i64,
    pub(super) prefetch: u16,
    pub(super) unacked: usize,
    /// The next offset of a stream.
    pub(super) offset: u64,
}

impl Core {
    pub(super) fn method(&mut self, id: ConnectionId, number: u16, method: AMQPClass) -> Result<(), Refusal> {
        use basic::AMQPMethod as Basic;
        if number == 0 {
            return self.connection_method(id, method);
        }
        if let AMQPClass::Channel(method) = method {
            return self.channel_method(id, number, &method);
        }
        if self.channel(id, number)?.closing {
            return Ok(());
        }
        match method {
            AMQPClass::Exchange(method) => match method {
                ex::AMQPMethod::Declare(method) => self.declare_exchange(id, number, &method),
                ex::AMQPMethod::Delete(method) => self.delete_exchange(id, number, &method),
                ex::AMQPMethod::Bind(method) => self.bind_exchange(id, number, method),
                ex::AMQPMethod::Unbind(method) => self.unbind_exchange(id, number, &method),
                _ => Err(unexpected()),
            },
            AMQPClass::Queue(method) => match method {
                q::AMQPMethod::Declare(method) => self.declare_queue(id, number, method),
                q::AMQPMethod::Delete(method) => self.delete_queue_method(id, number, &method),
                q::AMQPMethod::Bind(method) => self.bind_queue(id, number, method),
                q::AMQPMethod::Unbind(method) => self.unbind_queue(id, number, &method),
                q::AMQPMethod::Purge(method) => self.purge(id, number, &method),
                _ => Err(unexpected()),
            },
            AMQPClass::Basic(method) => match method {
                Basic::Qos(method) => self.qos(id, number, &method),
                Basic::Consume(method) => self.consume(id, number, &method),
                Basic::Cancel(method) => self.cancel(id, number, &method),
                Basic::Get(method) => self.get(id, number, &method),
                Basic::Ack(method) => self.ack(id, number, method.delivery_tag, method.multiple),
                Basic::Reject(method) => self.reject(id, number, method.delivery_tag, false, method.requeue),
                Basic::Nack(method) => {
                    self.reject(id, number, method.delivery_tag, method.multiple, method.requeue)
                }
                Basic::Recover(method) => self.recover(id, number, method.requeue, true),
                Basic::RecoverAsync(method) => self.recover(id, number, method.requeue, false),
                // A client answers our cancel, if it was not told not to.
                Basic::CancelOk(_) => Ok(()),
                _ => Err(unexpected()),
            },
            AMQPClass::Confirm(confirm::AMQPMethod::Select(method)) => {
                self.channel(id, number)?.confirms = true;
                if !method.nowait {
                    let ok = confirm::AMQPMethod::SelectOk(confirm::SelectOk {});
                    self.send(id, Out::Method(number, AMQPClass::Confirm(ok)));
                }
                Ok(())
            }
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                let ok = access::AMQPMethod::RequestOk(access::RequestOk {});
                self.send(id, Out::Method(number, AMQPClass::Access(ok)));
                Ok(())
            }
            AMQPClass::Tx(method) => {
                let name = format!("{method:?}").to_lowercase();
                let name = name.split('(').next().unwrap_or_default();
                Err(Refusal::not_implemented(format!("tx.{name}")))
            }
            _ => Err(unexpected()),
        }
    }

    fn connection_method(&mut self, id: ConnectionId, method: AMQPClass) -> Result<(), Refusal> {
        use connection::AMQPMethod as Method;
        let AMQPClass::Connection(method) = method else {
            return Err(Refusal::channel("unexpected method in connection state running"));
        };
        match method {
            Method::Close(_) => {
                self.release_connection(id);
                let ok = Method::CloseOk(connection::CloseOk {});
                self.send(id, Out::Method(0, AMQPClass::Connection(ok)));
                self.send(id, Out::Hangup);
                Ok(())
            }
            Method::UpdateSecret(_) => Err(Refusal::not_implemented("connection.update-secret")),
            _ => Err(unexpected()),
        }
    }

    fn channel_method(
        &mut self,
        id: ConnectionId,
        number: u16,
        method: &channel::AMQPMethod,
    ) -> Result<(), Refusal> {
        use channel::AMQPMethod as Method;
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let closing = connection.channels.get(&number).map(|channel| channel.closing);
        let answer = match (method, closing) {
            (Method::Open(_), None) => {
                let (open, most) = (connection.channels.len(), connection.peer.channel_max);
                if open >= usize::from(most) {
                    return Err(Refusal::not_allowed(format!(
                        "number of channels opened ({open}) has reached the negotiated channel_max ({most})"
                    )));
                }
                connection.channels.insert(number, Channel::default());
                Method::OpenOk(channel::OpenOk {})
            }
            (Method::Open(_), Some(_)) => return Err(Refusal::channel("second 'channel.open' seen")),
            (Method::CloseOk(_), Some(true)) => {
                connection.channels.remove(&number);
                return Ok(());
            }
            (Method::Close(_), Some(_)) => {
                self.release_channel(id, number);
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.channels.remove(&number);
                }
                Method::CloseOk(channel::CloseOk {})
            }
            (_, None) => return Err(Refusal::channel("expected 'channel.open'")),
            (_, Some(true)) => return Ok(()),
            (Method::Flow(flow), _) if flow.active => Method::FlowOk(channel::FlowOk { active: true }),
            (Method::Flow(_), _) => return Err(Refusal::not_implemented("active=false")),
            _ => return Err(unexpected()),
        };
        self.send(id, Out::Method(number, AMQPClass::Channel(answer)));
        Ok(())
    }

    /// Says no: closes the channel, or the connection.
    pub(super) fn refuse(&mut self, id: ConnectionId, channel: u16, refusal: &Refusal, about: (u16, u16)) {
        let (reply_code, reply_text) = (refusal.code, refusal.reply_text());
        let (class_id, method_id) = if reply_code == 541 { (0, 0) } else { about };
        if channel != 0 && !refusal.is_hard() {
            self.release_channel(id, channel);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.channels.insert(channel, Channel { closing: true, ..Channel::default() });
            }
            let close = channel::Close { reply_code, reply_text, class_id, method_id };
            self.send(id, Out::Method(channel, AMQPClass::Channel(channel::AMQPMethod::Close(close))));
        } else {
            self.release_connection(id);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.closing = true;
            }
            let close = connection::Close { reply_code, reply_text, class_id, method_id };
            self.send(id, Out::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close))));
        }
    }

    pub(super) fn release_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let channels: Vec<u16> = connection.channels.keys().copied().collect();
        for channel in channels {
            self.release_channel(id, channel);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.channels.clear();
        }
        let owned: Vec<QueueId> = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.owner == Some(id))
            .map(|(queue, _)| *queue)
            .collect();
        for queue in owned {
            self.delete_queue(queue);
        }
    }

    /// Ends a channel's consumers, and gives back what is not settled.
    fn release_channel(&mut self, id: ConnectionId, number: u16) {
        self.flush_confirms(id, number);
        let Some(channel) = self.connections.get_mut(&id).and_then(|c| c.channels.get_mut(&number)) else {
            return;
        };
        let consumers = std::mem::take(&mut channel.consumers);
        let unacked = std::mem::take(&mut channel.unacked);
        if let Some((_, address)) = channel.reply.take() {
            self.replies.remove(&address);
        }
        self.confirming.remove(&(id, number));
        for unacked in unacked.into_values() {
            self.requeue(unacked);
        }
        for consumer in consumers.into_values() {
            self.remove_consumer(consumer);
        }
    }

    pub(super) fn channel(&mut self, id: ConnectionId, number: u16) -> Result<&mut Channel, Refusal> {
        let channel =
            self.connections.get_mut(&id).and_then(|connection| connection.channels.get_mut(&number));
        channel.ok_or_else(|| Refusal::channel("expected 'channel.open'"))
    }
}

fn unexpected() -> Refusal {
    Refusal::command_invalid("unimplemented method")
}
