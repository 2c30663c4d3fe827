#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests and measures promptkd on this machine's GPU, beside PyTorch, within a given time; bench/gpu/run.sh calls it.

    python3 bench/gpu/table.py --programs DIR --out OUT [--only tests|table] [--seconds 300] [--batches 64,8] [--tasks promptkd]
    python3 bench/gpu/table.py --self-test

Ours and the peer take turns on one card. Whatever fails is written down and the rest goes on. OUT/result.json is rewritten
after every row; the table is printed last and is in OUT/table.md. Exit status 1: a test or one of our variants failed.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import report
from server import Failure, Server, last_line

ROUNDS, STEPS, TRIAL = 4, 8, 2  # timed steps of a program in a row: 32 in four turns, after a trial of two
HOPELESS = 3.0                  # a variant of ours that is so many times slower than the fastest stops after the trial
SET_UP = 40.0                   # seconds that our programs of a row may take to be ready
LEAST = 20.0                    # seconds with which no further group of rows is begun
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


# --- what is run: one entry each -------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Test:
    name: str
    program: str
    share: float  # of the whole time, at most
    environment: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to run a task: its name in the table, the options that choose it, the tasks that have it (empty: all)."""
    name: str
    options: tuple
    tasks: tuple = ()


@dataclasses.dataclass(frozen=True)
class Row:
    task: str
    model: str
    batch: int
    dtype: str = "bf16"
    classes: int = 100

    @property
    def name(self):
        short = self.model.replace("ViT-", "")
        return f"{self.task} {short} ← L/14" if self.task == "promptkd" else f"{self.task} {short}"

    @property
    def items(self):
        """Images (or texts) in a step."""
        return self.classes if self.task == "encode_text" else self.batch

    @property
    def planned_seconds(self):
        """What is kept free for the row while peers compile: the start of our programs and all steps."""
        return 8 + self.batch / 64 * (4 if self.task.startswith("encode") else 10)

    def options(self):
        return ["--task", self.task, "--model", self.model, "--teacher", "ViT-L/14", "--batch", str(self.batch),
                "--classes", str(self.classes), "--dtype", self.dtype, "--serve"]


TESTS = [
    Test("unit tests", "unit_tests_cuda", 0.3),
    Test("golden cases", "golden_test_cuda", 0.25, {"PROMPTKD_GOLDEN_DIR": str(ROOT / "tests/fixtures/golden"),
                                                    "PROMPTKD_OFFLINE": "1", "PROMPTKD_VERBOSE": "1"}),
]
IMAGES = ("encode_image", "promptkd", "promptsrc")  # texts that share a prefix stay composed
OURS = [
    Variant("composed", ("--attention", "composed")),
    Variant("composed, graph", ("--attention", "composed", "--graph"), ("promptkd",)),
    Variant("mma", ("--attention", "mma"), IMAGES),
    Variant("mma, graph", ("--attention", "mma", "--graph"), ("promptkd",)),
    Variant("fused", ("--attention", "fused")),
]
PEERS = [
    Variant("eager", ("--mode", "eager")),
    Variant("compiled", ("--mode", "compiled")),
]


def waves(batches, tasks):
    """The rows, the most important first, in groups whose peers are compiled together. At batch 256 the memory of a card does
    not hold all of them."""
    encode = [("encode_image", "ViT-B/16"), ("encode_image", "ViT-L/14")]
    train = [("promptkd", "ViT-B/16"), ("promptsrc", "ViT-B/16")]
    text = [("encode_text", "ViT-B/16")]  # it has no images: one row
    groups = {64: [train + encode + text], 256: [encode, train], 8: [train + encode]}
    found = []
    for batch in batches:
        for group in groups.get(batch, [train + encode]):
            rows = [Row(task, model, batch) for task, model in group if not tasks or task in tasks]
            found += [rows] if rows else []
    return found


class Programs:
    """The commands of the real programs."""

    def __init__(self, folder, libraries, cache):
        self.folder, self.cache = pathlib.Path(folder), cache
        paths = [str(self.folder / "lib"), *libraries, os.environ.get("LD_LIBRARY_PATH", "")]
        self.ours_environment = {"LD_LIBRARY_PATH": ":".join(p for p in paths if p)}
        cores = os.cpu_count() or 1
        self.peer_environment = {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TORCHINDUCTOR_COMPILE_THREADS": str(max(1, cores // 2)),
                                 "PYTHONUNBUFFERED": "1"}

    def test_program(self, test):
        return [str(self.folder / test.program)]

    def ours(self, row, variant):
        return [str(self.folder / "step_cuda"), *row.options(), *variant.options]

    def peer(self, row, variant):
        return [sys.executable, str(ROOT / "bench/torch_gpu.py"), *row.options(), *variant.options]

    def product(self, dtype):
        return [str(self.folder / "step_cuda"), "--task", "product", "--dtype", dtype, "--serve"]


# --- the run -----------------------------------------------------------------------------------------------------------
def say(message):
    print(message, file=sys.stderr, flush=True)


class Run:
    """One run of tests and table: `programs` gives the commands, `seconds` is all its time, results go to the folder `out`."""

    def __init__(self, programs, out, seconds, gpu):
        self.programs, self.out, self.seconds, self.start = programs, pathlib.Path(out), seconds, time.monotonic()
        self.work = self.out / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.servers = []
        self.result = {"gpu": gpu, "wall_seconds": 0, "tests": [], "product_peak_flops": {}, "rows": [], "skipped": []}

    def left(self):
        return self.seconds - (time.monotonic() - self.start)

    def write(self):
        self.result["wall_seconds"] = time.monotonic() - self.start
        unfinished = self.out / "result.json.new"
        unfinished.write_text(json.dumps(self.result, indent=1, ensure_ascii=False) + "\n")
        unfinished.replace(self.out / "result.json")

    def skip(self, what, why):
        say(f"skipped: {what}: {why}")
        self.result["skipped"].append({"what": what, "why": why})

    # --- tests
    def run_tests(self, tests):
        for test in tests:
            self.result["tests"].append(self.run_test(test))
            say(f"{test.name}: {self.result['tests'][-1]['says']}")
            self.write()

    def run_test(self, test):
        log, begin = self.out / (test.program + ".log"), time.monotonic()
        limit = min(test.share * self.seconds, self.left())
        try:
            with open(log, "w") as output:
                environment = {**os.environ, **self.programs.ours_environment, **test.environment}
                status = subprocess.run(self.programs.test_program(test), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                        env=environment, timeout=limit, check=False).returncode
            says = tests_say(log) if status == 0 else f"exit status {status}: {tests_say(log)}"
        except subprocess.TimeoutExpired:
            status, says = None, f"stopped after {limit:.0f} s"
        except OSError as error:
            status, says = None, str(error)
        return {"name": test.name, "passed": status == 0, "says": says, "seconds": time.monotonic() - begin}

    # --- programs that answer
    def serve(self, name, command, environment):
        """The started program, or its Failure."""
        log = self.work / (re.sub(r"[^a-z0-9]+", "-", name.lower()) + ".log")
        try:
            self.servers.append(Server(name, command, log, environment))
            return self.servers[-1]
        except OSError as error:
            return Failure(f"{name} did not start: {error}")

    def start_peers(self, row, peers):
        return {v.name: self.serve(f"peer {v.name} {row.name} {row.batch}", self.programs.peer(row, v), self.programs.peer_environment)
                for v in peers if not v.tasks or row.task in v.tasks}

    def start_ours(self, row, variants):
        return {v.name: self.serve(f"ours {v.name} {row.name} {row.batch}", self.programs.ours(row, v), self.programs.ours_environment)
                for v in variants if not v.tasks or row.task in v.tasks}

    @staticmethod
    def wait(servers, seconds):
        """Waits for all of them together; one that fails or is late becomes its Failure."""
        end = time.monotonic() + seconds
        for name, server in servers.items():
            if isinstance(server, Failure):
                continue
            try:
                server.wait_ready(end - time.monotonic())
            except Failure as failure:
                server.close()
                servers[name] = failure

    def measure_peak(self, dtype):
        """The rate of a large product of ours; the best of several probes counts."""
        server = self.serve(f"product {dtype}", self.programs.product(dtype), self.programs.ours_environment)
        servers = {"product": server}
        self.wait(servers, min(SET_UP, self.left()))
        try:
            if isinstance(servers["product"], Failure):
                raise servers["product"]
            answer = server.measure(20, min(20, self.left()))
            rate = answer["flops"] / (report.summary([answer])["median_ms"] / 1e3)
            peak = self.result["product_peak_flops"]
            peak[dtype] = max(rate, peak.get(dtype, 0))
        except (Failure, KeyError) as failure:
            self.skip(f"product peak {dtype}", str(failure))
        close(servers)

    # --- rows
    def measure_row(self, row, ours, peers):
        """Measures all programs of a row in turns and closes them."""
        end = time.monotonic() + 2 * row.planned_seconds  # what goes wrong in one row leaves time for the others
        self.wait(ours, min(SET_UP, self.left()))
        servers = {("ours", name): s for name, s in ours.items()} | {("peer", name): s for name, s in peers.items()}
        measured = alternate(servers, ROUNDS, STEPS, lambda: min(self.left(), end - time.monotonic()))
        entry = {"task": row.task, "name": row.name, "model": row.model, "batch": row.batch, "dtype": row.dtype,
                 "items": row.items, "ours": {}, "peer": {}}
        for (side, name), found in measured.items():
            entry[side][name] = found
        report.compare(entry, self.result["product_peak_flops"].get(row.dtype))
        self.result["rows"].append(entry)
        close(servers)
        best = min((e["median_ms"] for e in entry["ours"].values() if "median_ms" in e), default=None)
        say(f"{row.name}, batch {row.batch}: {'failed' if best is None else f'{best:.2f} ms'}, peer {entry['best_peer']}")
        self.write()

    def run_wave(self, rows, variants, peer_variants, meanwhile=lambda: None):
        """Sets the peers of all rows up at the same time, and measures the rows once that is done."""
        if self.left() < LEAST:
            meanwhile()
            return self.skip_rows(rows)
        peers = {row: self.start_peers(row, peer_variants) for row in rows}
        meanwhile()
        together = {(row, name): server for row in rows for name, server in peers[row].items()}
        self.wait(together, max(1, self.left() - sum(row.planned_seconds for row in rows)))
        for dtype in sorted({row.dtype for row in rows}):
            self.measure_peak(dtype)
        for row in rows:
            row_peers = {name: server for (of, name), server in together.items() if of == row}
            if self.left() < row.planned_seconds / 2:
                self.skip_rows([row])
                close(row_peers)
            else:
                self.measure_row(row, self.start_ours(row, variants), row_peers)

    def skip_rows(self, rows):
        for row in rows:
            self.skip(f"{row.name}, batch {row.batch}", f"{max(0, self.left()):.0f} s of {self.seconds:.0f} s were left")

    def finish(self):
        """Gathers the logs, writes the results and prints the table; returns the exit status."""
        for server in self.servers:
            server.close()
        with open(self.out / "servers.log", "w") as all_logs:
            for log in sorted(self.work.glob("*.log")):
                all_logs.write(f"--- {log.stem}\n{log.read_text(errors='replace')[-4000:]}\n")
                log.unlink()
        self.work.rmdir()
        self.write()
        text = report.text(self.result)
        (self.out / "table.md").write_text(text)
        print(text, end="", flush=True)
        ours = [entry for row in self.result["rows"] for entry in row["ours"].values()]
        good = all(test["passed"] for test in self.result["tests"]) and not any("error" in entry for entry in ours)
        return 0 if good else 1


def tests_say(log):
    """The line of a test program's log that counts."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    counts = [line for line in lines if "test cases:" in line or " cases, " in line]
    return re.sub(r"\s+", " ", counts[-1]).replace("[doctest] ", "") if counts else last_line(log)


