//! Dispatches the methods of clients, and closes channels and connections.
//! <https://www.rabbitmq.com/docs/channels>

use amq_protocol::protocol::{
    AMQPClass, basic::AMQPMethod as Basic, channel, confirm, connection, exchange::AMQPMethod as Exchange,
    queue::AMQPMethod as Queue, tx,
};

use super::{
    ChannelId, ConnectionId, Core, Outgoing, QueueId,
    client::Channel,
    error::AmqpError,
    method::{Answer, answer, answer_unless_nowait},
};

impl Core {
    pub(super) fn method(&mut self, at: ChannelId, method: AMQPClass) -> Result<(), AmqpError> {
        let answer = match method {
            method if at.channel == 0 => self.connection_method(at, &method)?,
            AMQPClass::Channel(method) => self.channel_method(at, &method)?,
            method if !self.channel(at)?.closing => self.answer_to(at, method)?,
            _ => None,
        };
        if let Some(answer) = answer {
            self.send(at.connection, Outgoing::Method(at.channel, answer));
        }
        Ok(())
    }

    fn answer_to(&mut self, at: ChannelId, method: AMQPClass) -> Answer {
        match method {
            AMQPClass::Exchange(Exchange::Declare(method)) => self.declare_exchange(at, method),
            AMQPClass::Exchange(Exchange::Delete(method)) => self.delete_exchange(at, &method),
            AMQPClass::Queue(Queue::Declare(method)) => self.declare_queue(at, method),
            AMQPClass::Queue(Queue::Delete(method)) => self.delete_queue_method(at, &method),
            AMQPClass::Queue(Queue::Bind(method)) => self.bind_queue(at, method),
            AMQPClass::Queue(Queue::Unbind(method)) => self.unbind_queue(at, method),
            AMQPClass::Queue(Queue::Purge(method)) => self.purge(at, &method),
            AMQPClass::Basic(Basic::Qos(method)) => self.qos(at, &method),
            AMQPClass::Basic(Basic::Consume(method)) => self.consume(at, &method),
            AMQPClass::Basic(Basic::Cancel(method)) => self.cancel(at, method),
            AMQPClass::Basic(Basic::Get(method)) => self.get(at, &method),
            AMQPClass::Basic(Basic::Ack(method)) => self.ack(at, method.delivery_tag, method.multiple),
            AMQPClass::Basic(Basic::Reject(method)) => self.reject(at, method.delivery_tag, method.requeue),
            AMQPClass::Basic(Basic::Nack(method)) => {
                self.nack(at, method.delivery_tag, method.multiple, method.requeue)
            }
            // Some clients answer our `basic.cancel`.
            AMQPClass::Basic(Basic::CancelOk(_)) => Ok(None),
            AMQPClass::Confirm(confirm::AMQPMethod::Select(method)) => {
                self.channel(at)?.confirms = true;
                answer_unless_nowait(method.nowait, confirm::SelectOk {})
            }
            other => Err(unsupported(&other)),
        }
    }

