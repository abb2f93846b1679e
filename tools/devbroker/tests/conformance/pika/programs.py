"""The typical programs of RabbitMQ's tutorials, as somebody writes them who has never heard of this project.

usage: programs.py URL PROGRAM

Each ends with exit code 0 if what it says is true of the broker at URL, a virtual host of its own.
A consumer is a thread with a connection of its own; no wait is longer than LIMIT seconds.
"""

import json
import queue
import sys
import threading
import uuid

import pika
import pika.exceptions

LIMIT = 20


class Broker:
    def __init__(self, url):
        self.parameters = pika.URLParameters(url)
        self.parameters.blocked_connection_timeout = LIMIT
        self.parameters.socket_timeout = LIMIT

    def connection(self):
        return pika.BlockingConnection(self.parameters)


class Consumer(threading.Thread):
    """Calls `setup(channel, got)` in a thread and consumes until it is stopped; `got` takes what a callback puts in."""

    def __init__(self, broker, setup):
        super().__init__(daemon=True)
        self.broker, self.setup = broker, setup
        self.got, self.ready = queue.Queue(), threading.Event()
        self.start()
        assert self.ready.wait(LIMIT), "the consumer is not ready"

    def run(self):
        self.connection = self.broker.connection()
        self.channel = self.connection.channel()
        self.setup(self.channel, self.got)
        self.ready.set()
        self.channel.start_consuming()
        self.connection.close()

    def take(self, count):
        return [self.got.get(timeout=LIMIT) for _ in range(count)]

    def stop(self):
        self.connection.add_callback_threadsafe(self.channel.stop_consuming)
        self.join(LIMIT)
        assert not self.is_alive(), "the consumer does not stop"


def same(found, expected):
    assert found == expected, f"{found!r} instead of {expected!r}"


def hello(broker):
    """Sends one message and receives it."""
    with broker.connection() as connection:
        channel = connection.channel()
        channel.queue_declare(queue="hello")
        channel.basic_publish(exchange="", routing_key="hello", body="Hello World!")

    def setup(channel, got):
        channel.queue_declare(queue="hello")
        channel.basic_consume("hello", lambda ch, method, properties, body: got.put(body), auto_ack=True)

    consumer = Consumer(broker, setup)
    same(consumer.take(1), [b"Hello World!"])
    consumer.stop()


def work_queue(broker):
    """Durable tasks, two workers that take one at a time, and a third that dies with its task in hand."""
    with broker.connection() as connection:
        channel = connection.channel()
        channel.queue_declare(queue="tasks", durable=True)
        for task in range(10):
            channel.basic_publish(
                exchange="",
                routing_key="tasks",
                body=json.dumps({"task": task}),
                properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent),
            )

    doomed = broker.connection()
    method, _, body = doomed.channel().basic_get("tasks")
    same((json.loads(body), method.redelivered, method.message_count), ({"task": 0}, False, 9))
    doomed.close()

    def setup(channel, got):
        def on_task(ch, method, properties, body):
            assert properties.delivery_mode == 2
            got.put((json.loads(body)["task"], method.redelivered))
            ch.basic_ack(delivery_tag=method.delivery_tag)

        channel.queue_declare(queue="tasks", durable=True)
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("tasks", on_task)

    workers = [Consumer(broker, setup) for _ in range(2)]
    done = []
    while len(done) < 10:
        for worker in workers:
            try:
                done.append(worker.got.get(timeout=0.05))
            except queue.Empty:
                pass
    same(sorted(done), [(0, True)] + [(task, False) for task in range(1, 10)])
    for worker in workers:
        worker.stop()
    with broker.connection() as connection:
        same(connection.channel().queue_declare("tasks", passive=True).method.message_count, 0)


