#!/bin/bash
# Written by dropdrift VERSION.
#SBATCH --job-name=night
#SBATCH --nodes=4
#SBATCH --ntasks=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=96
#SBATCH --output=/here/runs/slurm/night-%j.log
#SBATCH --open-mode=append
#SBATCH --gpus-per-node=8
#SBATCH --mem=1887436M
#SBATCH --signal=B:USR1@120
#SBATCH --partition=gpu
#SBATCH --account=me
#SBATCH --qos=high
#SBATCH --time=1-12:00:00
#SBATCH --mail-user=me@example.org
#SBATCH --mail-type=FAIL,END
#SBATCH --requeue

set -uo pipefail

export PYTHONUNBUFFERED=1
export OMP_NUM_THREADS=12
export PYTHONSAFEPATH=1
export TORCH_CPP_LOG_LEVEL=ERROR
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=90
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export A='b c'
export NCCL_DEBUG=INFO
export TORCHX_JOB_ID=slurm://dropdrift/"$SLURM_JOB_ID"
# The nodes meet on the first of them: by its name, or the address that Slurm finds it by.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
getent hosts "$first" > /dev/null ||
  first=$(scontrol show node --oneliner "$first" | sed "s/.* NodeAddr=\([^ ]*\).*/\1/")
export TORCHX_RANK0_HOST="$first"
# By the job's number, as jobs may share a node.
export DROPDRIFT_RENDEZVOUS_PORT=$((20000 + SLURM_JOB_ID % 10000))

# The time limit is near: on SIGTERM training saves.
warned=0
trap 'warned=$((warned + 1)); scancel --signal=TERM "$SLURM_JOB_ID"' USR1

srun --cpus-per-task=96 --output=/here/runs/slurm/night-%j-%t.log --open-mode=append --kill-on-bad-exit=0 --wait=30 \
  bash -c 'exec /venv/bin/python -m dropdrift.launchers.torchrun --nnodes=4 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint="${TORCHX_RANK0_HOST:-localhost}:${DROPDRIFT_RENDEZVOUS_PORT:-29500}" --rdzv-id='"$SLURM_JOB_ID"' --rdzv-conf="join_timeout=600,read_timeout=600${SLURM_PROCID:+,is_host=$((SLURM_PROCID == 0))}" --max-restarts=0 -m -- dropdrift train --recipe dcnv2-demo --data.path '"'"'a b'"'"' --out runs/x' &
step=$!
# The trap ends a wait, and not the step.
heeded=-1
while [ "$heeded" -lt "$warned" ]; do
  heeded=$warned
  wait "$step"
  code=$?
done

max_requeues=3
echo "job $SLURM_JOB_ID: exit code $code, time limit near: $warned, requeued ${SLURM_RESTART_COUNT:-0} of $max_requeues times"
if [ "$code" -eq 2 ]; then
  echo "job $SLURM_JOB_ID: not requeued, as the same mistake would end it again"
elif [ "$code" -ne 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$max_requeues" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
