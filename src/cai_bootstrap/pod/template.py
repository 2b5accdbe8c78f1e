"""The commented pod.yaml that `cai pod init` writes."""

import json
from typing import Any

TEMPLATE = """\
# The rented pod, for `cai pod …`. No secrets here: only the NAMES of environment variables that hold them.
name: {name}                     # what the ledger calls it
host: {host}             # public address of "SSH over exposed TCP" (not ssh.runpod.io, which cannot transfer files)
port: {port}                      # and its external port
user: {user}
key: {key}       # your private ssh key; null: ask the ssh agent
host_key: null                # SHA256:… of the pod's host key if you know it; else you are asked once

hourly_price: {hourly_price}            # dollars per hour; the provider's own figure is used where it can be asked
budget: {budget}                    # dollars for this rental: at 80% a warning, at 100% the end; null: none
deadline_hours: {deadline_hours}            # hours after the rental began at which the same happens; null: none

remote_base: {remote_base}   # everything on the pod lies here; keep it on the volume
via: auto                     # how code gets there: rsync, git (exactly one commit), tar; auto: the first that works
preset: {preset}      # what `cai pod run` and `deploy` run unless their arguments say otherwise
gpu: auto                     # none: a pod without GPU
python: null                  # an existing Python on the pod (it gets the pushed src on its path); null: a venv
secrets: []                   # names of variables to hand to the job, such as HF_TOKEN
env: {{}}                       # plain variables for the job; nothing secret
# job: ["{{python}}", "-P", "-m", "cai_bootstrap", "run", "{{args}}", "--base-dir", "{{base}}"]   # another command

provider:                     # RunPod's API: price, start, host-key fingerprints, stopping
  pod_id: {pod_id}                # the pod's id, as its page shows it
  api_key_env: RUNPOD_API_KEY # the NAME of the variable that holds the key

stop:                         # what the watchdog on the pod does, also while your own machine is off
  when_done: false            # true: `deploy` stops the pod as soon as everything is fetched (same as --stop-when-done)
  idle_minutes: 30            # nothing has run for so long: stop the pod; null: never
  fetched_minutes: 5          # the job is done and fetched for so long: stop the pod
  fetch_grace_minutes: 10     # after budget or deadline, time for a connected `deploy` to fetch
  job_grace_seconds: 120      # time for the job's clean end, before it is killed
  command: null               # how to stop from the pod itself, without a key: runpodctl stop pod $RUNPOD_POD_ID

setup:
  pins: []                    # exact versions to install first, such as torch==2.11.0
  extras: [demo]              # extras of this package; for int8 add bitsandbytes==0.50.2 to the pins
  system_site_packages: true  # use the image's own torch where it fits
  prefetch: true              # fetch and convert the model (`cai prepare`) before the run
"""

DEFAULTS: dict[str, Any] = {
    "name": "pod",
    "host": "203.0.113.10",
    "port": 22,
    "user": "root",
    "key": "~/.ssh/id_ed25519",
    "hourly_price": 1.74,
    "budget": 15,
    "deadline_hours": 12,
    "remote_base": "/workspace/cai-constitution-bootstrap",
    "preset": "qwen2.5-32b-a100",
    "pod_id": None,
}


def filled(**values: Any) -> str:
    """The template with values in place of the defaults; each is written as YAML takes it."""
    fields = DEFAULTS | {name: value for name, value in values.items() if value is not None}
    return TEMPLATE.format(**{name: json.dumps(value) for name, value in fields.items()})
