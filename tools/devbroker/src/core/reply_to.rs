//! Direct reply-to: a reply goes to the channel that asked, past all queues.
//! <https://www.rabbitmq.com/docs/direct-reply-to>

use std::sync::Arc;

use amq_protocol::{protocol::basic, types::ShortString};

use super::{
    At, Core, Extra, Out,
    deliver::deliver_method,
    message::Message,
    method::{Answer, unless},
    refusal::Refusal,
    value::short,
};

/// The pseudo-queue of replies.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

impl Core {
    pub(super) fn consume_replies(&mut self, at: At, tag: ShortString, method: &basic::Consume) -> Answer {
        if !method.no_ack {
            return Err(Refusal::precondition("reply consumer cannot acknowledge"));
        }
        if self.channel(at)?.reply.is_some() {
            return Err(Refusal::precondition("reply consumer already set"));
        }
        let address = self.given_name(&format!("{REPLY_TO}."));
        self.channel(at)?.reply = Some((tag.clone(), address.clone()));
        self.replies.insert(address, at);
        unless(method.nowait, basic::ConsumeOk { consumer_tag: tag })
    }

    /// The address in a request is that of this channel's consumer.
    pub(super) fn set_reply_address(&mut self, at: At, message: &mut Message) -> Result<(), Refusal> {
        if message.properties.reply_to().as_ref().is_some_and(|to| to.as_str() == REPLY_TO) {
            let reply = self.channel(at)?.reply.as_ref();
            let (_, address) =
                reply.ok_or_else(|| Refusal::precondition("fast reply consumer does not exist"))?;
            message.properties = message.properties.clone().with_reply_to(short(address));
        }
        Ok(())
    }

    /// Hands a reply to the channel that waits for it, if it is one. RabbitMQ 4.0 calls it unroutable all the same.
    pub(super) fn reply(&mut self, message: &Arc<Message>) {
        if !message.exchange.as_str().is_empty() {
            return;
        }
        let Some(at) = self.replies.get(message.routing_key.as_str()).copied() else { return };
        let Ok(channel) = self.channel(at) else { return };
        let Some((tag, _)) = channel.reply.clone() else { return };
        channel.last_tag += 1;
        let deliver = deliver_method(tag, channel.last_tag, false, message);
        self.send(at.connection, Out::Content(at.channel, deliver, Arc::clone(message), Extra::None));
    }
}
