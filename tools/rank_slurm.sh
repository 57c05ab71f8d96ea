#!/bin/sh
# Starts a Slurm of this one node (Debian: slurmctld slurmd slurm-client munge; as root) and checks that
# srun starts the ranks of a training: the losses of one process by every kind of srun's MPI, and a batch
# job that Slurm stops by TERM, that saves, goes back into the queue and ends.
#   BIN=build/bin tools/rank_slurm.sh
set -eu
BIN=$(cd "${BIN:-build/bin}" && pwd)
here=$(mktemp -d) node=$(hostname -s)
chmod 755 "$here"
cd "$here"
mkdir state spool munge
chown munge:munge munge
end() {
  for daemon in slurmd slurmctld munge/munged; do
    [ -e $daemon.pid ] && kill "$(cat $daemon.pid)" || true
  done 2>/dev/null
  cd / && sleep 1 && rm -rf "$here"
}
trap end EXIT
cat >slurm.conf <<C
ClusterName=one
SlurmctldHost=$node
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$here/munge/socket
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc)
PartitionName=all Nodes=ALL Default=YES State=UP OverSubscribe=FORCE:8
C
export SLURM_CONF="$here/slurm.conf" OMP_WAIT_POLICY=passive
su -s /bin/sh munge -c "munged --socket=$here/munge/socket --pid-file=$here/munge/munged.pid \
  --log-file=$here/munge/log --seed-file=$here/munge/seed --force" 2>/dev/null
slurmctld && sleep 2 && slurmd && sleep 3
sinfo

"$BIN/data_llama" lexicon --rows 100 --length 64 --output made.bin --model-dir tiny 2>/dev/null
train="$BIN/train_llama pretrain --model-config tiny/config.json --data made.bin --ctx-size 64 -b 1
  --grad-accum-steps 4 --warmup-steps 0 --attn full --lr 1e-4 --lr-schedule constant_with_warmup"
losses() { sed 's/.*"loss": *\([0-9.]*\).*/\1/' "runs/$1/metrics.jsonl" | cut -c1-7 | tr '\n' ' '; }
same() {
  [ "$(losses one)" = "$(losses "$1")" ] || { echo "$1: $(losses "$1"), alone $(losses one)"; exit 1; }
  echo "$1: the losses of one process"
}
$train --max-steps 5 --threads 1 --name one 2>log
srun -n 2 $train --max-steps 5 --name srun 2>log
grep 'rank 1 of 2 from SLURM_PROCID' log
same srun
srun -n 2 --mpi=pmi2 $train --max-steps 5 --name pmi2 2>log
same pmi2
if srun -n 2 --mpi=pmix $train --max-steps 5 --name pmix --launcher mpi 2>log; then
  grep 'rank 1 of 2 from PMIX_RANK' log
  same pmix
else
  grep 'error: ' log  # a build without MPI
fi

# RUN and what scripts/slurm/one_node.sbatch does, on a CPU; Slurm sends TERM as it does 300 s before the
# end of a job's time.
cat >job.sbatch <<C
#!/bin/bash
#SBATCH --ntasks=2 --requeue --open-mode=append --output=job.log
srun --kill-on-bad-exit=1 --wait=60 $(echo $train) --max-steps 4000 --save-every 100 --name job --resume auto &
wait \$!
code=\$?
echo "code \$code"
[ \$code -eq 75 ] && scontrol requeue "\$SLURM_JOB_ID"
exit \$code
C
job=$(sbatch --parsable job.sbatch)
until [ -e runs/job/metrics.jsonl ] && [ "$(wc -l <runs/job/metrics.jsonl)" -gt 20 ]; do sleep 0.5; done
scancel --signal=TERM "$job"
until grep -q 'code 75' job.log; do sleep 0.5; done
grep -a 'stopped by SIGTERM' job.log
echo "requeued: $(squeue -h -j "$job" -o %T)"
scontrol release "$job" 2>/dev/null || true
scontrol update JobId="$job" StartTime=now 2>/dev/null || true
tries=0
until grep -aq 'resumed at step' job.log; do
  sleep 1
  tries=$((tries + 1))
  [ $tries -lt 300 ] || { squeue; tail job.log; exit 1; }
done
grep -a 'resumed at step' job.log
scancel "$job"
echo "srun starts the ranks, TERM saves them, the queue takes them back"
