//! Exchanges and bindings: made, compared, deleted.

use amq_protocol::{
    protocol::{AMQPClass, exchange as ex, queue as q},
    types::{FieldTable, ShortString},
};

use super::{
    ConnectionId, Core,
    arguments::{inequivalent, same},
    declare::reserved,
    exchange::{Binding, Destination, Exchange, ExchangeKind},
    message::{number, text, type_name},
    record::Record,
    refusal::Refusal,
};

type Done = Result<(), Refusal>;

impl Core {
    pub(super) fn declare_exchange(&mut self, id: ConnectionId, channel: u16, method: &ex::Declare) -> Done {
        let vhost = self.vhost_of(id);
        let name = method.exchange.as_str();
        not_default(name)?;
        let current = self.vhost(&vhost).exchanges.get(name);
        match current {
            None if method.passive => return Err(Refusal::no_exchange(name, &vhost)),
            Some(_) if method.passive => {}
            Some(current) => {
                let differs = |arg, received: &str, current: &str| {
                    let (received, current) = (format!("'{received}'"), format!("'{current}'"));
                    Err(inequivalent(arg, "exchange", name, &vhost, &received, &current))
                };
                if exchange_kind(&method.kind)? != current.kind {
                    return differs("type", method.kind.as_str(), current.kind.name());
                }
                for (arg, received, current) in [
                    ("durable", method.durable, current.durable),
                    ("auto_delete", method.auto_delete, current.auto_delete),
                    ("internal", method.internal, current.internal),
                ] {
                    if received != current {
                        return differs(arg, &received.to_string(), &current.to_string());
                    }
                }
                let arg = "alternate-exchange";
                let (mine, theirs) = (current.arguments.inner().get(arg), method.arguments.inner().get(arg));
                same(arg, mine, theirs, "exchange", name, &vhost)?;
            }
            None => {
                let kind = exchange_kind(&method.kind)?;
                if let Some(value) = method.arguments.inner().get("alternate-exchange")
                    && text(value).is_none()
                {
                    return Err(Refusal::precondition(format!(
                        "invalid type '{}' for arg 'alternate-exchange' in exchange '{name}' in vhost '{vhost}'",
                        type_name(value)
                    )));
                }
                if name.starts_with("amq.") {
                    return Err(reserved("exchange", name));
                }
                if self.vhost(&vhost).exchanges.len() >= self.limits.queues {
                    return Err(Refusal::resource("too many exchanges"));
                }
                let exchange = Exchange {
                    kind,
                    durable: method.durable,
                    auto_delete: method.auto_delete,
                    internal: method.internal,
                    arguments: method.arguments.clone(),
                    bindings: vec![],
                };
                if exchange.durable {
                    self.output.records.push(Record::exchange(&vhost, name, &exchange));
                }
                self.vhost(&vhost).exchanges.insert(name.into(), exchange);
            }
        }
        let ok = ex::AMQPMethod::DeclareOk(ex::DeclareOk {});
        self.answer(id, channel, method.nowait, AMQPClass::Exchange(ok));
        Ok(())
    }

    pub(super) fn delete_exchange(&mut self, id: ConnectionId, channel: u16, method: &ex::Delete) -> Done {
        let vhost = self.vhost_of(id);
        let name = method.exchange.as_str();
        not_default(name)?;
        if name.starts_with("amq.") {
            let why = format!("deletion of system exchange '{name}' in vhost '{vhost}' not allowed");
            return Err(Refusal::access_refused(why));
        }
        if let Some(exchange) = self.vhost(&vhost).exchanges.get(name) {
            if method.if_unused && !exchange.bindings.is_empty() {
                return Err(Refusal::precondition(format!("exchange '{name}' in vhost '{vhost}' in use")));
            }
            self.remove_exchange(&vhost, name);
        }
        let ok = ex::AMQPMethod::DeleteOk(ex::DeleteOk {});
        self.answer(id, channel, method.nowait, AMQPClass::Exchange(ok));
        Ok(())
    }

    pub(super) fn bind_exchange(&mut self, id: ConnectionId, channel: u16, method: ex::Bind) -> Done {
        let vhost = self.vhost_of(id);
        not_default(method.source.as_str())?;
        not_default(method.destination.as_str())?;
        if !self.vhost(&vhost).exchanges.contains_key(method.destination.as_str()) {
            return Err(Refusal::no_exchange(method.destination.as_str(), &vhost));
        }
        let to = Destination::Exchange(method.destination.into());
        let binding = Binding { to, key: method.routing_key.into(), arguments: method.arguments };
        self.bind(&vhost, method.source.as_str(), binding)?;
        let ok = ex::AMQPMethod::BindOk(ex::BindOk {});
        self.answer(id, channel, method.nowait, AMQPClass::Exchange(ok));
        Ok(())
    }

    pub(super) fn unbind_exchange(&mut self, id: ConnectionId, channel: u16, method: &ex::Unbind) -> Done {
        let vhost = self.vhost_of(id);
        not_default(method.source.as_str())?;
        let to = Destination::Exchange(method.destination.to_string());
        let binding =
            Binding { to, key: method.routing_key.to_string(), arguments: method.arguments.clone() };
        self.unbind(&vhost, method.source.as_str(), &binding);
        let ok = ex::AMQPMethod::UnbindOk(ex::UnbindOk {});
        self.answer(id, channel, method.nowait, AMQPClass::Exchange(ok));
        Ok(())
    }

