#!/usr/bin/env bash
# Starts the Dagster UI and the daemon that runs schedules, on loopback; Ctrl-C stops both.
# PORT is the UI's port (3000). What Dagster remembers is in DAGSTER_HOME (.dagster).
set -euo pipefail
cd "$(dirname "$0")/.."

port="${PORT:-3000}"
export DAGSTER_HOME="${DAGSTER_HOME:-$PWD/.dagster}"
export DO_NOT_TRACK=1 DBT_SEND_ANONYMOUS_USAGE_STATS=false GX_ANALYTICS_ENABLED=false
[ -x .venv/bin/dagster-webserver ] && export PATH="$PWD/.venv/bin:$PATH"

# A wrong or missing configuration in one sentence here, rather than as an error page in the UI. (1: it found a problem, all the same.)
event-archive status >/dev/null || [ $? -eq 1 ] || exit 2
mkdir -p "$DAGSTER_HOME"
[ -f "$DAGSTER_HOME/dagster.yaml" ] || cp dagster.yaml "$DAGSTER_HOME/dagster.yaml"

if ! python - "$port" <<'CHECK'
import socket, sys
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", int(sys.argv[1])))
    except OSError:
        sys.exit(1)
CHECK
then
    echo "Port $port is taken; choose another: PORT=3001 make ui" >&2
    exit 1
fi

# Dagster's databases, made by one process: the two below would make them at the same time, and stumble over each other.
python - <<'MAKE'
import dagster as dg

with dg.DagsterInstance.get() as instance:
    instance.get_runs_count()
    instance.all_asset_keys()
    instance.all_instigator_state()
MAKE

descendants() {
    local child
    for child in $(pgrep -P "$1" || true); do
        descendants "$child"
        echo "$child"
    done
}

# Bash lets what runs in the background ignore Ctrl-C: whatever ends this script has to end them. On a busy machine Dagster may leave its
# code servers behind, which would wait for ever.
stop() {
    trap - EXIT INT TERM
    local family child
    family=$(for child in "${children[@]}"; do descendants "$child"; done)
    kill -TERM "${children[@]}" 2>/dev/null || true
    for _ in $(seq 150); do
        kill -0 "${children[@]}" 2>/dev/null || break
        sleep 0.1
    done
    # shellcheck disable=SC2086 - numbers of processes
    kill -TERM $family 2>/dev/null || true
    sleep 0.5
    # shellcheck disable=SC2086
    kill -KILL "${children[@]}" $family 2>/dev/null || true
    wait "${children[@]}" 2>/dev/null || true
}
children=()
trap stop EXIT
trap 'exit 0' INT
trap 'exit 143' TERM

dagster-daemon run --workspace workspace.yaml --log-level warning &
children+=($!)
dagster-webserver --host 127.0.0.1 --port "$port" --workspace workspace.yaml --log-level warning &
children+=($!)
echo "The Dagster UI will be at http://127.0.0.1:$port in some ten seconds; Ctrl-C stops it."
echo "  lineage  http://127.0.0.1:$port/asset-groups"
echo "  runs     http://127.0.0.1:$port/runs"

# Neither is of use without the other.
wait -n "${children[@]}"
