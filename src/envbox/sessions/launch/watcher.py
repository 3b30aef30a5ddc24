"""Who sees to it that a session's container does not outlive the process that stands for it."""

from __future__ import annotations

import os
import subprocess

SESSION_LABEL = "io.envbox.session"
# Twice: the engine may still be making the container of a client that was killed early. With a parent to
# watch, the client is ended when it has another, for then that one is no more.
_WATCH = """\
trap '' HUP INT TERM; label=$1 client=$2 parent=$3; shift 3
lives() {
  [ -r /proc/self/status ] || { kill -0 "$parent" 2>/dev/null; return; }
  while read -r key value; do [ "$key" = PPid: ] && break; done <"/proc/$client/status"
  [ "$value" = "$parent" ]
}
poll=
if [ "$parent" -gt 1 ]; then
  { while lives 2>/dev/null; do sleep 1; done; kill -9 "$client"; } 2>/dev/null &
  poll=$!
fi
read -r _
[ -z "$poll" ] || kill -9 "$poll"
for pause in 0 1; do
  sleep $pause
  found=$("$@" ps --all --quiet --filter "label=$label") && [ -n "$found" ] || continue
  "$@" kill $found  # podman's rm would ask it to end, and wait
  "$@" rm --force $found
done
"""


def leave_watcher(client: tuple[str, ...], session: str, parent: int = 0) -> int:
    """See to it that a session's container does not outlive its client.

    It would when the client is killed, when its terminal is closed, or when the reader of its output goes
    away (`… | head`). The watcher reads from a pipe whose other end only the client holds, so it wakes when
    that ends, however it does.

    :param parent: who started us, when we are about to become the client and must not outlive it
    :returns: the end of the pipe that the client shall inherit
    """
    reading, writing = os.pipe()
    label = f"{SESSION_LABEL}={session}"
    subprocess.Popen(
        ("sh", "-c", _WATCH, "envbox", label, str(os.getpid()), str(parent), *client),
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    os.close(reading)
    return writing
