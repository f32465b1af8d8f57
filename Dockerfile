FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1
WORKDIR /app

COPY pyproject.toml README.md LICENSE ./
COPY checkpoint_runner ./checkpoint_runner
RUN pip install --no-cache-dir ".[web]"
COPY workers ./workers

# A named volume takes its owner from the folder that it is first mounted on.
RUN useradd --system --uid 10001 app && mkdir /data && chown app /data
ENV CHECKPOINT_RUNNER_DATA=/data
USER app
