# One image for every process: `serve` by default, `worker`, `migrate`, `sandbox` and `keys` by command.
# Base images are named by digest too: what was looked at is what is built. docs/operations.md#images says how to move on.

FROM python:3.12-slim@sha256:57cd7c3a7a273101a6485ba99423ee568157882804b1124b4dd04266317710de AS build
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /app
# The dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project
COPY src src
COPY migrations migrations
RUN uv sync --locked --no-dev --no-editable

FROM python:3.12-slim@sha256:57cd7c3a7a273101a6485ba99423ee568157882804b1124b4dd04266317710de
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/covergate covergate
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    COVERGATE_HOST=0.0.0.0 \
    COVERGATE_PORT=8000 \
    COVERGATE_DATA_DIR=/var/lib/covergate/data
USER 10001
WORKDIR /var/lib/covergate
EXPOSE 8000
# Draining takes up to 25 s after SIGTERM, for a worker with submissions on the line 70: `docker stop --time 90`, stop_grace_period or terminationGracePeriodSeconds.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['COVERGATE_PORT'] + '/healthz', timeout=2)"]
ENTRYPOINT ["covergate"]
CMD ["serve"]
