//! Declares and deletes exchanges and bindings.

use amq_protocol::{
    protocol::{exchange as ex, queue as q},
    types::{FieldTable, ShortString},
};

use super::{
    ChannelId, Core,
    equivalent::check_same_exchange,
    error::AmqpError,
    exchange::{ALTERNATE, Binding, Exchange, ExchangeKind},
    method::{Answer, answer, answer_unless_nowait},
    record::Record,
    value::{Name, number, text, type_name},
};

impl Core {
    pub(super) fn declare_exchange(&mut self, at: ChannelId, method: ex::Declare) -> Answer {
        let name = self.named_exchange(at, &method.exchange)?;
        let nowait = method.nowait;
        match self.exchanges.get(&name) {
            None if method.passive => return Err(AmqpError::no_exchange(&name)),
            Some(_) if method.passive => {}
            Some(current) => check_same_exchange(&name, current, &method)?,
            None => self.make_exchange(name, method)?,
        }
        answer_unless_nowait(nowait, ex::DeclareOk {})
    }

    fn make_exchange(&mut self, name: Name, method: ex::Declare) -> Result<(), AmqpError> {
        if method.internal {
            return Err(AmqpError::not_implemented("internal=true"));
        }
        let kind = ExchangeKind::of(&method)?;
        let alternate = method.arguments.inner().get(ALTERNATE);
        if let Some(value) = alternate.filter(|value| text(value).is_none()) {
            let of = type_name(value);
            let why = format!("invalid type '{of}' for arg '{ALTERNATE}' in exchange {name}");
            return Err(AmqpError::precondition(why));
        }
        if name.name.starts_with("amq.") {
            return Err(AmqpError::reserved("exchange", &name));
        }
        let (durable, auto_delete) = (method.durable, method.auto_delete);
        let exchange = Exchange { durable, auto_delete, ..Exchange::new(kind, method.arguments) };
        if durable {
            self.log(Record::of_exchange(&name, &exchange));
        }
        self.exchanges.insert(name, exchange);
        Ok(())
    }

    pub(super) fn delete_exchange(&mut self, at: ChannelId, method: &ex::Delete) -> Answer {
        let name = self.named_exchange(at, &method.exchange)?;
        if name.name.starts_with("amq.") {
            let why = format!("deletion of system exchange {name} not allowed");
            return Err(AmqpError::access_refused(why));
        }
        let used = self.exchanges.get(&name).is_some_and(|exchange| !exchange.bindings.is_empty());
        if method.if_unused && used {
            return Err(AmqpError::precondition(format!("exchange {name} in use")));
        }
        self.remove_exchange(&name);
        answer_unless_nowait(method.nowait, ex::DeleteOk {})
    }

    pub(super) fn bind_queue(&mut self, at: ChannelId, method: q::Bind) -> Answer {
        let queue = self.named_queue(at, &method.queue)?;
        let source = self.named_exchange(at, &method.exchange)?;
        let exchange = self.exchanges.get(&source).ok_or_else(|| AmqpError::no_exchange(&source))?;
        if exchange.kind == ExchangeKind::Headers {
            check_headers_binding(&method.arguments)?;
        }
        let persisted = exchange.durable && self.queues[&self.queue(at, &queue)?].is_persisted();
        let key = binding_key(&method.queue, &method.routing_key, &queue);
        let binding = Binding { queue, key, arguments: method.arguments };
        if let Some(exchange) = self.exchanges.get_mut(&source)
            && !exchange.bindings.contains(&binding)
        {
            exchange.bindings.push(binding.clone());
            if persisted {
                self.log(Record::Bound { source, binding });
            }
        }
        answer_unless_nowait(method.nowait, q::BindOk {})
    }

    pub(super) fn unbind_queue(&mut self, at: ChannelId, method: q::Unbind) -> Answer {
        let queue = self.named_queue(at, &method.queue)?;
        let source = self.named_exchange(at, &method.exchange)?;
        let key = binding_key(&method.queue, &method.routing_key, &queue);
        let binding = Binding { queue, key, arguments: method.arguments };
        if self.exchanges.get(&source).is_some_and(|exchange| exchange.bindings.contains(&binding)) {
            self.log(Record::Unbound { source: source.clone(), binding: binding.clone() });
            self.remove_bindings(|name, other| *name == source && *other == binding);
        }
        answer(q::UnbindOk {})
    }

    /// Removes the bindings for which `is_meant` is true, and an auto-delete exchange with its last binding.
    pub(super) fn remove_bindings(&mut self, is_meant: impl Fn(&Name, &Binding) -> bool) {
        let mut unused = vec![];
        for (name, exchange) in &mut self.exchanges {
            let before = exchange.bindings.len();
            exchange.bindings.retain(|binding| !is_meant(name, binding));
            if exchange.bindings.len() < before && exchange.bindings.is_empty() && exchange.auto_delete {
                unused.push(name.clone());
            }
        }
        unused.iter().for_each(|name| self.remove_exchange(name));
    }

    pub(super) fn remove_exchange(&mut self, name: &Name) {
        if self.exchanges.remove(name).is_some_and(|exchange| exchange.durable) {
            self.log(Record::ExchangeDeleted { name: name.clone() });
        }
    }

    /// Returns the name of an exchange. The default exchange is refused, since it can only be published to.
    fn named_exchange(&self, at: ChannelId, name: &ShortString) -> Result<Name, AmqpError> {
        if name.as_str().is_empty() {
            return Err(AmqpError::access_refused("operation not permitted on the default exchange"));
        }
        Ok(self.name_at(at, name.as_str()))
    }
}

/// Returns the key of a binding. Without a queue and a key, it is the name of the queue that was declared last.
fn binding_key(queue: &ShortString, key: &ShortString, last: &Name) -> String {
    let neither = queue.as_str().is_empty() && key.as_str().is_empty();
    if neither { last.name.clone() } else { key.to_string() }
}

fn check_headers_binding(arguments: &FieldTable) -> Result<(), AmqpError> {
    let Some(mode) = arguments.inner().get("x-match") else { return Ok(()) };
    match text(mode).as_deref() {
        Some("all" | "any" | "all-with-x" | "any-with-x") => Ok(()),
        Some(other) => Err(AmqpError::precondition(format!(
            "Invalid x-match field value <<\"{other}\">>; expected all, any, all-with-x, or any-with-x"
        ))),
        None => Err(AmqpError::precondition(format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            type_name(mode),
            number(mode).unwrap_or_default()
        ))),
    }
}
