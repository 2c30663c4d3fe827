#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Paired times of two whole commands, from exec to exit.

    python3 bench/compare_commands.py --rounds 7 "build/release/promptkd classify student.safetensors photo.jpg" "python classify.py …"

The two run one after the other in every round, the first one alternating, with a matrix product timed before, between and behind
them; rounds whose probes differ by more than --tolerance are discarded and repeated. Both run once before, to warm the file cache.
Prints medians, minima, peak memory and ratios, the first command's over the second's.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import compare


def timed(command):
    """Seconds and peak memory in MiB of a command. Its output is dropped."""
    begin = time.perf_counter()
    child = subprocess.Popen(["sh", "-c", command + "; exit $?"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"compare_commands.py: exit status {os.waitstatus_to_exitcode(status)}: {command}\n{errors.decode()[-2000:]}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", help="the first command")
    parser.add_argument("peer", help="the second")
    parser.add_argument("--rounds", type=int, default=7, help="rounds to keep")
    parser.add_argument("--tolerance", type=float, default=0.10, help="largest difference between the probes of a round")
    parser.add_argument("--no-warm-up", action="store_true", help="do not run both once before")
    arguments = parser.parse_args()
    commands = {"first": arguments.ours, "second": arguments.peer}
    if not arguments.no_warm_up:
        for command in commands.values():
            timed(command)
    probe = compare.make_probe(2)
    kept, discarded = [], 0
    while len(kept) < arguments.rounds:
        if discarded > 3 * arguments.rounds:
            sys.exit(f"compare_commands.py: {discarded} rounds discarded, {len(kept)} kept: the machine is too busy to compare")
        names = list(commands)[::-1 if (len(kept) + discarded) % 2 else 1]
        probes, report = [probe()], {}
        for name in names:
            report[name] = timed(commands[name])
            probes.append(probe())
        steady = max(probes) / min(probes) - 1 <= arguments.tolerance
        print(f"round {len(kept) + 1}: {report['first'][0]:.3f} s, {report['second'][0]:.3f} s{'' if steady else ' (discarded)'}",
              file=sys.stderr, flush=True)
        if steady:
            kept.append(report)
        else:
            discarded += 1
    result = {}
    for name in commands:
        seconds = [r[name][0] for r in kept]
        result[name] = {"median": statistics.median(seconds), "min": min(seconds), "peak_rss_mb": max(r[name][1] for r in kept)}
    result["ratio"] = {key: result["first"][key] / result["second"][key] for key in result["first"]}
    print(json.dumps({"rounds": len(kept), "discarded": discarded, **result}))


if __name__ == "__main__":
    main()
