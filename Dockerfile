# One image for serving and for the flows: `docker compose` gives it its commands (docs/how-to/production.md).
FROM python:3.11-slim AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Where pip finds the CPU build of torch (pytorch.org names its index); without it the image holds the larger default build.
ARG PIP_EXTRA_INDEX_URL
WORKDIR /app
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
# Libraries first: they change less often than the code.
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir pipelines && touch pipelines/__init__.py \
    && pip install -c constraints.txt -e '.[production]'
COPY params.yaml prefect.yaml ./
COPY configs configs
COPY feature_repo feature_repo
COPY pipelines pipelines
RUN python -m compileall -q /app/pipelines /app/feature_repo

FROM python:3.11-slim
# LightGBM runs its threads by OpenMP.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /venv /venv
COPY --from=build /app /app
# What outlives a container is mounted here; all else may be read-only.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin loop \
    && mkdir -p /app/live /app/runs /app/registry /var/lib/prefect \
    && chown -R loop:loop /app/live /app/runs /app/registry /var/lib/prefect
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOOP_ROOT=/app \
    LOOP_PROFILE=production \
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    PREFECT_CLI_PROMPT=false \
    PREFECT_HOME=/tmp/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
WORKDIR /app
USER 10001
EXPOSE 8000
CMD ["loop", "serve", "--host", "0.0.0.0", "--port", "8000"]
