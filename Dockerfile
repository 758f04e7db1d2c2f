# syntax=docker/dockerfile:1

# The operator's image: the wheel and its pinned dependencies in a virtual environment, and nothing else.
# `.dockerignore` admits only what is copied here.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/operator
# Dependencies first: this layer changes only with them.
COPY requirements/operator.txt requirements/operator.txt
RUN /opt/operator/bin/pip install --no-deps -r requirements/operator.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN pip wheel --no-deps --wheel-dir dist . \
    && /opt/operator/bin/pip install --no-deps dist/*.whl \
    && /opt/operator/bin/pip check \
    # The operator never installs anything.
    && /opt/operator/bin/pip uninstall --yes pip

FROM python:3.13-slim
LABEL org.opencontainers.image.title="restate-invocation-operator" \
      org.opencontainers.image.description="Durable invocations of Restate as GitOps resources" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/operator /opt/operator
# The file system is read-only in the chart: no byte code is written. Log lines are not held back.
ENV PATH=/opt/operator/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number: the kubelet cannot tell that a name is not root. It has no home and owns no file.
USER 65532:65532
# /metrics; /healthz and /readyz
EXPOSE 9090 8081
ENTRYPOINT ["invocation-operator"]
CMD ["run"]
