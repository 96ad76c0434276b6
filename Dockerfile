# syntax=docker/dockerfile:1
# The proxy and nothing else.
#
#   docker build -t multistore .
#   docker run -v ./conf:/etc/multistore -p 6380:6380 -p 127.0.0.1:9180:9180 multistore
#
# Mount the directory that holds proxy.toml, not the file: editors and ConfigMaps replace the file
# by renaming, and a mounted file would stay the old one. Inside a container the listeners must say
# 0.0.0.0 instead of 127.0.0.1 to be reached from outside: give clients passwords (auth), or say
# unprotected = true where the network is private; publish the admin port on loopback only.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
# The caches outlive the build: a change of the source does not build the dependencies again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin multistore \
    && cp target/release/multistore /multistore

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin multistore \
    && install --directory --owner=multistore --group=multistore --mode=0750 /etc/multistore
COPY --from=build /multistore /usr/local/bin/multistore
COPY LICENSE NOTICE /usr/share/doc/multistore/
USER multistore
# proxy.toml and, beside it, the state file.
WORKDIR /etc/multistore
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["multistore", "healthcheck", "--config", "/etc/multistore/proxy.toml"]
ENTRYPOINT ["multistore"]
CMD ["run", "--config", "/etc/multistore/proxy.toml"]
