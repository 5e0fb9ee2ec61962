
# One allocation, one Ray cluster of the job's own, one sweep. Ports, token and temporary folder are the job's own too,
# so that two jobs may share a node. The sweep ends with exit code 0, 2 or 3; otherwise the job goes back to the queue.
driver= ends= canceled= code=
# Slurm sends USR1 before the time limit, and TERM for scancel or a preemption, after which it requeues by itself.
trap 'ends=1; [ -z "$driver" ] || kill -TERM "$driver" 2>/dev/null' USR1
trap 'canceled=1; [ -z "$driver" ] || kill -TERM "$driver" 2>/dev/null' TERM

free_ports() {
  "$PYTHON" -c 'import socket, sys
held = [socket.create_server(("", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))' "$1"
}

export PYTHON RAY_AUTH_MODE=token RAY_TMP="/tmp/ray-job-$SLURM_JOB_ID"
read -r GCS_PORT DASHBOARD_PORT CLIENT_PORT <<<"$(free_ports 3)"
RAY_AUTH_TOKEN=$("$PYTHON" -c 'import secrets; print(secrets.token_hex(32))')
HEAD=$("$PYTHON" -c 'import ray; print(ray.util.get_node_ip_address())')
export GCS_PORT DASHBOARD_PORT CLIENT_PORT RAY_AUTH_TOKEN HEAD
export SLURM_EXPORT_ENV=ALL # `sbatch --export=NONE`, which some sites set for all, would keep these from the steps

# Runs on each node, as a step: what it starts is ended with the step, and no neighbor's Ray is touched.
node_script='
options=(--block --num-cpus="$SLURM_CPUS_ON_NODE" --min-worker-port=0 --max-worker-port=0 --disable-usage-stats)
if [ "$SLURM_NODEID" = 0 ]; then
  options+=(--head --node-ip-address="$HEAD" --port="$GCS_PORT" --temp-dir="$RAY_TMP" --dashboard-host=127.0.0.1)
  options+=(--dashboard-port="$DASHBOARD_PORT" --ray-client-server-port="$CLIENT_PORT")
else
  for _ in $(seq 120); do
    "$PYTHON" -c "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)" \
      "$HEAD" "$GCS_PORT" 2>/dev/null && break
    sleep 1
  done
  options+=(--address="$HEAD:$GCS_PORT")
fi
start() {
  agent_port=$("$PYTHON" -c "import socket; print(socket.create_server((\"\", 0)).getsockname()[1])")
  "$PYTHON" -m ray.scripts.scripts start "${options[@]}" --dashboard-agent-listen-port="$agent_port"
}
# On a busy node Ray may not come up within its 30 s, and a port may be taken meanwhile: it is started again. A head that
# ends later takes its cluster, and thus the step, with it.
until start; do
  [ "$SLURM_NODEID" != 0 ] || [ "$SECONDS" -lt 90 ] || exit 1
  sleep 5
done
'
srun --output="$SLURM_JOB_NAME-$SLURM_JOB_ID-ray.log" --open-mode=append --nodes="$SLURM_JOB_NUM_NODES" \
  --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \
  ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} bash -c "$node_script" &
ray_step=$!

"$PYTHON" -m sweeps.submit.await_head "$HEAD:$GCS_PORT" "$SLURM_JOB_NUM_NODES" || code=$?
if [ -z "$code" ] && [ -z "$ends$canceled" ]; then
  config=$(mktemp /tmp/sweep-XXXXXX.yaml) && printf '%s' "$CONFIG" >"$config"
  "$PYTHON" -m sweeps.run "$config" "${OVERRIDES[@]}" --resume auto --address "$HEAD:$GCS_PORT" &
  driver=$!
  # A signal ends `wait` before the driver ends. Once it has ended, `wait` tells its exit code as often as it is asked.
  wait "$driver"
  while kill -0 "$driver" 2>/dev/null; do wait "$driver"; done
  wait "$driver"
  code=$?
  rm -f "$config"
fi

# By the step's own id: `ray stop` would end the neighbors' Ray too. The sweep is on disk, so nothing needs an orderly end.
scancel --signal=KILL "$SLURM_JOB_ID.0" 2>/dev/null
wait "$ray_step"
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 rm -rf "$RAY_TMP"
case "$code,$canceled" in
0,* | 2,* | 3,* | *,1) ;;
*) "$PYTHON" -m sweeps.submit.allocations "$PLACE" "$HISTORY" && exec scontrol requeue "$SLURM_JOB_ID" ;;
esac
rm -f "$HISTORY"
exit "${code:-1}"
