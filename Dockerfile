# syntax=docker/dockerfile:1

# The operator's image: Python, what it needs of Debian, the pinned dependencies and the wheel. No shell, no package
# manager, nothing that is not used. `.dockerignore` admits only what is copied here; `make image` builds it without
# a daemon, and the tests run what comes out.

FROM debian:trixie-slim AS tools
SHELL ["/bin/bash", "-o", "pipefail", "-euc"]
# Debian's security updates are wanted, so versions are not pinned; which ones it became is in /var/lib/dpkg/status.d.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/cache/apt/archives/*.deb /var/log/*
# Byte code is compiled once, below, and by hashes: files get other times when layers are made, and nothing is written to
# what is in the image.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0

# Python and its libraries, as Debian packages that are unpacked and not installed: nothing of them needs a script.
FROM tools AS runtime
WORKDIR /packages
# hadolint ignore=DL3008
RUN apt-get update && mkdir partial \
    && printf '%s\n' python3.13-minimal libpython3.13-stdlib libgcc-s1 > wanted \
    # As if nothing were installed, so that all they depend on comes along; then without what only scripts and people use.
    && xargs apt-get install --yes --no-install-recommends --download-only \
         -o Dir::State::status=/dev/null -o Dir::Cache::archives="$PWD" -o APT::Sandbox::User=root < wanted \
    && apt-get download -o APT::Sandbox::User=root base-files ca-certificates \
    # The zones come from the pinned package tzdata of the dependencies.
    && rm debconf_*.deb media-types_*.deb netbase_*.deb readline-common_*.deb tzdata_*.deb \
    && mkdir -p /runtime/var/lib/dpkg/status.d \
    && for package in *.deb; do \
         dpkg-deb --extract "$package" /runtime; \
         # Where scanners look for what there is and of which version.
         dpkg-deb --field "$package" > "/runtime/var/lib/dpkg/status.d/$(dpkg-deb --field "$package" Package)"; \
       done
WORKDIR /runtime
RUN find usr/share/doc -type f ! -name copyright -delete \
    && rm -r usr/share/man usr/share/lintian usr/share/ca-certificates usr/sbin/update-ca-certificates \
    && find . -depth -type d -empty ! -path ./tmp -delete \
    && mkdir -p --mode=1777 tmp \
    && install -D --mode=644 --target-directory=etc/ssl/certs /etc/ssl/certs/ca-certificates.crt \
    && printf 'root:x:0:0:root:/:/nonexistent\noperator:x:65532:65532:operator:/tmp:/nonexistent\n' > etc/passwd \
    && printf 'root:x:0:\noperator:x:65532:\n' > etc/group \
    && printf 'hosts: files dns\n' > etc/nsswitch.conf \
    && python3.13 -m compileall -q -s /runtime --invalidation-mode unchecked-hash /runtime/usr/lib/python3.13

# Dependencies: these layers change only with them.
FROM tools AS dependencies
WORKDIR /src
COPY requirements/operator.txt requirements/operator.txt
RUN python3.13 -m venv --without-pip /opt/operator \
    && python3.13 -m venv /opt/tools \
    && /opt/tools/bin/pip --python /opt/operator/bin/python install \
         --no-compile --no-deps --require-hashes --only-binary :all: -r requirements/operator.txt \
    # Their commands are for people who have a shell.
    && find /opt/operator/bin -type f -delete \
    && rm -r /opt/operator/include \
    && /opt/operator/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/operator/lib

# The wheel of the operator, and what it adds.
FROM dependencies AS operator
COPY requirements/build.txt requirements/build.txt
RUN /opt/tools/bin/pip install --no-deps --require-hashes --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN PATH="/opt/tools/bin:$PATH" pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/tools/bin/pip --python /opt/operator/bin/python install \
         --no-compile --no-deps --no-index --prefix /added dist/*.whl \
    && /opt/operator/bin/python -m compileall -q -s /added -p /opt/operator --invalidation-mode unchecked-hash /added/lib \
    && PYTHONPATH=/added/lib/python3.13/site-packages /opt/tools/bin/pip --python /opt/operator/bin/python check

FROM scratch
COPY --from=runtime /runtime /
COPY --from=dependencies /opt/operator /opt/operator
COPY --from=operator /added /opt/operator
# The file system is read-only in the chart: no byte code is written, and /tmp is the one place for files. Log lines are
# not held back. Where OpenSSL looks for authorities is not left to how it was built.
ENV PATH=/opt/operator/bin HOME=/tmp LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# A number: the kubelet cannot tell that a name is not root. It owns no file.
USER 65532:65532
# /metrics; /healthz and /readyz
EXPOSE 9090 8081
ENTRYPOINT ["/opt/operator/bin/invocation-operator"]
CMD ["run"]
# Last, so that they leave the layers alone.
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="restate-invocation-operator" \
      org.opencontainers.image.description="Durable invocations of Restate as GitOps resources" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
