# SPDX-License-Identifier: Apache-2.0
"""table.py --self-test: programs that only pretend are measured, fail, hang and are too slow; no GPU, no PyTorch."""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import time
import unittest

import report
import table
from server import Failure, Server

# fake.py NAME SECONDS ORDER_FILE [BEHAVIOUR]: answers the protocol with times around SECONDS and notes every request.
FAKE = r'''
import json, sys, time
name, seconds, order = sys.argv[1], float(sys.argv[2]), sys.argv[3]
behaviour = sys.argv[4] if len(sys.argv) > 4 else ""
if behaviour == "no start":
    sys.exit("out of memory")
if behaviour == "never ready":
    time.sleep(60)
print('{"ready": true}', flush=True)
requests = 0
for line in sys.stdin:
    verb, count = line.split()
    assert verb == "measure"
    with open(order, "a") as file:
        file.write(name + "\n")
    requests += 1
    if behaviour == "crash" and requests == 3:
        sys.exit("illegal memory access")
    if behaviour == "hang":
        time.sleep(60)
    if behaviour == "garbage":
        print("hello", flush=True)
        continue
    times = [seconds * (1 + 0.01 * ((i + requests) % 3)) for i in range(int(count))]
    fields = {"seconds": times, "flops": 2e9, "peak_gpu_mb": 1000}
    if behaviour == "fewer products":
        fields["flops"] = 1e9
    print(json.dumps(fields), flush=True)
'''


class FakeRun(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "fake.py").write_text(FAKE)
        self.order = self.folder / "order"
        self.order.write_text("")
        self.ours_environment = self.peer_environment = {}
        self.behaviour = {}
        self.seconds = {}

    # The commands, as table.Programs has them.
    @property
    def test_program(self):
        return lambda test: ["sh", "-c", test.program]

    def command(self, name):
        behaviour = self.behaviour.get(name, "")
        return [sys.executable, str(self.folder / "fake.py"), name, str(self.seconds.get(name, 0.010)), str(self.order),
                *([behaviour] if behaviour else [])]

    def ours(self, row, variant):
        return self.command(f"ours {variant.name}")

    def peer(self, row, variant):
        return self.command(f"peer {variant.name}")

    def product(self, dtype):
        return self.command("product")

    def make_run(self, seconds=60):
        return table.Run(self, self.folder / "out", seconds, {"name": "a GPU", "driver_version": "1"})

    def quietly(self, call):
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
            value = call()
        return value, printed.getvalue()

    def server(self, name):
        server = Server(name, self.command(name), self.folder / f"{name}.log")
        self.addCleanup(server.close)
        return server


class Protocol(FakeRun):
    def test_measures(self):
        server = self.server("a")
        server.wait_ready(20)
        self.assertEqual(len(server.measure(7, 20)["seconds"]), 7)
        self.assertEqual(len(server.measure(2, 20)["seconds"]), 2)
        server.close()
        server.close()

    def failure(self, behaviour, requests, limit=20):
        self.behaviour["bad"] = behaviour
        server = self.server("bad")
        with self.assertRaises(Failure) as caught:
            server.wait_ready(limit)
            for _ in range(requests):
                server.measure(1, limit)
        return str(caught.exception)

    def test_failures_are_said_in_one_line(self):
        self.assertIn("bad ended with status 1: out of memory", self.failure("no start", 0))
        self.assertIn("bad ended with status 1: illegal memory access", self.failure("crash", 3))
        self.assertIn("not a JSON object: hello", self.failure("garbage", 1))
        self.assertIn("was not ready within", self.failure("never ready", 0, 0.3))
        self.assertIn("did not answer within", self.failure("hang", 1, 2))


