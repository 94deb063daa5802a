#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU slice, from the commit that is checked out here.
#
#   TPU=my-pod ZONE=us-central2-b experiments/launch/tpu_pod.sh \
#       --config=experiments/configs/glow_photos.py --workdir=/mnt/runs/glow_photos
#
# The flags are those of experiments.train. workdir is a folder that all workers see under the same name,
# such as a Filestore share. The same line again goes on from the last checkpoint.
set -euo pipefail

: "${TPU:?the name of the TPU must be in TPU}" "${ZONE:?its zone must be in ZONE}"
cd "$(dirname "$0")/../.."

archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$TPU:flowjax_glow.tar.gz" --zone="$ZONE" --worker=all

train=$(printf '%q ' .venv/bin/python -m experiments.train "$@" --config.parallel.distributed=True)
gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="
  set -e
  mkdir -p flowjax_glow && tar -xzf flowjax_glow.tar.gz -C flowjax_glow && cd flowjax_glow
  test -d .venv || python3 -m venv .venv
  .venv/bin/pip install --quiet -c constraints.txt -e '.[tpu]'
  $train"
