#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Asks a VM for a snapshot and says so once it has it, but neither stores it nor gives it up: snapshot.py SOCKET NAME.
Ends when the VM does."""
import json
import socket
import sys

with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    s.sendall(json.dumps({"cmd": "snapshot", "name": sys.argv[2], "id": "00" * 16}).encode() + b"\n")
    text, fds, _, _ = socket.recv_fds(s, 65536, 2)
    reply = json.loads(text)
    if not reply["ok"] or len(fds) != 2:
        sys.exit(text.decode())
    print(sys.argv[2], flush=True)
    while s.recv(4096):
        pass
