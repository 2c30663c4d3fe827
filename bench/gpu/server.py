# SPDX-License-Identifier: Apache-2.0
"""A program that stays set up and answers requests, line by line: bench/step --serve and bench/torch_gpu.py --serve."""
import json
import os
import queue
import signal
import subprocess
import threading
import time


class Failure(Exception):
    """What a program did instead of answering, in one line."""


class Server:
    """Started at once; what it writes to standard error goes to the file `log`. `environment` is added to this process's.

    The protocol: the program prints {"ready": true} when it is set up, then answers each line `measure N` with a line
    {"seconds": [N numbers], …}. Anything else, an end, or silence is a Failure.
    """

    def __init__(self, name, command, log, environment=None):
        self.name, self.log, self.started, self.ready = name, log, time.monotonic(), False
        self._lines = queue.Queue()
        with open(log, "w") as errors:
            # A session of its own, so that close() reaches the compilers that it starts.
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                                             env={**os.environ, **(environment or {})}, start_new_session=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_ready(self, seconds):
        """Waits for the set-up, `seconds` at most."""
        if self.ready:
            return
        if self._answer(seconds, "was not ready").get("ready") is not True:
            raise Failure(f"{self.name}: its first line is not {{\"ready\": true}}")
        self.ready = True

    def measure(self, steps, seconds):
        """The answer to `measure steps`: a dictionary with the seconds of each step; waits `seconds` at most."""
        try:
            self._process.stdin.write(f"measure {steps}\n")
            self._process.stdin.flush()
        except OSError:
            raise Failure(self._end()) from None
        answer = self._answer(seconds, "did not answer")
        times = answer.get("seconds")
        if not isinstance(times, list) or len(times) != steps or not all(isinstance(t, (int, float)) and t > 0 for t in times):
            raise Failure(f"{self.name}: the answer has not {steps} positive seconds")
        return answer

    def _answer(self, seconds, what):
        try:
            line = self._lines.get(timeout=max(0, seconds))
        except queue.Empty:
            raise Failure(f"{self.name} {what} within {time.monotonic() - self.started:.0f} s of its start") from None
        if line is None:
            raise Failure(self._end())
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise Failure(f"{self.name}: not a JSON object: {line.strip()[:100]}")
        return answer

    def _end(self):
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            status = "unknown"
        return f"{self.name} ended with status {status}: {last_line(self.log)}"

    def close(self):
        """Ends the program and what it started; what is closed already stays so."""
        if self._process.stdout.closed:
            return
        try:
            self._process.stdin.close()
        except OSError:
            pass
        try:
            self._process.wait(timeout=0 if not self.ready else 3)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._process.stdout.close()


def last_line(path):
    """The last line of a log that says something, shortened."""
    with open(path, errors="replace") as log:
        lines = [line.strip() for line in log if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
