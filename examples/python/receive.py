"""`receive` in Python. pip install pika, then: python examples/python/receive.py [amqp://HOST:PORT/VHOST]"""
import signal, sys, pika

url = sys.argv[1] if len(sys.argv) > 1 else "amqp://127.0.0.1:5672/%2F"
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.queue_declare("hello", durable=True, arguments={"x-queue-type": "quorum"})
channel.basic_qos(prefetch_count=1)

def received(channel, method, properties, body):
    print("received", body.decode(), flush=True)
    channel.basic_ack(method.delivery_tag)

channel.basic_consume("hello", received)
# Ctrl-C between two messages, and not in the middle of one.
signal.signal(signal.SIGINT, lambda *_: connection.add_callback_threadsafe(channel.stop_consuming))
print("waiting for messages; Ctrl-C ends it", flush=True)
channel.start_consuming()
connection.close()
