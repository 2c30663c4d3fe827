#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Paired comparison of promptkd's image encoder with inference engines (PyTorch, ONNX Runtime, OpenVINO).

    python3 bench/compare_engines.py --peer peer_infer.py --rounds 7 -- --model ViT-B/16 --batch 8 --threads 2 --repeat 3

The peer exports its model once and prints one JSON line an engine and round; it is stopped while promptkd is timed, in fp32 and in
bf16, between its rounds. A matrix product is timed before and behind promptkd's turn and at the end of every round: rounds in which
these probes differ by more than --tolerance are discarded. Prints a table and, as the last line, one JSON object; ratios are
promptkd's median over the engine's.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys

import compare


def engine_lines(stream):
    """The peer's JSON lines; what else it prints is passed over."""
    for line in stream:
        if line.startswith("{"):
            yield json.loads(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the engines' script")
    parser.add_argument("--ours", default="build/release/bench/step", help="promptkd's benchmark program")
    parser.add_argument("--rounds", type=int, default=7, help="rounds")
    parser.add_argument("--tolerance", type=float, default=0.10, help="largest difference between the probes of a round")
    parser.add_argument("--last", default="openvino bf16", help="the engine whose line ends a round")
    parser.add_argument("options", nargs="*", help="after --: options for both")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not arguments.options:
        parser.error("needs --rounds of at least 1 and, after --, options for both")
    options = arguments.options
    threads = int(options[options.index("--threads") + 1]) if "--threads" in options[:-1] else 2
    probe = compare.make_probe(threads)

    peer = subprocess.Popen([sys.executable, arguments.peer, *options, "--rounds", str(arguments.rounds)],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    rounds, current = [], {}
    kept, discarded = [], 0
    for line in engine_lines(peer.stdout):
        name = f"{line['engine']} {line['dtype']}"
        if line["round"] != len(rounds):
            sys.exit("compare_engines.py: the peer's rounds are out of order")
        current[name] = line["seconds"]
        if name != arguments.last:
            continue
        os.kill(peer.pid, signal.SIGSTOP)
        probes = [probe()]
        for dtype in ("fp32", "bf16"):
            report = compare.run([arguments.ours, "--task", "encode_image", *options, "--dtype", dtype])
            current[f"promptkd {dtype}"] = report["seconds_per_step"]
            current[f"share {dtype}"] = report["peak_share"]
            probes.append(probe())
        steady = max(probes) / min(probes) - 1 <= arguments.tolerance
        if steady:
            kept.append(current)
        else:
            discarded += 1
        rounds.append(current)
        print(f"round {len(rounds)}: " + ", ".join(f"{k} {v:.4f}" for k, v in current.items()) +
              ("" if steady else " (discarded)"), file=sys.stderr, flush=True)
        current = {}
        os.kill(peer.pid, signal.SIGCONT)
    if peer.wait() or not kept:
        sys.exit(f"compare_engines.py: the peer's exit status is {peer.returncode}, {len(kept)} rounds were kept")
    medians = {name: statistics.median(r[name] for r in kept) for name in kept[0]}
    for name, seconds in medians.items():
        kind = name.split()[-1]
        ratio = "" if name.startswith(("promptkd", "share")) else f"  promptkd {medians['promptkd ' + kind] / seconds:.3f} x"
        print(f"{name:20}{seconds:10.4f}{ratio}")
    print(json.dumps({"options": options, "rounds": len(kept), "discarded": discarded, "medians": medians}))


if __name__ == "__main__":
    main()