class Alternation(FakeRun):
    def alternate(self, names, left=lambda: 60):
        servers = {tuple(name.split(" ", 1)): self.server(name) for name in names}
        table.Run.wait(servers, 20)
        measured = table.alternate(servers, 2, 3, left)
        return measured, self.order.read_text().splitlines()

    def test_ours_and_the_peer_take_turns(self):
        measured, order = self.alternate(["ours a", "ours b", "peer eager", "peer compiled"])
        there = ["ours a", "peer eager", "ours b", "peer compiled"]
        self.assertEqual(order, there[::-1] + there + there[::-1])
        for entry in measured.values():
            self.assertEqual(entry["steps"], 6)
            self.assertAlmostEqual(entry["median_ms"], 10.1, delta=0.11)
            self.assertEqual(len(entry["round_medians_ms"]), 2)

    def test_a_crash_leaves_the_others(self):
        self.behaviour = {"ours a": "crash", "peer eager": "no start"}
        measured, _ = self.alternate(["ours a", "ours b", "peer eager"])
        self.assertIn("illegal memory access", measured["ours", "a"]["error"])
        self.assertEqual(measured["ours", "a"]["steps"], 3)  # what it measured before is kept
        self.assertIn("out of memory", measured["peer", "eager"]["error"])
        self.assertEqual(measured["ours", "b"]["steps"], 6)

    def test_what_is_hopeless_stops_after_the_trial(self):
        self.seconds = {"ours b": 0.1, "peer eager": 0.2}
        measured, order = self.alternate(["ours a", "ours b", "peer eager"])
        self.assertIn("3 times slower", measured["ours", "b"]["note"])
        self.assertEqual(order.count("ours b"), 1)
        self.assertEqual(measured["ours", "b"]["steps"], table.TRIAL)
        self.assertEqual(order.count("peer eager"), 3)

    def test_no_time_left(self):
        asked = iter([60] * 4)
        measured, _ = self.alternate(["ours a", "peer eager"], lambda: next(asked, 0))
        self.assertIn("no time was left", measured["ours", "a"]["note"])


class WholeRun(FakeRun):
    variants = [table.Variant("composed", ()), table.Variant("fused", ()), table.Variant("graph", (), ("promptkd",))]
    peers = [table.Variant("eager", ()), table.Variant("compiled", ())]
    rows = [table.Row("promptkd", "ViT-B/16", 64), table.Row("encode_image", "ViT-B/16", 64)]

    def test_everything(self):
        self.behaviour = {"ours fused": "fewer products"}
        self.seconds = {"peer eager": 0.03, "peer compiled": 0.02, "ours fused": 0.005, "product": 0.001}
        run = self.make_run()
        tests = [table.Test("unit tests", "echo '[doctest] test cases:  84 |  84 passed'", 0.5),
                 table.Test("golden cases", "echo 'bad case'; echo '3 cases, 1 failed'; exit 1", 0.5),
                 table.Test("slow tests", "exec sleep 30", 0.005), table.Test("no tests", "exec /no/such/program", 0.5)]
        self.quietly(lambda: run.run_wave(self.rows, self.variants, self.peers, lambda: run.run_tests(tests)))
        status, printed = self.quietly(run.finish)
        self.assertEqual(status, 1)  # golden cases failed
        result = json.loads((self.folder / "out/result.json").read_text())
        self.assertEqual([t["passed"] for t in result["tests"]], [True, False, False, False])
        self.assertEqual(result["tests"][0]["says"], "test cases: 84 | 84 passed")
        self.assertIn("stopped after", result["tests"][2]["says"])
        self.assertEqual([list(row["ours"]) for row in result["rows"]], [["composed", "fused", "graph"], ["composed", "fused"]])
        row = result["rows"][1]
        self.assertEqual(row["best_peer"], "compiled")
        fused = row["ours"]["fused"]
        self.assertAlmostEqual(fused["ratio"], 0.25, delta=0.01)
        self.assertAlmostEqual(fused["per_second"], 64 / 0.00505, delta=200)
        self.assertAlmostEqual(fused["peak_share"], 0.2, delta=0.01)  # the step's products, whatever the kernel counts
        self.assertEqual(printed, (self.folder / "out/table.md").read_text())
        lines = printed.strip().splitlines()
        self.assertEqual(sum(line.startswith("|") for line in lines), 2 + 5)
        self.assertTrue(lines[-1].startswith("| encode_image B/16 | 64 | bf16 | fused | 5.0"), lines[-1])
        self.assertIn("golden cases: FAILED: exit status 1: 3 cases, 1 failed", printed)
        self.assertEqual(sorted(p.name for p in (self.folder / "out").iterdir() if "tests" in p.name or "work" in p.name), [])

    def test_failures_leave_the_rest(self):
        self.behaviour = {"ours fused": "no start", "peer compiled": "no start", "product": "no start"}
        run = self.make_run()
        self.quietly(lambda: run.run_wave(self.rows, self.variants, self.peers))
        status, printed = self.quietly(run.finish)
        self.assertEqual(status, 1)
        row = run.result["rows"][0]
        self.assertIn("out of memory", row["ours"]["fused"]["error"])
        self.assertEqual(row["best_peer"], "eager")
        self.assertIn("ratio", row["ours"]["composed"])
        self.assertNotIn("peak_share", row["ours"]["composed"])
        self.assertIn("| failed |", printed)
        self.assertIn("peer compiled: peer compiled promptkd B/16 ← L/14 64 ended with status 1: out of memory", printed)
        self.assertIn("out of memory", (self.folder / "out/servers.log").read_text())

    def test_a_compiler_that_takes_too_long(self):
        self.behaviour = {"peer compiled": "never ready"}
        run = self.make_run(seconds=22)
        self.quietly(lambda: run.run_wave(self.rows[1:], self.variants, self.peers))
        status, printed = self.quietly(run.finish)
        self.assertEqual(status, 0)  # the peer's failure is not ours
        self.assertIn("was not ready within", run.result["rows"][0]["peer"]["compiled"]["error"])
        self.assertLess(run.result["wall_seconds"], 22)

    def test_rows_that_do_not_fit_are_said(self):
        run = self.make_run(seconds=5)
        begin = time.monotonic()
        called = []
        self.quietly(lambda: run.run_wave(self.rows, self.variants, self.peers, lambda: called.append(1)))
        status, printed = self.quietly(run.finish)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual((status, called), (0, [1]))
        self.assertIn("not measured: encode_image B/16, batch 64: 5 s of 5 s were left", printed)