    fn connection_method(&mut self, at: ChannelId, method: &AMQPClass) -> Answer {
        match method {
            AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
                self.release_connection(at.connection);
                if let Some(connection) = self.connections.get_mut(&at.connection) {
                    connection.closing = true;
                }
                self.send_method(at, connection::CloseOk {});
                self.send(at.connection, Outgoing::Shutdown);
                Ok(None)
            }
            AMQPClass::Connection(_) => Err(unsupported(method)),
            _ => Err(AmqpError::channel("unexpected method in connection state running")),
        }
    }

    fn channel_method(&mut self, at: ChannelId, method: &channel::AMQPMethod) -> Answer {
        use channel::AMQPMethod as Method;
        let Some(connection) = self.connections.get_mut(&at.connection) else { return Ok(None) };
        let closing = connection.channels.get(&at.channel).map(|channel| channel.closing);
        match (method, closing) {
            (Method::Open(_), None) => {
                let (open, most) = (connection.channels.len(), connection.peer.channel_max);
                if open >= usize::from(most) {
                    return Err(AmqpError::not_allowed(format!(
                        "number of channels opened ({open}) has reached the negotiated channel_max ({most})"
                    )));
                }
                connection.channels.insert(at.channel, Channel::default());
                answer(channel::OpenOk {})
            }
            (Method::Open(_), Some(_)) => Err(AmqpError::channel("second 'channel.open' seen")),
            (Method::CloseOk(_), Some(true)) => {
                connection.channels.remove(&at.channel);
                Ok(None)
            }
            // The client has sent this before it received our close, and it answers that next.
            (Method::Close(_), Some(true)) => answer(channel::CloseOk {}),
            (Method::Close(_), Some(false)) => {
                self.release_channel(at);
                if let Some(connection) = self.connections.get_mut(&at.connection) {
                    connection.channels.remove(&at.channel);
                }
                answer(channel::CloseOk {})
            }
            (_, None) => Err(AmqpError::channel("expected 'channel.open'")),
            (_, Some(true)) => Ok(None),
            (Method::Flow(flow), _) if flow.active => answer(channel::FlowOk { active: true }),
            (Method::Flow(_), _) => Err(AmqpError::not_implemented("active=false")),
            (other, _) => Err(unsupported(&AMQPClass::Channel(other.clone()))),
        }
    }

    /// Answers an error: closes the channel or, for a hard error, the connection.
    pub(super) fn refuse(&mut self, at: ChannelId, error: &AmqpError, about: (u16, u16)) {
        let about = if error.code == 541 { (0, 0) } else { about };
        if at.channel != 0 && !error.is_hard() {
            self.release_channel(at);
            if let Ok(channel) = self.channel(at) {
                *channel = Channel { closing: true, ..Channel::default() };
            }
            self.send_method(at, error.close_of_channel(about));
        } else {
            self.release_connection(at.connection);
            if let Some(connection) = self.connections.get_mut(&at.connection) {
                connection.closing = true;
            }
            self.send_method(ChannelId { channel: 0, ..at }, error.close_of_connection(about));
        }
    }

    /// Releases a connection's channels, and deletes its exclusive queues.
    pub(super) fn release_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        for channel in connection.channels.keys().copied().collect::<Vec<_>>() {
            self.release_channel(ChannelId { connection: id, channel });
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.channels.clear();
        }
        let owned = self.queues.iter().filter(|(_, queue)| queue.owner == Some(id));
        for queue in owned.map(|(queue, _)| *queue).collect::<Vec<QueueId>>() {
            self.delete_queue(queue);
        }
    }

    /// Removes a channel's consumers, and requeues its unsettled deliveries.
    fn release_channel(&mut self, at: ChannelId) {
        self.flush_confirms(at);
        self.confirming.remove(&at);
        let Ok(channel) = self.channel(at) else { return };
        let Channel { consumers, unacked, reply, .. } = std::mem::take(channel);
        if let Some((_, address)) = reply {
            self.replies.remove(&address);
        }
        for unacked in unacked.into_values() {
            self.requeue(unacked, true);
        }
        for consumer in consumers.into_values() {
            self.remove_consumer(consumer);
        }
    }

    pub(super) fn channel(&mut self, at: ChannelId) -> Result<&mut Channel, AmqpError> {
        let connection = self.connections.get_mut(&at.connection);
        let channel = connection.and_then(|connection| connection.channels.get_mut(&at.channel));
        channel.ok_or_else(|| AmqpError::channel("expected 'channel.open'"))
    }
}

/// Returns the error for a method that this broker does not implement, or that only a server may send.
fn unsupported(method: &AMQPClass) -> AmqpError {
    let name = match method {
        AMQPClass::Exchange(Exchange::Bind(_)) => "exchange.bind",
        AMQPClass::Exchange(Exchange::Unbind(_)) => "exchange.unbind",
        AMQPClass::Basic(Basic::Recover(_)) => "basic.recover",
        AMQPClass::Basic(Basic::RecoverAsync(_)) => "basic.recover-async",
        AMQPClass::Connection(connection::AMQPMethod::UpdateSecret(_)) => "connection.update-secret",
        AMQPClass::Access(_) => "access.request",
        AMQPClass::Tx(tx::AMQPMethod::Select(_)) => "tx.select",
        AMQPClass::Tx(tx::AMQPMethod::Commit(_)) => "tx.commit",
        AMQPClass::Tx(tx::AMQPMethod::Rollback(_)) => "tx.rollback",
        _ => return AmqpError::command_invalid("unimplemented method"),
    };
    AmqpError::not_implemented(name)
}
