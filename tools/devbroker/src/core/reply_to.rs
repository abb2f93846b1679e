//! Direct reply-to: a reply goes to the channel that asked, past all queues.
//! <https://www.rabbitmq.com/docs/direct-reply-to>

use std::sync::Arc;

use amq_protocol::{
    protocol::{AMQPClass, basic},
    types::ShortString,
};

use super::{
    ConnectionId, Core, Extra, Out,
    message::{Message, short},
    refusal::Refusal,
};

/// The pseudo-queue of replies.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

type Done = Result<(), Refusal>;

impl Core {
    pub(super) fn consume_replies(
        &mut self,
        id: ConnectionId,
        number: u16,
        tag: ShortString,
        method: &basic::Consume,
    ) -> Done {
        if !method.no_ack {
            return Err(Refusal::precondition("reply consumer cannot acknowledge"));
        }
        if self.channel(id, number)?.reply.is_some() {
            return Err(Refusal::precondition("reply consumer already set"));
        }
        let address = self.name(&format!("{REPLY_TO}."));
        self.channel(id, number)?.reply = Some((tag.clone(), address.clone()));
        self.replies.insert(address, (id, number));
        let ok = basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: tag });
        self.answer(id, number, method.nowait, AMQPClass::Basic(ok));
        Ok(())
    }

    /// Direct reply-to: the address in the message is that of this channel's consumer.
    /// <https://www.rabbitmq.com/docs/direct-reply-to>
    pub(super) fn set_reply_address(
        &mut self,
        id: ConnectionId,
        channel: u16,
        message: &mut Message,
    ) -> Result<(), Refusal> {
        if message.properties.reply_to().as_ref().is_some_and(|to| to.as_str() == REPLY_TO) {
            let reply = self.channel(id, channel)?.reply.as_ref();
            let (_, address) =
                reply.ok_or_else(|| Refusal::precondition("fast reply consumer does not exist"))?;
            message.properties = message.properties.clone().with_reply_to(short(address));
        }
        Ok(())
    }

    /// A reply goes to the waiting channel, past all queues. RabbitMQ 4.0 calls it unroutable all the same.
    pub(super) fn reply(&mut self, message: &Arc<Message>) {
        let key = message.routing_key();
        let Some((id, number)) = self.replies.get(key.as_str()).copied() else { return };
        let Ok(channel) = self.channel(id, number) else { return };
        let Some((consumer_tag, _)) = channel.reply.clone() else { return };
        channel.next_tag += 1;
        let deliver = basic::Deliver {
            consumer_tag,
            delivery_tag: channel.next_tag,
            redelivered: false,
            exchange: message.exchange.clone(),
            routing_key: key.clone(),
        };
        let deliver = AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver));
        self.send(id, Out::Content(number, deliver, Arc::clone(message), Extra::None));
    }
}