class Plan(unittest.TestCase):
    def test_order(self):
        plan = table.waves([64, 256, 8], [])
        self.assertEqual([rows[0].batch for rows in plan], [64, 256, 256, 8])
        self.assertEqual([row.task for row in plan[0]], ["promptkd", "promptsrc", "encode_image", "encode_image", "encode_text"])
        self.assertEqual([row.task for rows in table.waves([8], ["promptsrc"]) for row in rows], ["promptsrc"])
        self.assertTrue(all(row.dtype == "bf16" for rows in plan for row in rows))

    def test_the_real_commands(self):
        programs = table.Programs("/p", ["/cuda"], "/cache")
        row = table.Row("promptkd", "ViT-B/16", 8)
        ours, peer = programs.ours(row, table.OURS[0]), programs.peer(row, table.PEERS[1])
        self.assertEqual(ours[0], "/p/step_cuda")
        self.assertEqual(ours[1:len(row.options()) + 1], peer[2:len(row.options()) + 2])
        self.assertEqual(peer[-2:], ["--mode", "compiled"])
        self.assertTrue(programs.ours_environment["LD_LIBRARY_PATH"].startswith("/p/lib:/cuda"))

    def test_median_of_an_even_number(self):
        entry = report.summary([{"seconds": [0.004, 0.001]}, {"seconds": [0.002, 0.003], "peak_gpu_mb": 7}])
        self.assertAlmostEqual(entry["median_ms"], 2.5)
        self.assertEqual((entry["steps"], entry["min_ms"], entry["max_ms"], entry["peak_gpu_mb"]), (4, 1, 4, 7))


def run():
    loaded = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    return 0 if unittest.TextTestRunner(verbosity=1).run(loaded).wasSuccessful() else 1
