# SPDX-License-Identifier: Apache-2.0
"""classify.py LIBRARY BUNDLE ANSWERS.json: promptkd.h through ctypes, several threads on one student and a student a
thread, against what `promptkd classify --top CLASSES --json` says. Exit status 1 and one line where they differ."""
import ctypes
import json
import sys
import threading


class Image(ctypes.Structure):
    _fields_ = [
        ("bytes", ctypes.c_char_p),
        ("size", ctypes.c_size_t),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("stride", ctypes.c_size_t),
    ]


library, bundle, answers = ctypes.CDLL(sys.argv[1]), sys.argv[2].encode(), json.load(open(sys.argv[3]))
library.promptkd_open.restype = ctypes.c_void_p
library.promptkd_last_error.restype = library.promptkd_class_name.restype = library.promptkd_version.restype = ctypes.c_char_p
for function in (library.promptkd_close, library.promptkd_classes):
    function.argtypes = [ctypes.c_void_p]
library.promptkd_class_name.argtypes = [ctypes.c_void_p, ctypes.c_int]
library.promptkd_classify.argtypes = [ctypes.c_void_p, ctypes.POINTER(Image), ctypes.c_int, ctypes.POINTER(ctypes.c_float)]
files = [open(a["file"], "rb").read() for a in answers]
images = (Image * len(files))(*(Image(f, len(f), 0, 0, 0) for f in files))
wrong = []


def ask(student, rounds):
    classes = library.promptkd_classes(student)
    names = [library.promptkd_class_name(student, k).decode() for k in range(classes)]
    for _ in range(rounds):
        p = (ctypes.c_float * (len(files) * classes))()
        if library.promptkd_classify(student, images, len(files), p) != 0:
            wrong.append(library.promptkd_last_error().decode())
        for i, answer in enumerate(answers):
            expected = {t["class"]: t["probability"] for t in answer["top"]}
            worst = max(abs(p[i * classes + k] - expected[n]) for k, n in enumerate(names))
            if not worst < 1e-5:
                wrong.append(f"{answer['file']}: differs by {worst}")


shared = library.promptkd_open(bundle, 1, 3)
own = [library.promptkd_open(bundle, 1, 1) for _ in range(3)]
threads = [threading.Thread(target=ask, args=(s, 5)) for s in [shared, shared, shared] + own]
for t in threads:
    t.start()
for t in threads:
    t.join()
for s in [shared] + own:
    library.promptkd_close(s)
print(library.promptkd_version().decode(), len(files), "images,", len(threads), "threads")
if wrong:
    sys.exit(wrong[0])
