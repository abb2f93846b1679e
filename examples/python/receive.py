"""`receive` in Python. pip install pika, then: python examples/python/receive.py [amqp://HOST:PORT/VHOST]"""
import os, signal, sys, pika

port = 5672 + int(os.environ.get("HOPS_PORT_BASE", 0))
url = sys.argv[1] if len(sys.argv) > 1 else f"amqp://127.0.0.1:{port}/%2F"
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.queue_declare("hello", durable=True, arguments={"x-queue-type": "quorum"})
channel.basic_qos(prefetch_count=1)
# Ctrl-C between two messages, and not in the middle of one.
signal.signal(signal.SIGINT, lambda *_: connection.add_callback_threadsafe(channel.cancel))
print("waiting for messages; Ctrl-C stops it", flush=True)

for method, properties, body in channel.consume("hello"):
    print("received", body.decode(), flush=True)
    channel.basic_ack(method.delivery_tag)
connection.close()