    pub(super) fn bind_queue(&mut self, id: ConnectionId, channel: u16, method: q::Bind) -> Done {
        let vhost = self.vhost_of(id);
        let name = self.queue_name(id, channel, &method.queue)?;
        not_default(method.exchange.as_str())?;
        if !self.vhost(&vhost).exchanges.contains_key(method.exchange.as_str()) {
            return Err(Refusal::no_exchange(method.exchange.as_str(), &vhost));
        }
        self.queue(id, &vhost, &name)?;
        let key = binding_key(&method.queue, &method.routing_key, &name);
        let binding = Binding { to: Destination::Queue(name), key, arguments: method.arguments };
        self.bind(&vhost, method.exchange.as_str(), binding)?;
        self.answer(id, channel, method.nowait, AMQPClass::Queue(q::AMQPMethod::BindOk(q::BindOk {})));
        Ok(())
    }

    pub(super) fn unbind_queue(&mut self, id: ConnectionId, channel: u16, method: &q::Unbind) -> Done {
        let vhost = self.vhost_of(id);
        let name = self.queue_name(id, channel, &method.queue)?;
        not_default(method.exchange.as_str())?;
        let key = binding_key(&method.queue, &method.routing_key, &name);
        let binding = Binding { to: Destination::Queue(name), key, arguments: method.arguments.clone() };
        self.unbind(&vhost, method.exchange.as_str(), &binding);
        self.answer(id, channel, false, AMQPClass::Queue(q::AMQPMethod::UnbindOk(q::UnbindOk {})));
        Ok(())
    }

    fn bind(&mut self, vhost: &str, source: &str, binding: Binding) -> Done {
        let limit = self.limits.bindings;
        let exchanges = &self.vhost(vhost).exchanges;
        let Some(exchange) = exchanges.get(source) else { return Err(Refusal::no_exchange(source, vhost)) };
        if exchange.kind == ExchangeKind::Headers {
            check_headers_binding(&binding.arguments)?;
        }
        if exchange.bindings.contains(&binding) {
            return Ok(());
        }
        if exchange.bindings.len() >= limit {
            return Err(Refusal::resource(format!("too many bindings of exchange '{source}'")));
        }
        let durable = match &binding.to {
            Destination::Exchange(name) => exchanges.get(name).is_some_and(|to| to.durable),
            Destination::Queue(name) => {
                let queue = self.vhosts[vhost].queues.get(name).and_then(|id| self.queues.get(id));
                queue.is_some_and(|queue| queue.durable && queue.owner.is_none())
            }
        };
        let Some(exchange) = self.vhost(vhost).exchanges.get_mut(source) else { return Ok(()) };
        let durable = durable && exchange.durable;
        exchange.bindings.push(binding.clone());
        if durable {
            self.output.records.push(Record::Bound { vhost: vhost.into(), source: source.into(), binding });
        }
        Ok(())
    }

    fn unbind(&mut self, vhost: &str, source: &str, binding: &Binding) {
        let Some(exchange) = self.vhost(vhost).exchanges.get_mut(source) else { return };
        let before = exchange.bindings.len();
        exchange.bindings.retain(|other| other != binding);
        if exchange.bindings.len() == before {
            return;
        }
        let unused = exchange.auto_delete && exchange.bindings.is_empty();
        let (vhost, source) = (vhost.to_owned(), source.to_owned());
        let binding = binding.clone();
        self.output.records.push(Record::Unbound { vhost: vhost.clone(), source: source.clone(), binding });
        if unused {
            self.remove_exchange(&vhost, &source);
        }
    }

    pub(super) fn unbind_all(&mut self, vhost: &str, to: &Destination) {
        let exchanges = &mut self.vhost(vhost).exchanges;
        let mut unused = vec![];
        for (name, exchange) in exchanges {
            let before = exchange.bindings.len();
            exchange.bindings.retain(|binding| binding.to != *to);
            if exchange.bindings.len() < before && exchange.bindings.is_empty() && exchange.auto_delete {
                unused.push(name.clone());
            }
        }
        for name in unused {
            self.remove_exchange(vhost, &name);
        }
    }

    pub(super) fn remove_exchange(&mut self, vhost: &str, name: &str) {
        let Some(exchange) = self.vhost(vhost).exchanges.remove(name) else { return };
        if exchange.durable {
            self.output.records.push(Record::ExchangeDeleted { vhost: vhost.into(), name: name.into() });
        }
        self.unbind_all(vhost, &Destination::Exchange(name.into()));
    }
}

/// Where neither a queue nor a key is named, both are the name of the queue that was declared last.
fn binding_key(queue: &ShortString, key: &ShortString, last: &str) -> String {
    let neither = queue.as_str().is_empty() && key.as_str().is_empty();
    if neither { last.to_owned() } else { key.to_string() }
}

fn not_default(exchange: &str) -> Done {
    if exchange.is_empty() {
        return Err(Refusal::access_refused("operation not permitted on the default exchange"));
    }
    Ok(())
}

fn exchange_kind(name: &ShortString) -> Result<ExchangeKind, Refusal> {
    let kind = ExchangeKind::parse(name.as_str());
    let how = if name.as_str().is_empty() { "invalid" } else { "unknown" };
    kind.ok_or_else(|| Refusal::precondition(format!("{how} exchange type '{name}'")))
}

fn check_headers_binding(arguments: &FieldTable) -> Done {
    let Some(mode) = arguments.inner().get("x-match") else { return Ok(()) };
    match text(mode).as_deref() {
        Some("all" | "any" | "all-with-x" | "any-with-x") => Ok(()),
        Some(other) => Err(Refusal::precondition(format!(
            "Invalid x-match field value <<\"{other}\">>; expected all, any, all-with-x, or any-with-x"
        ))),
        None => Err(Refusal::precondition(format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            type_name(mode),
            number(mode).unwrap_or_default()
        ))),
    }
}
