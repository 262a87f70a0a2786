"""The wire: messages, codec, sockets and authentication. The only place that imports zmq."""