def subscriber(exchange, kind, keys):
    """A queue of its own for everybody who listens to an exchange."""

    def setup(channel, got):
        channel.exchange_declare(exchange=exchange, exchange_type=kind)
        name = channel.queue_declare(queue="", exclusive=True).method.queue
        for key in keys:
            channel.queue_bind(exchange=exchange, queue=name, routing_key=key)
        channel.basic_consume(
            name, lambda ch, method, properties, body: got.put((method.routing_key, body.decode())), auto_ack=True
        )

    return setup


def publish_all(broker, exchange, kind, messages):
    with broker.connection() as connection:
        channel = connection.channel()
        channel.exchange_declare(exchange=exchange, exchange_type=kind)
        for key, body in messages:
            channel.basic_publish(exchange=exchange, routing_key=key, body=body)


def logs_fanout(broker):
    """Everybody gets every line."""
    listeners = [Consumer(broker, subscriber("logs", "fanout", [""])) for _ in range(2)]
    publish_all(broker, "logs", "fanout", [("", "one"), ("", "two")])
    for listener in listeners:
        same(listener.take(2), [("", "one"), ("", "two")])
        listener.stop()


def logs_direct(broker):
    """Some want all, some only errors."""
    errors = Consumer(broker, subscriber("direct_logs", "direct", ["error"]))
    everything = Consumer(broker, subscriber("direct_logs", "direct", ["info", "warning", "error"]))
    lines = [("info", "a"), ("error", "b"), ("warning", "c"), ("error", "d")]
    publish_all(broker, "direct_logs", "direct", lines)
    same(errors.take(2), [("error", "b"), ("error", "d")])
    same(everything.take(4), lines)
    errors.stop()
    everything.stop()


def logs_topic(broker):
    """By facility and severity."""
    kernel = Consumer(broker, subscriber("topic_logs", "topic", ["kern.*"]))
    critical = Consumer(broker, subscriber("topic_logs", "topic", ["*.critical", "kern.#"]))
    publish_all(
        broker,
        "topic_logs",
        "topic",
        [("kern.critical", "a"), ("cron.critical", "b"), ("kern.info", "c"), ("cron.info", "d"), ("kern", "e")],
    )
    same(kernel.take(2), [("kern.critical", "a"), ("kern.info", "c")])
    same(critical.take(4), [("kern.critical", "a"), ("cron.critical", "b"), ("kern.info", "c"), ("kern", "e")])
    kernel.stop()
    critical.stop()


def rpc(broker):
    """A call over a queue: a reply queue of one's own, and a correlation id."""

    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    def setup(channel, got):
        def on_request(ch, method, properties, body):
            ch.basic_publish(
                exchange="",
                routing_key=properties.reply_to,
                properties=pika.BasicProperties(correlation_id=properties.correlation_id),
                body=str(fibonacci(int(body))),
            )
            ch.basic_ack(delivery_tag=method.delivery_tag)

        channel.queue_declare(queue="rpc_queue")
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("rpc_queue", on_request)

    server = Consumer(broker, setup)
    with broker.connection() as connection:
        channel = connection.channel()
        replies = {}
        callback_queue = channel.queue_declare(queue="", exclusive=True).method.queue
        channel.basic_consume(
            callback_queue,
            lambda ch, method, properties, body: replies.__setitem__(properties.correlation_id, int(body)),
            auto_ack=True,
        )
        for n, expected in [(10, 55), (15, 610)]:
            correlation_id = str(uuid.uuid4())
            channel.basic_publish(
                exchange="",
                routing_key="rpc_queue",
                properties=pika.BasicProperties(reply_to=callback_queue, correlation_id=correlation_id),
                body=str(n),
            )
            connection.process_data_events(time_limit=None)
            same(replies, {correlation_id: expected})
            replies.clear()
    server.stop()


