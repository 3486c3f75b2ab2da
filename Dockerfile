# syntax=docker/dockerfile:1

# One image for every stage: compose.yaml tells each container which stage it runs.
#   docker build -t pulso:local .
#   docker run --rm pulso:local demo

FROM rust:1.95-slim-bookworm AS build
# librdkafka and SQLite are compiled from the sources that their crates bring: g++ and make are for
# librdkafka's configure. libssl-dev and pkg-config are for FEATURES=storage/kafka-tls only.
# No versions: Debian keeps only the newest of a release, so a pinned one stops building one day.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libssl-dev make pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# Cargo features beside the default ones; storage/kafka-tls gives TLS and SCRAM to Kafka.
ARG FEATURES=""
# The caches outlive the build and are no part of the image, so what is built must leave them in
# the same step. Line tables are dropped and names kept: a backtrace still says where.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,sharing=locked \
    cargo build --release --locked --package pulso --features "$FEATURES" \
    && objcopy --strip-debug target/release/pulso /usr/local/bin/pulso

FROM debian:bookworm-slim
# Certificates for TLS to a broker or a store; libssl3 for FEATURES=storage/kafka-tls.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 pulso \
    && useradd --uid 10001 --gid pulso --no-create-home --home-dir /var/lib/pulso pulso \
    && install --directory --owner pulso --group pulso /var/lib/pulso

LABEL org.opencontainers.image.title="pulso" \
    org.opencontainers.image.description="Metering and billing: takes pulses of usage, keeps exact totals, rates them" \
    org.opencontainers.image.licenses="Apache-2.0"

COPY LICENSE /usr/share/doc/pulso/
# `pulso demo` reads samples/ in its working directory.
COPY samples /opt/pulso/samples
COPY deploy/ready /usr/local/bin/pulso-ready
COPY --from=build /usr/local/bin/pulso /usr/local/bin/pulso

# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /opt/pulso
# Of use to the embedded log and store alone; with Kafka and ScyllaDB nothing is kept here.
ENV PULSO_DATA_DIR=/var/lib/pulso
VOLUME /var/lib/pulso
# gRPC and HTTP. Inside a container loopback is nobody's: serve with
# PULSO_LISTEN__GRPC=0.0.0.0:7070 and PULSO_LISTEN__HTTP=0.0.0.0:7080, with PULSO_ACCESS__MODE=required,
# or =open behind a gateway that asks for credentials.
EXPOSE 7070 7080
# /readyz: every part of this process can do its work.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["pulso-ready"]
ENTRYPOINT ["pulso"]
CMD ["--help"]
