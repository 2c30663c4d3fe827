#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Paired comparison of promptkd's step benchmark with a PyTorch script of the same options and output.

    python3 bench/compare.py --peer peer_bench.py [--rounds 5] -- --task promptkd --threads 2 --repeat 5

Everything after -- goes to both programs. The two run one after the other in every round, the first one alternating, with
a matrix product timed before, between and after them. When these probes differ by more than --tolerance the machine was
not steady and the round is discarded and repeated. Prints a table and, as the last line, one JSON object. A ratio below 1
means that promptkd needs less.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time


def make_probe(threads):
    """A function that returns the seconds of one 1024×1024 single-precision product: the best of about one second."""
    try:
        import torch
        torch.set_num_threads(threads)
        a = torch.randn(1024, 1024)
        product = lambda: a @ a
    except ImportError:
        import numpy
        a = numpy.random.default_rng(0).standard_normal((1024, 1024), dtype=numpy.float32)
        product = lambda: a @ a

    def probe():
        best, stop = float("inf"), time.perf_counter() + 1
        while time.perf_counter() < stop:
            begin = time.perf_counter()
            product()
            best = min(best, time.perf_counter() - begin)
        return best

    probe()
    return probe


def run(command):
    """Runs the command and returns the JSON object of its last output line."""
    # By way of a shell that forks: a program started from here directly would count this process's memory as its peak.
    done = subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", *command], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.exit(f"compare.py: exit status {done.returncode}: {' '.join(command)}\n{done.stderr.strip()[-2000:]}")
    try:
        return json.loads(lines[-1])
    except json.JSONDecodeError:
        sys.exit(f"compare.py: the last line is not JSON: {' '.join(command)}\n{lines[-1][:500]}")


def paired_rounds(ours, peer, probe, rounds, tolerance):
    """Kept rounds as (our report, the peer's), and how many were discarded (at most three times as many as wanted)."""
    kept, discarded = [], 0
    while len(kept) < rounds:
        if discarded > 3 * rounds:
            sys.exit(f"compare.py: {discarded} rounds discarded, {len(kept)} kept: the machine is too busy to compare")
        order = [("ours", ours), ("peer", peer)]
        if (len(kept) + discarded) % 2:
            order.reverse()
        probes, report = [probe()], {}
        for name, command in order:
            report[name] = run(command)
            probes.append(probe())
        spread = max(probes) / min(probes) - 1
        steady = spread <= tolerance
        print(f"round {len(kept) + 1}: promptkd {report['ours']['seconds_per_step']:.4f} s, "
              f"peer {report['peer']['seconds_per_step']:.4f} s, probes differ by {100 * spread:.1f} %"
              f"{'' if steady else ' (discarded)'}", file=sys.stderr, flush=True)
        if steady:
            kept.append((report["ours"], report["peer"]))
        else:
            discarded += 1
    return kept, discarded


def summarize(reports):
    return {"seconds_per_step": statistics.median(r["seconds_per_step"] for r in reports),
            "min": min(r["min"] for r in reports), "peak_rss_mb": max(r["peak_rss_mb"] for r in reports)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the PyTorch script")
    parser.add_argument("--ours", default="build/release/bench/step", help="promptkd's benchmark program")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for the peer")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to keep")
    parser.add_argument("--tolerance", type=float, default=0.10, help="largest difference between the probes of a round")
    parser.add_argument("--our-options", default="", help="further options for promptkd only, e.g. --our-options=--stored")
    parser.add_argument("--peer-options", default="", help="further options for the peer only, e.g. --peer-options=--published")
    parser.add_argument("options", nargs="*", help="after --: options for both")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not arguments.options:
        parser.error("needs --rounds of at least 1 and, after --, options for both programs")

    options = arguments.options
    threads = int(options[options.index("--threads") + 1]) if "--threads" in options[:-1] else 2
    ours = [arguments.ours, *options, *arguments.our_options.split()]
    peer = [arguments.python, arguments.peer, *options, *arguments.peer_options.split()]
    kept, discarded = paired_rounds(ours, peer, make_probe(threads), arguments.rounds, arguments.tolerance)

    mine, theirs = summarize([a for a, _ in kept]), summarize([b for _, b in kept])
    ratio = {key: mine[key] / theirs[key] for key in mine}
    ratio["paired_median"] = statistics.median(a["seconds_per_step"] / b["seconds_per_step"] for a, b in kept)
    print(f"{'':24}{'promptkd':>12}{'peer':>12}{'ratio':>8}")
    for key, label in (("seconds_per_step", "median, s a step"), ("min", "minimum, s a step"), ("peak_rss_mb", "peak memory, MiB")):
        print(f"{label:24}{mine[key]:12.4g}{theirs[key]:12.4g}{ratio[key]:8.3f}")
    print(json.dumps({"options": options, "rounds": len(kept), "discarded": discarded, "promptkd": mine, "peer": theirs,
                      "ratio": ratio, "peer_version": kept[0][1].get("torch")}))


if __name__ == "__main__":
    main()
