# SPDX-License-Identifier: Apache-2.0
"""fashion_pngs.py FASHION_MNIST OUT COUNT: the first COUNT test images as grey PNG files without filters."""
import gzip
import os
import struct
import sys
import zlib

root, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.makedirs(out, exist_ok=True)
data = gzip.open(os.path.join(root, "t10k-images-idx3-ubyte.gz")).read()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


for i in range(count):
    pixels = data[16 + 784 * i : 16 + 784 * (i + 1)]
    rows = b"".join(b"\0" + pixels[28 * y : 28 * (y + 1)] for y in range(28))
    with open(os.path.join(out, f"{i:05}.png"), "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)))
        file.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
