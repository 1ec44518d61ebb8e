# The base is an argument, so that an image can be built where only a local base is at hand.
ARG BASE=python:3.11-slim-bookworm
# hadolint ignore=DL3006
FROM ${BASE}

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    NO_ALBUMENTATIONS_UPDATE=1 \
    PREFECT_HOME=/home/ganaug/prefect

WORKDIR /opt/ganaug
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ganaug ganaug
COPY pipeline pipeline
COPY exported exported
RUN python3 -m pip install -c constraints.txt '.[all]' \
    && useradd --create-home --uid 1000 ganaug \
    && mkdir -p /home/ganaug/prefect /home/ganaug/data \
    && chown -R ganaug /home/ganaug

USER 1000
WORKDIR /home/ganaug/data
ENTRYPOINT ["ganaug"]
CMD ["run"]