def close(servers):
    for server in servers.values():
        if isinstance(server, Server):
            server.close()


def alternate(servers, rounds, steps, left):
    """Every server measures `steps` steps in each round, in turns, odd rounds backwards, after a trial that ends what is
    hopeless. Returns an entry a server: the summary of its answers, with "error" when it failed, "note" when it was stopped."""
    entries = {name: {"error": str(s)} for name, s in servers.items() if isinstance(s, Failure)}
    active = interleaved([name for name in servers if name not in entries])
    trial = {name: [] for name in active}
    answers, notes = {name: [] for name in active}, {}
    for turn in range(-1, rounds):
        kept, asked = (trial, TRIAL) if turn < 0 else (answers, steps)
        for name in active if turn % 2 == 0 else active[::-1]:
            try:
                if left() < 1:
                    raise TimeoutError(f"stopped after {max(0, turn)} of {rounds} rounds: no time was left")
                kept[name].append(servers[name].measure(asked, left()))
            except TimeoutError as late:
                notes[name] = str(late)
            except Failure as failure:
                entries[name] = {"error": str(failure)}
        active = [name for name in active if name not in entries and name not in notes]
        if turn < 0:
            notes.update(hopeless(trial, active))
            active = [name for name in active if name not in notes]
    for name in answers:
        found = answers[name] or trial[name]
        entries[name] = {**(report.summary(found) if found else {}), **entries.get(name, {})}
        if name in notes:
            entries[name]["note"] = notes[name]
    return {name: entries[name] for name in servers}


