//! Exchanges and bindings: made, compared, deleted.

use amq_protocol::{
    protocol::{exchange as ex, queue as q},
    types::{FieldTable, ShortString},
};

use super::{
    At, Core,
    equivalent::same_exchange,
    exchange::{ALTERNATE, Binding, Exchange, ExchangeKind},
    method::{Answer, answer, unless},
    record::Record,
    refusal::Refusal,
    value::{Name, number, text, type_name},
};

impl Core {
    pub(super) fn declare_exchange(&mut self, at: At, method: ex::Declare) -> Answer {
        let name = self.named_exchange(at, &method.exchange)?;
        let nowait = method.nowait;
        match self.exchanges.get(&name) {
            None if method.passive => return Err(Refusal::no_exchange(&name)),
            Some(_) if method.passive => {}
            Some(current) => same_exchange(&name, current, &method)?,
            None => self.make_exchange(name, method)?,
        }
        unless(nowait, ex::DeclareOk {})
    }

    fn make_exchange(&mut self, name: Name, method: ex::Declare) -> Result<(), Refusal> {
        let kind = ExchangeKind::of(&method)?;
        let alternate = method.arguments.inner().get(ALTERNATE);
        if let Some(value) = alternate.filter(|value| text(value).is_none()) {
            let of = type_name(value);
            let why = format!("invalid type '{of}' for arg '{ALTERNATE}' in exchange {name}");
            return Err(Refusal::precondition(why));
        }
        if name.name.starts_with("amq.") {
            return Err(Refusal::reserved("exchange", &name));
        }
        let (durable, auto_delete) = (method.durable, method.auto_delete);
        let exchange = Exchange { durable, auto_delete, ..Exchange::new(kind, method.arguments) };
        if durable {
            self.log(Record::of_exchange(&name, &exchange));
        }
        self.exchanges.insert(name, exchange);
        Ok(())
    }

    pub(super) fn delete_exchange(&mut self, at: At, method: &ex::Delete) -> Answer {
        let name = self.named_exchange(at, &method.exchange)?;
        if name.name.starts_with("amq.") {
            let why = format!("deletion of system exchange {name} not allowed");
            return Err(Refusal::access_refused(why));
        }
        let used = self.exchanges.get(&name).is_some_and(|exchange| !exchange.bindings.is_empty());
        if method.if_unused && used {
            return Err(Refusal::precondition(format!("exchange {name} in use")));
        }
        self.remove_exchange(&name);
        unless(method.nowait, ex::DeleteOk {})
    }

    pub(super) fn bind_queue(&mut self, at: At, method: q::Bind) -> Answer {
        let queue = self.named_queue(at, &method.queue)?;
        let source = self.named_exchange(at, &method.exchange)?;
        let exchange = self.exchanges.get(&source).ok_or_else(|| Refusal::no_exchange(&source))?;
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
        unless(method.nowait, q::BindOk {})
    }

    pub(super) fn unbind_queue(&mut self, at: At, method: q::Unbind) -> Answer {
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

    /// Removes those bindings that are meant; an auto-delete exchange goes with its last.
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

    /// The default exchange can be published to, and nothing else.
    fn named_exchange(&self, at: At, name: &ShortString) -> Result<Name, Refusal> {
        if name.as_str().is_empty() {
            return Err(Refusal::access_refused("operation not permitted on the default exchange"));
        }
        Ok(self.name_at(at, name.as_str()))
    }
}

/// Where neither a queue nor a key is named, both are the name of the queue that was declared last.
fn binding_key(queue: &ShortString, key: &ShortString, last: &Name) -> String {
    let neither = queue.as_str().is_empty() && key.as_str().is_empty();
    if neither { last.name.clone() } else { key.to_string() }
}

fn check_headers_binding(arguments: &FieldTable) -> Result<(), Refusal> {
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
