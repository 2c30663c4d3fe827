#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Load on a server that classifies images: so many clients at a time, each with one connection and one request after
the other.

    python3 bench/http_load.py http://127.0.0.1:8080 IMAGE --clients 8 --seconds 10

Prints one JSON line: requests a second, median and 99th percentile of the time of a request in milliseconds, replies
that were not 200.
"""
import argparse
import asyncio
import json
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("address")
parser.add_argument("image")
parser.add_argument("--clients", type=int, default=1)
parser.add_argument("--seconds", type=float, default=10)
parser.add_argument("--warm-up", type=float, default=1, help="seconds before the count begins")
arguments = parser.parse_args()
host, port = arguments.address.rsplit("//", 1)[1].rsplit(":", 1)
with open(arguments.image, "rb") as file:
    body = file.read()
head = f"POST /classify HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
request = head.encode() + body


async def reply(reader):
    """The status of one reply, whose body is read."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    await reader.readexactly(int(fields["content-length"]))
    return int(lines[0].split()[1]), fields.get("connection") == "close"


async def client(begin, end, times, refused):
    reader = writer = None
    while time.perf_counter() < end:
        if writer is None:
            reader, writer = await asyncio.open_connection(host, int(port))
        asked = time.perf_counter()
        try:
            writer.write(request)
            status, closed = await reply(reader)
        except (ConnectionError, asyncio.IncompleteReadError):  # the server ended a connection that was kept
            writer = None
            continue
        now = time.perf_counter()
        if begin < now < end:
            (times if status == 200 else refused).append(now - asked)
        if closed:
            writer.close()
            writer = None


async def main():
    begin = time.perf_counter() + arguments.warm_up
    times, refused = [], []
    await asyncio.gather(*(client(begin, begin + arguments.seconds, times, refused) for _ in range(arguments.clients)))
    times.sort()
    at = lambda share: round(1000 * times[min(len(times) - 1, int(share * len(times)))], 2) if times else None
    print(json.dumps({"clients": arguments.clients, "requests_per_second": round(len(times) / arguments.seconds, 2),
                      "p50_ms": at(0.5), "p99_ms": at(0.99), "refused": len(refused)}))


asyncio.run(main())
