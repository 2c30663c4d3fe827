# SPDX-License-Identifier: Apache-2.0
"""Medians and the table of bench/gpu/table.py."""
import statistics

COLUMNS = ["task", "batch", "dtype", "variant", "ours ms", "peer eager ms", "peer compiled ms", "ratio to the best peer",
           "images/s", "share of the product peak", "memory MiB", "peer memory MiB"]


def summary(answers):
    """One entry of all answers of one program: its steps, their median and spread, the median of each round."""
    seconds = [t for answer in answers for t in answer["seconds"]]
    entry = {key: value for key, value in answers[-1].items() if key != "seconds"}
    entry.update(steps=len(seconds), median_ms=1e3 * statistics.median(seconds), min_ms=1e3 * min(seconds),
                 max_ms=1e3 * max(seconds), round_medians_ms=[1e3 * statistics.median(a["seconds"]) for a in answers])
    return entry


def compare(row, peak_flops):
    """Adds to a measured row what follows from its times: the best peer, and for each of our variants its ratio to that,
    its rate and its share of the product peak. `peak_flops`: operations a second, or None."""
    peers = {name: entry["median_ms"] for name, entry in row["peer"].items() if "median_ms" in entry}
    row["best_peer"] = min(peers, key=peers.get) if peers else None
    # A variant that computes attention in a kernel of its own counts fewer products for the same step.
    flops = max((entry.get("flops", 0) for entry in row["ours"].values()), default=0)
    for entry in row["ours"].values():
        if "median_ms" not in entry:
            continue
        seconds = entry["median_ms"] / 1e3
        entry["per_second"] = row["items"] / seconds
        if peers:
            entry["ratio"] = entry["median_ms"] / peers[row["best_peer"]]
        if flops and peak_flops:
            entry["peak_share"] = flops / seconds / peak_flops


def number(entry, key, form):
    return format(entry[key], form) if entry and key in entry else "–"


def milliseconds(entry):
    if not entry:
        return "–"
    return number(entry, "median_ms", ".2f") if "median_ms" in entry else "failed"


def table_lines(rows):
    """The table in Markdown, a line for each of our variants in each row."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * 4 + "---:|" * (len(COLUMNS) - 4)]
    for row in rows:
        eager, fast = row["peer"].get("eager"), row["peer"].get("compiled")
        best = row["peer"].get(row["best_peer"])
        for variant, entry in row["ours"].items():
            cells = [row["name"], str(row["batch"]), row["dtype"], variant, milliseconds(entry), milliseconds(eager),
                     milliseconds(fast), number(entry, "ratio", ".2f"), number(entry, "per_second", ",.0f"),
                     number(entry, "peak_share", ".0%"), number(entry, "peak_gpu_mb", "d"), number(best, "peak_gpu_mb", "d")]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def notes(result):
    """What failed, what was cut short and what was left out, a line each."""
    lines = []
    for test in result["tests"]:
        if not test["passed"]:
            lines.append(f"{test['name']}: FAILED: {test['says']}")
    for row in result["rows"]:
        where = f"{row['name']}, batch {row['batch']}, {row['dtype']}"
        for side in ("ours", "peer"):
            for name, entry in row[side].items():
                if "error" in entry:
                    lines.append(f"{where}, {side} {name}: {entry['error']}")
                elif "note" in entry:
                    lines.append(f"{where}, {side} {name}: {entry['note']}")
    lines += [f"not measured: {skipped['what']}: {skipped['why']}" for skipped in result["skipped"]]
    return lines


def text(result):
    """Everything that is printed at the end; the table comes last."""
    gpu, peak = result["gpu"], result["product_peak_flops"]
    lines = ["", f"{gpu.get('name', 'no GPU')}, driver {gpu.get('driver_version', '–')}; {result['wall_seconds']:.0f} s"]
    lines += [f"{test['name']}: {test['says']} in {test['seconds']:.0f} s" for test in result["tests"]]
    if peak:
        lines.append("product peak: " + ", ".join(f"{dtype} {value / 1e12:.0f} TFLOP/s" for dtype, value in peak.items()))
    return "\n".join(lines + notes(result) + [""] + table_lines(result["rows"])) + "\n"