def interleaved(names):
    """Ours and the peer's by turns: (ours, peer, ours, peer, …), the rest behind."""
    ours, peers = ([n for n in names if n[0] == side] for side in ("ours", "peer"))
    longest = max(len(ours), len(peers))
    return [n for i in range(longest) for n in ours[i:i + 1] + peers[i:i + 1]]


def hopeless(trial, active):
    """Our variants that are not worth the time, with what to say of them; the peer's are measured whatever they take."""
    medians = {name: report.summary(trial[name])["median_ms"] for name in active}
    says = f"stopped after {TRIAL} steps: more than {HOPELESS:g} times slower than the fastest"
    return {name: says for name, ms in medians.items() if name[0] == "ours" and ms > HOPELESS * min(medians.values())}


# --- the program -------------------------------------------------------------------------------------------------------
def gpu_facts():
    fields = ["name", "driver_version", "memory.total", "clocks.max.sm", "power.limit"]
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader"], capture_output=True,
                              text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"table.py: no NVIDIA GPU here: {error}; `sh bench/gpu/run.sh --build` works without one")
    if done.returncode != 0 or not done.stdout.strip():
        sys.exit(f"table.py: nvidia-smi found no GPU: {(done.stdout + done.stderr).strip()[:200]}")
    return dict(zip(fields, (value.strip() for value in done.stdout.splitlines()[0].split(","))))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", help="the folder of step_cuda, unit_tests_cuda and golden_test_cuda")
    parser.add_argument("--libraries", default="", help="folders of CUDA's libraries, separated by colons")
    parser.add_argument("--cache", default="/tmp/promptkd-inductor", help="what torch.compile keeps between runs")
    parser.add_argument("--out", default="gpu-run", help="the folder of the results")
    parser.add_argument("--only", choices=["tests", "table"])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--batches", default="64,256,8", help="in this order")
    parser.add_argument("--tasks", default="", help="only these, separated by commas")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if not arguments.self_test and not arguments.programs:
        parser.error("--programs is required")
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", arguments.batches):
        parser.error("--batches: expected numbers separated by commas")
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.self_test:
        import table_test
        return table_test.run()
    run = Run(Programs(arguments.programs, arguments.libraries.split(":"), arguments.cache), arguments.out,
              arguments.seconds - 5, gpu_facts())
    tests = [] if arguments.only == "table" else TESTS
    plan = waves([int(b) for b in arguments.batches.split(",")], [t for t in arguments.tasks.split(",") if t])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pending = [lambda: run.run_tests(tests)]  # while the first peers compile
    try:
        for rows in [] if arguments.only == "tests" else plan:
            run.run_wave(rows, OURS, PEERS, pending.pop() if pending else lambda: None)
        if pending:
            pending.pop()()
    except KeyboardInterrupt:
        run.skip("the rest", "interrupted")
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
