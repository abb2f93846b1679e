//! Features that are not implemented.

use super::*;

#[test]
fn what_this_broker_does_not_do_is_refused_by_its_name() {
    let copies = |name: &str| {
        let keys = AMQPValue::FieldArray(vec![word("other")].into());
        plain().with_headers(table(&[(name, keys)]))
    };
    for (properties, name) in [(copies("CC"), "the header CC"), (copies("BCC"), "the header BCC")] {
        let mut bench = Bench::new();
        assert_eq!(bench.publish("q", "", properties), [format!("hang up 540 NOT_IMPLEMENTED - {name}")]);
    }
    for (arguments, name) in [
        (vec![("x-max-length", count(1))], "x-max-length without x-overflow=reject-publish"),
        (vec![("x-max-length-bytes", count(1))], "x-max-length-bytes"),
        (vec![("x-overflow", word("drop-head"))], "x-overflow other than reject-publish"),
        (vec![("x-queue-type", word("stream")), ("x-max-age", word("1D"))], "x-max-age"),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.queue("q", &arguments), [format!("hang up 540 NOT_IMPLEMENTED - {name}")]);
    }
    let bind = ex::AMQPMethod::Bind(ex::Bind::default());
    for (method, name) in [
        (AMQPClass::Exchange(bind), "exchange.bind"),
        (AMQPClass::Basic(Basic::Recover(basic::Recover { requeue: true })), "basic.recover"),
        (
            AMQPClass::Basic(Basic::Qos(basic::Qos { prefetch_count: 1, global: true })),
            "basic.qos with global=true",
        ),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.method(method), [format!("hang up 540 NOT_IMPLEMENTED - {name}")]);
    }
}
