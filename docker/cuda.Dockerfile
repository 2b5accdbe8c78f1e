# UNTESTED: no machine of this project can build or run it. tests/test_containers.py reads it, and runs docker/start.sh.
#
# The product with CUDA, for `docker run` and as the image of a RunPod template:
#
#   docker build -f docker/cuda.Dockerfile -t cai-bootstrap:cuda .
#   docker run --rm --gpus all -v "$PWD/cai-work:/workspace/cai-constitution-bootstrap" cai-bootstrap:cuda \
#       cai run --preset gemma-270m-gpu
#
# Without a command it serves ssh on port 22 for the key in PUBLIC_KEY, and goes on until it is stopped: what `cai pod` needs.
# torch comes from PyPI with its own CUDA libraries; of the host only the driver is used, which must know CUDA 13 (580 or newer).
FROM python:3.12-slim-bookworm

# gcc: Triton compiles a launcher for each kernel. git, rsync, tar, openssh-server: the three ways in which `cai pod` sends code.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc git libc6-dev openssh-server procps rsync \
    && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*

ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

WORKDIR /opt/cai-bootstrap
# The libraries first and by constraints.txt, so that a change of the code does not fetch them again.
COPY constraints.txt ./
RUN pip install "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE NOTICE constitution.yaml constitution_v2.yaml ./
COPY configs configs
COPY examples examples
COPY src src
RUN pip install -c constraints.txt ".[demo]"

COPY --chmod=755 docker/start.sh /usr/local/bin/cai-start
WORKDIR /workspace
EXPOSE 22
CMD ["cai-start"]
