# Two images. The last is what `docker build .` makes:
#   docker build --target runtime -t ganaug:runtime .   # produce, screen and `import ganaug`; no torch
#   docker build --target train   -t ganaug:train .     # everything; with Prefect's server and worker
#
# A package index of your own: --secret id=pip.conf,src=$HOME/.config/pip/pip.conf (it stays in no layer).

# The base is an argument, so that an image can be built where only a local base is at hand. It must have
# Python 3.11 or newer with venv. `runtime` works on a GPU with a base that has CUDA and cuDNN, and GPU=1.
ARG BASE=python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/ganaug/bin:$PATH
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/ganaug


FROM build AS build-runtime
# Without it ONNX Runtime's CUDA library goes, which is of no use without those of such a base.
ARG GPU=
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip install -c constraints.txt '.[screen,remote]' \
    && pip uninstall -qy pip setuptools \
    && find /opt/ganaug/lib -type d -name tests -prune -exec rm -r {} + \
    && if [ -z "$GPU" ]; then rm -f /opt/ganaug/lib/python3*/site-packages/onnxruntime/capi/*_cuda.so; fi


FROM build AS build-train
# PyPI's torch for Linux brings CUDA, several GB. For CPUs alone, an index that has the small one:
#   --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH_INDEX=
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip install -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[all]' \
    && pip uninstall -qy pip \
    && find /opt/ganaug/lib -type d '(' -name tests -o -path '*/torch/test' ')' -prune -exec rm -r {} +


# hadolint ignore=DL3006
FROM ${BASE} AS bare
LABEL org.opencontainers.image.title="ganaug" \
      org.opencontainers.image.description="Synthetic images for rare image classes, and whether they help" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/ganaug/bin:$PATH \
    PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 ganaug \
    && install -d -o ganaug /home/ganaug/data /home/ganaug/prefect
USER 1000
WORKDIR /home/ganaug/data
# A job has no port to ask: this tells whether what it runs on can still be loaded. Servers and workers
# have checks of their own in docker-compose.yml.
HEALTHCHECK --interval=5m --timeout=30s --start-period=30s \
    CMD ["python", "-c", "import ganaug; ganaug.load('digits').sample('3', count=1, seed=0)"]
ENTRYPOINT ["ganaug"]


FROM bare AS runtime
COPY --from=build-runtime /opt/ganaug /opt/ganaug
CMD ["--help"]


FROM bare AS train
ENV NO_ALBUMENTATIONS_UPDATE=1 \
    PREFECT_HOME=/home/ganaug/prefect
COPY --from=build-train /opt/ganaug /opt/ganaug
CMD ["run"]
