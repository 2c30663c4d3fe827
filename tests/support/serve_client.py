# SPDX-License-Identifier: Apache-2.0
"""A client of `promptkd classify --serve`: serve_client.py WHAT ADDRESS FILE, where WHAT is answers or many (FILE is the
JSON of classify), refused or crowded (FILE is an image), metrics."""
import concurrent.futures
import http.client
import json
import re
import socket
import struct
import sys
import zlib


class UnixConnection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def connect(address):
    if not address.startswith("http://"):
        connection = UnixConnection("localhost")
        connection.host = address
        return connection
    return http.client.HTTPConnection(address[len("http://"):], timeout=30)


def ask(address, method, path, body=None, headers=None, connection=None):
    """Status and text of a reply."""
    connection = connection or connect(address)
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def read_answers(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def assert_like(found, wanted):
    assert found.keys() == wanted.keys(), (found, wanted)
    assert len(found["top"]) == len(wanted["top"])
    for one, other in zip(found["top"], wanted["top"]):
        assert abs(one["probability"] - other["probability"]) < 1e-5, (one, other)
    by_name = {one["class"]: one["probability"] for one in wanted["top"]}
    assert all(abs(one["probability"] - by_name[one["class"]]) < 1e-5 for one in found["top"])
    for key in ("weight", "distance"):
        assert key not in wanted or abs(found[key] - wanted[key]) < 1e-4, key
    assert found["file"] == wanted["file"] and found.get("unfamiliar") == wanted.get("unfamiliar")


def answers(address, path):
    connection = connect(address)  # one for all requests
    for wanted in read_answers(path):
        status, text = ask(address, "POST", "/classify?file=" + wanted["file"], contents(wanted["file"]),
                           connection=connection)
        assert status == 200, (status, text)
        assert_like(json.loads(text), wanted)
    wanted = read_answers(path)[0]
    picture = contents(wanted["file"])
    form = b"--edge\r\nContent-Disposition: form-data; name=\"image\"; filename=\"%s\"\r\n\r\n%s\r\n--edge--\r\n"
    status, text = ask(address, "POST", "/classify", form % (wanted["file"].encode(), picture),
                       {"Content-Type": "multipart/form-data; boundary=edge"})
    assert status == 200, (status, text)
    assert_like(json.loads(text), wanted)
    status, text = ask(address, "POST", "/classify?top=2", iter([picture[:100], picture[100:]]))  # chunked
    assert status == 200 and json.loads(text)["file"] == "image", text
    assert json.loads(text)["top"] == json.loads(ask(address, "POST", "/classify", picture)[1])["top"][:2]
    assert ask(address, "GET", "/healthz") == (200, '{"status":"ok"}\n')


def many(address, path):
    wanted = read_answers(path)
    bodies = [contents(one["file"]) for one in wanted]

    def client(first):
        connection = connect(address)
        for i in range(first, first + len(wanted)):
            one = wanted[i % len(wanted)]
            status, text = ask(address, "POST", "/classify?file=" + one["file"], bodies[i % len(wanted)],
                               connection=connection)
            assert status == 200, (status, text)
            assert_like(json.loads(text), one)
        return True

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        assert all(threads.map(client, range(16)))


def crowded(address, path):
    body = contents(path)
    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        found = list(threads.map(lambda _: ask(address, "POST", "/classify", body), range(200)))
    assert {status for status, _ in found} == {200, 503}, {status for status, _ in found}
    assert all("wait already" in json.loads(text)["error"] for status, text in found if status == 503)
    assert ask(address, "POST", "/classify", body)[0] == 200


def png_of_size(side):
    """The header of a PNG of side × side pixels, without the pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def raw(address, text):
    """The status of the reply to these bytes, after which the connection is closed."""
    host, port = address[len("http://"):].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(text)
        reply = b""
        while part := connection.recv(65536):
            reply += part
    return int(reply.split()[1]), reply.decode()


def refused(address, path):
    picture = contents(path)

    def expect(status, words, *request):
        found, text = ask(address, *request)
        assert found == status, (request[:2], found, text)
        assert words in json.loads(text)["error"], text

    expect(415, "neither PNG", "POST", "/classify", b"this is no picture")
    expect(415, "x.png", "POST", "/classify?file=x.png", picture[:60])
    expect(415, "more than the limit of 1000000", "POST", "/classify", png_of_size(2000))
    expect(413, "larger than 100000 bytes", "POST", "/classify", bytes(100001))
    expect(413, "larger than 100000 bytes", "POST", "/classify", iter([bytes(60000)] * 2))
    expect(400, "empty body", "POST", "/classify", b"")
    expect(400, "top must be", "POST", "/classify?top=0", picture)
    expect(400, "top must be", "POST", "/classify?top=many", picture)
    expect(400, "unknown query 'k'", "POST", "/classify?k=3", picture)
    expect(404, "no such path", "GET", "/nothing")
    expect(405, "another method", "GET", "/classify")
    expect(405, "another method", "POST", "/healthz", b"x")
    two = b"--edge\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a\"\r\n\r\nx\r\n" * 2 + b"--edge--\r\n"
    expect(400, "one image", "POST", "/classify", two, {"Content-Type": "multipart/form-data; boundary=edge"})
    # A body that is far too large is not read to its end; who asks first hears it before sending.
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n"
    status, text = raw(address, head + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
    assert status == 413, text
    status, text = raw(address, b"POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status == 400 and "empty body" in text, text
    status, text = raw(address, b"no HTTP at all\r\n\r\n")
    assert status == 400, text
    assert ask(address, "POST", "/classify", picture)[0] == 200  # it goes on


def metrics(address, _=None):
    status, text = ask(address, "GET", "/metrics")
    assert status == 200
    values = dict(re.findall(r"^([a-z_]+(?:\{[^}]*\})?) ([-+0-9.e]+)$", text, re.M))
    assert float(values['promptkd_requests_total{status="200"}']) > 200, text
    assert float(values['promptkd_requests_total{status="415"}']) == 3, text
    assert float(values["promptkd_image_seconds_count"]) == float(values["promptkd_batch_images_sum"]) > 200, text
    assert float(values["promptkd_batch_images_count"]) < float(values["promptkd_batch_images_sum"]), text
    assert values['promptkd_batch_images_bucket{le="4"}'] == values["promptkd_batch_images_count"], text
    assert values["promptkd_queue_images"] == "0", text


globals()[sys.argv[1]](*sys.argv[2:])
