"""Joins standard input and output with a port, as a proxy command does: relay.py HOST PORT."""

import os
import select
import socket
import sys

connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while True:
    ready, _, _ = select.select([0, connection.fileno()], [], [])
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            break
        connection.sendall(data)
    if connection.fileno() in ready:
        data = connection.recv(65536)
        if not data:
            break
        os.write(1, data)