def direct_reply_to(broker):
    """The same without a queue for the replies."""
    with broker.connection() as connection:
        channel = connection.channel()
        channel.queue_declare(queue="service", exclusive=True)
        replies = []
        channel.basic_consume(
            "amq.rabbitmq.reply-to", lambda ch, method, properties, body: replies.append(body), auto_ack=True
        )
        channel.basic_publish("", "service", b"ping", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
        server = connection.channel()
        _, properties, body = server.basic_get("service", auto_ack=True)
        server.basic_publish("", properties.reply_to, body + b" pong")
        while not replies:
            connection.process_data_events(time_limit=1)
        same(replies, [b"ping pong"])


def confirms(broker):
    """Confirmed, returned and refused."""
    with broker.connection() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        full = {"x-max-length": 1, "x-overflow": "reject-publish", "x-queue-type": "classic"}
        channel.queue_declare("full", durable=True, arguments=full)
        channel.basic_publish("", "full", b"fits", mandatory=True)
        try:
            channel.basic_publish("", "full", b"does not", mandatory=True)
            raise AssertionError("a full queue took it")
        except pika.exceptions.NackError:
            pass
        try:
            channel.basic_publish("", "nowhere", b"body", pika.BasicProperties(message_id="mine"), mandatory=True)
            raise AssertionError("nowhere took it")
        except pika.exceptions.UnroutableError as error:
            returned = error.messages[0]
            same((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
            same((returned.properties.message_id, returned.body), ("mine", b"body"))
        channel.basic_publish("", "nowhere", b"nobody minds", mandatory=False)


def errors(broker):
    """What a mistake looks like."""
    with broker.connection() as connection:
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        try:
            channel.queue_declare("q", durable=False)
            raise AssertionError("it was declared otherwise")
        except pika.exceptions.ChannelClosedByBroker as error:
            same(error.reply_code, 406)
            assert error.reply_text.startswith("PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q'"), error
        channel = connection.channel()
        channel.basic_publish("nowhere", "key", b"")
        try:
            channel.queue_declare("q", durable=True)
            raise AssertionError("an exchange that is not there took it")
        except pika.exceptions.ChannelClosedByBroker as error:
            same((error.reply_code, error.reply_text.split(" in ")[0]), (404, "NOT_FOUND - no exchange 'nowhere'"))
    wrong = pika.URLParameters("amqp://guest:wrong@host/")
    parameters = pika.ConnectionParameters(
        host=broker.parameters.host,
        port=broker.parameters.port,
        virtual_host=broker.parameters.virtual_host,
        credentials=wrong.credentials,
    )
    try:
        pika.BlockingConnection(parameters)
        raise AssertionError("a wrong password opened it")
    except pika.exceptions.ProbableAuthenticationError as error:
        assert "ACCESS_REFUSED" in str(error), error


def stream(broker):
    """A log that is read twice."""
    with broker.connection() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("stream", durable=True, arguments={"x-queue-type": "stream"})
        for n in range(5):
            channel.basic_publish("", "stream", str(n))
        for start, expected in [("first", ["0", "1", "2", "3", "4"]), (3, ["3", "4"])]:
            reader = connection.channel()
            reader.basic_qos(prefetch_count=10)
            read = []
            for method, properties, body in reader.consume(
                "stream", arguments={"x-stream-offset": start}, inactivity_timeout=LIMIT
            ):
                assert body is not None, f"only {read}"
                assert properties.headers["x-stream-offset"] == int(body), properties
                read.append(body.decode())
                reader.basic_ack(method.delivery_tag)
                if len(read) == len(expected):
                    break
            reader.cancel()
            same(read, expected)


PROGRAMS = {
    program.__name__: program
    for program in [
        hello,
        work_queue,
        logs_fanout,
        logs_direct,
        logs_topic,
        rpc,
        direct_reply_to,
        confirms,
        errors,
        stream,
    ]
}

if __name__ == "__main__":
    if len(sys.argv) == 1:
        print("\n".join(PROGRAMS))
    else:
        PROGRAMS[sys.argv[2]](Broker(sys.argv[1]))
